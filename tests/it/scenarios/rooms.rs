//! Kinds of rooms, who sees them, who gets in, and what changes them.

use veza_client::proto::v1::{
    Action, CreateRoom, Error, ErrorCode, Permission, Role, Room, RoomKind, RoomSettings, Sanction, SystemKind,
    message::Change, push,
};

use crate::carrier::{Player, Stage, ask};

const HEX: &str = "0123456789abcdef0123456789abcdef";

fn of_kind(room: &str, kind: RoomKind) -> CreateRoom {
    CreateRoom { room: room.into(), kind: kind.into(), ..CreateRoom::default() }
}

/// Ids of the rooms a player is shown.
async fn listed(player: &Player) -> Vec<String> {
    let list = ask!(player, ListRooms { limit: 100u32 } => RoomList).unwrap();
    list.rooms.into_iter().map(|room| room.id).collect()
}

/// Everything that can be asked of a room from outside, with its refusals.
async fn refusals(player: &Player, room: &str) -> Vec<Error> {
    macro_rules! refused {
        ($($command:ident { $($fields:tt)* } => $answer:ident),* $(,)?) => {
            vec![$(ask!(player, $command { $($fields)* } => $answer).expect_err(stringify!($command))),*]
        };
    }
    refused![
        JoinRoom { room: room } => RoomJoined,
        JoinRoom { room: room, invite: "AAAAAAAAAAAAAAAAAAAAAA" } => RoomJoined,
        LeaveRoom { room: room } => RoomLeft,
        Publish { room: room, cmid: "c", body: "hello" } => Published,
        EditMessage { room: room, cmid: "c", seq: 1u64, body: "hello" } => Published,
        DeleteMessage { room: room, cmid: "c", seq: 1u64 } => Published,
        React { room: room, cmid: "c", seq: 1u64, emoji: "👍" } => Published,
        Pin { room: room, cmid: "c", seq: 1u64 } => Published,
        History { room: room } => HistoryPage,
        Repair { room: room, epoch: 1u64 } => Repaired,
        Search { room: room, query: "hello" } => SearchResult,
        Mark { room: room, read_seq: 1u64 } => Marked,
        UpdateRoom { room: room, title: "Mine".to_owned() } => RoomUpdated,
        SetRole { room: room, user: "owner", role: Role::Guest } => MemberUpdated,
        Moderate { room: room, user: "owner", sanction: Sanction::Ban } => MemberUpdated,
        CreateInvite { room: room } => InviteCreated,
        ListInvites { room: room } => InviteList,
        RevokeInvite { room: room, user: "owner" } => InviteRevoked,
        ListMembers { room: room } => MemberList,
        ListRevisions { room: room, seq: 1u64 } => RevisionList,
        ListReactions { room: room, seq: 1u64, emoji: "👍" } => ReactionList,
        ListPins { room: room } => PinList,
        ListAudit { room: room } => AuditList,
    ]
}

pub async fn rooms_are_listed_in_pages_and_left(stage: &Stage) {
    let alice = stage.player("alice").await;
    for room in ["a", "b", "c"] {
        alice.create(CreateRoom { title: format!("Room {room}"), ..of_kind(room, RoomKind::Public) }).await.unwrap();
    }
    let list = async |mine: bool, after: &str| {
        let list = ask!(alice, ListRooms { mine: mine, after: after, limit: 2u32 } => RoomList).unwrap();
        (list.rooms.into_iter().map(|room| room.id).collect::<Vec<_>>(), list.next)
    };
    assert_eq!(list(true, "").await, (vec!["a".into(), "b".into()], "b".into()));
    assert_eq!(list(true, "b").await, (vec!["c".into()], String::new()));
    assert_eq!(list(false, "b").await, (vec!["c".into(), "lobby".into()], String::new()));
    let bob = stage.player("bob").await;
    bob.join("b").await.unwrap();
    ask!(bob, LeaveRoom { room: "b" } => RoomLeft).unwrap();
    assert_eq!(ask!(bob, LeaveRoom { room: "b" } => RoomLeft).unwrap_err().code(), ErrorCode::NotFound);
    // Whoever is alone in a room may leave it, its owner too.
    alice.join("b").await.unwrap();
    ask!(alice, LeaveRoom { room: "b" } => RoomLeft).unwrap();
    assert_eq!(list(true, "").await, (vec!["a".into(), "c".into()], String::new()));
}

