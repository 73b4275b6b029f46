package veza

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/veza-platform/veza/clients/go/internal/backoff"
)

// Retry says how often a unary call is tried. Only calls that the server did not take up (UNAVAILABLE) are tried again,
// and only those that may be: reads, and writes that have an idempotency key, which the server carries out once however
// often they arrive. The server's RetryInfo lengthens the wait; a wait that the call's deadline does not allow is not begun.
//
// gRPC's own retry, by service config, knows neither the key of a request nor RetryInfo.
type Retry struct {
	// Attempts in all; 1 is no retry.
	Attempts int
	// First and Max wait between two attempts. Each is twice the one before, of which a random half is left out.
	First, Max time.Duration
}

// DefaultRetry bridges the second in which a server is exchanged.
var DefaultRetry = Retry{Attempts: 5, First: 100 * time.Millisecond, Max: 2 * time.Second}

// keyField is the field of a write that makes its repetition harmless.
const keyField protoreflect.Name = "idempotency_key"

// unary gives calls without a deadline the default one, and tries again.
func unary(timeout time.Duration, retry Retry) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		if _, given := ctx.Deadline(); !given && timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		waits := backoff.Backoff{First: retry.First, Max: retry.Max}
		for attempt := 1; ; attempt++ {
			err := invoke(ctx, method, request, reply, conn, options...)
			if err == nil || attempt >= retry.Attempts || status.Code(err) != codes.Unavailable || !repeatable(request) {
				return err
			}
			wait := waits.Next()
			if asked, ok := RetryAfter(err); ok {
				wait = max(wait, asked)
			}
			if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
				return err
			}
			if backoff.Sleep(ctx, wait) != nil {
				return err
			}
		}
	}
}

// repeatable says whether the request may be made twice: it is no write (the schema gives every write that is not
// repeatable by itself a key), or its key is filled in.
func repeatable(request any) bool {
	message, ok := request.(proto.Message)
	if !ok {
		return false
	}
	reflected := message.ProtoReflect()
	key := reflected.Descriptor().Fields().ByName(keyField)
	return key == nil || reflected.Has(key)
}
