//! Rooms, their members and invitations.

use prost_types::FieldMask;
use tonic::Code;
use veza_client::proto::gateway::v1::*;
use veza_client::proto::v1::{ErrorCode, MemberFilter, Role, Room, RoomKind, RoomSettings, push};

use super::{bad_field, not_found, refusal, stage};
use crate::carrier::ask;

fn create(room: &str) -> CreateRoomRequest {
    CreateRoomRequest { room: room.into(), title: "A room".into(), ..Default::default() }
}

fn update(room: Room, paths: &[&str]) -> UpdateRoomRequest {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    UpdateRoomRequest { room: Some(room), update_mask: Some(FieldMask { paths }), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_is_made_found_changed_and_archived() {
    let (stage, backend) = stage().await;
    let mut rooms = backend.rooms();
    let made = rooms.create_room(CreateRoomRequest { owner: "alice".into(), ..create("lounge") }).await.unwrap();
    assert_eq!(made.into_inner().room.unwrap().members, 1);
    let again = rooms.create_room(create("lounge")).await;
    assert_eq!(refusal(again), (Code::AlreadyExists, "ALREADY_EXISTS".into()));
    assert_eq!(bad_field(rooms.create_room(create("The Lounge")).await), "room");
    assert_eq!(bad_field(rooms.create_room(create("dm.x")).await), "room");
    assert_eq!(bad_field(rooms.create_room(CreateRoomRequest { title: String::new(), ..create("b") }).await), "title");
    let direct = CreateRoomRequest { kind: RoomKind::Direct.into(), ..create("b") };
    assert_eq!(bad_field(rooms.create_room(direct).await), "kind");
    let settings = Some(RoomSettings { slow_mode_seconds: 99_999, ..Default::default() });
    assert_eq!(bad_field(rooms.create_room(CreateRoomRequest { settings, ..create("b") }).await), "settings");
    let both = CreateRoomRequest { owner: "alice".into(), actor: "bob".into(), ..create("b") };
    assert_eq!(bad_field(rooms.create_room(both).await), "owner");

    // The page's session finds it, and is told what the backend makes of it.
    let mut alice = stage.player("alice").await;
    alice.join("lounge").await.unwrap();
    let settings = Some(RoomSettings { slow_mode_seconds: 30, listed: false, ..Default::default() });
    let wanted =
        Room { id: "lounge".into(), title: "The lounge".into(), topic: "?".into(), settings, ..Default::default() };
    let changed = rooms.update_room(update(wanted.clone(), &["title", "settings.slow_mode_seconds"])).await.unwrap();
    let changed = changed.into_inner().room.unwrap();
    assert_eq!((changed.title.as_str(), changed.topic.as_str()), ("The lounge", ""));
    let settings = changed.settings.unwrap();
    assert_eq!((settings.slow_mode_seconds, settings.listed), (30, true), "only what the mask names");
    let told = alice.hear(|event| match event {
        push::Event::RoomChanged(changed) => changed.room.clone().map(|room| room.title),
        _ => None,
    });
    assert_eq!(told.await, "The lounge");
    assert_eq!(bad_field(rooms.update_room(update(wanted.clone(), &[])).await), "update_mask");
    assert_eq!(bad_field(rooms.update_room(update(wanted.clone(), &["members"])).await), "update_mask");
    let nowhere = Room { id: "nowhere".into(), ..wanted.clone() };
    assert_eq!(refusal(rooms.update_room(update(nowhere, &["title"])).await), not_found());
    let by_bob = UpdateRoomRequest { actor: "bob".into(), ..update(wanted, &["title"]) };
    assert_eq!(refusal(rooms.update_room(by_bob).await), not_found(), "bob is no member");

    let archive = |room: &str| ArchiveRoomRequest { room: room.into(), ..Default::default() };
    assert!(rooms.archive_room(archive("lounge")).await.unwrap().into_inner().room.unwrap().archived);
    assert_eq!(refusal(rooms.archive_room(archive("nowhere")).await), not_found());
    assert_eq!(alice.publish("lounge", "a1", "hello?").await.unwrap_err().code(), ErrorCode::PermissionDenied);
    let get = |room: &str, actor: &str| GetRoomRequest { room: room.into(), actor: actor.into() };
    assert!(rooms.get_room(get("lounge", "")).await.unwrap().into_inner().room.unwrap().archived);
    let own = rooms.get_room(get("lounge", "alice")).await.unwrap().into_inner().room.unwrap();
    assert_eq!(own.me.unwrap().role(), Role::Owner);
    assert_eq!(refusal(rooms.get_room(get("nowhere", "")).await), not_found());
    assert_eq!(bad_field(rooms.get_room(get("", "")).await), "room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_come_in_pages_and_show_what_their_actor_may_see() {
    let (_stage, backend) = stage().await;
    let mut rooms = backend.rooms();
    for (room, kind) in [("a", RoomKind::Public), ("b", RoomKind::Private), ("c", RoomKind::Public)] {
        let create = CreateRoomRequest { kind: kind.into(), owner: "alice".into(), ..create(room) };
        rooms.create_room(create).await.unwrap();
    }
    let list = |actor: &str, mine, page_size, token: &str| {
        let (actor, page_token) = (actor.to_owned(), token.to_owned());
        let (mut rooms, request) = (backend.rooms(), ListRoomsRequest { actor, mine, page_size, page_token });
        async move {
            let list = rooms.list_rooms(request).await?.into_inner();
            Ok((list.rooms.into_iter().map(|room| room.id).collect::<Vec<_>>(), list.next_page_token))
        }
    };
    // Development has a lobby.
    let (first, next) = list("", false, 2, "").await.unwrap();
    let (second, end) = list("", false, 2, &next).await.unwrap();
    assert_eq!(([first, second].concat(), end.as_str()), (["a", "b", "c", "lobby"].map(String::from).to_vec(), ""));
    assert_eq!(list("bob", false, 0, "").await.unwrap().0, ["a", "c", "lobby"], "a private room is not listed");
    assert_eq!(list("alice", true, 0, "").await.unwrap().0, ["a", "b", "c"]);
    assert_eq!(refusal(list("", false, 2, "nonsense").await), (Code::InvalidArgument, "PAGE_TOKEN".into()));
    assert_eq!(bad_field(list("", true, 2, "").await), "mine");

    for member in ["bob", "carol"] {
        backend.join("a", member).await;
    }
    let mut token = String::new();
    let mut names = Vec::new();
    loop {
        let request = ListMembersRequest { room: "a".into(), page_size: 2, page_token: token, ..Default::default() };
        let page = rooms.list_members(request).await.unwrap().into_inner();
        names.extend(page.members.into_iter().map(|member| member.user));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["alice", "bob", "carol"]);
    let muted = ListMembersRequest {
        room: "a".into(),
        filter: MemberFilter::Muted.into(),
        actor: "bob".into(),
        ..Default::default()
    };
    assert_eq!(refusal(rooms.list_members(muted).await).0, Code::PermissionDenied);
    let stranger = ListMembersRequest { room: "b".into(), actor: "bob".into(), ..Default::default() };
    assert_eq!(refusal(rooms.list_members(stranger).await), not_found());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_by_themselves_or_by_the_service() {
    let (stage, backend) = stage().await;
    let mut rooms = backend.rooms();
    let den = CreateRoomRequest { kind: RoomKind::Private.into(), owner: "alice".into(), ..create("den") };
    rooms.create_room(den).await.unwrap();
    let join = |user: &str, actor: &str| JoinRoomRequest {
        room: "den".into(),
        user: user.into(),
        actor: actor.into(),
        ..Default::default()
    };
    // Without an invitation it does not exist for bob; the service lets him in.
    assert_eq!(refusal(rooms.join_room(join("bob", "bob")).await), not_found());
    assert_eq!(bad_field(rooms.join_room(join("bob", "carol")).await), "actor");
    assert_eq!(bad_field(rooms.join_room(join("service:gateway", "")).await), "user");
    let joined = rooms.join_room(join("bob", "")).await.unwrap().into_inner();
    assert_eq!((joined.member.unwrap().role(), joined.room.unwrap().members), (Role::Member, 2));
    let mut bob = stage.player("bob").await;
    bob.join("den").await.unwrap();

    let member =
        |user: &str, actor: &str| GetMemberRequest { room: "den".into(), user: user.into(), actor: actor.into() };
    let found = rooms.get_member(member("bob", "")).await.unwrap().into_inner();
    assert!(found.joined && found.present);
    assert!(!rooms.get_member(member("alice", "bob")).await.unwrap().into_inner().present);
    assert_eq!(refusal(rooms.get_member(member("carol", "")).await), not_found());
    let stats = GetRoomStatsRequest { room: "den".into(), ..Default::default() };
    let stats = rooms.get_room_stats(stats).await.unwrap().into_inner();
    assert_eq!((stats.members, stats.present, stats.messages), (2, 1, 0));
    let elsewhere = GetRoomStatsRequest { room: "den".into(), actor: "carol".into() };
    assert_eq!(refusal(rooms.get_room_stats(elsewhere).await), not_found());

    let role = |user: &str, role: Role, actor: &str| SetRoleRequest {
        room: "den".into(),
        user: user.into(),
        role: role.into(),
        actor: actor.into(),
        ..Default::default()
    };
    assert_eq!(refusal(rooms.set_role(role("alice", Role::Guest, "bob")).await).0, Code::PermissionDenied);
    assert_eq!(bad_field(rooms.set_role(role("bob", Role::Unspecified, "")).await), "role");
    let updated = rooms.set_role(role("bob", Role::Owner, "")).await.unwrap().into_inner();
    assert_eq!(updated.member.unwrap().role(), Role::Owner);
    let alice = rooms.get_member(member("alice", "")).await.unwrap().into_inner().member.unwrap();
    assert_eq!(alice.role(), Role::Admin, "a room has one owner");

    let leave = |user: &str| LeaveRoomRequest { room: "den".into(), user: user.into(), ..Default::default() };
    assert_eq!(refusal(rooms.leave_room(leave("bob")).await).0, Code::PermissionDenied, "the owner stays");
    rooms.set_role(role("alice", Role::Owner, "")).await.unwrap();
    assert_eq!(rooms.leave_room(leave("bob")).await.unwrap().into_inner().room.unwrap().members, 1);
    let evicted = bob.hear(|event| match event {
        push::Event::RoomEvicted(evicted) => Some(evicted.room.clone()),
        _ => None,
    });
    assert_eq!(evicted.await, "den");
    assert_eq!(refusal(rooms.leave_room(leave("bob")).await), not_found());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invitations_are_given_used_and_taken_back() {
    let (stage, backend) = stage().await;
    let mut rooms = backend.rooms();
    let den = CreateRoomRequest { kind: RoomKind::Private.into(), owner: "alice".into(), ..create("den") };
    rooms.create_room(den).await.unwrap();
    let invite = |user: &str, key: &str| CreateInviteRequest {
        room: "den".into(),
        user: user.into(),
        idempotency_key: key.into(),
        ..Default::default()
    };
    let first = rooms.create_invite(invite("", "k1")).await.unwrap().into_inner().invite.unwrap();
    let again = rooms.create_invite(invite("", "k1")).await.unwrap().into_inner().invite.unwrap();
    assert_eq!((first.code.len(), &first.code), (22, &again.code), "one key, one invitation");
    assert_eq!(first.creator, "service:gateway");
    let other = CreateInviteRequest { uses_max: 1, ..invite("", "k1") };
    assert_eq!(refusal(rooms.create_invite(other).await), (Code::AlreadyExists, "IDEMPOTENCY_KEY_REUSED".into()));
    let long = CreateInviteRequest { seconds: 366 * 86_400, ..invite("", "") };
    assert_eq!(bad_field(rooms.create_invite(long).await), "seconds");
    rooms.create_invite(invite("carol", "")).await.unwrap();

    let list = |room: &str, actor: &str| ListInvitesRequest { room: room.into(), actor: actor.into() };
    assert_eq!(rooms.list_invites(list("den", "")).await.unwrap().into_inner().invites.len(), 2);
    let mine = rooms.list_invites(list("", "carol")).await.unwrap().into_inner().invites;
    assert_eq!((mine.len(), mine[0].title.as_str()), (1, "A room"));
    assert_eq!(bad_field(rooms.list_invites(list("", "")).await), "room");
    assert_eq!(refusal(rooms.list_invites(list("den", "bob")).await), not_found());

    let bob = stage.player("bob").await;
    ask!(bob, JoinRoom { room: "den", invite: first.code.clone() } => RoomJoined).unwrap();
    let revoke = |invite| RevokeInviteRequest { room: "den".into(), invite, ..Default::default() };
    let code = Some(revoke_invite_request::Invite::Code(first.code));
    rooms.revoke_invite(revoke(code.clone())).await.unwrap();
    assert_eq!(refusal(rooms.revoke_invite(revoke(code)).await), not_found());
    assert_eq!(bad_field(rooms.revoke_invite(revoke(None)).await), "code");
    assert_eq!(refusal(rooms.create_invite(invite("", "k1")).await), not_found(), "what the key made is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_have_one_room() {
    let (_stage, backend) = stage().await;
    let mut rooms = backend.rooms();
    let open = |user: &str, other: &str, actor: &str| OpenDirectRequest {
        user: user.into(),
        other: other.into(),
        actor: actor.into(),
        ..Default::default()
    };
    let first = rooms.open_direct(open("alice", "bob", "")).await.unwrap().into_inner().room.unwrap();
    let again = rooms.open_direct(open("bob", "alice", "bob")).await.unwrap().into_inner().room.unwrap();
    assert_eq!((first.id, first.kind), (again.id, RoomKind::Direct.into()));
    assert_eq!(bad_field(rooms.open_direct(open("alice", "alice", "")).await), "other");
    assert_eq!(bad_field(rooms.open_direct(open("alice", "bob", "bob")).await), "actor");
}
