package veza_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	veza "github.com/veza-platform/veza/clients/go"
	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
	vezav1 "github.com/veza-platform/veza/clients/go/gen/veza/v1"
)

// refusal is an error as the server makes it.
func refusal(code codes.Code, reason string, more ...protoadapt.MessageV1) error {
	details := append([]protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: reason, Domain: "veza"}}, more...)
	answer, err := status.New(code, "a sentence").WithDetails(details...)
	if err != nil {
		panic(err)
	}
	return answer.Err()
}

func TestARefusalSaysWhy(t *testing.T) {
	err := fmt.Errorf("sending: %w", refusal(codes.PermissionDenied, "MUTED", &errdetails.RetryInfo{RetryDelay: durationpb.New(90 * time.Second)}))
	if reason := veza.Reason(err); reason != "MUTED" {
		t.Errorf("reason %q", reason)
	}
	if !veza.Is(err, vezav1.ErrorCode_ERROR_CODE_MUTED) || veza.Is(err, vezav1.ErrorCode_ERROR_CODE_BANNED) {
		t.Error("muted is muted and not banned")
	}
	if veza.Is(err, gatewayv1.Reason_REASON_SCOPE_MISSING) || !veza.Is(refusal(codes.PermissionDenied, "SCOPE_MISSING"), gatewayv1.Reason_REASON_SCOPE_MISSING) {
		t.Error("a missing scope is the gateway's own reason")
	}
	if wait, ok := veza.RetryAfter(err); !ok || wait != 90*time.Second {
		t.Errorf("retry after %v, %v", wait, ok)
	}
	if found := veza.Violations(err); len(found) != 0 {
		t.Errorf("violations %v", found)
	}
}

func TestViolationsNameTheirFields(t *testing.T) {
	bad := &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "room.title", Description: "too long"}}}
	found := veza.Violations(refusal(codes.InvalidArgument, "INVALID_ARGUMENT", bad))
	if len(found) != 1 || found[0] != (veza.Violation{Field: "room.title", Description: "too long"}) {
		t.Errorf("violations %v", found)
	}
}

func TestWhatIsNotTheServersHasNoReason(t *testing.T) {
	foreign, err := status.New(codes.Unavailable, "a proxy").WithDetails(&errdetails.ErrorInfo{Reason: "MUTED", Domain: "proxy.example"})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{nil, errors.New("MUTED"), status.Error(codes.Unavailable, "connection refused"), foreign.Err()} {
		if reason := veza.Reason(err); reason != "" {
			t.Errorf("%v has reason %q", err, reason)
		}
		if wait, ok := veza.RetryAfter(err); ok || wait != 0 {
			t.Errorf("%v: retry after %v", err, wait)
		}
	}
}
