// Gateway is an example of a platform's backend beside Veza: people log in here by HTTP and get a token to connect with;
// rooms are made here, what is said is heard here as events, and whoever is revoked here is thrown out there.
//
//	go run ./example/gateway -token-file data/auth/gateway-token
//
// Everything it knows it forgets at its end: it shows where things go, and keeps no database.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	veza "github.com/veza-platform/veza/clients/go"
	"github.com/veza-platform/veza/clients/go/tokens"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("gateway", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:8090", "where people log in")
	target := flags.String("grpc", "127.0.0.1:50051", "the API of Veza (GRPC_HOST and GRPC_PORT)")
	page := flags.String("page", "http://127.0.0.1:8080", "the page of Veza (PORT)")
	tokenFile := flags.String("token-file", "data/auth/gateway-token", "the token this service shows there")
	keyFile := flags.String("key", "", "sign connect tokens with this key, PKCS#8 in PEM, and publish it for AUTH_JWKS_URL; else Veza signs them")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	pageURL, err := url.Parse(*page)
	if err != nil {
		return err
	}
	client, err := veza.Dial(ctx, *target, veza.WithInsecure(), veza.WithTokenFile(*tokenFile))
	if err != nil {
		return err
	}
	defer client.Close()
	gateway := &Gateway{Veza: client, Page: pageURL, Log: slog.Default()}
	if *keyFile != "" {
		if gateway.Keys, err = ringOf(*keyFile); err != nil {
			return err
		}
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	return serve(ctx, listener, gateway)
}

// ringOf makes a ring of one key. A platform that exchanges keys calls Rotate with the next one.
func ringOf(path string) (*tokens.Ring, error) {
	key, err := tokens.ReadKey(path)
	if err != nil {
		return nil, err
	}
	return tokens.NewRing(key, connectFor)
}

// serve answers people and hears events until the context ends.
func serve(ctx context.Context, listener net.Listener, gateway *Gateway) error {
	handler, err := gateway.Handler()
	if err != nil {
		return err
	}
	gateway.Log.Info("the gateway is ready", "url", "http://"+listener.Addr().String()+"/login")
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 2)
	go func() { ended <- server.Serve(listener) }()
	go func() { ended <- gateway.Hear(ctx) }()
	select {
	case err = <-ended:
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if closed := server.Shutdown(closing); err == nil {
		err = closed
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
