package backoff

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestStepsDoubleUpToTheLongest(t *testing.T) {
	backoff := Backoff{First: 100 * time.Millisecond, Max: time.Second}
	steps := []time.Duration{100, 200, 400, 800, 1000, 1000}
	for at, step := range steps {
		step *= time.Millisecond
		if wait := backoff.Next(); wait < step/2 || wait > step {
			t.Errorf("attempt %d waits %v, its step is %v", at, wait, step)
		}
	}
	backoff.Reset()
	if wait := backoff.Next(); wait > 100*time.Millisecond {
		t.Errorf("after a success the first wait is %v", wait)
	}
}

func TestASleepEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		if err := Sleep(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("slept, %v", err)
		}
		if slept := time.Since(begun); slept != time.Second {
			t.Errorf("slept %v", slept)
		}
		if err := Sleep(t.Context(), time.Hour); err != nil {
			t.Error(err)
		}
	})
}
