//go:build e2e

package e2e

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	veza "github.com/veza-platform/veza/clients/go"
	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
	"github.com/veza-platform/veza/clients/go/internal/vezatest"
	"github.com/veza-platform/veza/clients/go/webhooks"
)

// soon is how long anything is waited for that must happen.
const soon = 20 * time.Second

// nobody is the id of no webhook.
const nobody = "AAAAAAAAAAAAAAAAAAAAAA"

// webhook makes one that is paused and leads nowhere.
func (w *world) webhook() *gatewayv1.Webhook {
	w.Helper()
	return w.hooked("https://hooks.example/veza", true).GetWebhook()
}

// hooked makes one for the messages of a new room, which the answer's filter names.
func (w *world) hooked(url string, paused bool) *gatewayv1.CreateWebhookResponse {
	w.Helper()
	made, err := w.Webhooks.CreateWebhook(w.ctx, &gatewayv1.CreateWebhookRequest{
		Url: url, Paused: paused, Filter: &gatewayv1.EventFilter{
			Kinds: []gatewayv1.EventKind{gatewayv1.EventKind_EVENT_KIND_MESSAGE}, Rooms: []string{w.room()},
		},
	})
	if err != nil {
		w.Fatal(err)
	}
	return made
}

// until waits for the webhook to be so.
func (w *world) until(id string, holds func(*gatewayv1.Webhook) bool) *gatewayv1.Webhook {
	w.Helper()
	for deadline := time.Now().Add(soon); ; time.Sleep(20 * time.Millisecond) {
		found, err := w.Webhooks.GetWebhook(w.ctx, &gatewayv1.GetWebhookRequest{Id: id})
		if err != nil {
			w.Fatal(err)
		}
		if holds(found.GetWebhook()) {
			return found.GetWebhook()
		}
		if time.Now().After(deadline) {
			w.Fatalf("it stays %v", found)
		}
	}
}

// refused is a webhook with one dead letter, whose receiver takes everything from now on.
func (w *world) refused() *gatewayv1.Webhook {
	w.Helper()
	var takes atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, _ *http.Request) {
		if !takes.Load() {
			answer.WriteHeader(http.StatusTeapot)
		}
	}))
	w.Cleanup(server.Close)
	made := w.hooked(server.URL, false).GetWebhook()
	w.say(made.GetFilter().GetRooms()[0], "alice", "Hello")
	w.until(made.GetId(), func(webhook *gatewayv1.Webhook) bool { return webhook.GetDeadLetters() == 1 })
	takes.Store(true)
	return made
}

