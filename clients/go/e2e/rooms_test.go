//go:build e2e

package e2e

import (
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	gatewayv1 "github.com/veza-platform/veza/clients/go/gen/veza/gateway/v1"
	vezav1 "github.com/veza-platform/veza/clients/go/gen/veza/v1"
)

var rooms = []call{
	{
		method: "CreateRoom",
		good: func(w *world) (string, error) {
			id := fresh("room")
			made, err := w.Rooms.CreateRoom(w.ctx, &gatewayv1.CreateRoomRequest{
				Room: id, Title: "The porch", Topic: "Swings", Kind: vezav1.RoomKind_ROOM_KIND_PRIVATE, Owner: "alice",
			})
			room := made.GetRoom()
			return expect(room.GetId() == id && room.GetTitle() == "The porch" && room.GetTopic() == "Swings" && room.GetKind() == vezav1.RoomKind_ROOM_KIND_PRIVATE &&
				room.GetMembers() == 1 && w.member(id, "alice").GetRole() == vezav1.Role_ROLE_OWNER, "made %v", room), err
		},
		bad: func(w *world) error {
			_, err := w.Rooms.CreateRoom(w.ctx, &gatewayv1.CreateRoomRequest{Room: w.room(), Title: "Again", Actor: "alice"})
			return err
		},
		code: codes.AlreadyExists, reason: "ALREADY_EXISTS",
	},
	{
		method: "GetRoom",
		good: func(w *world) (string, error) {
			id := w.room()
			found, err := w.Rooms.GetRoom(w.ctx, &gatewayv1.GetRoomRequest{Room: id, Actor: "alice"})
			return expect(found.GetRoom().GetId() == id && found.GetRoom().GetMe().GetRole() == vezav1.Role_ROLE_OWNER, "found %v", found), err
		},
		bad: func(w *world) error {
			_, err := w.Rooms.GetRoom(w.ctx, &gatewayv1.GetRoomRequest{Room: "nowhere"})
			return err
		},
		code: codes.NotFound, reason: "NOT_FOUND",
	},
	{
		method: "UpdateRoom",
		good: func(w *world) (string, error) {
			id := w.room()
			updated, err := w.Rooms.UpdateRoom(w.ctx, &gatewayv1.UpdateRoomRequest{
				Room: &vezav1.Room{
					Id: id, Title: "Not in the mask", Topic: "News", Settings: &vezav1.RoomSettings{SlowModeSeconds: 30, RetentionSeconds: 60},
				},
				UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"topic", "settings.slow_mode_seconds"}},
			})
			room := updated.GetRoom()
			return expect(room.GetTitle() == "A room" && room.GetTopic() == "News" && room.GetSettings().GetSlowModeSeconds() == 30 && room.GetSettings().GetRetentionSeconds() == 0,
				"updated %v", room), err
		},
		bad: func(w *world) error {
			_, err := w.Rooms.UpdateRoom(w.ctx, &gatewayv1.UpdateRoomRequest{
				Room: &vezav1.Room{Id: w.room(), Members: 7}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"members"}},
			})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "ArchiveRoom",
		good: func(w *world) (string, error) {
			archived, err := w.Rooms.ArchiveRoom(w.ctx, &gatewayv1.ArchiveRoomRequest{Room: w.room()})
			return expect(archived.GetRoom().GetArchived(), "archived %v", archived), err
		},
		bad: func(w *world) error {
			_, err := w.Rooms.ArchiveRoom(w.ctx, &gatewayv1.ArchiveRoomRequest{Room: w.room("bob"), Actor: "bob"})
			return err
		},
		code: codes.PermissionDenied, reason: "PERMISSION_DENIED",
	},
	{
		method: "ListRooms",
		good: func(w *world) (string, error) {
			want := map[string]bool{w.room("carol"): true, w.room("carol"): true, w.room("carol"): true}
			request := &gatewayv1.ListRoomsRequest{Mine: true, PageSize: 2, Actor: "carol"}
			for {
				page, err := w.Rooms.ListRooms(w.ctx, request)
				if err != nil {
					return "", err
				}
				for _, room := range page.GetRooms() {
					delete(want, room.GetId())
				}
				if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
					return expect(len(want) == 0, "not listed: %v", want), nil
				}
				if len(page.GetRooms()) != 2 {
					return expect(false, "a page of %d", len(page.GetRooms())), nil
				}
			}
		},
		bad: func(w *world) error {
			_, err := w.Rooms.ListRooms(w.ctx, &gatewayv1.ListRoomsRequest{PageToken: "made up"})
			return err
		},
		code: codes.InvalidArgument, reason: "PAGE_TOKEN",
	},
	{
		method: "JoinRoom",
		good: func(w *world) (string, error) {
			joined, err := w.Rooms.JoinRoom(w.ctx, &gatewayv1.JoinRoomRequest{Room: w.room(), User: "bob", Actor: "bob"})
			return expect(joined.GetMember().GetUser() == "bob" && joined.GetMember().GetRole() == vezav1.Role_ROLE_MEMBER && joined.GetRoom().GetMembers() == 2,
				"joined %v", joined), err
		},
		bad: func(w *world) error {
			_, err := w.Rooms.JoinRoom(w.ctx, &gatewayv1.JoinRoomRequest{Room: w.room(), User: "bob", Actor: "mallory"})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "LeaveRoom",
		good: func(w *world) (string, error) {
			left, err := w.Rooms.LeaveRoom(w.ctx, &gatewayv1.LeaveRoomRequest{Room: w.room("bob"), User: "bob"})
			return expect(left.GetRoom().GetMembers() == 1, "left %v", left), err
		},
		bad: func(w *world) error {
			_, err := w.Rooms.LeaveRoom(w.ctx, &gatewayv1.LeaveRoomRequest{Room: w.room("bob"), User: "alice", Actor: "alice"})
			return err
		},
		code: codes.PermissionDenied, reason: "PERMISSION_DENIED",
	},
	{
		method: "OpenDirect",
		good: func(w *world) (string, error) {
			opened, err := w.Rooms.OpenDirect(w.ctx, &gatewayv1.OpenDirectRequest{User: "alice", Other: "bob"})
			again, _ := w.Rooms.OpenDirect(w.ctx, &gatewayv1.OpenDirectRequest{User: "bob", Other: "alice"})
			return expect(len(opened.GetRoom().GetDirect()) == 2 && opened.GetRoom().GetId() == again.GetRoom().GetId(), "opened %v", opened), err
		},
		bad: func(w *world) error {
			_, err := w.Rooms.OpenDirect(w.ctx, &gatewayv1.OpenDirectRequest{User: "alice", Other: "alice"})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "CreateInvite",
		good: func(w *world) (string, error) {
			made, err := w.Rooms.CreateInvite(w.ctx, &gatewayv1.CreateInviteRequest{Room: w.room(), UsesMax: 3, Actor: "alice"})
			invite := made.GetInvite()
			return expect(len(invite.GetCode()) == 22 && invite.GetUsesMax() == 3 && invite.GetCreator() == "alice", "made %v", invite), err
		},
		bad: func(w *world) error {
			_, err := w.Rooms.CreateInvite(w.ctx, &gatewayv1.CreateInviteRequest{Room: w.room(), Seconds: 366 * 86_400})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "ListInvites",
		good: func(w *world) (string, error) {
			id := w.room()
			if _, err := w.Rooms.CreateInvite(w.ctx, &gatewayv1.CreateInviteRequest{Room: id, User: "bob"}); err != nil {
				return "", err
			}
			listed, err := w.Rooms.ListInvites(w.ctx, &gatewayv1.ListInvitesRequest{Room: id})
			return expect(len(listed.GetInvites()) == 1 && listed.GetInvites()[0].GetUser() == "bob", "listed %v", listed), err
		},
		bad: func(w *world) error {
			_, err := w.Rooms.ListInvites(w.ctx, &gatewayv1.ListInvitesRequest{})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "RevokeInvite",
		good: func(w *world) (string, error) {
			id := w.room()
			made, err := w.Rooms.CreateInvite(w.ctx, &gatewayv1.CreateInviteRequest{Room: id})
			if err != nil {
				return "", err
			}
			code := &gatewayv1.RevokeInviteRequest_Code{Code: made.GetInvite().GetCode()}
			if _, err := w.Rooms.RevokeInvite(w.ctx, &gatewayv1.RevokeInviteRequest{Room: id, Invite: code}); err != nil {
				return "", err
			}
			listed, err := w.Rooms.ListInvites(w.ctx, &gatewayv1.ListInvitesRequest{Room: id})
			return expect(len(listed.GetInvites()) == 0, "left %v", listed), err
		},
		bad: func(w *world) error {
			_, err := w.Rooms.RevokeInvite(w.ctx, &gatewayv1.RevokeInviteRequest{Room: w.room()})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
	{
		method: "ListMembers",
		good: func(w *world) (string, error) {
			id := w.room("bob", "carol")
			listed, err := w.Rooms.ListMembers(w.ctx, &gatewayv1.ListMembersRequest{Room: id})
			staff, _ := w.Rooms.ListMembers(w.ctx, &gatewayv1.ListMembersRequest{Room: id, Filter: vezav1.MemberFilter_MEMBER_FILTER_STAFF})
			return expect(len(listed.GetMembers()) == 3 && len(staff.GetMembers()) == 1, "listed %v, staff %v", listed, staff), err
		},
		bad: func(w *world) error {
			_, err := w.Rooms.ListMembers(w.ctx, &gatewayv1.ListMembersRequest{Room: w.room("bob"), Filter: vezav1.MemberFilter_MEMBER_FILTER_BANNED, Actor: "bob"})
			return err
		},
		code: codes.PermissionDenied, reason: "PERMISSION_DENIED",
	},
	{
		method: "GetMember",
		good: func(w *world) (string, error) {
			found, err := w.Rooms.GetMember(w.ctx, &gatewayv1.GetMemberRequest{Room: w.room("bob"), User: "bob"})
			return expect(found.GetJoined() && !found.GetPresent() && found.GetMember().GetUser() == "bob", "found %v", found), err
		},
		bad: func(w *world) error {
			_, err := w.Rooms.GetMember(w.ctx, &gatewayv1.GetMemberRequest{Room: w.room(), User: "bob"})
			return err
		},
		code: codes.NotFound, reason: "NOT_FOUND",
	},
	{
		method: "SetRole",
		good: func(w *world) (string, error) {
			set, err := w.Rooms.SetRole(w.ctx, &gatewayv1.SetRoleRequest{Room: w.room("bob"), User: "bob", Role: vezav1.Role_ROLE_MODERATOR, Actor: "alice"})
			return expect(set.GetMember().GetRole() == vezav1.Role_ROLE_MODERATOR, "set %v", set), err
		},
		bad: func(w *world) error {
			_, err := w.Rooms.SetRole(w.ctx, &gatewayv1.SetRoleRequest{Room: w.room("bob", "carol"), User: "carol", Role: vezav1.Role_ROLE_ADMIN, Actor: "bob"})
			return err
		},
		code: codes.PermissionDenied, reason: "PERMISSION_DENIED",
	},
	{
		method: "GetRoomStats",
		good: func(w *world) (string, error) {
			id := w.room("bob")
			w.say(id, "bob", "Hello")
			stats, err := w.Rooms.GetRoomStats(w.ctx, &gatewayv1.GetRoomStatsRequest{Room: id})
			return expect(stats.GetMembers() == 2 && stats.GetPresent() == 0 && stats.GetHead() == 1 && stats.GetMessages() == 1 && stats.GetLastMessageMs() > 0,
				"stats %v", stats), err
		},
		bad: func(w *world) error {
			_, err := w.Rooms.GetRoomStats(w.ctx, &gatewayv1.GetRoomStatsRequest{Room: strings.Repeat("r", 65)})
			return err
		},
		code: codes.InvalidArgument, reason: "INVALID_ARGUMENT",
	},
}
