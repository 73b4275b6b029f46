//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	veza "github.com/veza-platform/veza/clients/go"
	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
	"github.com/veza-platform/veza/clients/go/internal/vezatest"
)

// requestBytesMax is the largest request.
const requestBytesMax = 1 << 20

func TestARequestAtItsLimitAndOnePast(t *testing.T) {
	client := vezatest.Start(t).Client(t)
	// A field of that length takes a byte for its tag and three for the length.
	sized := func(size int) *gatewayv1.GetRoomRequest {
		request := &gatewayv1.GetRoomRequest{Room: strings.Repeat("r", size-4)}
		if got := proto.Size(request); got != size {
			t.Fatalf("%d bytes, not %d", got, size)
		}
		return request
	}
	_, err := client.Rooms.GetRoom(t.Context(), sized(requestBytesMax))
	if status.Code(err) != codes.InvalidArgument || len(veza.Violations(err)) != 1 || veza.Violations(err)[0].Field != "room" {
		t.Errorf("1 MiB: %v, not the refusal of its room", err)
	}
	_, err = client.Rooms.GetRoom(t.Context(), sized(requestBytesMax+1))
	if status.Code(err) != codes.ResourceExhausted || !veza.Is(err, gatewayv1.Reason_REASON_REQUEST_TOO_LARGE) {
		t.Errorf("1 MiB and a byte: %v", err)
	}
}

func TestHealthIsCheckedAndWatched(t *testing.T) {
	server := vezatest.Start(t)
	// Who only looks whether it serves shows nothing.
	stranger := server.Client(t, veza.WithTokenSource(func(context.Context) (string, error) { return "nobody", nil }))
	health := grpc_health_v1.NewHealthClient(stranger.Conn())
	for _, service := range []string{"", "veza.gateway.v1.Rooms", "veza.gateway.v1.Messages"} {
		answer, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: service})
		if err != nil || answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Errorf("%q: %v, %v", service, answer, err)
		}
	}
	if _, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: "veza.Nothing"}); status.Code(err) != codes.NotFound {
		t.Errorf("a service that there is not: %v", err)
	}

	watch, err := health.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := watch.Recv(); err != nil || answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("at first: %v, %v", answer, err)
	}
	server.Terminate(t)
	if answer, err := watch.Recv(); err != nil || answer.GetStatus() != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("while it drains: %v, %v", answer, err)
	}
	if _, err := watch.Recv(); err == nil {
		t.Error("the watch goes on when the server has ended")
	}
	if code := server.Ended(t); code != 0 {
		t.Errorf("the server ended with %d", code)
	}
}

func TestReflectionTellsTheSchemaWhereItIsSwitchedOn(t *testing.T) {
	conn := vezatest.Start(t).Client(t).Conn()
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(request *reflectionv1.ServerReflectionRequest) *reflectionv1.ServerReflectionResponse {
		t.Helper()
		if err := stream.Send(request); err != nil {
			t.Fatal(err)
		}
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	var names []string
	listed := ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}})
	for _, service := range listed.GetListServicesResponse().GetService() {
		names = append(names, service.GetName())
	}
	for service := range served {
		if !slices.Contains(names, "veza.gateway.v1."+service) {
			t.Errorf("%s is not among %v", service, names)
		}
	}
	symbol := &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "veza.gateway.v1.Rooms.GetRoom"}
	if files := ask(&reflectionv1.ServerReflectionRequest{MessageRequest: symbol}).GetFileDescriptorResponse(); len(files.GetFileDescriptorProto()) == 0 {
		t.Error("the schema of GetRoom is not told")
	}

	old, err := reflectionv1alpha.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Send(&reflectionv1alpha.ServerReflectionRequest{MessageRequest: &reflectionv1alpha.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	if answer, err := old.Recv(); err != nil || len(answer.GetListServicesResponse().GetService()) != len(names) {
		t.Errorf("by the older protocol: %v, %v", answer, err)
	}

	off := vezatest.Start(t, "GRPC_REFLECTION=false").Client(t).Conn()
	silent, err := reflectionv1.NewServerReflectionClient(off).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := silent.Recv(); status.Code(err) != codes.Unimplemented {
		t.Errorf("switched off: %v", err)
	}
}

// gRPC's own client gives up by itself when a deadline passes, so this one does not: it sends the header and waits.
func TestTheServerGivesUpWhenTheDeadlineHasPassed(t *testing.T) {
	server := vezatest.Start(t)
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	client := http.Client{Transport: &http.Transport{Protocols: &protocols}}
	defer client.CloseIdleConnections()
	call := func(timeout string) (code string) {
		t.Helper()
		message, err := proto.Marshal(&gatewayv1.ListRoomsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		frame := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+server.GRPC+"/veza.gateway.v1.Rooms/ListRooms", bytes.NewReader(frame))
		if err != nil {
			t.Fatal(err)
		}
		request.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "Grpc-Timeout": {timeout}, "Authorization": {"Bearer " + server.Token(t)}}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			t.Fatal(err)
		}
		return response.Header.Get("Grpc-Status") + response.Trailer.Get("Grpc-Status")
	}
	if code := call("10S"); code != fmt.Sprint(int(codes.OK)) {
		t.Errorf("with ten seconds: status %s", code)
	}
	if code := call("0n"); code != fmt.Sprint(int(codes.DeadlineExceeded)) {
		t.Errorf("with no time at all: status %s", code)
	}
}

