//! Sessions that come back.

use veza_client::proto::v1::{
    Delivery, ErrorCode, Hello, Ping, RefreshToken, RoomCursor, Sanction, client_frame::Command, push, reply,
    room_resumed, verdict::Outcome,
};

use crate::carrier::{Player, Stage, ask};

pub async fn a_resume_brings_what_was_missed_in_order_and_once(stage: &Stage) {
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

pub async fn a_resume_from_another_log_says_so(stage: &Stage) {
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

pub async fn an_old_link_is_superseded_by_its_resumed_session(stage: &Stage) {
    let old = stage.player("alice").await;
    let resume_token = old.connection.welcome().resume_token.clone();
    let token = stage.token("alice").await;
    let new = stage.try_hello(Hello { token, resume_token, ..Hello::default() }).await.unwrap();
    let ended = old.end().await;
    assert_eq!(ended.code.map(|code| code.code()), Some(4502), "{ended}");
    let reply::Result::Pong(_) = new.ask(Command::Ping(Ping::default())).await.unwrap() else { panic!() };
}

pub async fn a_token_is_refreshed_in_band(stage: &Stage) {
    let alice = stage.player("alice").await;
    let fresh = RefreshToken { token: stage.token("alice").await };
    let accepted = alice.ask(Command::RefreshToken(fresh)).await.unwrap();
    assert!(matches!(accepted, reply::Result::TokenAccepted(accepted) if accepted.token_expires_ms > 0));
    let foreign = RefreshToken { token: stage.token("bob").await };
    let error = alice.ask(Command::RefreshToken(foreign)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unauthenticated);
}

/// Whoever is banned while their log is replayed hears a beginning of it, without a hole, and nothing after they are out.
pub async fn a_ban_during_a_resume_ends_it(stage: &Stage) {
    const SAID: u64 = 1_500;
    let [mut alice, mut carol] = stage.in_room("garden", ["alice", "carol"]).await;
    let bob = stage.player("bob").await;
    let epoch = bob.join("garden").await.unwrap().room.unwrap().epoch;
    drop(bob);
    let body = "x".repeat(1_000);
    for from in (1..=SAID).step_by(15) {
        let cmids: Vec<_> = (from..from + 15).map(|n| format!("a{n}")).collect();
        let said = cmids.iter().map(|cmid| alice.publish("garden", cmid, &body));
        assert!(futures_util::future::join_all(said).await.iter().all(Result::is_ok));
        // Who does not read is soon told nothing more.
        alice.messages(15).await;
        carol.messages(15).await;
    }
    let cursor = RoomCursor { room: "garden".into(), epoch, last_seq: 0, delivery: 0 };
    let hello = Hello { token: stage.token("bob").await, rooms: vec![cursor.clone()], ..Hello::default() };
    let mut bob = stage.try_hello(hello).await.unwrap();
    assert_eq!(bob.message().await.seq, 1, "the replay has begun");
    let ban =
        ask!(alice, Moderate { room: "garden", user: "bob", sanction: Sanction::Ban, reason: "spam" } => MemberUpdated);
    ban.unwrap();
    let evicted = bob.evicted().await;
    assert_eq!((evicted.sanction(), evicted.reason.as_str()), (Sanction::Ban, "spam"));
    let after = alice.publish("garden", "after", "without bob").await.unwrap();
    // The note of the ban, and what was said after it.
    assert_eq!(carol.messages(2).await[1].seq, after.seq);

    // What bob held before the end is his; it has no hole, and the room goes on without him.
    let mut last = 1;
    while let Some(seq) = next_seq(&mut bob).await {
        assert_eq!(seq, last + 1);
        last = seq;
    }
    assert!(last <= SAID, "{last} was said after the ban");
    let refused = bob.publish("garden", "b1", "let me in").await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NotFound);
    // The next link is told at once.
    let hello = Hello { token: stage.token("bob").await, rooms: vec![cursor], ..Hello::default() };
    let mut back = stage.try_hello(hello).await.unwrap();
    assert!(matches!(back.hear(resumed).await, Err(ErrorCode::Banned | ErrorCode::NotFound)));
    // Nothing was lost for the others.
    assert_eq!(carol.join("garden").await.unwrap().room.unwrap().head, after.seq);
}

/// The next entry that is on its way, if there is one.
async fn next_seq(player: &mut Player) -> Option<u64> {
    let next = tokio::time::timeout(std::time::Duration::from_millis(300), player.message()).await;
    next.ok().map(|message| message.seq)
}

fn resumed(event: &push::Event) -> Option<Result<Outcome, ErrorCode>> {
    let push::Event::RoomResumed(resumed) = event else { return None };
    Some(match resumed.result.clone().unwrap() {
        room_resumed::Result::Joined(joined) => Ok(joined.verdict.unwrap().outcome.unwrap()),
        room_resumed::Result::Error(error) => Err(error.code()),
    })
}
