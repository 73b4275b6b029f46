//go:build e2e

package e2e

import (
	"fmt"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
	vezav1 "github.com/veza-platform/veza/clients/go/gen/veza/v1"
	"github.com/veza-platform/veza/clients/go/internal/vezatest"
)

// listener is the stream of a consumer of its own, which was told where it stands.
type listener struct {
	grpc.ServerStreamingClient[gatewayv1.SubscribeResponse]
	consumer *gatewayv1.Consumer
}

// listen makes a consumer, and listens until the test ends.
func (w *world) listen() *listener {
	w.Helper()
	return w.listenTo(nil)
}

// listenTo does the same of what passes the filter.
func (w *world) listenTo(filter *gatewayv1.EventFilter) *listener {
	w.Helper()
	stream, err := w.Events.Subscribe(w.ctx, &gatewayv1.SubscribeRequest{Consumer: fresh("shop"), Filter: filter})
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
			// Sessions of other tests come and go meanwhile.
			l := w.listenTo(&gatewayv1.EventFilter{Kinds: []gatewayv1.EventKind{
				gatewayv1.EventKind_EVENT_KIND_ROOM_CREATED,
				gatewayv1.EventKind_EVENT_KIND_MEMBER_JOINED,
				gatewayv1.EventKind_EVENT_KIND_MESSAGE,
			}})
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

// about is the next event about somebody: sessions of others may still be ending.
func about(user string, next func() *gatewayv1.Event) *gatewayv1.Event {
	for {
		if event := next(); event.GetUser() == user {
			return event
		}
	}
}

// happenings make every kind of event happen, in a world of their own, and say what is wrong with what is told of it.
var happenings = map[gatewayv1.EventKind]func(w *world, next func() *gatewayv1.Event) string{
	gatewayv1.EventKind_EVENT_KIND_MESSAGE: func(w *world, next func() *gatewayv1.Event) string {
		seq := w.say(w.room(), "alice", "Hello")
		event := next()
		message := event.GetMessage().GetMessage()
		return expect(event.GetUser() == "alice" && message.GetSeq() == seq && message.GetBody() == "Hello", "%v", event)
	},
	gatewayv1.EventKind_EVENT_KIND_ROOM_CREATED: func(w *world, next func() *gatewayv1.Event) string {
		room := w.room()
		event := next()
		return expect(event.GetRoom() == room && event.GetRoomCreated().GetCreator() == "alice", "%v", event)
	},
	gatewayv1.EventKind_EVENT_KIND_ROOM_UPDATED: func(w *world, next func() *gatewayv1.Event) string {
		room := w.room()
		if _, err := w.Moderation.SetSlowMode(w.ctx, &gatewayv1.SetSlowModeRequest{Room: room, Seconds: 5}); err != nil {
			return err.Error()
		}
		event := next()
		return expect(event.GetRoom() == room && event.GetRoomUpdated().GetRoom().GetSettings().GetSlowModeSeconds() == 5, "%v", event)
	},
	gatewayv1.EventKind_EVENT_KIND_MEMBER_JOINED: func(w *world, next func() *gatewayv1.Event) string {
		room := w.room("bob")
		owner, event := next(), next()
		return expect(owner.GetUser() == "alice" && event.GetRoom() == room && event.GetMemberJoined().GetMember().GetUser() == "bob", "%v, %v", owner, event)
	},
	gatewayv1.EventKind_EVENT_KIND_MEMBER_LEFT: func(w *world, next func() *gatewayv1.Event) string {
		if _, err := w.Moderation.Kick(w.ctx, &gatewayv1.KickRequest{Room: w.room("bob"), User: "bob"}); err != nil {
			return err.Error()
		}
		event := next()
		return expect(event.GetUser() == "bob" && event.GetMemberLeft().GetSanction() == vezav1.Sanction_SANCTION_KICK, "%v", event)
	},
	gatewayv1.EventKind_EVENT_KIND_MEMBER_ROLE_CHANGED: func(w *world, next func() *gatewayv1.Event) string {
		role := vezav1.Role_ROLE_MODERATOR
		if _, err := w.Rooms.SetRole(w.ctx, &gatewayv1.SetRoleRequest{Room: w.room("bob"), User: "bob", Role: role, Actor: "alice"}); err != nil {
			return err.Error()
		}
		event := next()
		return expect(event.GetUser() == "bob" && event.GetMemberRoleChanged().GetRole() == role && event.GetMemberRoleChanged().GetActor() == "alice", "%v", event)
	},
	gatewayv1.EventKind_EVENT_KIND_MEMBER_SANCTIONED: func(w *world, next func() *gatewayv1.Event) string {
		if _, err := w.Moderation.Mute(w.ctx, &gatewayv1.MuteRequest{Room: w.room("bob"), User: "bob", Seconds: 60, Reason: "spam"}); err != nil {
			return err.Error()
		}
		event := next()
		muted := event.GetMemberSanctioned()
		return expect(muted.GetSanction() == vezav1.Sanction_SANCTION_MUTE && muted.GetUntilMs() > 0 && muted.GetReason() == "spam", "%v", event)
	},
	gatewayv1.EventKind_EVENT_KIND_SESSION_CONNECTED: func(w *world, next func() *gatewayv1.Event) string {
		user := fresh("user")
		w.server.Connect(w, w.mint(user, "phone").GetToken())
		event := about(user, next)
		connected := event.GetSessionConnected()
		return expect(event.GetUser() == user && connected.GetDevice() == "phone" && connected.GetTransport() == "websocket" && connected.GetFirst() &&
			len(connected.GetSession()) == 32 && len(connected.GetNode()) == 16, "%v", event)
	},
	gatewayv1.EventKind_EVENT_KIND_SESSION_DISCONNECTED: func(w *world, next func() *gatewayv1.Event) string {
		user := fresh("user")
		w.server.Connect(w, w.mint(user, "").GetToken()).Say("bye", map[string]any{})
		event := about(user, next)
		gone := event.GetSessionDisconnected()
		return expect(event.GetUser() == user && gone.GetCode() == 4000 && gone.GetLast() && len(gone.GetSession()) == 32, "%v", event)
	},
	gatewayv1.EventKind_EVENT_KIND_REVOKED: func(w *world, next func() *gatewayv1.Event) string {
		user := fresh("user")
		if _, err := w.Auth.RevokeDevice(w.ctx, &gatewayv1.RevokeDeviceRequest{User: user, Device: "phone"}); err != nil {
			return err.Error()
		}
		if _, err := w.Auth.RevokeUser(w.ctx, &gatewayv1.RevokeUserRequest{User: user}); err != nil {
			return err.Error()
		}
		device, all := next(), next()
		return expect(device.GetUser() == user && device.GetRevoked().GetDevice() == "phone" && device.GetRevoked().GetActor() == "service:gateway" &&
			all.GetUser() == user && all.GetRevoked().GetIssuedBeforeMs() >= device.GetAtMs(), "%v, %v", device, all)
	},
	gatewayv1.EventKind_EVENT_KIND_STREAM_CHANGED: func(w *world, next func() *gatewayv1.Event) string {
		id := w.live()
		made, started := next(), next()
		return expect(made.GetRoom() == "stream."+id && made.GetUser() == "alice" && made.GetStreamChanged().GetStream().GetRevision() == 1 &&
			started.GetStreamChanged().GetStream().GetState() == gatewayv1.StreamState_STREAM_STATE_LIVE, "%v, %v", made, started)
	},
	gatewayv1.EventKind_EVENT_KIND_REVIEW_CHANGED: func(w *world, next func() *gatewayv1.Event) string {
		room := w.room("bob")
		filed, err := w.Moderation.FileReview(w.ctx, &gatewayv1.FileReviewRequest{
			Room: room, Seq: w.say(room, "bob", "buy this"), Category: gatewayv1.ReviewCategory_REVIEW_CATEGORY_SPAM,
		})
		if err != nil {
			return err.Error()
		}
		event := next()
		review := event.GetReviewChanged().GetReview()
		return expect(event.GetRoom() == room && event.GetUser() == "bob" && review.GetId() == filed.GetReview().GetId() && review.GetMessage().GetBody() == "buy this", "%v", event)
	},
}

func TestEveryKindOfEventIsTold(t *testing.T) {
	server := vezatest.Start(t)
	client := server.Client(t)
	for number, name := range gatewayv1.EventKind_name {
		kind := gatewayv1.EventKind(number)
		if kind == gatewayv1.EventKind_EVENT_KIND_UNSPECIFIED {
			continue
		}
		t.Run(name, func(t *testing.T) {
			happen := happenings[kind]
			if happen == nil {
				t.Fatal("nothing makes it happen")
			}
			w := &world{T: t, Client: client, server: server, ctx: t.Context()}
			l := w.listenTo(&gatewayv1.EventFilter{Kinds: []gatewayv1.EventKind{kind}})
			if wrong := happen(w, func() *gatewayv1.Event { return w.event(l) }); wrong != "" {
				t.Error(wrong)
			}
		})
	}
}
