use veza_engine::ledger::RoomUpdate;
use veza_proto::v1::{Action, Permission, RoomSettings};

use super::*;
use crate::store::Rooms;

pub(super) async fn a_room_is_made_once(store: Arc<dyn Store>) {
    let Written::Room { room: made, notes } = commit_one(&store, create("lobby")).await else { panic!("not made") };
    assert_eq!(
        (made.title.as_str(), made.kind, made.epoch, made.created_ms),
        ("The lobby", RoomKind::Public, NOW, NOW)
    );
    assert_eq!((made.head, made.first_available, made.members, notes.len()), (0, 1, 1, 0));
    assert_eq!(row(&store, "lobby").await, made);
    assert_eq!(member(&store, "lobby", "alice").await.unwrap().role(), Some(Role::Owner), "the creator owns it");

    commit_one(&store, say("lobby", "alice", "c1", "hello")).await;
    let other = Write::CreateRoom {
        room: room_id("lobby"),
        title: "Mine".into(),
        topic: String::new(),
        kind: RoomKind::Private,
        settings: Settings::of(RoomKind::Private),
        creator: Some(user("bob")),
        at_ms: NOW + 9,
    };
    let now = row(&store, "lobby").await;
    assert_eq!((now.head, now.messages, now.last_message_ms), (1, 1, NOW + 2));
    assert_eq!(commit_one(&store, other).await, Written::RoomExists(now.clone()));
    assert_eq!(row(&store, "lobby").await, now);
    assert!(!is_member(&store, "lobby", "bob").await);

    let written = store.commit(&[create("twin"), create("twin")]).await.unwrap();
    assert!(matches!(&written[0], Written::Room { .. }));
    assert_eq!(written[1], Written::RoomExists(row(&store, "twin").await));
    assert_eq!(store.room(&room_id("nowhere")).await.unwrap(), None);
}

/// A cursor with epoch 0 means that nothing is known, so no room has it.
pub(super) async fn an_epoch_is_never_zero(store: Arc<dyn Store>) {
    let (kind, settings) = (RoomKind::Public, Settings::of(RoomKind::Public));
    let (room, title, topic) = (room_id("old"), "a b ü".into(), "ß".into());
    let write = Write::CreateRoom { room, title, topic, kind, settings, creator: None, at_ms: 0 };
    commit_one(&store, write).await;
    let found = row(&store, "old").await;
    assert_eq!((found.epoch, found.created_ms, found.title.as_str(), found.topic.as_str()), (1, 0, "a b ü", "ß"));
    assert_eq!(found.members, 0, "a room of the server has no owner");
}

pub(super) async fn what_managers_set_is_kept(store: Arc<dyn Store>) {
    commit_one(&store, create("lobby")).await;
    let wire = RoomSettings {
        listed: false,
        slow_mode_seconds: 30,
        retention_seconds: 86_400,
        retention_entries: 1_000,
        default_role: Role::Guest.into(),
        permissions: vec![Permission { action: Action::Pin.into(), at_least: Role::Owner.into() }],
        entitlement: "gold".into(),
    };
    let settings = Settings::parse(&wire).unwrap();
    let update = RoomUpdate {
        title: Some("Other".into()),
        topic: Some("Else".into()),
        kind: Some(RoomKind::Premium),
        settings: Some(settings.clone()),
        only: None,
        archived: Some(true),
    };
    let write = Write::UpdateRoom { room: room_id("lobby"), actor: user("alice").into(), update, at_ms: NOW + 5 };
    let Written::Room { room, notes } = commit_one(&store, write).await else { panic!("not updated") };
    assert_eq!(notes.len(), 4, "each change is told in the log");
    assert_eq!(row(&store, "lobby").await, room);
    assert_eq!((room.kind, room.settings, room.archived, room.head), (RoomKind::Premium, settings, true, 4));
    let log: Vec<_> = log(&store, "lobby").await.into_iter().map(|entry| entry.row).collect();
    assert_eq!(log, notes);
}

pub(super) async fn a_room_of_two_is_made_once(store: Arc<dyn Store>) {
    let open = |opener: &str, other: &str| Write::OpenDirect {
        room: room_id("dm.1"),
        opener: user(opener),
        other: user(other),
        at_ms: NOW,
    };
    let Written::Room { room, .. } = commit_one(&store, open("alice", "bob")).await else { panic!("not made") };
    assert_eq!((room.kind, room.members), (RoomKind::Direct, 2));
    assert_eq!(room.direct, Some((user("alice"), user("bob"))));
    assert_eq!(commit_one(&store, open("bob", "alice")).await, Written::RoomExists(row(&store, "dm.1").await));
    assert_eq!(row(&store, "dm.1").await, room);
    assert!(is_member(&store, "dm.1", "alice").await && is_member(&store, "dm.1", "bob").await);
}

