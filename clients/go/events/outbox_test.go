package events_test

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
)

// outbox stands in for the server, for one consumer: events with positions, a cursor, a window, and breaks on demand.
type outbox struct {
	gatewayv1.EventsClient

	mu       sync.Mutex
	changed  chan struct{}
	events   []*gatewayv1.Event
	acked    uint64
	requests []*gatewayv1.SubscribeRequest
	// Errors that the next streams end with, each after so many messages.
	breaks []breakAt
	// Acknowledgements that arrive are lost, as in a crash.
	deaf bool
	// Says nothing, not even that there is nothing.
	mute bool
}

type breakAt struct {
	after int
	err   error
}

func newOutbox() *outbox {
	return &outbox{changed: make(chan struct{})}
}

// change does something to the outbox and wakes its streams.
func (o *outbox) change(do func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	do()
	close(o.changed)
	o.changed = make(chan struct{})
}

// happen puts events in, about rooms in turn.
func (o *outbox) happen(count int) {
	o.change(func() {
		for range count {
			position := uint64(len(o.events) + 1)
			o.events = append(o.events, &gatewayv1.Event{Position: position, Room: string(rune('a' + position%3))})
		}
	})
}

func (o *outbox) acknowledged() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.acked
}

// streams is how many were opened.
func (o *outbox) streams() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.requests)
}

func (o *outbox) request(nth int) *gatewayv1.SubscribeRequest {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.requests[nth]
}

func (o *outbox) Acknowledge(ctx context.Context, request *gatewayv1.AcknowledgeRequest, _ ...grpc.CallOption) (*gatewayv1.AcknowledgeResponse, error) {
	if err := ctx.Err(); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	o.mu.Lock()
	deaf := o.deaf
	o.mu.Unlock()
	if deaf {
		return nil, status.Error(codes.Unavailable, "away")
	}
	o.change(func() {
		o.acked = max(o.acked, request.GetPosition())
	})
	return &gatewayv1.AcknowledgeResponse{Position: request.GetPosition()}, nil
}

func (o *outbox) Subscribe(ctx context.Context, request *gatewayv1.SubscribeRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[gatewayv1.SubscribeResponse], error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests = append(o.requests, request)
	stream := &outboxStream{outbox: o, ctx: ctx, window: uint64(request.GetWindow())}
	if len(o.breaks) > 0 {
		stream.ends, o.breaks = &o.breaks[0], o.breaks[1:]
	}
	return stream, nil
}

type outboxStream struct {
	grpc.ClientStream
	outbox *outbox
	ctx    context.Context
	window uint64
	ends   *breakAt

	sent int
	next uint64
}

func (s *outboxStream) Recv() (*gatewayv1.SubscribeResponse, error) {
	for {
		response, changed, err := s.take()
		if response != nil || err != nil {
			s.sent++
			return response, err
		}
		idle := time.NewTimer(10 * time.Second)
		select {
		case <-changed:
		case <-idle.C:
			if response := s.idle(); response != nil {
				return response, nil
			}
		case <-s.ctx.Done():
			idle.Stop()
			return nil, status.FromContextError(s.ctx.Err()).Err()
		}
		idle.Stop()
	}
}

// take is the next message, or what to wait for.
func (s *outboxStream) take() (*gatewayv1.SubscribeResponse, <-chan struct{}, error) {
	o := s.outbox
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.mute:
		return nil, o.changed, nil
	case s.ends != nil && s.sent >= s.ends.after:
		return nil, nil, s.ends.err
	case s.next == 0:
		s.next = o.acked + 1
		stands := &gatewayv1.Consumer{Position: o.acked, Head: uint64(len(o.events))}
		return &gatewayv1.SubscribeResponse{What: &gatewayv1.SubscribeResponse_Consumer{Consumer: stands}}, nil, nil
	case s.next > uint64(len(o.events)) || s.next > o.acked+s.window:
		return nil, o.changed, nil
	}
	event := o.events[s.next-1]
	s.next++
	return &gatewayv1.SubscribeResponse{What: &gatewayv1.SubscribeResponse_Event{Event: event}}, nil, nil
}

func (s *outboxStream) idle() *gatewayv1.SubscribeResponse {
	o := s.outbox
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mute || s.next <= uint64(len(o.events)) {
		return nil
	}
	return &gatewayv1.SubscribeResponse{What: &gatewayv1.SubscribeResponse_Idle{Idle: &gatewayv1.Idle{Position: uint64(len(o.events))}}}
}
