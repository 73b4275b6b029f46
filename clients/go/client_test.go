package veza_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"

	veza "github.com/veza-platform/veza/clients/go"
	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
	vezav1 "github.com/veza-platform/veza/clients/go/gen/veza/v1"
)

// backend stands in for the server: it notes what arrives and refuses as it is told to.
type backend struct {
	gatewayv1.UnimplementedRoomsServer
	health  *health.Server
	address string

	mu       sync.Mutex
	refusals []error
	keys     []string
	tokens   []string
	deadline time.Duration
}

func (b *backend) answer(ctx context.Context, key string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keys = append(b.keys, key)
	sent, _ := metadata.FromIncomingContext(ctx)
	b.tokens = append(b.tokens, strings.Join(sent.Get("authorization"), ","))
	b.deadline = 0
	if deadline, ok := ctx.Deadline(); ok {
		b.deadline = time.Until(deadline)
	}
	if len(b.refusals) == 0 {
		return nil
	}
	refusal := b.refusals[0]
	b.refusals = b.refusals[1:]
	return refusal
}

// refuse lets the next calls fail, and forgets what arrived before.
func (b *backend) refuse(errors ...error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refusals, b.keys, b.tokens = errors, nil, nil
}

func (b *backend) arrived() (keys, tokens []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.keys), slices.Clone(b.tokens)
}

func (b *backend) GetRoom(ctx context.Context, request *gatewayv1.GetRoomRequest) (*gatewayv1.GetRoomResponse, error) {
	return &gatewayv1.GetRoomResponse{Room: &vezav1.Room{Id: request.GetRoom()}}, b.answer(ctx, "")
}

func (b *backend) CreateRoom(ctx context.Context, request *gatewayv1.CreateRoomRequest) (*gatewayv1.CreateRoomResponse, error) {
	return &gatewayv1.CreateRoomResponse{Room: &vezav1.Room{Id: request.GetRoom()}}, b.answer(ctx, request.GetIdempotencyKey())
}

func startBackend(t *testing.T, transport credentials.TransportCredentials) *backend {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var options []grpc.ServerOption
	if transport != nil {
		options = append(options, grpc.Creds(transport))
	}
	server := grpc.NewServer(options...)
	b := &backend{health: health.NewServer(), address: listener.Addr().String()}
	gatewayv1.RegisterRoomsServer(server, b)
	grpc_health_v1.RegisterHealthServer(server, b.health)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return b
}

// quick tries as often as usual, without the waits.
var quick = veza.WithRetry(veza.Retry{Attempts: 5, First: time.Millisecond, Max: time.Millisecond})

