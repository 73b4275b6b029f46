//! One table of stories, told over every carrier.

use std::time::Duration;

use veza_client::proto::v1::{
    Delivery, ErrorCode, Hello, History, LeaveRoom, ListRooms, Ping, RefreshToken, Repair, RoomCursor, Typing,
    Unsubscribe, client_frame::Command, history::Anchor, push, reply, room_resumed, verdict::Outcome,
};

use crate::carrier::{Carrier, Stage};
use crate::server::Process;

macro_rules! stories {
    ($($story:ident)*) => {
        stories!(@of webtransport, Carrier::WebTransport; $($story)*);
        stories!(@of quic, Carrier::Quic; $($story)*);
        stories!(@of websocket_proto, Carrier::WebSocketProto; $($story)*);
        stories!(@of websocket_json, Carrier::WebSocketJson; $($story)*);
    };
    (@of $carrier:ident, $value:expr; $($story:ident)*) => {
        mod $carrier {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $story() {
                    super::$story(&Stage::new(Process::start(), $value).await).await;
                }
            )*
        }
    };
}

stories! {
    two_people_talk_and_a_third_reads_it_later
    a_retry_is_stored_once_and_other_content_is_a_conflict
    pipelined_messages_keep_their_order
    history_pages_meet_without_a_hole_in_both_directions
    a_resume_brings_what_was_missed_in_order_and_once
    a_resume_from_another_log_says_so
    an_old_link_is_superseded_by_its_resumed_session
    typing_and_presence_reach_the_others
    fast_delivery_and_repair
    rooms_are_listed_in_pages_and_left
    unusual_text_comes_back_as_it_was
    a_token_is_refreshed_in_band
}

