package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// The test's binary is the other process too.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == serveArgument {
		exit(serveEmptyCalls())
	}
	os.Exit(m.Run())
}

func TestEmptyCallsAreMeasuredUpToTheirNumber(t *testing.T) {
	server, err := startEmptyServer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer server.stop()
	s := settings{seconds: 600, calls: 500, inFlight: 8, connections: 2}
	theirs, err := s.dial(t.Context(), server.address)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.close()
	m, err := s.measure(t.Context(), server.pid, emptyCall(theirs))
	if err != nil {
		t.Fatal(err)
	}
	if len(m.latencies) != 500 || m.failed != 0 || m.client < 0 || m.server < 0 {
		t.Errorf("%d calls, %d failed, CPU %v and %v", len(m.latencies), m.failed, m.client, m.server)
	}
	if cells := strings.Split(m.String(), "\t"); len(cells) != 8 || strings.Contains(m.String(), "?") {
		t.Errorf("the row %q", m)
	}
}

func TestFailuresAreCountedAndOnlyFailuresAreAnError(t *testing.T) {
	s := settings{seconds: 600, calls: 100, inFlight: 4}
	mistake := errors.New("a mistake")
	m, err := s.drive(t.Context(), time.Hour, func(_ context.Context, _, nth int) error {
		if nth%4 == 0 {
			return mistake
		}
		return nil
	})
	if err != nil || m.failed != 25 || len(m.latencies) != 75 || m.failure != mistake {
		t.Errorf("%d failed, %d did not; %v, %v", m.failed, len(m.latencies), m.failure, err)
	}
	if _, err := s.drive(t.Context(), time.Hour, func(context.Context, int, int) error { return mistake }); err != mistake {
		t.Errorf("when all fail: %v", err)
	}
}

func TestQuantilesAreRanks(t *testing.T) {
	var sorted []time.Duration
	for n := range 100 {
		sorted = append(sorted, time.Duration(n+1))
	}
	for q, want := range map[float64]time.Duration{0: 1, 0.5: 50, 0.99: 99, 1: 100} {
		if got := quantile(sorted, q); got != want {
			t.Errorf("the quantile %v is %d, not %d", q, got, want)
		}
	}
	if quantile(nil, 0.5) != 0 {
		t.Error("of nothing")
	}
}

func TestMeasurementsAreBounded(t *testing.T) {
	good := settings{seconds: secondsMax, calls: callsMax, inFlight: inFlightMax, connections: inFlightMax, rooms: 10_000}
	if err := good.check(); err != nil {
		t.Error(err)
	}
	for what, change := range map[string]func(*settings){
		"longer":           func(s *settings) { s.seconds++ },
		"more calls":       func(s *settings) { s.calls++ },
		"more at once":     func(s *settings) { s.inFlight++ },
		"more connections": func(s *settings) { s.connections++ },
		"more rooms":       func(s *settings) { s.rooms++ },
	} {
		bad := good
		change(&bad)
		if bad.check() == nil {
			t.Errorf("%s was taken", what)
		}
	}
}

func TestTheCPUOfNobodyIsUnknown(t *testing.T) {
	if cpuSeconds(0) >= 0 || cpuSeconds(os.Getpid()) < 0 {
		t.Error("unknown and known are exchanged")
	}
}

func TestAgesAreToldFromTheSmallest(t *testing.T) {
	told := ages{3 * time.Millisecond, time.Millisecond, 2 * time.Millisecond}.String()
	if told != "3 events, p50 2.00 ms, p99 3.00 ms after they happened" {
		t.Error(told)
	}
}