var webhookCalls = []call{
	{
		method: "CreateWebhook",
		good: func(w *world) (string, error) {
			request := &gatewayv1.CreateWebhookRequest{Url: "https://hooks.example/veza", Paused: true, IdempotencyKey: fresh("key")}
			made, err := w.Webhooks.CreateWebhook(w.ctx, request)
			if err != nil {
				return "", err
			}
			again, err := w.Webhooks.CreateWebhook(w.ctx, request)
			webhook := made.GetWebhook()
			return expect(len(webhook.GetId()) == 22 && webhook.GetPaused() && len(made.GetSecret()) == 43 && again.GetSecret() == "" && proto.Equal(webhook, again.GetWebhook()),
				"made %v, then %v", webhook, again), err
		},
		bad: func(w *world) error {
			_, err := w.Webhooks.CreateWebhook(w.ctx, &gatewayv1.CreateWebhookRequest{Url: "http://hooks.example/veza"})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "UpdateWebhook",
		good: func(w *world) (string, error) {
			made := w.webhook()
			updated, err := w.Webhooks.UpdateWebhook(w.ctx, &gatewayv1.UpdateWebhookRequest{
				Webhook:      &gatewayv1.Webhook{Id: made.GetId(), Url: "https://other.example/", Filter: &gatewayv1.EventFilter{}},
				UpdateMask:   &fieldmaskpb.FieldMask{Paths: []string{"url"}},
				RotateSecret: true,
			})
			webhook := updated.GetWebhook()
			return expect(webhook.GetUrl() == "https://other.example/" && webhook.GetPaused() && proto.Equal(webhook.GetFilter(), made.GetFilter()) && len(updated.GetSecret()) == 43,
				"updated %v", webhook), err
		},
		bad: func(w *world) error {
			_, err := w.Webhooks.UpdateWebhook(w.ctx, &gatewayv1.UpdateWebhookRequest{Webhook: &gatewayv1.Webhook{Id: w.webhook().GetId()}})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "GetWebhook",
		good: func(w *world) (string, error) {
			made := w.refused()
			found, err := w.Webhooks.GetWebhook(w.ctx, &gatewayv1.GetWebhookRequest{Id: made.GetId()})
			webhook := found.GetWebhook()
			return expect(webhook.GetLastOutcome() == "status 418" && webhook.GetFailures() == 1 && webhook.GetPosition() > made.GetPosition() && webhook.GetHead() >= webhook.GetPosition(),
				"found %v", webhook), err
		},
		bad: func(w *world) error {
			_, err := w.Webhooks.GetWebhook(w.ctx, &gatewayv1.GetWebhookRequest{Id: nobody})
			return err
		},
		code: codes.NotFound, reason: "NOT_FOUND",
	},
	{
		method: "ListWebhooks",
		good: func(w *world) (string, error) {
			wanted := map[string]bool{w.webhook().GetId(): true, w.webhook().GetId(): true}
			request := &gatewayv1.ListWebhooksRequest{PageSize: 1}
			for before := ""; ; {
				page, err := w.Webhooks.ListWebhooks(w.ctx, request)
				if err != nil {
					return "", err
				}
				if len(page.GetWebhooks()) != 1 || page.GetWebhooks()[0].GetId() <= before {
					return expect(false, "after %q: %v", before, page), nil
				}
				before = page.GetWebhooks()[0].GetId()
				delete(wanted, before)
				if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
					return expect(len(wanted) == 0, "%v are not listed", wanted), nil
				}
			}
		},
		bad: func(w *world) error {
			_, err := w.Webhooks.ListWebhooks(w.ctx, &gatewayv1.ListWebhooksRequest{PageToken: "no token"})
			return err
		},
		code: codes.InvalidArgument, reason: "PAGE_TOKEN",
	},
	{
		method: "DeleteWebhook",
		good: func(w *world) (string, error) {
			request := &gatewayv1.DeleteWebhookRequest{Id: w.webhook().GetId(), IdempotencyKey: fresh("key")}
			for range 2 {
				if _, err := w.Webhooks.DeleteWebhook(w.ctx, request); err != nil {
					return "", err
				}
			}
			_, err := w.Webhooks.GetWebhook(w.ctx, &gatewayv1.GetWebhookRequest{Id: request.GetId()})
			return expect(veza.Reason(err) == "NOT_FOUND", "afterwards: %v", err), nil
		},
		bad: func(w *world) error {
			_, err := w.Webhooks.DeleteWebhook(w.ctx, &gatewayv1.DeleteWebhookRequest{Id: nobody, IdempotencyKey: fresh("key")})
			return err
		},
		code: codes.NotFound, reason: "NOT_FOUND",
	},
	{
		method: "ListDeadLetters",
		good: func(w *world) (string, error) {
			made := w.refused()
			found, err := w.Webhooks.ListDeadLetters(w.ctx, &gatewayv1.ListDeadLettersRequest{Id: made.GetId()})
			letters := found.GetDeadLetters()
			return expect(len(letters) == 1 && letters[0].GetNumber() == 1 && letters[0].GetAttempts() == 1 && letters[0].GetOutcome() == "status 418" &&
				letters[0].GetEvent().GetMessage().GetMessage().GetBody() == "Hello", "found %v", found), err
		},
		bad: func(w *world) error {
			_, err := w.Webhooks.ListDeadLetters(w.ctx, &gatewayv1.ListDeadLettersRequest{Id: "short"})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "Replay",
		good: func(w *world) (string, error) {
			made := w.refused()
			replayed, err := w.Webhooks.Replay(w.ctx, &gatewayv1.ReplayRequest{Id: made.GetId(), What: &gatewayv1.ReplayRequest_DeadLetters{DeadLetters: true}})
			if err != nil {
				return "", err
			}
			stands := w.until(made.GetId(), func(webhook *gatewayv1.Webhook) bool { return webhook.GetDeadLetters() == 0 })
			return expect(replayed.GetCount() == 1 && stands.GetFailures() == 0, "replayed %v, then %v", replayed, stands), nil
		},
		bad: func(w *world) error {
			_, err := w.Webhooks.Replay(w.ctx, &gatewayv1.ReplayRequest{Id: w.webhook().GetId(), What: &gatewayv1.ReplayRequest_Number{Number: 1}})
			return err
		},
		code: codes.NotFound, reason: "NOT_FOUND",
	},
}

// shop is a receiver of the module behind an HTTP server: what it was handed, and by which secrets.
type shop struct {
	url      string
	mu       sync.Mutex
	receiver *webhooks.Receiver
	handed   []webhooks.Delivery
	answers  []int
	// fails lets the handler fail so often.
	fails int
}

// ServeHTTP implements [http.Handler].
func (s *shop) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	s.mu.Lock()
	receiver := s.receiver
	s.mu.Unlock()
	recorder := httptest.NewRecorder()
	receiver.ServeHTTP(recorder, request)
	w.WriteHeader(recorder.Code)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = append(s.answers, recorder.Code)
}

func (s *shop) handle(_ context.Context, delivery webhooks.Delivery) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails > 0 {
		s.fails--
		return errors.New("not now")
	}
	s.handed = append(s.handed, delivery)
	return nil
}

