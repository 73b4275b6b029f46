//go:build e2e

package e2e

import (
	"strings"

	"google.golang.org/grpc/codes"

	veza "github.com/veza-platform/veza/clients/go"
	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
	vezav1 "github.com/veza-platform/veza/clients/go/gen/veza/v1"
)

// message is an entry of a room's log as it is by now.
func (w *world) message(room string, seq uint64) *vezav1.Message {
	w.Helper()
	found, err := w.Messages.GetMessage(w.ctx, &gatewayv1.GetMessageRequest{Room: room, Seq: seq, Actor: "alice"})
	if err != nil {
		w.Fatal(err)
	}
	return found.GetMessage()
}

var messages = []call{
	{
		method: "Send",
		good: func(w *world) (string, error) {
			request := &gatewayv1.SendRequest{Room: w.room("bob"), Body: "Hello, **bob**", Mentions: []string{"bob"}, Actor: "alice", IdempotencyKey: "hello"}
			sent, err := w.Messages.Send(w.ctx, request)
			again, _ := w.Messages.Send(w.ctx, request)
			said := w.message(request.GetRoom(), 1)
			return expect(sent.GetStored().GetSeq() == 1 && !sent.GetStored().GetDuplicate() && again.GetStored().GetSeq() == 1 && again.GetStored().GetDuplicate() &&
				said.GetBody() == "Hello, **bob**" && said.GetAuthor() == "alice", "sent %v, again %v, stored %v", sent, again, said), err
		},
		bad: func(w *world) error {
			id := w.room()
			for _, body := range []string{"one", "another"} {
				if _, err := w.Messages.Send(w.ctx, &gatewayv1.SendRequest{Room: id, Body: body, Actor: "alice", IdempotencyKey: "same"}); err != nil {
					return err
				}
			}
			return nil
		},
		code: codes.AlreadyExists, reason: "CMID_CONFLICT",
	},
	{
		method: "SendDirect",
		good: func(w *world) (string, error) {
			sent, err := w.Messages.SendDirect(w.ctx, &gatewayv1.SendDirectRequest{User: "bob", Body: "Psst", Actor: "alice", IdempotencyKey: veza.NewKey()})
			return expect(sent.GetStored().GetSeq() > 0 && sent.GetRoom().GetKind() == vezav1.RoomKind_ROOM_KIND_DIRECT, "sent %v", sent), err
		},
		bad: func(w *world) error {
			_, err := w.Messages.SendDirect(w.ctx, &gatewayv1.SendDirectRequest{User: "bob", Body: "Psst", IdempotencyKey: veza.NewKey()})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "Edit",
		good: func(w *world) (string, error) {
			id := w.room()
			seq := w.say(id, "alice", "Helo")
			edited, err := w.Messages.Edit(w.ctx, &gatewayv1.EditRequest{Room: id, Seq: seq, Body: "Hello", Actor: "alice", IdempotencyKey: veza.NewKey()})
			said := w.message(id, seq)
			return expect(edited.GetStored().GetSeq() == seq+1 && said.GetBody() == "Hello" && said.GetEdits() == 1, "edited %v, stored %v", edited, said), err
		},
		bad: func(w *world) error {
			id := w.room("bob")
			_, err := w.Messages.Edit(w.ctx, &gatewayv1.EditRequest{Room: id, Seq: w.say(id, "alice", "Mine"), Body: "Yours", Actor: "bob", IdempotencyKey: veza.NewKey()})
			return err
		},
		code: codes.PermissionDenied, reason: "PERMISSION_DENIED",
	},
	{
		method: "Delete",
		good: func(w *world) (string, error) {
			id := w.room("bob")
			seq := w.say(id, "bob", "Wrong window")
			_, err := w.Messages.Delete(w.ctx, &gatewayv1.DeleteRequest{Room: id, Seq: seq, Reason: "asked to", IdempotencyKey: veza.NewKey()})
			said := w.message(id, seq)
			return expect(said.GetDeleted() != nil && said.GetBody() == "", "stored %v", said), err
		},
		bad: func(w *world) error {
			_, err := w.Messages.Delete(w.ctx, &gatewayv1.DeleteRequest{Room: w.room(), Seq: 7, IdempotencyKey: veza.NewKey()})
			return err
		},
		code: codes.NotFound, reason: "NOT_FOUND",
	},
	{
		method: "React",
		good: func(w *world) (string, error) {
			id := w.room("bob")
			seq := w.say(id, "alice", "Hello")
			_, err := w.Messages.React(w.ctx, &gatewayv1.ReactRequest{Room: id, Seq: seq, Emoji: "👋", Actor: "bob", IdempotencyKey: veza.NewKey()})
			said := w.message(id, seq)
			return expect(len(said.GetReactions()) == 1 && said.GetReactions()[0].GetCount() == 1, "stored %v", said), err
		},
		bad: func(w *world) error {
			id := w.room()
			seq := w.say(id, "alice", "Wrong window")
			if _, err := w.Messages.Delete(w.ctx, &gatewayv1.DeleteRequest{Room: id, Seq: seq, Actor: "alice", IdempotencyKey: veza.NewKey()}); err != nil {
				return err
			}
			_, err := w.Messages.React(w.ctx, &gatewayv1.ReactRequest{Room: id, Seq: seq, Emoji: "👋", Actor: "alice", IdempotencyKey: veza.NewKey()})
			return err
		},
		code: codes.FailedPrecondition, reason: "GONE",
	},
	{
		method: "Pin",
		good: func(w *world) (string, error) {
			id := w.room()
			seq := w.say(id, "alice", "The link")
			_, err := w.Messages.Pin(w.ctx, &gatewayv1.PinRequest{Room: id, Seq: seq, IdempotencyKey: veza.NewKey()})
			said := w.message(id, seq)
			return expect(said.GetPinned(), "stored %v", said), err
		},
		bad: func(w *world) error {
			id := w.room()
			_, err := w.Messages.Pin(w.ctx, &gatewayv1.PinRequest{Room: id, Seq: w.say(id, "alice", "The link")})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "GetMessage",
		good: func(w *world) (string, error) {
			id := w.room()
			found, err := w.Messages.GetMessage(w.ctx, &gatewayv1.GetMessageRequest{Room: id, Seq: w.say(id, "alice", "Hello")})
			return expect(found.GetMessage().GetBody() == "Hello", "found %v", found), err
		},
		bad: func(w *world) error {
			_, err := w.Messages.GetMessage(w.ctx, &gatewayv1.GetMessageRequest{Room: w.room(), Seq: 1})
			return err
		},
		code: codes.NotFound, reason: "NOT_FOUND",
	},
	{
		method: "GetHistory",
		good: func(w *world) (string, error) {
			id := w.room()
			for _, body := range []string{"one", "two", "three"} {
				w.say(id, "alice", body)
			}
			after := &gatewayv1.GetHistoryRequest_AfterSeq{AfterSeq: 1}
			page, err := w.Messages.GetHistory(w.ctx, &gatewayv1.GetHistoryRequest{Room: id, Anchor: after, PageSize: 1, Actor: "alice"})
			return expect(len(page.GetMessages()) == 1 && page.GetMessages()[0].GetBody() == "two" && page.GetMoreAfter() && page.GetMoreBefore() && page.GetHead() == 3,
				"page %v", page), err
		},
		bad: func(w *world) error {
			_, err := w.Messages.GetHistory(w.ctx, &gatewayv1.GetHistoryRequest{Room: w.privateRoom(), Actor: "mallory"})
			return err
		},
		code: codes.NotFound, reason: "NOT_FOUND",
	},
	{
		method: "GetThread",
		good: func(w *world) (string, error) {
			id := w.room()
			first := w.say(id, "alice", "Who has the keys?")
			for range 2 {
				if _, err := w.Messages.Send(w.ctx, &gatewayv1.SendRequest{Room: id, Body: "I", Thread: first, Actor: "alice", IdempotencyKey: veza.NewKey()}); err != nil {
					return "", err
				}
			}
			thread, err := w.Messages.GetThread(w.ctx, &gatewayv1.GetThreadRequest{Room: id, Thread: first})
			return expect(len(thread.GetMessages()) == 3 && thread.GetMessages()[0].GetSeq() == first, "thread %v", thread), err
		},
		bad: func(w *world) error {
			_, err := w.Messages.GetThread(w.ctx, &gatewayv1.GetThreadRequest{Room: w.privateRoom(), Thread: 1, Actor: "mallory"})
			return err
		},
		code: codes.NotFound, reason: "NOT_FOUND",
	},
	{
		method: "Search",
		good: func(w *world) (string, error) {
			id := w.room()
			w.say(id, "alice", "The swings are on the left")
			w.say(id, "alice", "Something else")
			found, err := w.Messages.Search(w.ctx, &gatewayv1.SearchRequest{Room: id, Query: "swing"})
			return expect(len(found.GetMessages()) == 1 && strings.Contains(found.GetMessages()[0].GetBody(), "swings"), "found %v", found), err
		},
		bad: func(w *world) error {
			_, err := w.Messages.Search(w.ctx, &gatewayv1.SearchRequest{Room: w.room(), Query: strings.Repeat("q", 257)})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "ListRevisions",
		good: func(w *world) (string, error) {
			id := w.room()
			seq := w.say(id, "alice", "Helo")
			if _, err := w.Messages.Edit(w.ctx, &gatewayv1.EditRequest{Room: id, Seq: seq, Body: "Hello", Actor: "alice", IdempotencyKey: veza.NewKey()}); err != nil {
				return "", err
			}
			listed, err := w.Messages.ListRevisions(w.ctx, &gatewayv1.ListRevisionsRequest{Room: id, Seq: seq, Actor: "alice"})
			return expect(len(listed.GetRevisions()) == 2 && listed.GetRevisions()[0].GetBody() == "Helo", "listed %v", listed), err
		},
		bad: func(w *world) error {
			_, err := w.Messages.ListRevisions(w.ctx, &gatewayv1.ListRevisionsRequest{Room: w.room(), Seq: 9})
			return err
		},
		code: codes.NotFound, reason: "NOT_FOUND",
	},
	{
		method: "ListReactions",
		good: func(w *world) (string, error) {
			id := w.room("bob")
			seq := w.say(id, "alice", "Hello")
			for _, user := range []string{"bob", "alice"} {
				if _, err := w.Messages.React(w.ctx, &gatewayv1.ReactRequest{Room: id, Seq: seq, Emoji: "👋", Actor: user, IdempotencyKey: veza.NewKey()}); err != nil {
					return "", err
				}
			}
			listed, err := w.Messages.ListReactions(w.ctx, &gatewayv1.ListReactionsRequest{Room: id, Seq: seq, Emoji: "👋"})
			return expect(strings.Join(listed.GetUsers(), " ") == "alice bob" && listed.GetTotal() == 2, "listed %v", listed), err
		},
		bad: func(w *world) error {
			id := w.room()
			_, err := w.Messages.ListReactions(w.ctx, &gatewayv1.ListReactionsRequest{Room: id, Seq: w.say(id, "alice", "Hello"), Emoji: strings.Repeat("x", 65)})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "ListPins",
		good: func(w *world) (string, error) {
			id := w.room()
			if _, err := w.Messages.Pin(w.ctx, &gatewayv1.PinRequest{Room: id, Seq: w.say(id, "alice", "The link"), Actor: "alice", IdempotencyKey: veza.NewKey()}); err != nil {
				return "", err
			}
			listed, err := w.Messages.ListPins(w.ctx, &gatewayv1.ListPinsRequest{Room: id})
			return expect(len(listed.GetMessages()) == 1 && listed.GetMessages()[0].GetPinned(), "listed %v", listed), err
		},
		bad: func(w *world) error {
			_, err := w.Messages.ListPins(w.ctx, &gatewayv1.ListPinsRequest{Room: "nowhere"})
			return err
		},
		code: codes.NotFound, reason: "NOT_FOUND",
	},
	{
		method: "GetReadState",
		good: func(w *world) (string, error) {
			reader := fresh("reader")
			id := w.room(reader)
			w.say(id, "alice", "one")
			w.say(id, "alice", "two")
			state, err := w.Messages.GetReadState(w.ctx, &gatewayv1.GetReadStateRequest{User: reader})
			return expect(len(state.GetRooms()) == 1 && state.GetRooms()[0].GetRoom() == id && state.GetRooms()[0].GetUnread() == 2, "state %v", state), err
		},
		bad: func(w *world) error {
			_, err := w.Messages.GetReadState(w.ctx, &gatewayv1.GetReadStateRequest{User: "bob", Actor: "mallory"})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "Mark",
		good: func(w *world) (string, error) {
			id := w.room("bob")
			w.say(id, "alice", "one")
			w.say(id, "alice", "two")
			marked, err := w.Messages.Mark(w.ctx, &gatewayv1.MarkRequest{Room: id, User: "bob", DeliveredSeq: 99, ReadSeq: 1})
			return expect(marked.GetReadSeq() == 1 && marked.GetDeliveredSeq() == 2 && marked.GetUnread() == 1, "marked %v", marked), err
		},
		bad: func(w *world) error {
			_, err := w.Messages.Mark(w.ctx, &gatewayv1.MarkRequest{Room: w.room(), User: "mallory", ReadSeq: 1})
			return err
		},
		code: codes.NotFound, reason: "NOT_FOUND",
	},
}

func (w *world) privateRoom() string {
	w.Helper()
	id := fresh("room")
	if _, err := w.Rooms.CreateRoom(w.ctx, &gatewayv1.CreateRoomRequest{Room: id, Title: "Backstage", Kind: vezav1.RoomKind_ROOM_KIND_PRIVATE, Owner: "alice"}); err != nil {
		w.Fatal(err)
	}
	return id
}
