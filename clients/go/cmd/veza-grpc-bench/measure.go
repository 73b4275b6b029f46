package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// call makes one call; worker and nth tell calls apart.
type call func(ctx context.Context, worker, nth int) error

// measured is what calls came to.
type measured struct {
	took      time.Duration
	latencies []time.Duration
	failed    int
	failure   error
	// CPU seconds of this process and of the server; negative when unknown.
	client, server float64
}

// String is a row of the table.
func (m measured) String() string {
	calls := len(m.latencies)
	cores := func(seconds float64) string {
		if seconds < 0 {
			return "?"
		}
		return fmt.Sprintf("%.2f", seconds/m.took.Seconds())
	}
	each := "?"
	if m.server >= 0 && calls > 0 {
		each = fmt.Sprintf("%.1f", m.server/float64(calls)*1e6)
	}
	return fmt.Sprintf("%d\t%.0f\t%s\t%s\t%s\t%s\t%s\t%d", calls, float64(calls)/m.took.Seconds(),
		milliseconds(quantile(m.latencies, 0.50)), milliseconds(quantile(m.latencies, 0.99)), cores(m.client), cores(m.server), each, m.failed)
}

// measure makes calls for as long and as often as the settings say.
func (s settings) measure(ctx context.Context, serverPID int, call call) (measured, error) {
	if _, err := s.drive(ctx, s.warmUp, call); err != nil {
		return measured{}, err
	}
	clientBefore, serverBefore := cpuSeconds(os.Getpid()), cpuSeconds(serverPID)
	m, err := s.drive(ctx, time.Duration(s.seconds*float64(time.Second)), call)
	if err != nil {
		return measured{}, err
	}
	m.client, m.server = cpuSeconds(os.Getpid())-clientBefore, cpuSeconds(serverPID)-serverBefore
	if serverBefore < 0 {
		m.server = -1
	}
	return m, nil
}

// drive keeps so many calls under way until the time has passed or all are made.
func (s settings) drive(ctx context.Context, atMost time.Duration, call call) (measured, error) {
	var begun atomic.Int64
	var mu sync.Mutex
	var m measured
	var workers sync.WaitGroup
	start := time.Now()
	for worker := range s.inFlight {
		workers.Go(func() {
			var latencies []time.Duration
			var failed int
			var failure error
			for ctx.Err() == nil && time.Since(start) < atMost {
				nth := int(begun.Add(1))
				if nth > s.calls {
					break
				}
				at := time.Now()
				if err := call(ctx, worker, nth); err != nil {
					failed++
					failure = err
					continue
				}
				latencies = append(latencies, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			m.latencies = append(m.latencies, latencies...)
			m.failed += failed
			if m.failure == nil {
				m.failure = failure
			}
		})
	}
	workers.Wait()
	m.took = time.Since(start)
	slices.Sort(m.latencies)
	if len(m.latencies) == 0 && m.failure != nil {
		return m, m.failure
	}
	return m, ctx.Err()
}

// quantile is of sorted latencies; the nearest rank.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(q*float64(len(sorted))+0.999999) - 1
	return sorted[min(max(rank, 0), len(sorted)-1)]
}

func milliseconds(d time.Duration) string {
	return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 2, 64)
}

// cpuSeconds is the time that a process has spent on CPUs, from proc(5); negative when it cannot be read.
func cpuSeconds(pid int) float64 {
	const ticksPerSecond = 100 // USER_HZ, which Linux never changes towards programs.
	if pid == 0 {
		return -1
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return -1
	}
	// The second field, the name in parentheses, may hold spaces; behind it utime and stime are the 12th and 13th.
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return -1
	}
	user, err1 := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	if err1 != nil || err2 != nil {
		return -1
	}
	return (user + system) / ticksPerSecond
}
