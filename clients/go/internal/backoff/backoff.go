// Package backoff spaces attempts out, so that a thousand clients do not come back in the same moment.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff gives the wait before each attempt: doubling from First to Max, of which a random half is left out.
type Backoff struct {
	First, Max time.Duration

	next time.Duration
}

// Next is how long to wait before the next attempt: from half of its step to the whole of it.
func (b *Backoff) Next() time.Duration {
	step := max(b.next, b.First)
	step = min(step, b.Max)
	b.next = min(2*step, b.Max)
	return step - rand.N(step/2+1)
}

// Reset begins again at First: what was tried has worked.
func (b *Backoff) Reset() {
	b.next = 0
}

// Sleep waits, or ends early with the context's error.
func Sleep(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
