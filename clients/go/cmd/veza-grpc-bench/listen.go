package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	veza "github.com/veza-platform/veza/clients/go"
	"github.com/veza-platform/veza/clients/go/events"
	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
)

// ages are those of events when they arrive: from when they happened by the server's clock, which has to be this one's.
type ages []time.Duration

// String is what is told of them at the end.
func (a ages) String() string {
	sorted := slices.Sorted(slices.Values(a))
	return fmt.Sprintf("%d events, p50 %s ms, p99 %s ms after they happened", len(sorted), milliseconds(quantile(sorted, 0.50)), milliseconds(quantile(sorted, 0.99)))
}

// listenAlong consumes every event under a name of its own until the context ends, for whoever measures something else
// meanwhile. The consumer is deleted at the end.
func (s settings) listenAlong(ctx context.Context) error {
	ours, err := veza.Dial(ctx, s.target, veza.WithInsecure(), veza.WithTokenFile(s.tokenFile))
	if err != nil {
		return err
	}
	defer ours.Close()
	var heard ages
	before, begun := cpuSeconds(os.Getpid()), time.Now()
	consumer := events.Consumer{
		Client: ours.Events,
		Name:   s.listen,
		Handle: func(_ context.Context, event *gatewayv1.Event) error {
			heard = append(heard, time.Since(time.UnixMilli(int64(event.GetAtMs()))))
			return nil
		},
	}
	if err := consumer.Run(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	fmt.Printf("%v; %.2f CPU\n", heard, (cpuSeconds(os.Getpid())-before)/time.Since(begun).Seconds())
	last, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer stop()
	_, err = ours.Events.DeleteConsumer(last, &gatewayv1.DeleteConsumerRequest{Consumer: s.listen})
	return err
}