func dial(t *testing.T, b *backend, options ...veza.Option) *veza.Client {
	t.Helper()
	client, err := veza.Dial(t.Context(), b.address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

var unavailable = status.Error(codes.Unavailable, "away")

func TestReadsAndKeyedWritesAreTriedAgain(t *testing.T) {
	b := startBackend(t, nil)
	client := dial(t, b, veza.WithInsecure(), quick)

	b.refuse(unavailable, unavailable)
	if _, err := client.Rooms.GetRoom(t.Context(), &gatewayv1.GetRoomRequest{Room: "porch"}); err != nil {
		t.Errorf("a read: %v", err)
	}
	if keys, _ := b.arrived(); len(keys) != 3 {
		t.Errorf("a read arrived %d times", len(keys))
	}
	b.refuse(unavailable, unavailable, unavailable, unavailable)
	key := veza.NewKey()
	if _, err := client.Rooms.CreateRoom(t.Context(), &gatewayv1.CreateRoomRequest{Room: "porch", IdempotencyKey: key}); err != nil {
		t.Errorf("a write with a key: %v", err)
	}
	if keys, _ := b.arrived(); !slices.Equal(keys, slices.Repeat([]string{key}, 5)) {
		t.Errorf("a write with a key arrived as %q", keys)
	}
	b.refuse(slices.Repeat([]error{unavailable}, 6)...)
	if _, err := client.Rooms.GetRoom(t.Context(), &gatewayv1.GetRoomRequest{Room: "porch"}); status.Code(err) != codes.Unavailable {
		t.Errorf("a read that never gets through: %v", err)
	}
	if keys, _ := b.arrived(); len(keys) != 5 {
		t.Errorf("a read that never gets through arrived %d times", len(keys))
	}
}

func TestWhatCouldHappenTwiceIsTriedOnce(t *testing.T) {
	b := startBackend(t, nil)
	client := dial(t, b, veza.WithInsecure(), quick)
	b.refuse(unavailable)
	if _, err := client.Rooms.CreateRoom(t.Context(), &gatewayv1.CreateRoomRequest{Room: "porch"}); status.Code(err) != codes.Unavailable {
		t.Errorf("a write without a key: %v", err)
	}
	if keys, _ := b.arrived(); len(keys) != 1 {
		t.Errorf("a write without a key arrived %d times", len(keys))
	}
	for _, code := range []codes.Code{codes.ResourceExhausted, codes.DeadlineExceeded, codes.NotFound, codes.Internal, codes.Aborted} {
		b.refuse(status.Error(code, "no"))
		if _, err := client.Rooms.GetRoom(t.Context(), &gatewayv1.GetRoomRequest{Room: "porch"}); status.Code(err) != code {
			t.Errorf("%v became %v", code, err)
		}
		if keys, _ := b.arrived(); len(keys) != 1 {
			t.Errorf("%v was tried %d times", code, len(keys))
		}
	}
}

func TestTheServerSaysHowLongToWait(t *testing.T) {
	b := startBackend(t, nil)
	client := dial(t, b, veza.WithInsecure(), quick)
	const asked = 50 * time.Millisecond
	b.refuse(refusal(codes.Unavailable, "UNAVAILABLE", &errdetails.RetryInfo{RetryDelay: durationpb.New(asked)}))
	begun := time.Now()
	if _, err := client.Rooms.GetRoom(t.Context(), &gatewayv1.GetRoomRequest{Room: "porch"}); err != nil {
		t.Error(err)
	}
	if waited := time.Since(begun); waited < asked {
		t.Errorf("waited %v, asked were %v", waited, asked)
	}
	// A wait beyond the deadline is not begun: the caller has the answer at once, and not just a deadline that passed.
	b.refuse(refusal(codes.Unavailable, "DRAINING", &errdetails.RetryInfo{RetryDelay: durationpb.New(2 * time.Hour)}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	defer time.AfterFunc(5*time.Second, cancel).Stop()
	_, err := client.Rooms.GetRoom(ctx, &gatewayv1.GetRoomRequest{Room: "porch"})
	if !veza.Is(err, gatewayv1.Reason_REASON_DRAINING) || ctx.Err() != nil {
		t.Errorf("%v, and the wait was begun: %v", err, ctx.Err() != nil)
	}
}

func TestCallsHaveADeadline(t *testing.T) {
	b := startBackend(t, nil)
	get := func(ctx context.Context, client *veza.Client) time.Duration {
		t.Helper()
		if _, err := client.Rooms.GetRoom(ctx, &gatewayv1.GetRoomRequest{Room: "porch"}); err != nil {
			t.Fatal(err)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.deadline
	}
	if left := get(t.Context(), dial(t, b, veza.WithInsecure())); left <= 0 || left > veza.DefaultTimeout {
		t.Errorf("by default %v", left)
	}
	if left := get(t.Context(), dial(t, b, veza.WithInsecure(), veza.WithTimeout(0))); left != 0 {
		t.Errorf("without: %v", left)
	}
	// One's own deadline holds, a longer one too.
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if left := get(ctx, dial(t, b, veza.WithInsecure())); left <= veza.DefaultTimeout || left > time.Hour {
		t.Errorf("one's own: %v", left)
	}
}

func TestEveryCallShowsTheToken(t *testing.T) {
	b := startBackend(t, nil)
	client := dial(t, b, veza.WithInsecure(), veza.WithToken("sesame"), quick)
	b.refuse(unavailable)
	if _, err := client.Rooms.GetRoom(t.Context(), &gatewayv1.GetRoomRequest{Room: "porch"}); err != nil {
		t.Fatal(err)
	}
	if _, tokens := b.arrived(); !slices.Equal(tokens, []string{"Bearer sesame", "Bearer sesame"}) {
		t.Errorf("tokens %q", tokens)
	}
	for _, bad := range []string{"", "two words", "line\nbreak"} {
		client, err := veza.New(b.address, veza.WithInsecure(), veza.WithToken(bad))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Rooms.GetRoom(t.Context(), &gatewayv1.GetRoomRequest{Room: "porch"}); err == nil || (bad != "" && strings.Contains(err.Error(), bad)) {
			t.Errorf("a token %q: %v", bad, err)
		}
		client.Close()
	}
}

func TestDialingFailsWithTheReason(t *testing.T) {
	b := startBackend(t, nil)
	b.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	if _, err := veza.Dial(t.Context(), b.address, veza.WithInsecure()); err == nil || !strings.Contains(err.Error(), "NOT_SERVING") {
		t.Errorf("a server that does not serve: %v", err)
	}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := listener.Addr().String()
	listener.Close()
	if _, err := veza.Dial(t.Context(), nobody, veza.WithInsecure(), veza.WithTimeout(300*time.Millisecond)); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("nobody: %v", err)
	}

	for what, option := range map[string]veza.Option{
		"no attempt":          veza.WithRetry(veza.Retry{}),
		"falling waits":       veza.WithRetry(veza.Retry{Attempts: 2, First: 2, Max: 1}),
		"a negative timeout":  veza.WithTimeout(-1),
		"no such authorities": veza.WithTLSFiles("/nonexistent", "", ""),
		"no such certificate": veza.WithTLSFiles("", "/nonexistent", "/nonexistent"),
	} {
		if _, err := veza.New(b.address, option); err == nil {
			t.Errorf("%s was taken", what)
		}
	}
}

// What the module takes for a read is repeated. So whatever is not one has a key in the schema, or says here why it needs none.
func TestEveryWriteHasAKey(t *testing.T) {
	harmless := map[protoreflect.Name]string{
		"Acknowledge":      "positions only rise",
		"MintConnectToken": "another token is made, and the lost one ends by itself",
		"ValidateToken":    "looks only",
		"CheckPermission":  "looks only",
		"VerifyReport":     "looks only",
		"Search":           "looks only",
		"Subscribe":        "a stream is not repeated",
	}
	methods := 0
	protoregistry.GlobalFiles.RangeFilesByPackage("veza.gateway.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			if service.Name() == "Authz" {
				continue // The server asks it, not we.
			}
			for j := range service.Methods().Len() {
				method := service.Methods().Get(j)
				methods++
				name := method.Name()
				reads := strings.HasPrefix(string(name), "Get") || strings.HasPrefix(string(name), "List") || harmless[name] != ""
				keyed := method.Input().Fields().ByName("idempotency_key") != nil
				if reads == keyed {
					t.Errorf("%s: a read has no key and a write has one", method.FullName())
				}
			}
		}
		return true
	})
	if methods < 60 {
		t.Errorf("only %d methods were looked at", methods)
	}
}