// knows exchanges the secrets that are believed.
func (s *shop) knows(t *testing.T, secrets ...string) {
	t.Helper()
	receiver, err := webhooks.NewReceiver(s.handle, secrets...)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.receiver = receiver
}

// bodies are those of the messages that it was handed, once they are so many.
func (s *shop) bodies(t *testing.T, count int) (bodies []string) {
	t.Helper()
	for deadline := time.Now().Add(soon); ; time.Sleep(20 * time.Millisecond) {
		s.mu.Lock()
		handed, answers := s.handed, s.answers
		s.mu.Unlock()
		if len(handed) >= count {
			for _, delivery := range handed {
				bodies = append(bodies, delivery.Event.GetMessage().GetMessage().GetBody())
			}
			return bodies
		}
		if time.Now().After(deadline) {
			t.Fatalf("only %d deliveries of %d; it answered %v", len(handed), count, answers)
		}
	}
}

// The module's receiver takes what the server delivers: what it fails with comes again, and a secret is exchanged under it.
func TestTheReceiverTakesWhatTheServerDelivers(t *testing.T) {
	client := vezatest.Start(t, "WEBHOOKS_ALLOW_PRIVATE=true").Client(t)
	w := &world{T: t, Client: client, ctx: t.Context()}
	s := &shop{fails: 2}
	server := httptest.NewServer(s)
	defer server.Close()
	made := w.hooked(server.URL+"/hooks/veza", true)
	s.knows(t, made.GetSecret())
	id, room := made.GetWebhook().GetId(), made.GetWebhook().GetFilter().GetRooms()[0]
	paused := func(paused bool) {
		_, err := client.Webhooks.UpdateWebhook(t.Context(), &gatewayv1.UpdateWebhookRequest{
			Webhook: &gatewayv1.Webhook{Id: id, Paused: paused}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"paused"}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	paused(false)
	w.say(room, "alice", "first")
	w.say(room, "alice", "second")
	if bodies := s.bodies(t, 2); bodies[0] != "first" || bodies[1] != "second" {
		t.Errorf("handed %q", bodies)
	}

	rotated, err := client.Webhooks.UpdateWebhook(t.Context(), &gatewayv1.UpdateWebhookRequest{
		Webhook: &gatewayv1.Webhook{Id: id}, RotateSecret: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.say(room, "alice", "known by the old secret")
	s.bodies(t, 3)
	s.knows(t, rotated.GetSecret())
	w.say(room, "alice", "known by the new secret")
	s.bodies(t, 4)
	// Who knows neither refuses it, and takes it when it does: nothing is passed over.
	s.knows(t, "somebody else's")
	w.say(room, "alice", "known by none at first")
	w.until(id, func(webhook *gatewayv1.Webhook) bool { return webhook.GetLastOutcome() == "status 401" })
	s.knows(t, rotated.GetSecret())
	paused(true)
	paused(false)
	bodies := s.bodies(t, 5)
	if bodies[2] != "known by the old secret" || bodies[3] != "known by the new secret" || bodies[4] != "known by none at first" {
		t.Errorf("handed %q", bodies)
	}
	stands := w.until(id, func(webhook *gatewayv1.Webhook) bool { return webhook.GetPosition() == webhook.GetHead() })
	if stands.GetDeadLetters() != 0 || stands.GetLastOutcome() != "status 204" {
		t.Errorf("it stands so: %v", stands)
	}
}
