//! Rooms that keep only the end of their log.

use veza_client::proto::v1::{
    CreateRoom, ErrorCode, GapReason, Hello, HistoryPage, RoomCursor, RoomSettings, View, history::Anchor, push,
    room_resumed, verdict::Outcome,
};

use crate::carrier::{Player, SOON, Stage, ask};

const KEPT: u64 = 10;

async fn page(player: &Player, anchor: Anchor) -> HistoryPage {
    ask!(player, History { room: "garden", view: View::Everything, anchor: anchor, limit: 100u32 } => HistoryPage)
        .unwrap()
}

/// Reads until everything before this entry is gone.
async fn cut_to(player: &Player, first: u64) -> HistoryPage {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let page = page(player, Anchor::AfterSeq(0)).await;
        if page.first_available >= first {
            return page;
        }
        assert!(tokio::time::Instant::now() < deadline, "kept from {} on", page.first_available);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

pub async fn what_is_past_its_retention_is_gone_and_a_resume_says_so(stage: &Stage) {
    let alice = stage.player("alice").await;
    let settings = Some(RoomSettings { listed: true, retention_entries: KEPT, ..RoomSettings::default() });
    alice.create(CreateRoom { room: "garden".into(), settings, ..CreateRoom::default() }).await.unwrap();
    let epoch = alice.join("garden").await.unwrap().room.unwrap().epoch;
    alice.publish("garden", "old", "an ancient secret").await.unwrap();
    alice.react("garden", "r", 1, "👍").await.unwrap();
    alice.pin("garden", "p", 1).await.unwrap();
    let bob = stage.player("bob").await;
    bob.join("garden").await.unwrap();
    for n in 4..=30 {
        alice.publish("garden", &format!("a{n}"), &format!("message {n}")).await.unwrap();
    }
    let first = 30 - KEPT + 1;
    let all = cut_to(&alice, first).await;
    assert_eq!((all.first_available, all.head, all.more_before), (first, 30, false));
    assert_eq!(all.messages.iter().map(|message| message.seq).collect::<Vec<_>>(), (first..=30).collect::<Vec<_>>());
    // Gone is gone, over every door.
    assert!(ask!(alice, Search { room: "garden", query: "ancient" } => SearchResult).unwrap().messages.is_empty());
    assert!(ask!(alice, ListPins { room: "garden" } => PinList).unwrap().messages.is_empty());
    for refused in [
        alice.react("garden", "r2", 1, "👍").await.map(|_| ()),
        alice.edit("garden", "e", 1, "young").await.map(|_| ()),
        ask!(alice, ListRevisions { room: "garden", seq: 1u64 } => RevisionList).map(|_| ()),
    ] {
        assert_eq!(refused.unwrap_err().code(), ErrorCode::NotFound);
    }
    let before = page(&alice, Anchor::BeforeSeq(first + 2)).await;
    assert_eq!((before.messages.len(), before.more_before), (2, false));
    // What is left to read is counted as far as it is there.
    let unread = ask!(bob, ListUnread {} => UnreadList).unwrap().rooms;
    assert_eq!(u64::from(unread[0].unread), KEPT);

    // A client that was away for longer is told what it has missed for good, and one that was not is not.
    for (last_seq, expected) in [(5, None), (first - 2, None), (first - 1, Some(KEPT)), (25, Some(5)), (30, Some(0))] {
        let cursor = RoomCursor { room: "garden".into(), epoch, last_seq, delivery: 0 };
        let hello = Hello { token: stage.token("bob").await, rooms: vec![cursor], ..Hello::default() };
        let mut back = stage.try_hello(hello).await.unwrap();
        let outcome = back.hear(verdict).await;
        match (expected, outcome) {
            (None, Outcome::Gap(gap)) => {
                assert_eq!((gap.reason(), gap.first_available), (GapReason::HistoryExpired, first), "from {last_seq}");
            }
            (Some(missed), Outcome::Recovered(recovered)) => assert_eq!(recovered.messages, missed, "from {last_seq}"),
            (_, other) => panic!("from {last_seq}: {other:?}"),
        }
        back.connection.bye().await;
    }
    // Deliveries go on after the gap as after any verdict.
    let cursor = RoomCursor { room: "garden".into(), epoch, last_seq: 5, delivery: 0 };
    let hello = Hello { token: stage.token("bob").await, rooms: vec![cursor], ..Hello::default() };
    let mut back = stage.try_hello(hello).await.unwrap();
    back.hear(verdict).await;
    alice.publish("garden", "live", "live").await.unwrap();
    let heard = back.message().await;
    assert_eq!((heard.seq, heard.body.as_str()), (31, "live"));
}

fn verdict(event: &push::Event) -> Option<Outcome> {
    let push::Event::RoomResumed(resumed) = event else { return None };
    match resumed.result.clone().unwrap() {
        room_resumed::Result::Joined(joined) => Some(joined.verdict.unwrap().outcome.unwrap()),
        room_resumed::Result::Error(error) => panic!("{error:?}"),
    }
}