async fn two_people_talk_and_a_third_reads_it_later(stage: &Stage) {
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

async fn a_retry_is_stored_once_and_other_content_is_a_conflict(stage: &Stage) {
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

async fn pipelined_messages_keep_their_order(stage: &Stage) {
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

async fn history_pages_meet_without_a_hole_in_both_directions(stage: &Stage) {
    let alice = stage.player_in("alice", "garden").await;
    for n in 1..=35 {
        alice.publish("garden", &format!("c{n}"), &format!("m{n}")).await.unwrap();
    }
    let page = async |anchor| {
        let history = History { room: "garden".into(), anchor: Some(anchor), limit: 10 };
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

async fn a_resume_brings_what_was_missed_in_order_and_once(stage: &Stage) {
    let mut bob = stage.player_in("bob", "garden").await;
    let alice = stage.player("alice").await;
    let epoch = alice.join("garden").await.unwrap().room.unwrap().epoch;
    alice.publish("garden", "a1", "one").await.unwrap();
    assert_eq!(bob.message().await.seq, 1);
    let welcome = bob.connection.welcome().clone();
    drop(bob);
    for n in 2..=9 {
        alice.publish("garden", &format!("a{n}"), "more").await.unwrap();
    }
    let cursor = RoomCursor { room: "garden".into(), epoch, last_seq: 1, delivery: Delivery::Unspecified.into() };
    let token = stage.token("bob").await;
    let hello = Hello { token, resume_token: welcome.resume_token, rooms: vec![cursor], ..Hello::default() };
    let mut bob = stage.try_hello(hello).await.unwrap();
    assert!(bob.connection.welcome().resumed);
    assert_eq!(bob.connection.welcome().session_id, welcome.session_id);
    alice.publish("garden", "a10", "live").await.unwrap();
    let resumed = bob.hear(resumed).await;
    assert!(matches!(resumed, Ok(Outcome::Recovered(recovered)) if recovered.messages >= 8), "{resumed:?}");
    let heard = bob.messages(9).await;
    assert_eq!(heard.iter().map(|m| m.seq).collect::<Vec<_>>(), (2..=10).collect::<Vec<_>>());
}

async fn a_resume_from_another_log_says_so(stage: &Stage) {
    let alice = stage.player_in("alice", "garden").await;
    let epoch = alice.join("garden").await.unwrap().room.unwrap().epoch;
    alice.publish("garden", "a1", "one").await.unwrap();
    let cursor = |room: &str, epoch, last_seq| RoomCursor { room: room.into(), epoch, last_seq, delivery: 0 };
    for (cursor, expected) in [
        (cursor("garden", epoch + 1, 1), "EpochChanged"),
        (cursor("garden", epoch, 2), "CursorAhead"),
        (cursor("nowhere", epoch, 1), "NotFound"),
        (cursor("Not A Room", epoch, 1), "InvalidArgument"),
    ] {
        let token = stage.token("alice").await;
        let mut again = stage.try_hello(Hello { token, rooms: vec![cursor], ..Hello::default() }).await.unwrap();
        let said = match again.hear(resumed).await {
            Ok(Outcome::Gap(gap)) => format!("{:?}", gap.reason()),
            Ok(other) => format!("{other:?}"),
            Err(code) => format!("{code:?}"),
        };
        assert_eq!(said, expected);
    }
}

async fn an_old_link_is_superseded_by_its_resumed_session(stage: &Stage) {
    let old = stage.player("alice").await;
    let resume_token = old.connection.welcome().resume_token.clone();
    let token = stage.token("alice").await;
    let new = stage.try_hello(Hello { token, resume_token, ..Hello::default() }).await.unwrap();
    let ended = old.end().await;
    assert_eq!(ended.code.map(|code| code.code()), Some(4502), "{ended}");
    let reply::Result::Pong(_) = new.ask(Command::Ping(Ping::default())).await.unwrap() else { panic!() };
}

async fn typing_and_presence_reach_the_others(stage: &Stage) {
    let mut alice = stage.player_in("alice", "garden").await;
    let mut bob = stage.player("bob").await;
    bob.join("garden").await.unwrap();
    let joined = |event: &push::Event| match event {
        push::Event::PresenceChanged(changed) if changed.joined.contains(&"bob".to_owned()) => {
            Some(changed.present_total)
        }
        _ => None,
    };
    assert_eq!(alice.hear(joined).await, 2);
    let typing = |event: &push::Event| match event {
        push::Event::TypingChanged(typing) => Some((typing.user.clone(), typing.active)),
        _ => None,
    };
    bob.connection.tell(Command::Typing(Typing { room: "garden".into(), active: true })).await.unwrap();
    assert_eq!(alice.hear(typing).await, ("bob".to_owned(), true));
    let unsubscribe = Unsubscribe { room: "garden".into() };
    assert!(matches!(bob.ask(Command::Unsubscribe(unsubscribe)).await, Ok(reply::Result::Unsubscribed(_))));
    let left = |event: &push::Event| match event {
        push::Event::PresenceChanged(changed) if changed.left == ["bob"] => Some(changed.present_total),
        _ => None,
    };
    assert_eq!(alice.hear(left).await, 1);
    // Who has left hears nothing more of the room.
    alice.publish("garden", "a1", "still here?").await.unwrap();
    assert_eq!(alice.message().await.seq, 1);
    bob.ask(Command::Ping(Ping::default())).await.unwrap();
    let nothing = tokio::time::timeout(Duration::from_millis(200), bob.message()).await;
    assert!(nothing.is_err(), "{nothing:?}");
}

async fn fast_delivery_and_repair(stage: &Stage) {
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

async fn rooms_are_listed_in_pages_and_left(stage: &Stage) {
    let alice = stage.player("alice").await;
    for room in ["a", "b", "c"] {
        let create = veza_client::proto::v1::CreateRoom { room: room.into(), title: format!("Room {room}") };
        alice.ask(Command::CreateRoom(create)).await.unwrap();
    }
    let list = async |mine, after: &str| {
        let list = ListRooms { mine, after: after.into(), limit: 2 };
        match alice.ask(Command::ListRooms(list)).await.unwrap() {
            reply::Result::RoomList(list) => {
                (list.rooms.into_iter().map(|room| room.id).collect::<Vec<_>>(), list.next)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(list(true, "").await, (vec!["a".into(), "b".into()], "b".into()));
    assert_eq!(list(true, "b").await, (vec!["c".into()], String::new()));
    assert_eq!(list(false, "b").await, (vec!["c".into(), "lobby".into()], String::new()));
    alice.join("b").await.unwrap();
    let leave = LeaveRoom { room: "b".into() };
    assert!(matches!(alice.ask(Command::LeaveRoom(leave.clone())).await, Ok(reply::Result::RoomLeft(_))));
    assert_eq!(alice.ask(Command::LeaveRoom(leave)).await.unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(list(true, "").await, (vec!["a".into(), "c".into()], String::new()));
}

async fn unusual_text_comes_back_as_it_was(stage: &Stage) {
    let mut alice = stage.player_in("alice", "garden").await;
    let bodies = ["👩‍👩‍👧‍👦🇫🇷", "שלום — مرحبا", "nul\0inside", "\u{202e}reversed", "line\nbreak\ttab", "\"quotes\" & <tags>"];
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

async fn a_token_is_refreshed_in_band(stage: &Stage) {
    let alice = stage.player("alice").await;
    let fresh = RefreshToken { token: stage.token("alice").await };
    let accepted = alice.ask(Command::RefreshToken(fresh)).await.unwrap();
    assert!(matches!(accepted, reply::Result::TokenAccepted(accepted) if accepted.token_expires_ms > 0));
    let foreign = RefreshToken { token: stage.token("bob").await };
    let error = alice.ask(Command::RefreshToken(foreign)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unauthenticated);
}

fn resumed(event: &push::Event) -> Option<Result<Outcome, ErrorCode>> {
    let push::Event::RoomResumed(resumed) = event else { return None };
    Some(match resumed.result.clone().unwrap() {
        room_resumed::Result::Joined(joined) => Ok(joined.verdict.unwrap().outcome.unwrap()),
        room_resumed::Result::Error(error) => Err(error.code()),
    })
}
