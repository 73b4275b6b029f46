// Package authz answers what Veza asks the platform when somebody connects, joins a room or publishes: the service that
// AUTHZ_GRPC_URL names, implemented by functions.
//
// The server waits for an answer only shortly (its AUTHZ_TIMEOUT_MS), and then does what its configuration says, so answer
// from memory or with a deadline of your own.
package authz

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"

	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
)

// What the server takes of an answer.
const (
	reasonBytesMax = 256
	keepMax        = 300 * time.Second
	retryMax       = time.Hour
)

// Decision is an answer. The zero value refuses, this time.
type Decision struct {
	Allow bool
	// Reason is one sentence for the user who is refused, at most 256 bytes; empty for the server's usual one.
	Reason string
	// Keep is how long the server may answer the same question by itself, whole seconds up to 300.
	Keep time.Duration
	// RetryAfter tells the refused user when it may work, up to an hour; 0 when waiting does not help.
	RetryAfter time.Duration
	// Entitlements are added to those of the token, up to 32 of up to 64 bytes. Only an answer to Connect has them.
	Entitlements []string
}

// Allow lets it pass, and the same again for as long as keep says.
func Allow(keep time.Duration) Decision {
	return Decision{Allow: true, Keep: keep}
}

// Refuse says no, with a sentence for the user.
func Refuse(reason string) Decision {
	return Decision{Reason: reason}
}

// Funcs answer the questions. One that is nil allows everything of its kind, to be asked again in five minutes. An error
// is no answer: the server's configuration decides then.
type Funcs struct {
	// Connect: a session's token was checked; may it come in?
	Connect func(context.Context, *gatewayv1.ConnectRequest) (Decision, error)
	// Join: a user wants to become a member of a room, or to subscribe to it.
	Join func(context.Context, *gatewayv1.JoinRequest) (Decision, error)
	// Publish: a member wants to say something. The words are not shown.
	Publish func(context.Context, *gatewayv1.PublishRequest) (Decision, error)
}

// Register offers the service on a gRPC server.
func Register(registrar grpc.ServiceRegistrar, funcs Funcs) {
	gatewayv1.RegisterAuthzServer(registrar, server{funcs: funcs})
}

type server struct {
	gatewayv1.UnimplementedAuthzServer
	funcs Funcs
}

// Connect implements the service.
func (s server) Connect(ctx context.Context, request *gatewayv1.ConnectRequest) (*gatewayv1.ConnectResponse, error) {
	decision, err := ask(ctx, s.funcs.Connect, request)
	if err != nil {
		return nil, err
	}
	return &gatewayv1.ConnectResponse{Decided: decision.wire(), Entitlements: decision.Entitlements}, nil
}

// Join implements the service.
func (s server) Join(ctx context.Context, request *gatewayv1.JoinRequest) (*gatewayv1.JoinResponse, error) {
	decision, err := ask(ctx, s.funcs.Join, request)
	if err != nil {
		return nil, err
	}
	return &gatewayv1.JoinResponse{Decided: decision.wire()}, nil
}

// Publish implements the service.
func (s server) Publish(ctx context.Context, request *gatewayv1.PublishRequest) (*gatewayv1.PublishResponse, error) {
	decision, err := ask(ctx, s.funcs.Publish, request)
	if err != nil {
		return nil, err
	}
	return &gatewayv1.PublishResponse{Decided: decision.wire()}, nil
}

func ask[R any](ctx context.Context, decide func(context.Context, R) (Decision, error), request R) (Decision, error) {
	if decide == nil {
		return Allow(keepMax), nil
	}
	return decide(ctx, request)
}

// wire cuts what the server would not take to what it does.
func (d Decision) wire() *gatewayv1.Decided {
	decided := &gatewayv1.Decided{Allow: d.Allow, CacheSeconds: uint32(min(max(d.Keep, 0), keepMax) / time.Second)}
	if !d.Allow {
		decided.Reason = cut(d.Reason, reasonBytesMax)
		decided.RetryAfterMs = uint32(min(max(d.RetryAfter, 0), retryMax) / time.Millisecond)
	}
	return decided
}

// cut shortens to at most so many bytes, at the end of a character.
func cut(text string, bytesMax int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= bytesMax {
		return text
	}
	for bytesMax > 0 && !utf8.RuneStart(text[bytesMax]) {
		bytesMax--
	}
	return text[:bytesMax]
}
