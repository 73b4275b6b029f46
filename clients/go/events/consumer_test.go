package events_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/veza-platform/veza/clients/go/events"
	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
)

var away = status.Error(codes.Unavailable, "away")

// notebook is a consumer that writes positions down.
type notebook struct {
	mu        sync.Mutex
	positions []uint64
}

func (n *notebook) handle(_ context.Context, event *gatewayv1.Event) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.positions = append(n.positions, event.GetPosition())
	return nil
}

func (n *notebook) handled() []uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.positions)
}

func upTo(last uint64) []uint64 {
	var positions []uint64
	for position := uint64(1); position <= last; position++ {
		positions = append(positions, position)
	}
	return positions
}

// start runs the consumer until the test stops it, and gives Run's error then.
func start(t *testing.T, consumer events.Consumer) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- consumer.Run(ctx) }()
	return func() error {
		cancel()
		return <-done
	}
}

func TestEventsAreHandledInOrderAndAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outbox, notebook := newOutbox(), &notebook{}
		stop := start(t, events.Consumer{Client: outbox, Name: "index", Handle: notebook.handle})
		outbox.happen(250)
		synctest.Wait()
		if !slices.Equal(notebook.handled(), upTo(250)) {
			t.Errorf("handled %v", notebook.handled())
		}
		// Two hundreds by their number, the rest when a second has passed.
		if acked := outbox.acknowledged(); acked < 200 {
			t.Errorf("acknowledged up to %d", acked)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if acked := outbox.acknowledged(); acked != 250 {
			t.Errorf("a second later acknowledged up to %d", acked)
		}
		outbox.happen(1)
		synctest.Wait()
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if acked := outbox.acknowledged(); acked != 251 {
			t.Errorf("at the end acknowledged up to %d", acked)
		}
	})
}

// The connection breaks in the middle, again and again. What was handled and could not be acknowledged comes again by the
// next stream, and is left out.
func TestABreakRepeatsNothingWithinARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outbox, notebook := newOutbox(), &notebook{}
		for after := range 40 {
			outbox.breaks = append(outbox.breaks, breakAt{after: after, err: away})
		}
		outbox.deaf = true
		stop := start(t, events.Consumer{Client: outbox, Name: "index", Handle: notebook.handle})
		outbox.happen(300)
		time.Sleep(10 * time.Minute)
		outbox.change(func() { outbox.deaf = false })
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if !slices.Equal(notebook.handled(), upTo(300)) {
			t.Errorf("handled %v", notebook.handled())
		}
		if outbox.streams() != 41 || outbox.acknowledged() != 300 {
			t.Errorf("%d streams, acknowledged up to %d", outbox.streams(), outbox.acknowledged())
		}
		_ = stop()
	})
}

// The process dies twenty times without a last word. Nothing is missed, and only what was not acknowledged comes twice.
func TestTwentyCrashesMissNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outbox := newOutbox()
		handled, last := map[uint64]int{}, uint64(0)
		for crash := range 20 {
			known := outbox.acknowledged()
			next := known
			stop := start(t, events.Consumer{Client: outbox, Name: "index", Handle: func(_ context.Context, event *gatewayv1.Event) error {
				next++
				if event.GetPosition() != next {
					t.Errorf("run %d: %d came in the place of %d", crash, event.GetPosition(), next)
				}
				handled[event.GetPosition()]++
				return nil
			}})
			outbox.happen(130 + crash)
			time.Sleep(time.Duration(crash) * 100 * time.Millisecond)
			synctest.Wait()
			outbox.change(func() { outbox.deaf = true })
			outbox.happen(7)
			synctest.Wait()
			_ = stop()
			outbox.change(func() { outbox.deaf = false })
			for position := range handled {
				last = max(last, position)
			}
			for position := known + 1; position <= last; position++ {
				if handled[position] == 0 {
					t.Errorf("run %d: %d was missed", crash, position)
				}
			}
			if acked := outbox.acknowledged(); acked >= last {
				t.Errorf("run %d did not crash", crash)
			}
		}
		if last != uint64(len(outbox.events)) {
			t.Errorf("handled up to %d of %d", last, len(outbox.events))
		}
	})
}

func TestAnErrorOfTheHandlerEndsTheRunAndTheEventComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outbox := newOutbox()
		outbox.happen(5)
		mistake := errors.New("a mistake")
		consumer := events.Consumer{Client: outbox, Name: "index", Handle: func(_ context.Context, event *gatewayv1.Event) error {
			if event.GetPosition() == 3 {
				return mistake
			}
			return nil
		}}
		if err := consumer.Run(t.Context()); err != mistake {
			t.Errorf("ended with %v", err)
		}
		if acked := outbox.acknowledged(); acked != 2 {
			t.Errorf("acknowledged up to %d", acked)
		}
		notebook := &notebook{}
		consumer.Handle = notebook.handle
		stop := start(t, consumer)
		synctest.Wait()
		_ = stop()
		if !slices.Equal(notebook.handled(), []uint64{3, 4, 5}) {
			t.Errorf("then came %v", notebook.handled())
		}
	})
}

