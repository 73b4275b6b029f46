//go:build e2e

package e2e

import (
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
)

// listener is the stream of a consumer of its own, which was told where it stands.
type listener struct {
	grpc.ServerStreamingClient[gatewayv1.SubscribeResponse]
	consumer *gatewayv1.Consumer
}

// listen makes a consumer, and listens until the test ends.
func (w *world) listen() *listener {
	w.Helper()
	stream, err := w.Events.Subscribe(w.ctx, &gatewayv1.SubscribeRequest{Consumer: fresh("shop")})
	if err != nil {
		w.Fatal(err)
	}
	first, err := stream.Recv()
	if err != nil || first.GetConsumer() == nil {
		w.Fatalf("the consumer does not come first: %v, %v", first, err)
	}
	return &listener{stream, first.GetConsumer()}
}

// event is the next one.
func (w *world) event(l *listener) *gatewayv1.Event {
	w.Helper()
	for {
		said, err := l.Recv()
		if err != nil {
			w.Fatal(err)
		}
		if event := said.GetEvent(); event != nil {
			return event
		}
	}
}

// told is a listener and the position of something that it was told.
func (w *world) told() (*listener, uint64) {
	w.Helper()
	l := w.listen()
	w.room()
	return l, w.event(l).GetPosition()
}

var eventCalls = []call{
	{
		method: "Subscribe",
		good: func(w *world) (string, error) {
			l := w.listen()
			room := w.room()
			w.say(room, "alice", "Hello")
			made, joined, said := w.event(l), w.event(l), w.event(l)
			return expect(made.GetRoomCreated().GetCreator() == "alice" && joined.GetMemberJoined() != nil && said.GetMessage().GetMessage().GetBody() == "Hello" &&
				said.GetRoom() == room && l.consumer.GetPosition() < made.GetPosition() && made.GetPosition() < joined.GetPosition() && joined.GetPosition() < said.GetPosition(),
				"from %v on told %v, %v, %v", l.consumer, made, joined, said), nil
		},
		bad: func(w *world) error {
			stream, err := w.Events.Subscribe(w.ctx, &gatewayv1.SubscribeRequest{Consumer: fresh("shop"), Window: 10_001})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "Acknowledge",
		good: func(w *world) (string, error) {
			l, position := w.told()
			request := &gatewayv1.AcknowledgeRequest{Consumer: l.consumer.GetName(), Position: position}
			stands, err := w.Events.Acknowledge(w.ctx, request)
			if err != nil {
				return "", err
			}
			request.Position = position - 1
			lower, err := w.Events.Acknowledge(w.ctx, request)
			return expect(stands.GetPosition() == position && lower.GetPosition() == position, "%d: it stands at %v, then at %v", position, stands, lower), err
		},
		bad: func(w *world) error {
			_, err := w.Events.Acknowledge(w.ctx, &gatewayv1.AcknowledgeRequest{Consumer: "nobody", Position: 1})
			return err
		},
		code: codes.NotFound, reason: "NOT_FOUND",
	},
	{
		method: "GetConsumer",
		good: func(w *world) (string, error) {
			l, position := w.told()
			found, err := w.Events.GetConsumer(w.ctx, &gatewayv1.GetConsumerRequest{Consumer: l.consumer.GetName()})
			consumer := found.GetConsumer()
			return expect(consumer.GetName() == l.consumer.GetName() && consumer.GetConnected() && consumer.GetPosition() < position && consumer.GetHead() >= position,
				"told of %d, found %v", position, found), err
		},
		bad: func(w *world) error {
			_, err := w.Events.GetConsumer(w.ctx, &gatewayv1.GetConsumerRequest{Consumer: "No Name"})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "ListConsumers",
		good: func(w *world) (string, error) {
			wanted := map[string]bool{w.listen().consumer.GetName(): true, w.listen().consumer.GetName(): true}
			request := &gatewayv1.ListConsumersRequest{PageSize: 1}
			for before := ""; ; {
				page, err := w.Events.ListConsumers(w.ctx, request)
				if err != nil {
					return "", err
				}
				if len(page.GetConsumers()) != 1 || page.GetConsumers()[0].GetName() <= before {
					return fmt.Sprintf("after %q: %v", before, page), nil
				}
				before = page.GetConsumers()[0].GetName()
				delete(wanted, before)
				if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
					return expect(len(wanted) == 0, "%v are not listed", wanted), nil
				}
			}
		},
		bad: func(w *world) error {
			_, err := w.Events.ListConsumers(w.ctx, &gatewayv1.ListConsumersRequest{PageToken: "no token"})
			return err
		},
		code: codes.InvalidArgument, reason: "PAGE_TOKEN",
	},
	{
		method: "DeleteConsumer",
		good: func(w *world) (string, error) {
			l := w.listen()
			request := &gatewayv1.DeleteConsumerRequest{Consumer: l.consumer.GetName(), IdempotencyKey: fresh("key")}
			for range 2 {
				if _, err := w.Events.DeleteConsumer(w.ctx, request); err != nil {
					return "", err
				}
			}
			_, err := l.Recv()
			return expect(status.Code(err) == codes.NotFound, "its stream ended with %v", err), nil
		},
		bad: func(w *world) error {
			request := &gatewayv1.DeleteConsumerRequest{Consumer: w.listen().consumer.GetName(), IdempotencyKey: fresh("key")}
			if _, err := w.Events.DeleteConsumer(w.ctx, request); err != nil {
				return err
			}
			request.Consumer = "another"
			_, err := w.Events.DeleteConsumer(w.ctx, request)
			return err
		},
		code: codes.AlreadyExists, reason: "IDEMPOTENCY_KEY_REUSED",
	},
}
