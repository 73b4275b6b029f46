// Package events consumes what happens in Veza: in order, from a named cursor that the server keeps.
package events

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	veza "github.com/veza-platform/veza/clients/go"
	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
	"github.com/veza-platform/veza/clients/go/internal/backoff"
)

const (
	// windowDefault and windowMax are the server's.
	windowDefault = 1_000
	windowMax     = 10_000
	// silenceMax is how long a stream may say nothing. The server says something every 10 seconds.
	silenceMax = 35 * time.Second
	// The waits between two streams.
	waitFirst = 100 * time.Millisecond
	waitMax   = 10 * time.Second
	// acknowledgeWithin bounds one acknowledgement, so that a server that hangs holds nothing up.
	acknowledgeWithin = 5 * time.Second
)

// Why a consumer's Run ends although its context has not.
var (
	// ErrSuperseded: another stream with this name was opened, by another instance. One of them consumes at a time.
	ErrSuperseded = errors.New("events: another consumer of this name has taken over")
	// ErrExpired: the events after the consumer's position are kept no more. What was missed has to be read from the
	// rooms; deleting the consumer, or starting elsewhere, goes on with what there is.
	ErrExpired = errors.New("events: the events after this position are kept no more")
	// ErrDeleted: somebody has deleted the consumer.
	ErrDeleted = errors.New("events: the consumer was deleted")
)

// Start is where a consumer begins that the server does not know yet. One that it knows goes on where it stands.
type Start struct {
	earliest bool
	after    *uint64
}

// Now begins with what happens from now on; it is the default.
func Now() Start { return Start{} }

// Earliest begins with the oldest event that is kept.
func Earliest() Start { return Start{earliest: true} }

// After begins with the first event after this position.
func After(position uint64) Start { return Start{after: &position} }

// Consumer hands every event to Handle, one after another, in the order in which the server has them: per room that in
// which they happened. Only Client, Name and Handle have to be set.
//
// Every event is handled at least once. It counts as dealt with when Handle returns nil, and is acknowledged a little
// later, so what was handled within the last moments before a crash is handled again after it. As long as Run runs it
// leaves out such repetitions by itself, however often the connection breaks.
type Consumer struct {
	// Client is veza.Client.Events.
	Client gatewayv1.EventsClient
	// Name is the cursor's, 1 to 64 of a-z 0-9 . _ - ; several names are several independent consumers.
	Name string
	// Handle deals with one event. Its context ends when Run's does. An error ends Run with that error, and the event
	// comes again with the next Run: to go on in spite of it, return nil.
	Handle func(context.Context, *gatewayv1.Event) error

	// Filter is which events there are; nil for all. It replaces the one of an earlier run.
	Filter *gatewayv1.EventFilter
	Start  Start
	// Window is how many events may be on their way unacknowledged; 0 for 1,000, at most 10,000.
	Window int
	// AcknowledgeEvery so many events, 0 for 100 and at most half the window, and AcknowledgeAfter so long, 0 for a second.
	AcknowledgeEvery int
	AcknowledgeAfter time.Duration
	// Log is told of breaks, never of what events contain; nil for silence.
	Log *slog.Logger
}

// Run consumes until the context ends, and gives its error then; or until Handle fails, or going on makes no sense. What
// was handled is acknowledged before it returns.
func (c Consumer) Run(ctx context.Context) error {
	if err := c.complete(); err != nil {
		return err
	}
	progress := newProgress(&c)
	acknowledging, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		progress.acknowledge(acknowledging)
	}()
	err := c.follow(ctx, progress)
	stop()
	<-done
	progress.flush(context.WithoutCancel(ctx))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (c *Consumer) complete() error {
	if c.Client == nil || c.Name == "" || c.Handle == nil {
		return errors.New("events: a consumer has a client, a name and a handler")
	}
	if c.Window < 0 || c.Window > windowMax {
		return fmt.Errorf("events: a window is at most %d", windowMax)
	}
	if c.Window == 0 {
		c.Window = windowDefault
	}
	if c.AcknowledgeEvery <= 0 {
		c.AcknowledgeEvery = 100
	}
	c.AcknowledgeEvery = min(c.AcknowledgeEvery, max(c.Window/2, 1))
	if c.AcknowledgeAfter <= 0 {
		c.AcknowledgeAfter = time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// follow opens one stream after the other.
func (c *Consumer) follow(ctx context.Context, progress *progress) error {
	waits := backoff.Backoff{First: waitFirst, Max: waitMax}
	for {
		came, err := c.stream(ctx, progress)
		if final := c.final(err); final != nil || ctx.Err() != nil {
			return final
		}
		if came {
			waits.Reset()
		}
		wait := waits.Next()
		if asked, ok := veza.RetryAfter(err); ok {
			wait = max(wait, asked)
		}
		c.Log.Info("the stream of events broke and is opened again", "consumer", c.Name, "wait", wait, "error", err)
		if backoff.Sleep(ctx, wait) != nil {
			return nil
		}
	}
}

// handlerError is what Handle returned, which is not the stream's.
type handlerError struct{ error }

func (e handlerError) Unwrap() error { return e.error }

// final is the error with which Run ends, or nil when another stream may do better.
func (c *Consumer) final(err error) error {
	var handler handlerError
	if errors.As(err, &handler) {
		return handler.error
	}
	switch status.Code(err) {
	case codes.Aborted:
		return fmt.Errorf("%w: %w", ErrSuperseded, err)
	case codes.OutOfRange:
		return fmt.Errorf("%w: %w", ErrExpired, err)
	case codes.NotFound:
		return fmt.Errorf("%w: %w", ErrDeleted, err)
	case codes.InvalidArgument, codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented, codes.FailedPrecondition, codes.AlreadyExists:
		return err
	default:
		return nil
	}
}

// stream consumes one stream to its end, and says whether anything came by it.
func (c *Consumer) stream(ctx context.Context, progress *progress) (came bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Only waiting for the server counts as its silence, not what Handle takes.
	silence := time.AfterFunc(silenceMax, cancel)
	defer silence.Stop()
	stream, err := c.Client.Subscribe(ctx, c.request())
	if err != nil {
		return false, err
	}
	for {
		silence.Reset(silenceMax)
		response, err := stream.Recv()
		silence.Stop()
		if errors.Is(err, io.EOF) {
			return came, status.Error(codes.Unavailable, "the server has ended the stream")
		}
		if err != nil {
			return came, err
		}
		came = true
		switch what := response.GetWhat().(type) {
		case *gatewayv1.SubscribeResponse_Consumer:
			progress.begin(what.Consumer)
		case *gatewayv1.SubscribeResponse_Idle:
			progress.handled(what.Idle.GetPosition())
		case *gatewayv1.SubscribeResponse_Event:
			if progress.knows(what.Event.GetPosition()) {
				continue
			}
			if err := c.Handle(ctx, what.Event); err != nil {
				return came, handlerError{err}
			}
			progress.handled(what.Event.GetPosition())
		}
	}
}

func (c *Consumer) request() *gatewayv1.SubscribeRequest {
	request := &gatewayv1.SubscribeRequest{Consumer: c.Name, Filter: c.Filter, Window: uint32(c.Window)}
	switch {
	case c.Start.after != nil:
		request.Start = &gatewayv1.SubscribeRequest_AfterPosition{AfterPosition: *c.Start.after}
	case c.Start.earliest:
		request.Start = &gatewayv1.SubscribeRequest_Earliest{Earliest: true}
	default:
		request.Start = &gatewayv1.SubscribeRequest_Now{Now: true}
	}
	return request
}
