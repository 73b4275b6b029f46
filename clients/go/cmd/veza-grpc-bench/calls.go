package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/emptypb"

	veza "github.com/veza-platform/veza/clients/go"
	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
)

// clients are connections to one server.
type clients []*veza.Client

func (s settings) dial(ctx context.Context, target string, options ...veza.Option) (clients, error) {
	var dialed clients
	for range s.connections {
		client, err := veza.Dial(ctx, target, append(options, veza.WithInsecure())...)
		if err != nil {
			dialed.close()
			return nil, err
		}
		dialed = append(dialed, client)
	}
	return dialed, nil
}

func (c clients) of(worker int) *veza.Client {
	return c[worker%len(c)]
}

func (c clients) close() {
	for _, client := range c {
		client.Close()
	}
}

// The rooms are new in every run.
var roomPrefix = "bench-" + strings.ToLower(veza.NewKey()[:8])

func getRoomCall(ours clients) call {
	room := fmt.Sprintf("%s-0", roomPrefix)
	return func(ctx context.Context, worker, _ int) error {
		_, err := ours.of(worker).Rooms.GetRoom(ctx, &gatewayv1.GetRoomRequest{Room: room})
		return err
	}
}

// sendCalls makes the rooms and gives the call that says something in them, in the name of the service.
func sendCalls(ctx context.Context, ours clients, rooms int) (call, error) {
	for nth := range rooms {
		room := fmt.Sprintf("%s-%d", roomPrefix, nth)
		if _, err := ours.of(0).Rooms.CreateRoom(ctx, &gatewayv1.CreateRoomRequest{Room: room, Title: "A measurement"}); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context, worker, nth int) error {
		_, err := ours.of(worker).Messages.Send(ctx, &gatewayv1.SendRequest{
			Room: fmt.Sprintf("%s-%d", roomPrefix, nth%rooms), Body: "Did anybody catch the set last night?", IdempotencyKey: veza.NewKey(),
		})
		return err
	}, nil
}

func emptyCall(theirs clients) call {
	return func(ctx context.Context, worker, _ int) error {
		return theirs.of(worker).Conn().Invoke(ctx, emptyMethod, &emptypb.Empty{}, &emptypb.Empty{})
	}
}

const emptyMethod = "/veza.bench.Bench/Empty"

// emptyService has one call, which does nothing.
var emptyService = grpc.ServiceDesc{
	ServiceName: "veza.bench.Bench",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Empty",
		Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			return &emptypb.Empty{}, decode(&emptypb.Empty{})
		},
	}},
}

// serveEmptyCalls is the other process: it prints where it listens and serves until its input ends.
func serveEmptyCalls() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	server.RegisterService(&emptyService, nil)
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	fmt.Println(listener.Addr())
	go func() {
		bufio.NewReader(os.Stdin).ReadByte()
		server.Stop()
	}()
	return server.Serve(listener)
}

// emptyServer is that process as its parent sees it. It ends with its parent, whose end of the pipe closes then.
type emptyServer struct {
	address string
	pid     int
	stop    func()
}

func startEmptyServer(ctx context.Context) (*emptyServer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	process := exec.CommandContext(ctx, self, serveArgument)
	process.Stderr = os.Stderr
	input, err := process.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := process.Start(); err != nil {
		return nil, err
	}
	stop := func() {
		input.Close()
		process.Wait()
	}
	address, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		stop()
		return nil, errors.New("the grpc-go server did not start")
	}
	return &emptyServer{address: strings.TrimSpace(address), pid: process.Process.Pid, stop: stop}, nil
}
