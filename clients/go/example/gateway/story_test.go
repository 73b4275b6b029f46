//go:build e2e

package main

import (
	"context"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/veza-platform/veza/clients/go/internal/vezatest"
	"github.com/veza-platform/veza/clients/go/tokens"
)

// storyWithin is more than the script gives itself.
const storyWithin = 90 * time.Second

// The story of clients/web/e2e/gateway.mjs, with Chromium: once with tokens that Veza signs, once with the platform's own
// keys, which Veza fetches from here.
func TestTheStoryInABrowser(t *testing.T) {
	for _, ownKeys := range []bool{false, true} {
		name := map[bool]string{false: "Veza signs", true: "the platform signs"}[ownKeys]
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			here := "http://" + listener.Addr().String()
			variables := []string{"VEZA_ALLOWED_ORIGINS=" + here}
			gateway := &Gateway{Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
			if ownKeys {
				key, err := tokens.GenerateKey(tokens.EdDSA)
				if err != nil {
					t.Fatal(err)
				}
				if gateway.Keys, err = tokens.NewRing(key, connectFor); err != nil {
					t.Fatal(err)
				}
				// The gateway publishes them too, but is not there yet when the server starts, which would wait for an answer.
				published := httptest.NewServer(gateway.Keys)
				t.Cleanup(published.Close)
				variables = append(variables, "AUTH_JWKS_URL="+published.URL)
			}
			server := vezatest.Start(t, variables...)
			gateway.Veza = server.Client(t)
			if gateway.Page, err = url.Parse(server.URL()); err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- serve(ctx, listener, gateway) }()
			play(t, here)
			stop()
			if err := <-ended; err != nil {
				t.Errorf("the gateway ended with %v", err)
			}
		})
	}
}

// play runs the script against the gateway.
func play(t *testing.T, here string) {
	t.Helper()
	web, err := filepath.Abs("../../../web")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), storyWithin)
	defer cancel()
	script := exec.CommandContext(ctx, "node", filepath.Join(web, "e2e", "gateway.mjs"))
	script.Dir = web
	script.Env = append(os.Environ(), "VEZA_URL="+here)
	summary, err := script.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, summary)
	}
	t.Logf("%s", summary)
}