// More streams than the server takes at once are opened and cancelled: each gives its place back.
func TestCancelledStreamsGiveTheirPlaceBack(t *testing.T) {
	client := vezatest.Start(t).Client(t)
	health := grpc_health_v1.NewHealthClient(client.Conn())
	for nth := range 1_200 {
		ctx, cancel := context.WithCancel(t.Context())
		watch, err := health.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
		if err == nil {
			_, err = watch.Recv()
		}
		if err != nil {
			t.Fatalf("stream %d: %v", nth, err)
		}
		cancel()
		if _, err := watch.Recv(); status.Code(err) != codes.Canceled {
			t.Fatalf("stream %d, cancelled: %v", nth, err)
		}
	}
	if _, err := client.Rooms.ListRooms(t.Context(), &gatewayv1.ListRoomsRequest{}); err != nil {
		t.Error(err)
	}
}

func TestNobodyCallsWithoutAServicesToken(t *testing.T) {
	server := vezatest.Start(t)
	for what, option := range map[string]veza.Option{
		"no token":      veza.WithTokenSource(nil),
		"another token": veza.WithToken("anything-that-is-no-token-of-a-service"),
		"half of it":    veza.WithToken(server.Token(t)[:20]),
	} {
		client := server.Client(t, option)
		for _, service := range services {
			for _, method := range methods(t, service) {
				if err := invoke(t.Context(), client, method); status.Code(err) != codes.Unauthenticated || !veza.Is(err, gatewayv1.Reason_REASON_SERVICE_UNKNOWN) {
					t.Errorf("%s with %s: %v", method.FullName(), what, err)
				}
			}
		}
	}
}

func TestAServiceDoesWhatItsScopesAllow(t *testing.T) {
	file := filepath.Join(t.TempDir(), "services.json")
	hash := func(token string) string {
		sum := sha256.Sum256([]byte(token))
		return hex.EncodeToString(sum[:])
	}
	const reader, nobody = "the reader's token, at least of 32 bytes", "the token of somebody who may do nothing"
	content := fmt.Sprintf(`{"services": [
		{"name": "reader", "token_sha256": %q, "scopes": ["rooms.read"]},
		{"name": "nobody", "token_sha256": %q, "scopes": []}
	]}`, hash(strings.ReplaceAll(reader, " ", "-")), hash(strings.ReplaceAll(nobody, " ", "-")))
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	server := vezatest.Start(t, "GRPC_SERVICES_FILE="+file)
	as := func(token string) *veza.Client {
		return server.Client(t, veza.WithToken(strings.ReplaceAll(token, " ", "-")))
	}
	for _, service := range services {
		for _, method := range methods(t, service) {
			if err := invoke(t.Context(), as(nobody), method); status.Code(err) != codes.PermissionDenied || !veza.Is(err, gatewayv1.Reason_REASON_SCOPE_MISSING) {
				t.Errorf("%s without a scope: %v", method.FullName(), err)
			}
		}
	}
	client := as(reader)
	if _, err := client.Rooms.ListRooms(t.Context(), &gatewayv1.ListRoomsRequest{Actor: "alice"}); err != nil {
		t.Errorf("reading in a user's name: %v", err)
	}
	if _, err := client.Rooms.ListRooms(t.Context(), &gatewayv1.ListRoomsRequest{}); !veza.Is(err, gatewayv1.Reason_REASON_SCOPE_MISSING) {
		t.Errorf("reading in one's own name without the scope for it: %v", err)
	}
	if _, err := client.Rooms.CreateRoom(t.Context(), &gatewayv1.CreateRoomRequest{Room: "porch", Title: "The porch", Actor: "alice"}); !veza.Is(err, gatewayv1.Reason_REASON_SCOPE_MISSING) {
		t.Errorf("writing with a scope for reading: %v", err)
	}
}

