package authz

import (
	"context"
	"crypto/subtle"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// RequireToken lets in only who shows one of these tokens, which the server has as AUTHZ_TOKEN: an option for
// [grpc.NewServer], and for all services of that server. Give two while the token is exchanged. Without any, nobody is let in.
func RequireToken(tokens ...string) grpc.ServerOption {
	return grpc.ChainUnaryInterceptor(func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		sent, _ := metadata.FromIncomingContext(ctx)
		for _, header := range sent.Get("authorization") {
			shown, ok := strings.CutPrefix(header, "Bearer ")
			for _, token := range tokens {
				if ok && token != "" && subtle.ConstantTimeCompare([]byte(shown), []byte(token)) == 1 {
					return handle(ctx, request)
				}
			}
		}
		return nil, status.Error(codes.Unauthenticated, "this service is Veza's to ask")
	})
}
