// Package veza is what a Go backend drives Veza with: the gateway's API over gRPC, with a connection that is kept, calls
// that are repeated where that is harmless, and errors that say why.
//
//	client, err := veza.Dial(ctx, "127.0.0.1:50051", veza.WithInsecure(), veza.WithTokenFile("data/auth/gateway-token"))
//	…
//	made, err := client.Rooms.CreateRoom(ctx, &gatewayv1.CreateRoomRequest{Room: "porch", Title: "The porch"})
//
// The packages beside it: tokens mints what clients connect with, events consumes what happens, webhooks checks what is
// delivered by HTTP, authz answers what the server asks. The calls and messages themselves are generated from the schema
// and stand in gen/veza/gateway/v1.
package veza