// A key belongs to one deed: its repetition changes nothing, whatever happened between.
func TestAKeyedWriteHappensOnce(t *testing.T) {
	client := vezatest.Start(t).Client(t)
	create := &gatewayv1.CreateRoomRequest{Room: "porch", Title: "The porch", Actor: "alice", IdempotencyKey: veza.NewKey()}
	for range 2 {
		if _, err := client.Rooms.CreateRoom(t.Context(), create); err != nil {
			t.Fatal(err)
		}
	}
	invite := &gatewayv1.CreateInviteRequest{Room: "porch", Actor: "alice", IdempotencyKey: veza.NewKey()}
	first, err := client.Rooms.CreateInvite(t.Context(), invite)
	if err != nil {
		t.Fatal(err)
	}
	second, err := client.Rooms.CreateInvite(t.Context(), invite)
	if err != nil || first.GetInvite().GetCode() != second.GetInvite().GetCode() {
		t.Errorf("invited by %v, then by %v, %v", first, second, err)
	}
	create.Title = "Another"
	if _, err := client.Rooms.CreateRoom(t.Context(), create); status.Code(err) != codes.AlreadyExists || !veza.Is(err, gatewayv1.Reason_REASON_IDEMPOTENCY_KEY_REUSED) {
		t.Errorf("another request under the key: %v", err)
	}
	create.IdempotencyKey, create.Room = strings.Repeat("k", 64), "at-the-limit"
	if _, err := client.Rooms.CreateRoom(t.Context(), create); err != nil {
		t.Errorf("a key of 64 bytes: %v", err)
	}
	create.IdempotencyKey, create.Room = strings.Repeat("k", 65), "past-it"
	if _, err := client.Rooms.CreateRoom(t.Context(), create); len(veza.Violations(err)) != 1 || veza.Violations(err)[0].Field != "idempotency_key" {
		t.Errorf("a key of 65 bytes: %v", err)
	}
}

func TestAMutedUserIsToldForHowLong(t *testing.T) {
	client := vezatest.Start(t).Client(t)
	w := &world{T: t, Client: client, ctx: t.Context()}
	room := w.room("bob")
	if _, err := client.Moderation.Mute(t.Context(), &gatewayv1.MuteRequest{Room: room, User: "bob", Seconds: 600}); err != nil {
		t.Fatal(err)
	}
	_, err := client.Messages.Send(t.Context(), &gatewayv1.SendRequest{Room: room, Body: "But", Actor: "bob", IdempotencyKey: veza.NewKey()})
	if wait, ok := veza.RetryAfter(err); veza.Reason(err) != "MUTED" || !ok || wait <= 0 || wait > 10*time.Minute {
		t.Errorf("%v, retry after %v", err, wait)
	}
}

// The server is exchanged beneath a client that goes on calling. No call fails that may be repeated, and none is done twice.
func TestARestartIsBridged(t *testing.T) {
	data := t.TempDir()
	port := fmt.Sprintf("GRPC_PORT=%d", vezatest.SettledPort(t))
	server := vezatest.StartIn(t, data, port)
	client := server.Client(t, veza.WithTimeout(time.Minute), veza.WithRetry(veza.Retry{Attempts: 1_000, First: 10 * time.Millisecond, Max: 100 * time.Millisecond}))
	w := &world{T: t, Client: client, ctx: t.Context()}
	room := w.room()
	const count = 200
	failed := make(chan error, 1)
	half := make(chan struct{})
	send := func(nth int) error {
		for {
			_, err := client.Messages.Send(t.Context(), &gatewayv1.SendRequest{Room: room, Body: fmt.Sprint(nth), Actor: "alice", IdempotencyKey: fmt.Sprintf("nth-%d", nth)})
			// What is faster than a user may be is not what this is about.
			if veza.Reason(err) != "RATE_LIMITED" {
				return err
			}
			wait, _ := veza.RetryAfter(err)
			time.Sleep(wait)
		}
	}
	go func() {
		for nth := range count {
			if nth == count/2 {
				close(half)
			}
			if err := send(nth); err != nil {
				failed <- fmt.Errorf("message %d: %w", nth, err)
				return
			}
		}
		failed <- nil
	}()
	select {
	case <-half:
	case err := <-failed:
		t.Fatal(err)
	}
	server.Kill()
	vezatest.StartIn(t, data, port)
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	stats, err := client.Rooms.GetRoomStats(t.Context(), &gatewayv1.GetRoomStatsRequest{Room: room})
	if err != nil || stats.GetHead() != count || stats.GetMessages() != count {
		t.Errorf("%d messages were sent: %v, %v", count, stats, err)
	}
}
