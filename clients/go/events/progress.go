package events

import (
	"context"
	"sync"
	"time"

	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
)

// progress is how far a consumer has come, and what of it the server knows.
type progress struct {
	consumer *Consumer
	wake     chan struct{}

	mu sync.Mutex
	// Everything up to here was handled.
	position uint64
	// The server knows of everything up to here.
	acknowledged uint64
	// How many events were handled since.
	waiting int
}

func newProgress(consumer *Consumer) *progress {
	return &progress{consumer: consumer, wake: make(chan struct{}, 1)}
}

// begin takes what the server says where the consumer stands. Positions only rise, so a head below what was handled here
// means another log, from a backup: what is numbered anew is not known yet.
func (p *progress) begin(stands *gatewayv1.Consumer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if stands.GetHead() < p.position {
		p.consumer.Log.Warn("the server's events are fewer than before, as after a restored backup; going on from its position",
			"consumer", p.consumer.Name, "handled", p.position, "head", stands.GetHead())
		p.position = stands.GetPosition()
	}
	p.position = max(p.position, stands.GetPosition())
	p.acknowledged = stands.GetPosition()
}

// knows says whether the event was handled by this run before a break.
func (p *progress) knows(position uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return position <= p.position
}

// handled notes that everything up to here is dealt with.
func (p *progress) handled(position uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if position <= p.position {
		return
	}
	p.position = position
	p.waiting++
	if p.waiting >= p.consumer.AcknowledgeEvery {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// acknowledge tells the server from time to time, and when much has come together.
func (p *progress) acknowledge(ctx context.Context) {
	ticker := time.NewTicker(p.consumer.AcknowledgeAfter)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-p.wake:
		}
		p.flush(ctx)
	}
}

// flush acknowledges what was handled and is not acknowledged yet. What fails is tried with the next flush.
func (p *progress) flush(ctx context.Context) {
	p.mu.Lock()
	position := p.position
	if position <= p.acknowledged {
		p.mu.Unlock()
		return
	}
	p.waiting = 0
	p.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, acknowledgeWithin)
	defer cancel()
	request := &gatewayv1.AcknowledgeRequest{Consumer: p.consumer.Name, Position: position}
	if _, err := p.consumer.Client.Acknowledge(ctx, request); err != nil {
		p.consumer.Log.Debug("events were handled and could not be acknowledged yet", "consumer", p.consumer.Name, "error", err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.acknowledged = max(p.acknowledged, position)
}
