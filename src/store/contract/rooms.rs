use super::*;

pub(super) async fn a_room_is_made_once(store: Arc<dyn Store>) {
    let Written::RoomCreated(made) = commit_one(&store, create("lobby")).await else { panic!("not made") };
    assert_eq!(
        made,
        RoomRecord {
            id: room_id("lobby"),
            title: "The lobby".into(),
            epoch: NOW,
            head: 0,
            first_available: 1,
            members: 1,
            created_ms: NOW,
        }
    );
    assert_eq!(record(&store, "lobby").await, made);
    assert!(store.is_member(&room_id("lobby"), &user("alice")).await.unwrap(), "the creator is a member");

    commit_one(&store, say("lobby", "alice", "c1", "hello")).await;
    let other =
        Write::CreateRoom { room: room_id("lobby"), title: "Mine".into(), creator: user("bob"), at_ms: NOW + 9 };
    let now = RoomRecord { head: 1, ..made };
    assert_eq!(commit_one(&store, other).await, Written::RoomExists(now.clone()));
    assert_eq!(record(&store, "lobby").await, now);
    assert!(!store.is_member(&room_id("lobby"), &user("bob")).await.unwrap());

    let written = store.commit(&[create("twin"), create("twin")]).await.unwrap();
    assert!(matches!(&written[0], Written::RoomCreated(_)));
    assert_eq!(written[1], Written::RoomExists(record(&store, "twin").await));
}

/// A cursor with epoch 0 means that nothing is known, so no room has it.
pub(super) async fn an_epoch_is_never_zero(store: Arc<dyn Store>) {
    let write = Write::CreateRoom { room: room_id("old"), title: "a\0b ü".into(), creator: user("alice"), at_ms: 0 };
    commit_one(&store, write).await;
    let found = record(&store, "old").await;
    assert_eq!((found.epoch, found.created_ms, found.title.as_str()), (1, 0, "a\0b ü"));
}

pub(super) async fn joining_and_leaving_twice_counts_once(store: Arc<dyn Store>) {
    commit_one(&store, create("lobby")).await;
    for (write, members, new) in
        [(join("lobby", "bob"), 2, true), (join("lobby", "bob"), 2, false), (join("lobby", "alice"), 2, false)]
    {
        let Written::MemberAdded { room, new: told } = commit_one(&store, write).await else { panic!("not added") };
        assert_eq!((room.members, told), (members, new));
        assert_eq!(room, record(&store, "lobby").await);
    }
    assert!(store.is_member(&room_id("lobby"), &user("bob")).await.unwrap());

    assert_eq!(commit_one(&store, leave("lobby", "bob")).await, Written::MemberRemoved { was_member: true });
    assert_eq!(commit_one(&store, leave("lobby", "bob")).await, Written::MemberRemoved { was_member: false });
    assert!(!store.is_member(&room_id("lobby"), &user("bob")).await.unwrap());
    assert_eq!(record(&store, "lobby").await.members, 1);
}

pub(super) async fn who_joins_and_leaves_in_one_batch_is_counted_right(store: Arc<dyn Store>) {
    commit_one(&store, create("lobby")).await;
    let batch = [
        join("lobby", "bob"),
        leave("lobby", "bob"),
        leave("lobby", "alice"),
        join("lobby", "carol"),
        join("lobby", "alice"),
        leave("lobby", "alice"),
        join("lobby", "carol"),
        join("lobby", "dave"),
        leave("lobby", "dave"),
        join("lobby", "dave"),
    ];
    let written = store.commit(&batch).await.unwrap();
    let Written::MemberAdded { room, new: true } = &written[9] else { panic!("{:?}", written[9]) };
    assert_eq!(room.members, 2);
    assert_eq!(record(&store, "lobby").await.members, 2);
    for (who, expected) in [("alice", false), ("bob", false), ("carol", true), ("dave", true)] {
        assert_eq!(store.is_member(&room_id("lobby"), &user(who)).await.unwrap(), expected, "{who}");
    }
    commit_one(&store, join("lobby", "alice")).await;
    assert_eq!(record(&store, "lobby").await.members, 3);
}

pub(super) async fn membership_of_an_unknown_room_is_refused(store: Arc<dyn Store>) {
    let written = store.commit(&[join("nowhere", "bob"), leave("nowhere", "bob")]).await.unwrap();
    assert_eq!(written, [Written::NoSuchRoom, Written::NoSuchRoom]);
    assert!(!store.is_member(&room_id("nowhere"), &user("bob")).await.unwrap());
}

const ROOMS: [&str; 7] = ["-", "0", "a", "a-1", "aa", "b", "z.z"];

async fn names(store: &Arc<dyn Store>, member: Option<&str>, after: Option<&str>, limit: u32) -> Vec<String> {
    let member = member.map(user);
    let page = store.rooms(member.as_ref(), after, limit).await.unwrap();
    page.iter().map(|room| String::from(&room.id)).collect()
}

pub(super) async fn pages_of_all_rooms(store: Arc<dyn Store>) {
    assert!(names(&store, None, None, 10).await.is_empty());
    let shuffled = [3, 6, 0, 5, 1, 4, 2].map(|at| create(ROOMS[at]));
    store.commit(&shuffled).await.unwrap();
    assert_eq!(names(&store, None, None, 7).await, ROOMS);
    assert_eq!(names(&store, None, None, 8).await, ROOMS);
    assert_eq!(names(&store, None, None, 6).await, ROOMS[..6]);
    assert_eq!(names(&store, None, None, 0).await, [""; 0]);
    assert_eq!(names(&store, None, Some("a"), 2).await, ROOMS[3..5]);
    assert_eq!(names(&store, None, Some("a-"), 1).await, ROOMS[3..4], "after a name that does not exist");
    assert!(names(&store, None, Some("z.z"), 10).await.is_empty());
    let page = store.rooms(None, Some("aa"), 1).await.unwrap();
    assert_eq!(page, [record(&store, "b").await]);
}

pub(super) async fn pages_of_my_rooms(store: Arc<dyn Store>) {
    store.commit(&ROOMS.map(create)).await.unwrap();
    let mine = ["0", "a-1", "aa", "z.z"];
    store.commit(&mine.map(|room| join(room, "bob"))).await.unwrap();
    store.commit(&[join("b", "bob"), leave("b", "bob")]).await.unwrap();
    assert_eq!(names(&store, Some("bob"), None, 4).await, mine);
    assert_eq!(names(&store, Some("bob"), None, 3).await, mine[..3]);
    assert_eq!(names(&store, Some("bob"), Some("a-1"), 10).await, mine[2..]);
    assert_eq!(names(&store, Some("bob"), Some("b"), 1).await, ["z.z"]);
    assert!(names(&store, Some("bob"), Some("z.z"), 10).await.is_empty());
    assert!(names(&store, Some("nobody"), None, 10).await.is_empty());
    assert_eq!(names(&store, Some("alice"), None, 10).await, ROOMS);
}
