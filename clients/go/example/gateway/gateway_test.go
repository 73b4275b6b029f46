package main

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	veza "github.com/veza-platform/veza/clients/go"
	"github.com/veza-platform/veza/clients/go/tokens"
)

// start serves a gateway with keys of its own, in front of a page that says which path it was asked for. Veza is away.
func start(t *testing.T) (url string, g *Gateway) {
	t.Helper()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		io.WriteString(w, "the page "+request.URL.Path+" for "+request.Host)
	}))
	t.Cleanup(page.Close)
	key, err := tokens.GenerateKey(tokens.EdDSA)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := tokens.NewRing(key, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	client, err := veza.New("127.0.0.1:1", veza.WithInsecure(), veza.WithRetry(veza.Retry{Attempts: 1}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	g = &Gateway{Veza: client, Page: mustParse(t, page.URL), Keys: ring, Log: slog.New(slog.DiscardHandler)}
	handler, err := g.Handler()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL, g
}

func mustParse(t *testing.T, text string) *url.URL {
	t.Helper()
	parsed, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// browser keeps cookies and goes where it is sent.
func browser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar}
}

func do(t *testing.T, client *http.Client, method, url, body string, headers ...string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(headers); at += 2 {
		request.Header.Set(headers[at], headers[at+1])
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func login(t *testing.T, client *http.Client, url, user string) (int, string) {
	t.Helper()
	return do(t, client, http.MethodPost, url+"/login", "user="+user, "Content-Type", "application/x-www-form-urlencoded")
}

func TestWhoIsNotLoggedInGetsNothing(t *testing.T) {
	url, _ := start(t)
	for _, path := range []string{"/connect", "/dev/login", "/rooms", "/users/bob/revoke"} {
		if code, _ := do(t, browser(t), http.MethodPost, url+path, ""); code != http.StatusUnauthorized {
			t.Errorf("POST %s: %d", path, code)
		}
	}
	if code, body := do(t, browser(t), http.MethodGet, url+"/", ""); code != http.StatusOK || !strings.Contains(body, "Who are you?") {
		t.Errorf("the page: %d %s", code, body)
	}
	if code, _ := login(t, browser(t), url, "mallory"); code != http.StatusUnauthorized {
		t.Errorf("somebody unknown: %d", code)
	}
}

func TestWhoIsLoggedInGetsThePageAndAToken(t *testing.T) {
	url, _ := start(t)
	alice := browser(t)
	host := strings.TrimPrefix(url, "http://")
	if code, body := login(t, alice, url, "alice"); code != http.StatusOK || body != "the page / for "+host {
		t.Errorf("after the login: %d %s", code, body)
	}
	if code, body := do(t, alice, http.MethodPost, url+"/connect", ""); code != http.StatusOK || !strings.Contains(body, `"user":"1001"`) || !strings.Contains(body, `"token":"ey`) {
		t.Errorf("the token: %d %s", code, body)
	}
	if code, body := do(t, alice, http.MethodGet, url+"/.well-known/jwks.json", ""); code != http.StatusOK || !strings.Contains(body, `"crv":"Ed25519"`) {
		t.Errorf("the keys: %d %s", code, body)
	}
	if code, _ := do(t, alice, http.MethodGet, url+"/health/ready", ""); code != http.StatusNotFound {
		t.Errorf("what is not the page: %d", code)
	}
	if code, _ := do(t, alice, http.MethodPost, url+"/connect", "", "Origin", "https://elsewhere.example"); code != http.StatusForbidden {
		t.Errorf("asked by another site: %d", code)
	}
}

func TestWhenVezaIsAwayThatIsSaid(t *testing.T) {
	url, _ := start(t)
	alice := browser(t)
	login(t, alice, url, "alice")
	if code, _ := do(t, alice, http.MethodPost, url+"/rooms", `{"room": "porch", "title": "The porch"}`); code != http.StatusServiceUnavailable {
		t.Errorf("making a room: %d", code)
	}
	if code, _ := do(t, alice, http.MethodPost, url+"/rooms", `room=porch`); code != http.StatusBadRequest {
		t.Errorf("a body that is no JSON: %d", code)
	}
}

func TestARevokedUserIsLoggedOutEverywhere(t *testing.T) {
	url, _ := start(t)
	alice, bob, bobsPhone := browser(t), browser(t), browser(t)
	login(t, alice, url, "alice")
	login(t, bob, url, "bob")
	login(t, bobsPhone, url, "bob")
	if code, _ := do(t, bob, http.MethodPost, url+"/users/alice/revoke", ""); code != http.StatusNotFound {
		t.Errorf("revoked by somebody who may not: %d", code)
	}
	do(t, alice, http.MethodPost, url+"/users/bob/revoke", "")
	for what, client := range map[string]*http.Client{"bob": bob, "his phone": bobsPhone} {
		if code, _ := do(t, client, http.MethodPost, url+"/connect", ""); code != http.StatusUnauthorized {
			t.Errorf("%s: %d", what, code)
		}
	}
	if code, _ := do(t, alice, http.MethodPost, url+"/connect", ""); code != http.StatusOK {
		t.Errorf("alice: %d", code)
	}
}
