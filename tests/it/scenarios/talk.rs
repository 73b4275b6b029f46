//! Messages: said, delivered, read.

use veza_client::proto::v1::{
    Delivery, ErrorCode, History, Repair, client_frame::Command, history::Anchor, push, reply,
};

use crate::carrier::Stage;

pub async fn two_people_talk_and_a_third_reads_it_later(stage: &Stage) {
    let mut alice = stage.player_in("alice", "garden").await;
    let mut bob = stage.player("bob").await;
    assert_eq!(alice.connection.welcome().transport, stage.carrier.label());
    let joined = bob.join("garden").await.unwrap();
    assert_eq!(joined.present, ["alice", "bob"]);

    let first = alice.publish("garden", "a1", "hello bob").await.unwrap();
    let second = bob.publish("garden", "b1", "hello alice").await.unwrap();
    assert_eq!((first.seq, second.seq), (1, 2));
    for player in [&mut alice, &mut bob] {
        let heard = player.messages(2).await;
        let told: Vec<_> = heard.iter().map(|m| (m.seq, m.author.as_str(), m.body.as_str())).collect();
        assert_eq!(told, [(1, "alice", "hello bob"), (2, "bob", "hello alice")]);
    }

    let carol = stage.player("carol").await;
    let joined = carol.join("garden").await.unwrap();
    assert_eq!(joined.room.unwrap().head, 2);
    let history = History { room: "garden".into(), ..History::default() };
    let reply::Result::HistoryPage(page) = carol.ask(Command::History(history)).await.unwrap() else { panic!() };
    assert_eq!(page.messages.iter().map(|m| m.seq).collect::<Vec<_>>(), [1, 2]);
    assert!(!page.more_before && !page.more_after);
}

pub async fn a_retry_is_stored_once_and_other_content_is_a_conflict(stage: &Stage) {
    let mut alice = stage.player_in("alice", "garden").await;
    let first = alice.publish("garden", "same", "hello").await.unwrap();
    let again = alice.publish("garden", "same", "hello").await.unwrap();
    assert_eq!((first.seq, first.duplicate), (1, false));
    assert_eq!((again.seq, again.at_ms, again.duplicate), (1, first.at_ms, true));
    let conflict = alice.publish("garden", "same", "something else").await.unwrap_err();
    assert_eq!(conflict.code(), ErrorCode::CmidConflict);
    // The same id of another author is another message.
    let bob = stage.player("bob").await;
    bob.join("garden").await.unwrap();
    assert_eq!(bob.publish("garden", "same", "hello").await.unwrap().seq, 2);
    let heard = alice.messages(2).await;
    assert_eq!(heard.iter().map(|m| m.seq).collect::<Vec<_>>(), [1, 2]);
}

pub async fn pipelined_messages_keep_their_order(stage: &Stage) {
    // As many as the client's queue takes at once, so that they leave in the order they were asked.
    let mut alice = stage.player_in("alice", "garden").await;
    let (cmids, bodies): (Vec<_>, Vec<_>) = (0..16).map(|n| (format!("c{n}"), format!("m{n}"))).unzip();
    let publishes = cmids.iter().zip(&bodies).map(|(cmid, body)| alice.publish("garden", cmid, body));
    let published = futures_util::future::join_all(publishes).await;
    let seqs: Vec<_> = published.into_iter().map(|published| published.unwrap().seq).collect();
    assert_eq!(seqs, (1..=16).collect::<Vec<_>>());
    let heard = alice.messages(16).await;
    assert_eq!(heard.into_iter().map(|m| m.body).collect::<Vec<_>>(), bodies);
}

pub async fn history_pages_meet_without_a_hole_in_both_directions(stage: &Stage) {
    let alice = stage.player_in("alice", "garden").await;
    for n in 1..=35 {
        alice.publish("garden", &format!("c{n}"), &format!("m{n}")).await.unwrap();
    }
    let page = async |anchor| {
        let history = History { room: "garden".into(), anchor: Some(anchor), limit: 10, ..History::default() };
        match alice.ask(Command::History(history)).await.unwrap() {
            reply::Result::HistoryPage(page) => page,
            other => panic!("{other:?}"),
        }
    };
    let (mut before, mut backwards) = (0, Vec::new());
    loop {
        let page = page(Anchor::BeforeSeq(before)).await;
        backwards.splice(0..0, page.messages.iter().map(|m| m.seq));
        before = backwards[0];
        if !page.more_before {
            break;
        }
    }
    let (mut after, mut forwards) = (0, Vec::new());
    loop {
        let page = page(Anchor::AfterSeq(after)).await;
        forwards.extend(page.messages.iter().map(|m| m.seq));
        after = *forwards.last().unwrap();
        if !page.more_after {
            break;
        }
    }
    assert_eq!(backwards, (1..=35).collect::<Vec<_>>());
    assert_eq!(forwards, backwards);
}

pub async fn fast_delivery_and_repair(stage: &Stage) {
    let alice = stage.player_in("alice", "garden").await;
    let mut bob = stage.player("bob").await;
    let joined = bob.join_from("garden", None, Delivery::Fast).await.unwrap();
    let epoch = joined.room.unwrap().epoch;
    for n in 1..=5 {
        alice.publish("garden", &format!("a{n}"), "quick").await.unwrap();
    }
    let mut heard: Vec<_> = bob.messages(5).await.into_iter().map(|m| m.seq).collect();
    heard.sort_unstable();
    assert_eq!(heard, [1, 2, 3, 4, 5]);
    if stage.carrier.has_datagrams() {
        let head = |event: &push::Event| match event {
            push::Event::RoomHead(head) if head.head == 5 => Some(head.epoch),
            _ => None,
        };
        assert_eq!(bob.hear(head).await, epoch, "the head follows on the stream");
    }
    let repair = Repair { room: "garden".into(), epoch, after_seq: 1, up_to_seq: 3 };
    let reply::Result::Repaired(repaired) = bob.ask(Command::Repair(repair)).await.unwrap() else { panic!() };
    assert_eq!(repaired.messages.iter().map(|m| m.seq).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(repaired.head, 5);
    // One body too large for a datagram comes all the same.
    let long = "x".repeat(5_000);
    alice.publish("garden", "long", &long).await.unwrap();
    assert_eq!(bob.message().await.body, long);
}

pub async fn unusual_text_comes_back_as_it_was(stage: &Stage) {
    let mut alice = stage.player_in("alice", "garden").await;
    let bodies = ["👩‍👩‍👧‍👦🇫🇷", "שלום — مرحبا", "\u{202e}reversed", "line\nbreak\ttab", "\"quotes\" & <tags>"];
    for (at, body) in bodies.iter().enumerate() {
        alice.publish("garden", &format!("c{at}"), body).await.unwrap();
        assert_eq!(alice.message().await.body, *body);
    }
    // A body at its limit, and one byte past it.
    let limit = alice.connection.welcome().limits.unwrap().body_bytes_max as usize;
    alice.publish("garden", "full", &"x".repeat(limit)).await.unwrap();
    assert_eq!(alice.message().await.body.len(), limit);
    let error = alice.publish("garden", "over", &"x".repeat(limit + 1)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TooLarge);
}