const ROOMS: [&str; 7] = ["-", "0", "a", "a-1", "aa", "b", "z.z"];

async fn names(store: &Arc<dyn Store>, who: &str, which: Rooms, after: Option<&str>, limit: u32) -> Vec<String> {
    let page = store.rooms(&user(who), which, after, limit).await.unwrap();
    for (room, member) in &page {
        assert_eq!(*room, row(store, room.id.as_str()).await);
        assert_eq!(*member, self::member(store, room.id.as_str(), who).await);
    }
    page.iter().map(|(room, _)| String::from(&room.id)).collect()
}

pub(super) async fn pages_of_visible_rooms(store: Arc<dyn Store>) {
    let visible = Rooms::Visible;
    assert!(names(&store, "bob", visible, None, 10).await.is_empty());
    let shuffled = [3, 6, 0, 5, 1, 4, 2].map(|at| create(ROOMS[at]));
    commit_all(&store, &shuffled).await;
    assert_eq!(names(&store, "bob", visible, None, 7).await, ROOMS);
    assert_eq!(names(&store, "bob", visible, None, 8).await, ROOMS);
    assert_eq!(names(&store, "bob", visible, None, 6).await, ROOMS[..6]);
    assert_eq!(names(&store, "bob", visible, None, 0).await, [""; 0]);
    assert_eq!(names(&store, "bob", visible, Some("a"), 2).await, ROOMS[3..5]);
    assert_eq!(names(&store, "bob", visible, Some("a-"), 1).await, ROOMS[3..4], "after a name that does not exist");
    assert!(names(&store, "bob", visible, Some("z.z"), 10).await.is_empty());

    let unlisted =
        Settings::parse(&RoomSettings { listed: false, ..Settings::of(RoomKind::Public).to_wire() }).unwrap();
    let listed = Settings::of(RoomKind::Public);
    let hidden = [create_as("a-0", RoomKind::Private, listed), create_as("a-2", RoomKind::Public, unlisted)];
    commit_all(&store, &hidden).await;
    assert_eq!(names(&store, "bob", visible, None, 10).await, ROOMS, "neither private nor unlisted");
    commit_one(&store, join("a-2", "bob")).await;
    assert_eq!(names(&store, "bob", visible, Some("a"), 3).await, ["a-1", "a-2", "aa"], "but one's own");
    assert_eq!(names(&store, "alice", visible, Some("a"), 3).await, ["a-0", "a-1", "a-2"]);
}

pub(super) async fn pages_of_my_rooms(store: Arc<dyn Store>) {
    commit_all(&store, &ROOMS.map(create)).await;
    let mine = ["0", "a-1", "aa", "z.z"];
    commit_all(&store, &mine.map(|room| join(room, "bob"))).await;
    commit_all(&store, &[join("b", "bob"), leave("b", "bob")]).await;
    assert_eq!(names(&store, "bob", Rooms::Mine, None, 4).await, mine);
    assert_eq!(names(&store, "bob", Rooms::Mine, None, 3).await, mine[..3]);
    assert_eq!(names(&store, "bob", Rooms::Mine, Some("a-1"), 10).await, mine[2..]);
    assert_eq!(names(&store, "bob", Rooms::Mine, Some("b"), 1).await, ["z.z"]);
    assert!(names(&store, "bob", Rooms::Mine, Some("z.z"), 10).await.is_empty());
    assert!(names(&store, "nobody", Rooms::Mine, None, 10).await.is_empty());
    assert_eq!(names(&store, "alice", Rooms::Mine, None, 10).await, ROOMS);
}

pub(super) async fn a_membership_is_told_with_its_room(store: Arc<dyn Store>) {
    commit_all(&store, &[create("lobby"), join("lobby", "bob"), leave("lobby", "bob")]).await;
    let of = |who: &str| {
        let (store, who) = (Arc::clone(&store), user(who));
        async move { store.membership(&room_id("lobby"), &who).await.unwrap() }
    };
    let (room, alice) = of("alice").await.unwrap();
    assert_eq!(room, row(&store, "lobby").await);
    assert_eq!(alice.unwrap().role(), Some(Role::Owner));
    assert_eq!(of("bob").await.unwrap().1.unwrap().joined, None, "what was between them stays");
    assert_eq!(of("carol").await.unwrap().1, None);
    assert_eq!(store.membership(&room_id("nowhere"), &user("alice")).await.unwrap(), None);
}
