// Veza-grpc-bench measures unary calls: Send and GetRoom of a running server, beside an empty call of a minimal grpc-go
// server in a process of its own, in the same run and by the same client. It prints a table of calls per second, latency,
// and the CPU time of both sides.
//
//	veza-grpc-bench -target 127.0.0.1:50051 -token-file data/auth/gateway-token -pid $(pgrep -x veza)
//
// With -listen NAME it measures nothing and consumes every event under that name until it is interrupted, so that another tool
// can measure a server that somebody listens to; then it says how many there were and how old they were.
//
// Every measurement ends after -seconds or -calls, whichever comes first. The rooms and messages it makes stay on the
// server, so give it one of its own; with a user's usual rates Send would measure those, so start it with
// VEZA_USER_PUBLISH_PER_SECOND=100000 and VEZA_USER_PUBLISH_BURST=100000.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"text/tabwriter"
	"time"

	veza "github.com/veza-platform/veza/clients/go"
)

// serveArgument makes this program the grpc-go server that it measures.
const serveArgument = "serve-empty-calls"

// limits bound what one measurement may take.
const (
	secondsMax  = 600
	callsMax    = 2_000_000
	inFlightMax = 4_096
)

type settings struct {
	target, tokenFile string
	pid               int
	seconds           float64
	warmUp            time.Duration
	calls             int
	inFlight          int
	connections       int
	rooms             int
	listen            string
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == serveArgument {
		exit(serveEmptyCalls())
	}
	var s settings
	flag.StringVar(&s.target, "target", "127.0.0.1:50051", "the server's gateway API")
	flag.StringVar(&s.tokenFile, "token-file", "data/auth/gateway-token", "the service token for it")
	flag.IntVar(&s.pid, "pid", 0, "the server's process, for its CPU time; 0 leaves that out")
	flag.Float64Var(&s.seconds, "seconds", 10, "how long each measurement takes at most")
	flag.DurationVar(&s.warmUp, "warm-up", time.Second, "how long calls are made before each")
	flag.IntVar(&s.calls, "calls", 500_000, "how many calls each measurement makes at most")
	flag.IntVar(&s.inFlight, "in-flight", 64, "how many calls are under way at a time")
	flag.IntVar(&s.connections, "connections", 1, "over how many connections")
	flag.IntVar(&s.rooms, "rooms", 64, "over how many rooms Send is spread")
	flag.StringVar(&s.listen, "listen", "", "consume every event under this name until interrupted, and measure no calls")
	flag.Parse()
	exit(run(s))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "veza-grpc-bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func (s settings) check() error {
	switch {
	case s.seconds <= 0 || s.seconds > secondsMax:
		return fmt.Errorf("-seconds is at most %d", secondsMax)
	case s.calls < 1 || s.calls > callsMax:
		return fmt.Errorf("-calls is 1 to %d", callsMax)
	case s.inFlight < 1 || s.inFlight > inFlightMax:
		return fmt.Errorf("-in-flight is 1 to %d", inFlightMax)
	case s.connections < 1 || s.connections > s.inFlight:
		return fmt.Errorf("-connections is 1 to -in-flight")
	case s.rooms < 1 || s.rooms > 10_000:
		return fmt.Errorf("-rooms is 1 to 10000")
	}
	return nil
}

func run(s settings) error {
	if err := s.check(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if s.listen != "" {
		return s.listenAlong(ctx)
	}
	baseline, err := startEmptyServer(ctx)
	if err != nil {
		return err
	}
	defer baseline.stop()
	ours, err := s.dial(ctx, s.target, veza.WithTokenFile(s.tokenFile))
	if err != nil {
		return err
	}
	defer ours.close()
	theirs, err := s.dial(ctx, baseline.address)
	if err != nil {
		return err
	}
	defer theirs.close()
	send, err := sendCalls(ctx, ours, s.rooms)
	if err != nil {
		return err
	}

	// The empty call comes first and last, so that one sees whether the machine was the same throughout.
	rows := []struct {
		name string
		pid  int
		call call
	}{
		{"grpc-go, empty", baseline.pid, emptyCall(theirs)},
		{"veza, GetRoom", s.pid, getRoomCall(ours)},
		{"veza, Send", s.pid, send},
		{"grpc-go, empty again", baseline.pid, emptyCall(theirs)},
	}
	fmt.Printf("%d cores, %d in flight over %d connections, at most %g s or %d calls each\n\n", runtime.NumCPU(), s.inFlight, s.connections, s.seconds, s.calls)
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "call\tcalls\tcalls/s\tp50 ms\tp99 ms\tclient CPU\tserver CPU\tserver µs/call\tfailed\t")
	for _, row := range rows {
		measured, err := s.measure(ctx, row.pid, row.call)
		if err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
		fmt.Fprintf(table, "%s\t%s\t\n", row.name, measured)
		if measured.failed > 0 {
			fmt.Fprintf(os.Stderr, "%s: %d calls failed, the first with: %v\n", row.name, measured.failed, measured.failure)
		}
	}
	return table.Flush()
}
