use veza_proto::v1::RoomSettings;

use super::*;
use crate::store::{Scope, Search, Unread};

fn kept(room: &str, retention_seconds: u64, retention_entries: u64) -> Write {
    let wire = RoomSettings { retention_seconds, retention_entries, ..Settings::of(RoomKind::Public).to_wire() };
    create_as(room, RoomKind::Public, Settings::parse(&wire).unwrap())
}

fn expire(room: &str, up_to: u64) -> Write {
    Write::Expire { room: room_id(room), up_to, at_ms: NOW + 9 }
}

fn say_at(room: &str, cmid: u64, at: u64) -> Write {
    let content = Content::text(format!("body {cmid}"));
    let cmid = Cmid::parse(&format!("c{cmid}")).unwrap();
    Write::Append { room: room_id(room), author: user("alice").into(), cmid, content, at_ms: at }
}

pub(super) async fn what_is_too_much_or_too_old_is_overdue(store: Arc<dyn Store>) {
    commit_all(&store, &[kept("both", 60, 12), kept("count", 0, 10), kept("ever", 0, 0), kept("old", 60, 0)]).await;
    for room in ["both", "count", "ever", "old"] {
        commit_all(&store, &(1..=14).map(|n| say_at(room, n, NOW + n * 1_000)).collect::<Vec<_>>()).await;
    }
    let overdue = async |now_ms, entries_max, limit| -> Vec<(String, u64)> {
        let overdue = store.overdue(now_ms, entries_max, limit).await.unwrap();
        overdue.into_iter().map(|(room, up_to)| (String::from(&room), up_to)).collect()
    };
    let of = |rooms: &[(&str, u64)]| rooms.iter().map(|(room, up_to)| ((*room).to_owned(), *up_to)).collect::<Vec<_>>();
    let minute = NOW + 60_000;
    assert_eq!(overdue(NOW, 100, 10).await, of(&[("both", 2), ("count", 4)]));
    assert_eq!(overdue(minute + 1_000, 100, 10).await, of(&[("both", 2), ("count", 4)]), "to the millisecond");
    assert_eq!(overdue(minute + 1_001, 100, 10).await, of(&[("both", 2), ("count", 4), ("old", 1)]));
    assert_eq!(overdue(minute + 5_001, 100, 10).await, of(&[("both", 5), ("count", 4), ("old", 5)]));
    assert_eq!(overdue(minute + 5_001, 3, 10).await, of(&[("both", 3), ("count", 3), ("old", 3)]), "a bite of each");
    assert_eq!(overdue(minute + 5_001, 100, 2).await, of(&[("both", 5), ("count", 4)]));
    assert_eq!(overdue(u64::MAX, 100, 10).await, of(&[("both", 14), ("count", 4), ("old", 14)]));

    commit_all(&store, &[expire("both", 5), expire("count", 4), expire("old", 2)]).await;
    assert_eq!(overdue(minute + 5_001, 100, 10).await, of(&[("old", 5)]));
    assert_eq!(overdue(minute + 5_001, 1, 10).await, of(&[("old", 3)]));
}

pub(super) async fn what_expired_is_nowhere(store: Arc<dyn Store>) {
    commit_all(&store, &[create("lobby"), join("lobby", "bob"), create("other")]).await;
    let batch = [
        mention("lobby", "alice", "c1", &["bob"], "needle"),
        edit("lobby", "alice", "c2", 1, "needle again"),
        react("lobby", "bob", "c3", 1, "+"),
        pin("lobby", "alice", "c4", 1),
        mention("lobby", "alice", "c5", &["bob"], "needle"),
        reply("lobby", "bob", "c6", 1, "needle"),
        pin("lobby", "alice", "c7", 5),
        say("lobby", "alice", "c8", "needle"),
        say("other", "alice", "c1", "needle"),
    ];
    commit_all(&store, &batch).await;
    // In one batch with what is said and changed meanwhile.
    let batch = [say("lobby", "alice", "c9", "more"), expire("lobby", 4), pin("lobby", "alice", "c10", 5)];
    let Written::Expired { room } = store.commit(&batch).await.unwrap().remove(1) else { panic!("not expired") };
    assert_eq!((room.first_available, room.messages_expired, room.head), (5, 1, 9));
    let left: Vec<_> = log(&store, "lobby").await.iter().map(|entry| entry.row.seq).collect();
    assert_eq!(left, [5, 6, 7, 8, 9]);
    assert_eq!(store.revisions(&room_id("lobby"), NOW, 1).await.unwrap(), []);
    assert_eq!(store.reactors(&room_id("lobby"), NOW, 1, "+", 9).await.unwrap(), (vec![], 0));
    let pins = store.pins(&room_id("lobby"), &user("alice")).await.unwrap();
    assert_eq!(pins.iter().map(|pin| pin.row.seq).collect::<Vec<_>>(), [5]);
    let scope = Scope::Room { room: room_id("lobby"), before: u64::MAX, viewer: user("alice") };
    let hits = store.search(&Search { query: "needle".into(), scope, author: None }, 10).await.unwrap();
    assert_eq!(hits.iter().map(|hit| hit.row.seq).collect::<Vec<_>>(), [8, 6, 5]);
    let view = View::Thread(1);
    let thread = store.entries(&room_id("lobby"), NOW, view, Anchor::After(0), 9, None).await.unwrap();
    assert_eq!(
        thread.iter().map(|reply| reply.row.seq).collect::<Vec<_>>(),
        [6],
        "a thread outlives its first message"
    );
    assert_eq!(log(&store, "other").await.len(), 1);

    let answers =
        store.commit(&[edit("lobby", "alice", "d1", 1, "x"), expire("lobby", 4), expire("lobby", 99)]).await.unwrap();
    assert!(matches!(answers[0], Written::Refused(Refusal::NotFound(_))), "{:?}", answers[0]);
    assert!(matches!(&answers[1], Written::Expired { room } if room.first_available == 5), "it was so already");
    assert!(matches!(answers[2], Written::Refused(Refusal::NotFound(_))), "{:?}", answers[2]);
}

pub(super) async fn numbers_go_on_after_everything_expired(store: Arc<dyn Store>) {
    commit_all(&store, &[create("lobby"), join("lobby", "bob")]).await;
    fill(&store, "lobby", 5).await;
    let batch = [say("lobby", "alice", "c6", "six"), expire("lobby", 6), say("lobby", "alice", "c7", "seven")];
    commit_all(&store, &batch).await;
    let log = log(&store, "lobby").await;
    assert_eq!(log.iter().map(|entry| entry.row.seq).collect::<Vec<_>>(), [7]);
    let unread = store.unread(&user("bob"), Unread::In(&room_id("lobby")), 1).await.unwrap();
    assert_eq!(unread[0].unread, 1, "what expired is not unread");
    let now = row(&store, "lobby").await;
    assert_eq!((now.head, now.first_available, now.messages, now.messages_expired), (7, 7, 7, 6));
    let again = commit_one(&store, say("lobby", "alice", "c1", "body 1")).await;
    assert_eq!(appended(&again).seq, 8, "what expired is forgotten");
}
