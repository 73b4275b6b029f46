//! Watermarks, and what is left to read.

use veza_client::proto::v1::{Error, Marked, Publish, UnreadRoom, push};

use crate::carrier::{Player, Stage, ask};

async fn unread(player: &Player) -> Vec<(String, u32, u32)> {
    let list = ask!(player, ListUnread {} => UnreadList).unwrap();
    list.rooms.into_iter().map(|UnreadRoom { room, unread, mentions, .. }| (room, unread, mentions)).collect()
}

async fn mention(player: &Player, room: &str, cmid: &str, users: &[&str]) -> u64 {
    let mentions = users.iter().map(|user| (*user).to_owned()).collect();
    let publish =
        Publish { room: room.into(), cmid: cmid.into(), body: "hear!".into(), mentions, ..Publish::default() };
    player.say(publish).await.unwrap().seq
}

async fn mark(player: &Player, room: &str, delivered_seq: u64, read_seq: u64) -> Result<Marked, Error> {
    ask!(player, Mark { room: room, delivered_seq: delivered_seq, read_seq: read_seq } => Marked)
}

fn room(id: &str, unread: u32, mentions: u32) -> (String, u32, u32) {
    (id.to_owned(), unread, mentions)
}

pub async fn what_is_unread_is_told_over_all_rooms_in_one_call(stage: &Stage) {
    let alice = stage.player_in("alice", "garden").await;
    for id in ["attic", "empty"] {
        stage.player_in("alice", id).await;
        alice.join(id).await.unwrap();
    }
    let bob = stage.player("bob").await;
    for id in ["attic", "empty", "garden"] {
        bob.join(id).await.unwrap();
    }
    alice.publish("garden", "a1", "one").await.unwrap();
    mention(&alice, "garden", "a2", &["bob", "carol"]).await;
    mention(&alice, "garden", "a3", &["*"]).await;
    mention(&alice, "garden", "a4", &["carol"]).await;
    alice.publish("attic", "b1", "hello").await.unwrap();
    // Changes are nothing to read; answers in threads are.
    alice.edit("garden", "a5", 1, "one!").await.unwrap();
    alice.react("garden", "a6", 1, "👍").await.unwrap();
    let thread =
        Publish { room: "attic".into(), cmid: "b2".into(), body: "and".into(), thread: 1, ..Publish::default() };
    alice.say(thread).await.unwrap();
    assert_eq!(unread(&bob).await, [room("attic", 2, 0), room("empty", 0, 0), room("garden", 4, 2)]);
    assert_eq!(unread(&alice).await, [room("attic", 0, 0), room("empty", 0, 0), room("garden", 0, 0)]);

    let list = ask!(bob, ListUnread {} => UnreadList).unwrap();
    let garden = &list.rooms[2];
    assert_eq!((garden.head, garden.read_seq, garden.title.as_str()), (6, 0, "garden"));
    assert!(garden.last_message_ms > 0 && garden.epoch > 0 && list.next.is_empty());
    // In pages as well.
    let first = ask!(bob, ListUnread { limit: 1u32 } => UnreadList).unwrap();
    assert_eq!((first.rooms.len(), first.next.as_str()), (1, "attic"));
    let rest = ask!(bob, ListUnread { after: "attic", limit: 2u32 } => UnreadList).unwrap();
    assert_eq!((rest.rooms.len(), rest.next.as_str()), (2, ""));

    // What was said before somebody came is not theirs to catch up with.
    let carol = stage.player("carol").await;
    carol.join("garden").await.unwrap();
    assert_eq!(unread(&carol).await, [room("garden", 0, 0)]);
    // A mention that was edited away, or deleted, calls nobody.
    let edited = mention(&alice, "garden", "a7", &["carol"]).await;
    let deleted = mention(&alice, "garden", "a8", &["carol"]).await;
    assert_eq!(unread(&carol).await, [room("garden", 2, 2)]);
    alice.edit("garden", "a9", edited, "never mind").await.unwrap();
    alice.delete("garden", "a10", deleted).await.unwrap();
    assert_eq!(unread(&carol).await[0].2, 0);
}

pub async fn marks_rise_and_never_fall(stage: &Stage) {
    let [alice, bob] = stage.in_room("garden", ["alice", "bob"]).await;
    for n in 1..=5 {
        alice.publish("garden", &format!("a{n}"), "words").await.unwrap();
    }
    mention(&alice, "garden", "a6", &["bob"]).await;
    let marked = mark(&bob, "garden", 4, 2).await.unwrap();
    assert_eq!((marked.delivered_seq, marked.read_seq, marked.unread, marked.mentions), (4, 2, 4, 1));
    // Reading is receiving.
    let marked = mark(&bob, "garden", 0, 5).await.unwrap();
    assert_eq!((marked.delivered_seq, marked.read_seq, marked.unread), (5, 5, 1));
    // An older mark, of another device, changes nothing; one beyond the end is the end.
    let marked = mark(&bob, "garden", 1, 1).await.unwrap();
    assert_eq!((marked.delivered_seq, marked.read_seq), (5, 5));
    let marked = mark(&bob, "garden", u64::MAX, 1 << 60).await.unwrap();
    assert_eq!((marked.delivered_seq, marked.read_seq, marked.unread, marked.mentions), (6, 6, 0, 0));
    // Saying something is having read what stands before it.
    alice.publish("garden", "a7", "more").await.unwrap();
    assert_eq!(unread(&bob).await, [room("garden", 1, 0)]);
    bob.publish("garden", "b1", "an answer").await.unwrap();
    assert_eq!(unread(&bob).await, [room("garden", 0, 0)]);
    assert_eq!(unread(&alice).await, [room("garden", 1, 0)]);
    // The marks are the user's, not the session's.
    let elsewhere = stage.player("bob").await;
    assert_eq!(unread(&elsewhere).await, [room("garden", 0, 0)]);
}

pub async fn the_others_see_how_far_one_has_read(stage: &Stage) {
    let [mut alice, bob] = stage.in_room("garden", ["alice", "bob"]).await;
    for n in 1..=3 {
        alice.publish("garden", &format!("a{n}"), "words").await.unwrap();
    }
    mark(&bob, "garden", 3, 2).await.unwrap();
    let of_bob = |event: &push::Event| match event {
        push::Event::ReceiptsChanged(changed) if changed.room == "garden" => {
            let bob = changed.receipts.iter().find(|receipt| receipt.user == "bob");
            bob.map(|bob| (bob.delivered_seq, bob.read_seq)).filter(|marks| *marks == (3, 2))
        }
        _ => None,
    };
    assert_eq!(alice.hear(of_bob).await, (3, 2));
    // Who comes later is told at once.
    let carol = stage.player("carol").await;
    let receipts = carol.join("garden").await.unwrap().receipts;
    let of = |user: &str| receipts.iter().find(|receipt| receipt.user == user).map(|r| (r.delivered_seq, r.read_seq));
    assert_eq!((of("alice"), of("bob")), (Some((3, 3)), Some((3, 2))));
}
