//go:build e2e

package e2e

import (
	"google.golang.org/grpc/codes"

	veza "github.com/veza-platform/veza/clients/go"
	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
)

var moderation = []call{
	{
		method: "Mute",
		good: func(w *world) (string, error) {
			muted, err := w.Moderation.Mute(w.ctx, &gatewayv1.MuteRequest{Room: w.room("bob"), User: "bob", Reason: "enough", Seconds: 60, Actor: "alice"})
			return expect(muted.GetMember().GetMutedUntilMs() > 0 && muted.GetMember().GetReason() == "enough", "muted %v", muted), err
		},
		bad: func(w *world) error {
			_, err := w.Moderation.Mute(w.ctx, &gatewayv1.MuteRequest{Room: w.room("bob"), User: "alice", Actor: "bob"})
			return err
		},
		code: codes.PermissionDenied, reason: "PERMISSION_DENIED",
	},
	{
		method: "Unmute",
		good: func(w *world) (string, error) {
			id := w.room("bob")
			if _, err := w.Moderation.Mute(w.ctx, &gatewayv1.MuteRequest{Room: id, User: "bob"}); err != nil {
				return "", err
			}
			unmuted, err := w.Moderation.Unmute(w.ctx, &gatewayv1.UnmuteRequest{Room: id, User: "bob"})
			return expect(unmuted.GetMember().GetMutedUntilMs() == 0, "unmuted %v", unmuted), err
		},
		bad: func(w *world) error {
			_, err := w.Moderation.Unmute(w.ctx, &gatewayv1.UnmuteRequest{Room: w.room("bob"), User: "bob"})
			return err
		},
		code: codes.NotFound, reason: "NOT_FOUND",
	},
	{
		method: "Ban",
		good: func(w *world) (string, error) {
			id := w.room("bob")
			banned, err := w.Moderation.Ban(w.ctx, &gatewayv1.BanRequest{Room: id, User: "bob", Seconds: 3600})
			_, refused := w.Rooms.JoinRoom(w.ctx, &gatewayv1.JoinRoomRequest{Room: id, User: "bob", Actor: "bob"})
			return expect(banned.GetMember().GetBannedUntilMs() > 0 && refused != nil, "banned %v, then %v", banned, refused), err
		},
		bad: func(w *world) error {
			_, err := w.Moderation.Ban(w.ctx, &gatewayv1.BanRequest{Room: w.room("bob"), User: "bob", Seconds: 315_360_001})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "Unban",
		good: func(w *world) (string, error) {
			id := w.room("bob")
			if _, err := w.Moderation.Ban(w.ctx, &gatewayv1.BanRequest{Room: id, User: "bob"}); err != nil {
				return "", err
			}
			if _, err := w.Moderation.Unban(w.ctx, &gatewayv1.UnbanRequest{Room: id, User: "bob"}); err != nil {
				return "", err
			}
			joined, err := w.Rooms.JoinRoom(w.ctx, &gatewayv1.JoinRoomRequest{Room: id, User: "bob", Actor: "bob"})
			return expect(joined.GetMember().GetUser() == "bob", "joined %v", joined), err
		},
		bad: func(w *world) error {
			_, err := w.Moderation.Unban(w.ctx, &gatewayv1.UnbanRequest{Room: w.room("bob"), User: "bob"})
			return err
		},
		code: codes.NotFound, reason: "NOT_FOUND",
	},
	{
		method: "Kick",
		good: func(w *world) (string, error) {
			id := w.room("bob")
			_, err := w.Moderation.Kick(w.ctx, &gatewayv1.KickRequest{Room: id, User: "bob", Actor: "alice"})
			stats, _ := w.Rooms.GetRoomStats(w.ctx, &gatewayv1.GetRoomStatsRequest{Room: id})
			return expect(stats.GetMembers() == 1, "%v", stats), err
		},
		bad: func(w *world) error {
			_, err := w.Moderation.Kick(w.ctx, &gatewayv1.KickRequest{Room: w.room(), User: "mallory"})
			return err
		},
		code: codes.NotFound, reason: "NOT_FOUND",
	},
	{
		method: "SetSlowMode",
		good: func(w *world) (string, error) {
			slowed, err := w.Moderation.SetSlowMode(w.ctx, &gatewayv1.SetSlowModeRequest{Room: w.room(), Seconds: 30, Actor: "alice"})
			return expect(slowed.GetRoom().GetSettings().GetSlowModeSeconds() == 30, "slowed %v", slowed), err
		},
		bad: func(w *world) error {
			_, err := w.Moderation.SetSlowMode(w.ctx, &gatewayv1.SetSlowModeRequest{Room: w.room(), Seconds: 21_601})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "ListAudit",
		good: func(w *world) (string, error) {
			id := w.room("bob")
			if _, err := w.Moderation.Mute(w.ctx, &gatewayv1.MuteRequest{Room: id, User: "bob", Reason: "enough"}); err != nil {
				return "", err
			}
			listed, err := w.Moderation.ListAudit(w.ctx, &gatewayv1.ListAuditRequest{Room: id, Actor: "alice"})
			if len(listed.GetEntries()) == 0 {
				return "nothing is listed", err
			}
			entry := listed.GetEntries()[0]
			return expect(entry.GetAction() == "mute" && entry.GetUser() == "bob" && entry.GetReason() == "enough" && entry.GetActor() == "service:gateway", "listed %v", entry), err
		},
		bad: func(w *world) error {
			_, err := w.Moderation.ListAudit(w.ctx, &gatewayv1.ListAuditRequest{Room: w.room("bob"), Actor: "bob"})
			return err
		},
		code: codes.PermissionDenied, reason: "PERMISSION_DENIED",
	},
	{
		method: "VerifyReport",
		// Without end-to-end encryption there is nothing to verify, and it says so.
		good: func(w *world) (string, error) {
			_, err := w.Moderation.VerifyReport(w.ctx, &gatewayv1.VerifyReportRequest{Room: w.room(), Seq: 1})
			return expect(veza.Is(err, gatewayv1.Reason_REASON_ENCRYPTION_MISSING), "answered %v", err), nil
		},
		bad: func(w *world) error {
			_, err := w.Moderation.VerifyReport(w.ctx, &gatewayv1.VerifyReportRequest{})
			return err
		},
		code: codes.Unimplemented, reason: "ENCRYPTION_MISSING",
	},
}
