package main

import (
	"context"
	"net/http"
	"time"

	"github.com/veza-platform/veza/clients/go/events"
	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
)

// heardMax is how many of the latest messages are remembered.
const heardMax = 100

// heard is a message that was said, as this platform sees it.
type heard struct {
	Position uint64    `json:"position"`
	Room     string    `json:"room"`
	Author   string    `json:"author"`
	Body     string    `json:"body"`
	At       time.Time `json:"at"`
}

// Hear listens to what is said, from where it stood when this program last ended.
func (g *Gateway) Hear(ctx context.Context) error {
	consumer := events.Consumer{
		Client: g.Veza.Events,
		Name:   "example-gateway",
		Filter: &gatewayv1.EventFilter{Kinds: []gatewayv1.EventKind{gatewayv1.EventKind_EVENT_KIND_MESSAGE}},
		Handle: g.hear,
		Log:    g.Log,
	}
	return consumer.Run(ctx)
}

// hear is where a platform would send a push notification, or count.
func (g *Gateway) hear(_ context.Context, event *gatewayv1.Event) error {
	message := event.GetMessage().GetMessage()
	if message.GetBody() == "" {
		return nil // An edit, a reaction, a note, or deleted by now.
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.heard = append(g.heard, heard{
		Position: event.GetPosition(), Room: message.GetRoom(), Author: message.GetAuthor(), Body: message.GetBody(),
		At: time.UnixMilli(int64(message.GetAtMs())),
	})
	g.heard = g.heard[max(0, len(g.heard)-heardMax):]
	return nil
}

func (g *Gateway) tellHeard(w http.ResponseWriter, _ *http.Request, _ User) {
	g.mu.Lock()
	defer g.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{"heard": append([]heard{}, g.heard...)})
}