pub async fn a_private_room_does_not_exist_for_strangers(stage: &Stage) {
    let owner = stage.player("owner").await;
    owner.create(of_kind("vault", RoomKind::Private)).await.unwrap();
    owner.join("vault").await.unwrap();
    owner.publish("vault", "c", "hello").await.unwrap();
    let bob = stage.player("bob").await;
    assert!(!listed(&bob).await.contains(&"vault".to_owned()));
    assert!(listed(&owner).await.contains(&"vault".to_owned()));
    let (vault, nowhere) = (refusals(&bob, "vault").await, refusals(&bob, "nowhere").await);
    assert_eq!(vault, nowhere);
    assert!(vault.iter().all(|error| *error == vault[0] && error.code() == ErrorCode::NotFound), "{vault:?}");
    // Not even its name is free to be found out: a second room of that id is refused as any taken one is.
    let taken = bob.create(of_kind("vault", RoomKind::Public)).await.unwrap_err();
    assert_eq!(taken.code(), ErrorCode::AlreadyExists);
    assert!(ask!(bob, Search { query: "hello" } => SearchResult).unwrap().messages.is_empty());
}

pub async fn invitations_open_a_private_room(stage: &Stage) {
    let owner = stage.player("owner").await;
    owner.create(CreateRoom { title: "The vault".into(), ..of_kind("vault", RoomKind::Private) }).await.unwrap();
    let once = ask!(owner, CreateInvite { room: "vault", uses_max: 1u32 } => InviteCreated).unwrap().invite.unwrap();
    assert_eq!((once.code.len(), once.uses_max, once.uses), (22, 1, 0));
    let [bob, carol, dave] = [stage.player("bob").await, stage.player("carol").await, stage.player("dave").await];
    let joined = bob.join_invited("vault", &once.code).await.unwrap();
    assert_eq!(joined.room.unwrap().me.unwrap().role(), Role::Member);
    let used_up = carol.join_invited("vault", &once.code).await.unwrap_err();
    assert_eq!(used_up.code(), ErrorCode::NotFound);
    // Who is in stays in without it.
    bob.join("vault").await.unwrap();
    // What opens nothing any more is not listed; the rest with how often it was used.
    let twice = ask!(owner, CreateInvite { room: "vault", uses_max: 2u32 } => InviteCreated).unwrap().invite.unwrap();
    stage.player("erin").await.join_invited("vault", &twice.code).await.unwrap();
    let invites = ask!(owner, ListInvites { room: "vault" } => InviteList).unwrap().invites;
    let invites: Vec<_> = invites.iter().map(|invite| (invite.code.as_str(), invite.uses)).collect();
    assert_eq!(invites, [(twice.code.as_str(), 1)]);

    // One for dave alone needs no code, and dave can see it.
    let named = ask!(owner, CreateInvite { room: "vault", user: "dave" } => InviteCreated).unwrap().invite.unwrap();
    assert_eq!((named.code.as_str(), named.user.as_str(), named.creator.as_str()), ("", "dave", "owner"));
    let mine = ask!(dave, ListInvites {} => InviteList).unwrap().invites;
    assert_eq!(
        mine.iter().map(|invite| (invite.room.as_str(), invite.title.as_str())).collect::<Vec<_>>(),
        [("vault", "The vault")]
    );
    assert_eq!(carol.join("vault").await.unwrap_err().code(), ErrorCode::NotFound);
    dave.join("vault").await.unwrap();
    assert!(ask!(dave, ListInvites {} => InviteList).unwrap().invites.is_empty(), "it is spent");

    // Taken back, it opens nothing.
    ask!(owner, CreateInvite { room: "vault", user: "carol" } => InviteCreated).unwrap();
    ask!(owner, RevokeInvite { room: "vault", user: "carol" } => InviteRevoked).unwrap();
    assert_eq!(carol.join("vault").await.unwrap_err().code(), ErrorCode::NotFound);
    let gone = ask!(owner, RevokeInvite { room: "vault", user: "carol" } => InviteRevoked).unwrap_err();
    assert_eq!(gone.code(), ErrorCode::NotFound);
    // In a private room inviting is for moderators; and who left needs an invitation to come back.
    let refused = ask!(bob, CreateInvite { room: "vault", user: "carol" } => InviteCreated).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::PermissionDenied);
    ask!(bob, LeaveRoom { room: "vault" } => RoomLeft).unwrap();
    assert_eq!(bob.join("vault").await.unwrap_err().code(), ErrorCode::NotFound);
}

