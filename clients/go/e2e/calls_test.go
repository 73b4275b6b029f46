//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	veza "github.com/veza-platform/veza/clients/go"
	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
	vezav1 "github.com/veza-platform/veza/clients/go/gen/veza/v1"
	"github.com/veza-platform/veza/clients/go/internal/vezatest"
)

// call is one call of the API, made once well and once badly.
type call struct {
	method string
	// good makes the call and says what is wrong with the answer, "" when nothing is.
	good func(w *world) (string, error)
	// bad makes it so that it is refused.
	bad    func(w *world) error
	code   codes.Code
	reason string
}

// world is what calls are made in.
type world struct {
	*testing.T
	*veza.Client
	server *vezatest.Server
	ctx    context.Context
}

var things atomic.Int64

// fresh is an id that nobody else has.
func fresh(kind string) string {
	return fmt.Sprintf("%s-%d", kind, things.Add(1))
}

// room makes a room of alice's, with these members.
func (w *world) room(members ...string) string {
	w.Helper()
	id := fresh("room")
	if _, err := w.Rooms.CreateRoom(w.ctx, &gatewayv1.CreateRoomRequest{Room: id, Title: "A room", Actor: "alice"}); err != nil {
		w.Fatal(err)
	}
	for _, member := range members {
		if _, err := w.Rooms.JoinRoom(w.ctx, &gatewayv1.JoinRoomRequest{Room: id, User: member}); err != nil {
			w.Fatal(err)
		}
	}
	return id
}

// say stores a message and gives its number.
func (w *world) say(room, user, body string) uint64 {
	w.Helper()
	sent, err := w.Messages.Send(w.ctx, &gatewayv1.SendRequest{Room: room, Body: body, Actor: user, IdempotencyKey: veza.NewKey()})
	if err != nil {
		w.Fatal(err)
	}
	return sent.GetStored().GetSeq()
}

// member is somebody's place in a room.
func (w *world) member(room, user string) *vezav1.Membership {
	w.Helper()
	found, err := w.Rooms.GetMember(w.ctx, &gatewayv1.GetMemberRequest{Room: room, User: user})
	if err != nil {
		w.Fatal(err)
	}
	return found.GetMember()
}

// expect says what differs, "" when nothing does.
func expect(holds bool, format string, more ...any) string {
	if holds {
		return ""
	}
	return fmt.Sprintf(format, more...)
}

// served are the services with the calls that this server answers.
var served = map[string][]call{
	"Rooms":      rooms,
	"Messages":   messages,
	"Moderation": slices.Concat(moderation, reviews),
	"Streams":    streams,
	"Auth":       auth,
	"Devices":    devices,
	"Events":     eventCalls,
	"Webhooks":   webhookCalls,
}

func TestEveryCallOnceWellAndOnceBadly(t *testing.T) {
	// Webhooks lead to receivers of the tests, and what these refuse is put aside at once.
	server := vezatest.Start(t, "WEBHOOKS_ALLOW_PRIVATE=true", "WEBHOOKS_GIVE_UP_SECONDS=0")
	client := server.Client(t)
	for service, calls := range served {
		for _, call := range calls {
			t.Run(service+"/"+call.method, func(t *testing.T) {
				w := &world{T: t, Client: client, server: server, ctx: t.Context()}
				if wrong, err := call.good(w); err != nil || wrong != "" {
					t.Errorf("%s %v", wrong, err)
				}
				err := call.bad(w)
				if status.Code(err) != call.code || veza.Reason(err) != call.reason {
					t.Errorf("refused with %v %q, not %v %q: %v", status.Code(err), veza.Reason(err), call.code, call.reason, err)
				}
				if message := status.Convert(err).Message(); message == "" || strings.ContainsAny(message, "\n{}") {
					t.Errorf("the refusal is no sentence: %q", message)
				}
			})
		}
	}
}

// Every call of the schema stands in a table, or the server says that it does not serve it yet.
func TestNoCallIsLeftOut(t *testing.T) {
	client := vezatest.Start(t).Client(t)
	for _, service := range services {
		called := map[string]bool{}
		for _, call := range served[service] {
			if called[call.method] {
				t.Errorf("%s/%s stands twice", service, call.method)
			}
			called[call.method] = true
		}
		for _, method := range methods(t, service) {
			name := string(method.Name())
			if called[name] {
				delete(called, name)
				continue
			}
			// What is refused as unimplemented for a reason of its own is served: it says what is missing.
			err := invoke(t.Context(), client, method)
			notServed := veza.Reason(err) == "" || veza.Is(err, gatewayv1.Reason_REASON_NOT_SERVED)
			if status.Code(err) != codes.Unimplemented || !notServed {
				t.Errorf("%s/%s is served and not called: give it a row in its table (%v)", service, name, err)
			}
		}
		for name := range called {
			t.Errorf("%s/%s is no call", service, name)
		}
	}
}

// services are those of the schema that the server has. Authz is the platform's.
var services = []string{"Rooms", "Messages", "Moderation", "Streams", "Auth", "Devices", "Events", "Webhooks"}

// methods are those of one of them.
func methods(t *testing.T, service string) []protoreflect.MethodDescriptor {
	t.Helper()
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName("veza.gateway.v1." + service))
	if err != nil {
		t.Fatal(err)
	}
	var methods []protoreflect.MethodDescriptor
	descriptor := found.(protoreflect.ServiceDescriptor)
	for i := range descriptor.Methods().Len() {
		methods = append(methods, descriptor.Methods().Get(i))
	}
	return methods
}

// invoke makes a call with an empty request, and gives its error; of a stream that of its first answer.
func invoke(ctx context.Context, client *veza.Client, method protoreflect.MethodDescriptor) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	path := fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name())
	request, reply := dynamicpb.NewMessage(method.Input()), dynamicpb.NewMessage(method.Output())
	if !method.IsStreamingServer() {
		return client.Conn().Invoke(ctx, path, request, reply)
	}
	stream, err := client.Conn().NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, path)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(request); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return stream.RecvMsg(reply)
}
