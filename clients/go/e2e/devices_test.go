//go:build e2e

package e2e

import (
	"google.golang.org/grpc/codes"

	veza "github.com/veza-platform/veza/clients/go"
	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
)

// seen lets a user come by with these devices.
func (w *world) seen(devices ...string) (user string) {
	w.Helper()
	user = fresh("user")
	for _, device := range devices {
		w.server.Connect(w, w.mint(user, device).GetToken())
	}
	return user
}

var devices = []call{
	{
		method: "ListDevices",
		good: func(w *world) (string, error) {
			user := w.seen("laptop", "phone", "watch")
			request := &gatewayv1.ListDevicesRequest{User: user, PageSize: 2}
			first, err := w.Devices.ListDevices(w.ctx, request)
			if err != nil || len(first.GetDevices()) != 2 || first.GetNextPageToken() == "" {
				return expect(false, "at first %v", first), err
			}
			request.PageToken = first.GetNextPageToken()
			rest, err := w.Devices.ListDevices(w.ctx, request)
			laptop := first.GetDevices()[0]
			return expect(laptop.GetId() == "laptop" && laptop.GetConnected() && laptop.GetClient() == "vezatest/1" && laptop.GetFirstSeenMs() > 0 &&
				len(rest.GetDevices()) == 1 && rest.GetNextPageToken() == "", "at first %v, then %v", first, rest), err
		},
		bad: func(w *world) error {
			_, err := w.Devices.ListDevices(w.ctx, &gatewayv1.ListDevicesRequest{})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "RevokeUserDevice",
		good: func(w *world) (string, error) {
			user := w.seen("laptop", "phone")
			revoked, err := w.Devices.RevokeUserDevice(w.ctx, &gatewayv1.RevokeUserDeviceRequest{User: user, Device: "phone", Reason: "lost"})
			left, _ := w.Devices.ListDevices(w.ctx, &gatewayv1.ListDevicesRequest{User: user})
			all, _ := w.Devices.ListDevices(w.ctx, &gatewayv1.ListDevicesRequest{User: user, IncludeRevoked: true})
			return expect(revoked.GetDevice().GetRevokedMs() > 0 && len(left.GetDevices()) == 1 && len(all.GetDevices()) == 2, "revoked %v, left %v of %v", revoked, left, all), err
		},
		bad: func(w *world) error {
			_, err := w.Devices.RevokeUserDevice(w.ctx, &gatewayv1.RevokeUserDeviceRequest{User: "alice", Device: "never-seen"})
			return err
		},
		code: codes.NotFound, reason: "NOT_FOUND",
	},
	{
		method: "GetKeyPackageCounts",
		// Without end-to-end encryption there are none, and it says so.
		good: func(w *world) (string, error) {
			_, err := w.Devices.GetKeyPackageCounts(w.ctx, &gatewayv1.GetKeyPackageCountsRequest{User: "alice"})
			return expect(veza.Is(err, gatewayv1.Reason_REASON_ENCRYPTION_MISSING), "answered %v", err), nil
		},
		bad: func(w *world) error {
			_, err := w.Devices.GetKeyPackageCounts(w.ctx, &gatewayv1.GetKeyPackageCountsRequest{})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
}
