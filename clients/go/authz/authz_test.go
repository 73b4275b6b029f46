package authz_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/veza-platform/veza/clients/go/authz"
	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
)

// ask stands in for the server.
func ask(t *testing.T, funcs authz.Funcs, options ...grpc.ServerOption) gatewayv1.AuthzClient {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer(options...)
	authz.Register(server, funcs)
	go server.Serve(listener)
	conn, err := grpc.NewClient("passthrough:///platform",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); server.Stop() })
	return gatewayv1.NewAuthzClient(conn)
}

func TestQuestionsAreAnsweredByFunctions(t *testing.T) {
	platform := ask(t, authz.Funcs{
		Connect: func(_ context.Context, request *gatewayv1.ConnectRequest) (authz.Decision, error) {
			decision := authz.Allow(time.Minute)
			decision.Entitlements = []string{"gold of " + request.GetUser()}
			return decision, nil
		},
		Join: func(_ context.Context, request *gatewayv1.JoinRequest) (authz.Decision, error) {
			if request.GetRoom() == "backstage" {
				return authz.Refuse("This room is for the crew."), nil
			}
			return authz.Decision{}, errors.New("the database is away")
		},
	})
	connect, err := platform.Connect(t.Context(), &gatewayv1.ConnectRequest{User: "alice"})
	if err != nil || !connect.GetDecided().GetAllow() || connect.GetDecided().GetCacheSeconds() != 60 || connect.GetEntitlements()[0] != "gold of alice" {
		t.Errorf("connect: %v, %v", connect, err)
	}
	join, err := platform.Join(t.Context(), &gatewayv1.JoinRequest{User: "alice", Room: "backstage"})
	if err != nil || join.GetDecided().GetAllow() || join.GetDecided().GetReason() != "This room is for the crew." || join.GetDecided().GetCacheSeconds() != 0 {
		t.Errorf("join: %v, %v", join, err)
	}
	if _, err := platform.Join(t.Context(), &gatewayv1.JoinRequest{User: "alice", Room: "porch"}); err == nil {
		t.Error("an error was taken for an answer")
	}
	publish, err := platform.Publish(t.Context(), &gatewayv1.PublishRequest{User: "alice", Room: "porch"})
	if err != nil || !publish.GetDecided().GetAllow() || publish.GetDecided().GetCacheSeconds() != 300 {
		t.Errorf("what nobody decides: %v, %v", publish, err)
	}
}

func TestAnswersAtTheServersLimitsAndPastThem(t *testing.T) {
	for _, test := range []struct {
		decision authz.Decision
		want     *gatewayv1.Decided
	}{
		{authz.Allow(300 * time.Second), &gatewayv1.Decided{Allow: true, CacheSeconds: 300}},
		{authz.Allow(time.Hour), &gatewayv1.Decided{Allow: true, CacheSeconds: 300}},
		{authz.Allow(-time.Second), &gatewayv1.Decided{Allow: true}},
		{authz.Decision{Allow: true, Reason: "unsaid", RetryAfter: time.Second}, &gatewayv1.Decided{Allow: true}},
		{authz.Refuse(strings.Repeat("x", 256)), &gatewayv1.Decided{Reason: strings.Repeat("x", 256)}},
		{authz.Refuse(strings.Repeat("x", 257)), &gatewayv1.Decided{Reason: strings.Repeat("x", 256)}},
		{authz.Refuse(strings.Repeat("x", 255) + "é"), &gatewayv1.Decided{Reason: strings.Repeat("x", 255)}},
		{authz.Refuse("a\xff"), &gatewayv1.Decided{Reason: "a\uFFFD"}},
		{authz.Decision{RetryAfter: time.Hour}, &gatewayv1.Decided{RetryAfterMs: 3_600_000}},
		{authz.Decision{RetryAfter: 2 * time.Hour}, &gatewayv1.Decided{RetryAfterMs: 3_600_000}},
	} {
		platform := ask(t, authz.Funcs{Join: func(context.Context, *gatewayv1.JoinRequest) (authz.Decision, error) { return test.decision, nil }})
		answer, err := platform.Join(t.Context(), &gatewayv1.JoinRequest{})
		if err != nil || answer.GetDecided().String() != test.want.String() {
			t.Errorf("%+v became %v, %v", test.decision, answer, err)
		}
	}
}

func TestOnlyTheServerIsAnswered(t *testing.T) {
	for _, test := range []struct {
		known, shown []string
		code         codes.Code
	}{
		{[]string{"sesame"}, []string{"Bearer sesame"}, codes.OK},
		{[]string{"next", "sesame"}, []string{"Bearer sesame"}, codes.OK},
		{[]string{"sesame"}, []string{"Bearer guess"}, codes.Unauthenticated},
		{[]string{"sesame"}, []string{"sesame"}, codes.Unauthenticated},
		{[]string{"sesame"}, nil, codes.Unauthenticated},
		{[]string{""}, []string{"Bearer "}, codes.Unauthenticated},
		{nil, []string{"Bearer sesame"}, codes.Unauthenticated},
	} {
		platform := ask(t, authz.Funcs{}, authz.RequireToken(test.known...))
		ctx := t.Context()
		for _, header := range test.shown {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", header)
		}
		if _, err := platform.Connect(ctx, &gatewayv1.ConnectRequest{User: "alice"}); status.Code(err) != test.code {
			t.Errorf("%q is known and %q is shown: %v", test.known, test.shown, err)
		}
	}
}