func TestSomeEndsAreFinal(t *testing.T) {
	for _, test := range []struct {
		code codes.Code
		want error
	}{
		{codes.Aborted, events.ErrSuperseded},
		{codes.OutOfRange, events.ErrExpired},
		{codes.NotFound, events.ErrDeleted},
		{codes.Unauthenticated, nil},
		{codes.PermissionDenied, nil},
		{codes.InvalidArgument, nil},
		{codes.Unimplemented, nil},
	} {
		outbox := newOutbox()
		outbox.breaks = []breakAt{{after: 1, err: status.Error(test.code, "no")}}
		err := events.Consumer{Client: outbox, Name: "index", Handle: (&notebook{}).handle}.Run(t.Context())
		if status.Code(err) != test.code || (test.want != nil && !errors.Is(err, test.want)) || outbox.streams() != 1 {
			t.Errorf("%v: %v after %d streams", test.code, err, outbox.streams())
		}
	}
}

func TestTheServerSaysWhenToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outbox := newOutbox()
		draining, err := status.New(codes.Unavailable, "draining").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		outbox.breaks = []breakAt{{after: 1, err: draining.Err()}}
		stop := start(t, events.Consumer{Client: outbox, Name: "index", Handle: (&notebook{}).handle})
		time.Sleep(time.Minute - 1)
		synctest.Wait()
		if outbox.streams() != 1 {
			t.Error("came back before its time")
		}
		time.Sleep(1)
		synctest.Wait()
		if outbox.streams() != 2 {
			t.Error("did not come back")
		}
		_ = stop()
	})
}

func TestASilentStreamIsTakenForDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outbox, notebook := newOutbox(), &notebook{}
		outbox.mute = true
		stop := start(t, events.Consumer{Client: outbox, Name: "index", Handle: notebook.handle})
		outbox.happen(1)
		time.Sleep(34 * time.Second)
		synctest.Wait()
		if outbox.streams() != 1 {
			t.Errorf("%d streams after 34 s of silence", outbox.streams())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if outbox.streams() != 2 {
			t.Errorf("%d streams after 36 s of silence", outbox.streams())
		}
		outbox.change(func() { outbox.mute = false })
		// A word every ten seconds keeps it, and what it says of positions is acknowledged.
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if outbox.streams() != 2 || len(notebook.handled()) != 1 {
			t.Errorf("%d streams, handled %v", outbox.streams(), notebook.handled())
		}
		_ = stop()
	})
}

// A handler that takes longer than any silence is not the server's silence.
func TestASlowHandlerKeepsItsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outbox := newOutbox()
		stop := start(t, events.Consumer{Client: outbox, Name: "index", Handle: func(ctx context.Context, _ *gatewayv1.Event) error {
			time.Sleep(5 * time.Minute)
			return ctx.Err()
		}})
		outbox.happen(3)
		time.Sleep(16 * time.Minute)
		synctest.Wait()
		if outbox.streams() != 1 || outbox.acknowledged() != 3 {
			t.Errorf("%d streams, acknowledged up to %d", outbox.streams(), outbox.acknowledged())
		}
		_ = stop()
	})
}

func TestTheSmallestWindowMovesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outbox, notebook := newOutbox(), &notebook{}
		stop := start(t, events.Consumer{Client: outbox, Name: "index", Handle: notebook.handle, Window: 1})
		outbox.happen(50)
		// Without a single tick of the clock: every event is acknowledged by itself.
		synctest.Wait()
		if !slices.Equal(notebook.handled(), upTo(50)) {
			t.Errorf("handled %v", notebook.handled())
		}
		_ = stop()
	})
}

func TestARestoredBackupIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outbox, notebook := newOutbox(), &notebook{}
		outbox.breaks = []breakAt{{after: 1 + 20, err: away}}
		outbox.happen(20)
		stop := start(t, events.Consumer{Client: outbox, Name: "index", Handle: notebook.handle})
		synctest.Wait()
		outbox.change(func() { outbox.events, outbox.acked = outbox.events[:10], 10 })
		time.Sleep(time.Minute)
		outbox.happen(3)
		synctest.Wait()
		if want := append(upTo(20), 11, 12, 13); !slices.Equal(notebook.handled(), want) {
			t.Errorf("handled %v", notebook.handled())
		}
		_ = stop()
	})
}

func TestWhereAConsumerBegins(t *testing.T) {
	for want, start := range map[string]events.Start{"now:true": events.Now(), "earliest:true": events.Earliest(), "after_position:0": events.After(0)} {
		outbox := newOutbox()
		outbox.breaks = []breakAt{{err: status.Error(codes.Aborted, "enough")}}
		_ = events.Consumer{Client: outbox, Name: "index", Handle: (&notebook{}).handle, Start: start}.Run(t.Context())
		request := outbox.request(0)
		request.Consumer, request.Window = "", 0
		if request.String() != want {
			t.Errorf("%v, not %s", request, want)
		}
	}
}

func TestAConsumerThatCannotRun(t *testing.T) {
	outbox, handle := newOutbox(), (&notebook{}).handle
	outbox.breaks = []breakAt{{err: status.Error(codes.Aborted, "enough")}}
	for what, consumer := range map[string]events.Consumer{
		"no client":        {Name: "index", Handle: handle},
		"no name":          {Client: outbox, Handle: handle},
		"no handler":       {Client: outbox, Name: "index"},
		"too wide":         {Client: outbox, Name: "index", Handle: handle, Window: 10_001},
		"a negative width": {Client: outbox, Name: "index", Handle: handle, Window: -1},
	} {
		if err := consumer.Run(t.Context()); err == nil || errors.Is(err, events.ErrSuperseded) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := (events.Consumer{Client: outbox, Name: "index", Handle: handle, Window: 10_000}).Run(t.Context()); !errors.Is(err, events.ErrSuperseded) {
		t.Errorf("the widest window: %v", err)
	}
}
