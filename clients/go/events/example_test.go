package events_test

import (
	"context"
	"errors"
	"log"

	veza "github.com/veza-platform/veza/clients/go"
	"github.com/veza-platform/veza/clients/go/events"
	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
)

func ExampleConsumer() {
	client, err := veza.New("127.0.0.1:50051", veza.WithInsecure(), veza.WithTokenFile("data/auth/gateway-token"))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	consumer := events.Consumer{
		Client: client.Events,
		Name:   "push-notifications",
		Filter: &gatewayv1.EventFilter{Kinds: []gatewayv1.EventKind{gatewayv1.EventKind_EVENT_KIND_MESSAGE}},
		Handle: func(ctx context.Context, event *gatewayv1.Event) error {
			message := event.GetMessage().GetMessage()
			log.Printf("%s spoke in %s", message.GetAuthor(), message.GetRoom())
			return nil
		},
	}
	ctx, stop := context.WithCancel(context.Background())
	stop() // A program stops when it is told to, say by signal.NotifyContext.
	if err := consumer.Run(ctx); !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
}
