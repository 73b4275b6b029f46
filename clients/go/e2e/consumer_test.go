//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	veza "github.com/veza-platform/veza/clients/go"
	"github.com/veza-platform/veza/clients/go/events"
	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
	"github.com/veza-platform/veza/clients/go/internal/vezatest"
)

const (
	deaths = 20
	// newPerLife is how many events a consumer deals with that nobody has before it, until it dies.
	newPerLife = 12
	// acknowledgeEvery makes some of them acknowledged by then, and never the last.
	acknowledgeEvery = 5
	// saidMax bounds what is said in a room, far above what so many lives need.
	saidMax = 5_000
)

// talkative lets everybody publish faster than any test does.
var talkative = []string{
	"VEZA_PUBLISH_PER_SECOND=10000", "VEZA_PUBLISH_BURST=10000", "VEZA_USER_PUBLISH_PER_SECOND=10000", "VEZA_USER_PUBLISH_BURST=10000",
}

// mortal is the client of a consumer: one that has crashed acknowledges nothing any more.
type mortal struct {
	gatewayv1.EventsClient
	crashed atomic.Bool
	// acknowledged is the highest position of which the server has said that it stands there.
	acknowledged *atomic.Uint64
}

func (m *mortal) Acknowledge(ctx context.Context, request *gatewayv1.AcknowledgeRequest, options ...grpc.CallOption) (*gatewayv1.AcknowledgeResponse, error) {
	if m.crashed.Load() {
		return nil, errors.New("who has crashed says nothing")
	}
	answer, err := m.EventsClient.Acknowledge(ctx, request, options...)
	if err == nil {
		// One call at a time, and positions only rise.
		m.acknowledged.Store(answer.GetPosition())
	}
	return answer, err
}

// ear is what the lives of a consumer have heard together.
type ear struct {
	*testing.T
	client       gatewayv1.EventsClient
	acknowledged atomic.Uint64
	highest      uint64
	// last is the number of the latest message of each room.
	last map[string]uint64
	// again is how many events came that were dealt with before.
	again int
}

// live runs a consumer until `enough` says so of an event that is new, and ends it then: by a crash, after which nothing is
// acknowledged any more, or in order.
func (e *ear) live(ctx context.Context, crash bool, enough func() bool) {
	e.Helper()
	ctx, die := context.WithCancel(ctx)
	defer die()
	client := &mortal{EventsClient: e.client, acknowledged: &e.acknowledged}
	consumer := events.Consumer{
		Client: client, Name: "shop", AcknowledgeEvery: acknowledgeEvery,
		Filter: &gatewayv1.EventFilter{Kinds: []gatewayv1.EventKind{gatewayv1.EventKind_EVENT_KIND_MESSAGE}},
		Handle: func(_ context.Context, event *gatewayv1.Event) error {
			if e.hear(event) && enough() {
				client.crashed.Store(crash)
				die()
			}
			return nil
		},
	}
	if err := consumer.Run(ctx); !errors.Is(err, context.Canceled) {
		e.Fatalf("it ended with %v", err)
	}
}

// hear says whether the event is a new one.
func (e *ear) hear(event *gatewayv1.Event) bool {
	position := event.GetPosition()
	if acknowledged := e.acknowledged.Load(); position <= acknowledged {
		e.Errorf("%d comes again, and was acknowledged with %d", position, acknowledged)
	}
	if position <= e.highest {
		e.again++
		return false
	}
	e.highest = position
	seq := event.GetMessage().GetMessage().GetSeq()
	if room := event.GetRoom(); seq != e.last[room]+1 {
		e.Errorf("%s: message %d comes after %d", room, seq, e.last[room])
	}
	e.last[event.GetRoom()] = seq
	return true
}

func TestAConsumerThatDiesTwentyTimesUnderLoadMissesNothing(t *testing.T) {
	server := vezatest.Start(t, talkative...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := server.Client(t)
	w := &world{T: t, Client: client, server: server, ctx: ctx}
	rooms := []string{w.room(), w.room(), w.room()}
	w.register("shop")

	said := make([]uint64, len(rooms))
	stop := make(chan struct{})
	var talking sync.WaitGroup
	for nth, room := range rooms {
		talking.Go(func() { said[nth] = talk(ctx, t, client, room, stop) })
	}
	e := &ear{T: t, client: client.Events, last: map[string]uint64{}}
	crashes := 0
	for death := range deaths {
		count, crash := 0, death%2 == 0
		e.live(ctx, crash, func() bool { count++; return count == newPerLife })
		if crash {
			crashes++
		} else if e.acknowledged.Load() < e.highest {
			t.Errorf("ended in order, it has acknowledged %d of %d", e.acknowledged.Load(), e.highest)
		}
	}
	close(stop)
	talking.Wait()

	complete := func() bool {
		for nth, room := range rooms {
			if e.last[room] != said[nth] {
				return false
			}
		}
		return true
	}
	if !complete() {
		e.live(ctx, false, complete)
	}
	// The last event of a life that crashed is never acknowledged; at most all of one life are not.
	if e.again < crashes || e.again > crashes*newPerLife {
		t.Errorf("%d events came again after %d crashes", e.again, crashes)
	}
	t.Logf("said %v, of which %d came again", said, e.again)
}

// register makes a consumer and leaves it.
func (w *world) register(name string) {
	w.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	stream, err := w.Events.Subscribe(ctx, &gatewayv1.SubscribeRequest{Consumer: name})
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		w.Fatal(err)
	}
}

// talk says something in a room until it is told to stop, and gives how often.
func talk(ctx context.Context, t *testing.T, client *veza.Client, room string, stop <-chan struct{}) uint64 {
	for nth := uint64(1); nth <= saidMax; nth++ {
		_, err := client.Messages.Send(ctx, &gatewayv1.SendRequest{Room: room, Body: "Hello", Actor: "alice", IdempotencyKey: fmt.Sprintf("nth-%d", nth)})
		if err != nil {
			t.Errorf("message %d of %s: %v", nth, room, err)
			return nth - 1
		}
		select {
		case <-stop:
			return nth
		default:
		}
	}
	return saidMax
}

func TestAConsumerEndsWhenAnotherTakesOverOrItIsDeleted(t *testing.T) {
	client := vezatest.Start(t).Client(t)
	w := &world{T: t, Client: client, ctx: t.Context()}
	for _, row := range []struct {
		why error
		end func() error
	}{
		{events.ErrSuperseded, func() error { w.register("shop"); return nil }},
		{events.ErrDeleted, func() error {
			_, err := client.Events.DeleteConsumer(t.Context(), &gatewayv1.DeleteConsumerRequest{Consumer: "shop"})
			return err
		}},
	} {
		w.register("shop")
		ended := make(chan error, 1)
		heard := make(chan struct{}, 100)
		consumer := events.Consumer{Client: client.Events, Name: "shop", Handle: func(context.Context, *gatewayv1.Event) error {
			heard <- struct{}{}
			return nil
		}}
		w.room()
		go func() { ended <- consumer.Run(t.Context()) }()
		<-heard
		if err := row.end(); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, row.why) {
			t.Errorf("it ended with %v, not %v", err, row.why)
		}
	}
}
