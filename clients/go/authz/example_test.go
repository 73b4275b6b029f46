package authz_test

import (
	"context"
	"log"
	"net"
	"time"

	"google.golang.org/grpc"

	"github.com/veza-platform/veza/clients/go/authz"
	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
)

// The platform lets only paying users into one room, and everybody into the others.
func ExampleRegister() {
	paying := func(ctx context.Context, user string) (bool, error) { return user == "42", nil }

	server := grpc.NewServer(authz.RequireToken("what AUTHZ_TOKEN of the server says"))
	authz.Register(server, authz.Funcs{
		Join: func(ctx context.Context, request *gatewayv1.JoinRequest) (authz.Decision, error) {
			if request.GetRoom() != "backstage" {
				return authz.Allow(5 * time.Minute), nil
			}
			pays, err := paying(ctx, request.GetUser())
			if err != nil {
				return authz.Decision{}, err
			}
			if !pays {
				return authz.Refuse("This room is part of the plan Gold."), nil
			}
			return authz.Allow(time.Minute), nil
		},
	})

	listener, err := net.Listen("tcp", "127.0.0.1:0") // What AUTHZ_GRPC_URL of the server names.
	if err != nil {
		log.Fatal(err)
	}
	go server.Serve(listener)
	server.Stop()
}
