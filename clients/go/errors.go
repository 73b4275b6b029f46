package veza

import (
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
	vezav1 "github.com/veza-platform/veza/clients/go/gen/veza/v1"
)

// errorDomain is whose words the reasons are.
const errorDomain = "veza"

// Violation is one field of a request that the server does not take.
type Violation struct {
	// Field is the path of the field, as the schema names it.
	Field string
	// Description is a sentence for people.
	Description string
}

// Reason is the stable word for why a call was refused, for programs: the name of a veza.v1.ErrorCode or of a
// veza.gateway.v1.Reason without its prefix, like "MUTED" or "SCOPE_MISSING"; [Is] compares with those. It is empty when err
// is nil or no answer of the server: a broken connection has only a status code.
func Reason(err error) string {
	info, _ := detail[*errdetails.ErrorInfo](err)
	if info.GetDomain() != errorDomain {
		return ""
	}
	return info.GetReason()
}

// Is says whether a call was refused for this reason, which the compiler knows:
//
//	if veza.Is(err, vezav1.ErrorCode_ERROR_CODE_MUTED) { … }
func Is[R vezav1.ErrorCode | gatewayv1.Reason](err error, reason R) bool {
	var name string
	switch reason := any(reason).(type) {
	case vezav1.ErrorCode:
		name = strings.TrimPrefix(reason.String(), "ERROR_CODE_")
	case gatewayv1.Reason:
		name = strings.TrimPrefix(reason.String(), "REASON_")
	}
	return Reason(err) == name
}

// RetryAfter is how long the server asks to wait before the same call is made again, and whether it said so at all.
func RetryAfter(err error) (time.Duration, bool) {
	info, ok := detail[*errdetails.RetryInfo](err)
	if !ok {
		return 0, false
	}
	return max(info.GetRetryDelay().AsDuration(), 0), true
}

// Violations are the fields of the request that the server does not take, where it named them.
func Violations(err error) []Violation {
	bad, _ := detail[*errdetails.BadRequest](err)
	var violations []Violation
	for _, violation := range bad.GetFieldViolations() {
		violations = append(violations, Violation{Field: violation.GetField(), Description: violation.GetDescription()})
	}
	return violations
}

// detail is the first detail of type D that the status inside err carries.
func detail[D any](err error) (D, bool) {
	var none D
	if err == nil {
		return none, false
	}
	answer, ok := status.FromError(err)
	if !ok {
		return none, false
	}
	for _, one := range answer.Details() {
		if found, ok := one.(D); ok {
			return found, true
		}
	}
	return none, false
}