pub async fn an_invitation_ends_at_its_time(stage: &Stage) {
    let owner = stage.player("owner").await;
    owner.create(of_kind("vault", RoomKind::Private)).await.unwrap();
    let brief = ask!(owner, CreateInvite { room: "vault", seconds: 1u64 } => InviteCreated).unwrap().invite.unwrap();
    // The server's own clock tells when it has ended.
    loop {
        let pong = ask!(owner, Ping {} => Pong).unwrap();
        if pong.server_time_ms > brief.expires_ms {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let late = stage.player("bob").await.join_invited("vault", &brief.code).await.unwrap_err();
    assert_eq!(late.code(), ErrorCode::NotFound);
    assert!(ask!(owner, ListInvites { room: "vault" } => InviteList).unwrap().invites.is_empty());
}

pub async fn a_premium_room_asks_for_its_entitlement(stage: &Stage) {
    let owner = stage.player("owner").await;
    let nameless = owner.create(of_kind("lounge", RoomKind::Premium)).await.unwrap_err();
    assert_eq!(nameless.code(), ErrorCode::InvalidArgument, "it names no entitlement");
    let settings = RoomSettings { listed: true, entitlement: "gold".into(), ..RoomSettings::default() };
    owner.create(CreateRoom { settings: Some(settings), ..of_kind("lounge", RoomKind::Premium) }).await.unwrap();
    let (bob, carol) = (stage.player("bob").await, stage.entitled("carol", &["silver", "gold"]).await);
    assert!(listed(&bob).await.contains(&"lounge".to_owned()), "it may be seen by everybody");
    assert_eq!(bob.join("lounge").await.unwrap_err().code(), ErrorCode::PermissionDenied);
    let silver = stage.entitled("dave", &["silver"]).await;
    assert_eq!(silver.join("lounge").await.unwrap_err().code(), ErrorCode::PermissionDenied);
    carol.join("lounge").await.unwrap();
    ask!(owner, CreateInvite { room: "lounge", user: "bob" } => InviteCreated).unwrap();
    bob.join("lounge").await.unwrap();
}

pub async fn a_direct_room_is_for_two(stage: &Stage) {
    let (mut alice, mut bob) = (stage.player("alice").await, stage.player("bob").await);
    let room = ask!(alice, OpenDirect { user: "bob" } => DirectOpened).unwrap().room.unwrap();
    assert!(room.id.starts_with("dm.") && room.id.len() == 35, "{}", room.id);
    assert_eq!(room.kind(), RoomKind::Direct);
    let mut two = room.direct.clone();
    two.sort();
    assert_eq!((two, room.members), (vec!["alice".to_owned(), "bob".into()], 2));
    let same = ask!(bob, OpenDirect { user: "alice" } => DirectOpened).unwrap().room.unwrap();
    assert_eq!((same.id.as_str(), same.epoch), (room.id.as_str(), room.epoch));
    for player in [&alice, &bob] {
        player.join(&room.id).await.unwrap();
    }
    alice.publish(&room.id, "a", "hello bob").await.unwrap();
    assert_eq!(bob.message().await.body, "hello bob");
    bob.publish(&room.id, "b", "hello alice").await.unwrap();
    assert_eq!(alice.messages(2).await[1].body, "hello alice");

    // To others it is not there, and to the two it stays what it is.
    let carol = stage.player("carol").await;
    assert_eq!(refusals(&carol, &room.id).await, refusals(&carol, "nowhere").await);
    assert!(!listed(&carol).await.contains(&room.id));
    let denied = [
        ask!(alice, UpdateRoom { room: room.id.clone(), title: "Ours".to_owned() } => RoomUpdated).unwrap_err(),
        ask!(alice, CreateInvite { room: room.id.clone(), user: "carol" } => InviteCreated).unwrap_err(),
        ask!(alice, SetRole { room: room.id.clone(), user: "bob", role: Role::Guest } => MemberUpdated).unwrap_err(),
        ask!(alice, LeaveRoom { room: room.id.clone() } => RoomLeft).unwrap_err(),
    ];
    assert!(denied.iter().all(|error| error.code() == ErrorCode::PermissionDenied), "{denied:?}");
    let oneself = ask!(alice, OpenDirect { user: "alice" } => DirectOpened).unwrap_err();
    assert_eq!(oneself.code(), ErrorCode::InvalidArgument);
    let made = carol.create(of_kind("ours", RoomKind::Direct)).await.unwrap_err();
    assert_eq!(made.code(), ErrorCode::InvalidArgument);
    // Nobody takes the place of a direct room before it is opened.
    let squatted = carol.create(of_kind(&format!("dm.{HEX}"), RoomKind::Public)).await.unwrap_err();
    assert_eq!(squatted.code(), ErrorCode::InvalidArgument);
}

pub async fn an_unlisted_room_is_found_by_who_knows_it(stage: &Stage) {
    let owner = stage.player("owner").await;
    let settings = Some(RoomSettings { listed: false, ..RoomSettings::default() });
    owner.create(CreateRoom { settings, ..of_kind("corner", RoomKind::Public) }).await.unwrap();
    let bob = stage.player("bob").await;
    assert!(!listed(&bob).await.contains(&"corner".to_owned()));
    bob.join("corner").await.unwrap();
    assert!(listed(&bob).await.contains(&"corner".to_owned()), "it is one's own now");
}

/// The next `room_changed` with at least this revision.
async fn changed_to(player: &mut Player, revision: u64) -> Room {
    player
        .hear(|event| match event {
            push::Event::RoomChanged(changed) => changed.room.clone().filter(|room| room.revision >= revision),
            _ => None,
        })
        .await
}

pub async fn a_change_of_a_room_is_told_and_noted(stage: &Stage) {
    let [alice, mut bob] = stage.in_room("garden", ["alice", "bob"]).await;
    let settings = RoomSettings { listed: true, slow_mode_seconds: 30, ..RoomSettings::default() };
    let updated = ask!(alice, UpdateRoom {
        room: "garden", title: "The garden".to_owned(), topic: "roses".to_owned(), settings: settings
    } => RoomUpdated);
    let room = updated.unwrap().room.unwrap();
    assert_eq!((room.title.as_str(), room.topic.as_str()), ("The garden", "roses"));
    assert_eq!(room.settings.as_ref().unwrap().slow_mode_seconds, 30);
    let told = changed_to(&mut bob, room.revision).await;
    assert_eq!((told.title.as_str(), told.revision), ("The garden", room.revision));

    // The log tells it too, so that who comes later reads it: notes stand among the messages.
    let heard = bob.messages(3).await;
    let kinds = |messages: &[veza_client::proto::v1::Message]| {
        let kind = |message: &veza_client::proto::v1::Message| match &message.change {
            Some(Change::System(note)) => (message.author.clone(), note.kind(), note.text.clone()),
            other => panic!("{other:?}"),
        };
        messages.iter().map(kind).collect::<Vec<_>>()
    };
    let notes = [
        ("alice".to_owned(), SystemKind::TitleChanged, "The garden".to_owned()),
        ("alice".to_owned(), SystemKind::TopicChanged, "roses".to_owned()),
        ("alice".to_owned(), SystemKind::SettingsChanged, String::new()),
    ];
    assert_eq!(kinds(&heard), notes);
    assert_eq!(kinds(&bob.history("garden").await.messages), notes);
    // The same again is no change.
    let again = ask!(alice, UpdateRoom { room: "garden", topic: "roses".to_owned() } => RoomUpdated).unwrap();
    assert_eq!(again.room.unwrap().head, 3);

    let denied = ask!(bob, UpdateRoom { room: "garden", topic: "tulips".to_owned() } => RoomUpdated).unwrap_err();
    assert_eq!(denied.code(), ErrorCode::PermissionDenied);
    let nameless = ask!(alice, UpdateRoom { room: "garden", title: String::new() } => RoomUpdated).unwrap_err();
    assert_eq!(nameless.code(), ErrorCode::InvalidArgument);
}

pub async fn an_archived_room_is_read_only(stage: &Stage) {
    let [alice, bob] = stage.in_room("garden", ["alice", "bob"]).await;
    bob.publish("garden", "b1", "before").await.unwrap();
    let archive = async |archived: bool| {
        ask!(alice, UpdateRoom { room: "garden", archived: archived } => RoomUpdated).unwrap().room.unwrap()
    };
    assert!(archive(true).await.archived);
    let denied = [
        bob.publish("garden", "b2", "after").await.unwrap_err(),
        bob.edit("garden", "b3", 1, "after").await.unwrap_err(),
        bob.react("garden", "b4", 1, "👍").await.unwrap_err(),
        alice.publish("garden", "a1", "after").await.unwrap_err(),
    ];
    assert!(denied.iter().all(|error| error.code() == ErrorCode::PermissionDenied), "{denied:?}");
    // A retry of what was stored before is still answered.
    assert!(bob.publish("garden", "b1", "before").await.unwrap().duplicate);
    assert_eq!(bob.history("garden").await.messages[0].body, "before");
    archive(false).await;
    bob.publish("garden", "b5", "again").await.unwrap();
}

pub async fn a_room_sets_its_own_permissions(stage: &Stage) {
    let [alice, bob] = stage.in_room("news", ["alice", "bob"]).await;
    let permit = |action: Action, at_least: Role| Permission { action: action.into(), at_least: at_least.into() };
    let permissions = vec![permit(Action::Publish, Role::Admin), permit(Action::Pin, Role::Member)];
    let settings = RoomSettings { listed: true, permissions, ..RoomSettings::default() };
    let first = alice.publish("news", "a1", "read only, but pin it").await.unwrap();
    bob.publish("news", "b1", "still open").await.unwrap();
    ask!(alice, UpdateRoom { room: "news", settings: settings } => RoomUpdated).unwrap();
    assert_eq!(bob.publish("news", "b2", "me too").await.unwrap_err().code(), ErrorCode::PermissionDenied);
    alice.publish("news", "a2", "an announcement").await.unwrap();
    bob.pin("news", "b3", first.seq).await.unwrap();
    let lowered = RoomSettings { permissions: vec![permit(Action::Moderate, Role::Member)], ..RoomSettings::default() };
    let refused = ask!(alice, UpdateRoom { room: "news", settings: lowered } => RoomUpdated).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InvalidArgument);
}

pub async fn what_a_member_is_stands_in_the_room(stage: &Stage) {
    let [alice, bob] = stage.in_room("garden", ["alice", "bob"]).await;
    for (player, role) in [(&alice, Role::Owner), (&bob, Role::Member)] {
        let room = player.join("garden").await.unwrap().room.unwrap();
        assert_eq!((room.me.as_ref().unwrap().role(), room.members, room.kind()), (role, 2, RoomKind::Public));
    }
}
