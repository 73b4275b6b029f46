package webhooks_test

import (
	"context"
	"log"
	"net/http"
	"os"

	"github.com/veza-platform/veza/clients/go/webhooks"
)

func Example() {
	receiver, err := webhooks.NewReceiver(func(ctx context.Context, delivery webhooks.Delivery) error {
		if message := delivery.Event.GetMessage().GetMessage(); message != nil {
			log.Printf("%s spoke in %s", message.GetAuthor(), message.GetRoom())
		}
		return nil
	}, os.Getenv("VEZA_WEBHOOK_SECRET"))
	if err != nil {
		log.Print(err)
		return
	}
	http.Handle("POST /hooks/veza", receiver)
}
