//! Servers die, and others take over.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use tokio::sync::watch;

use super::super::send;
use super::*;
use crate::postgres;
use crate::server::Process;

const ROOMS: [&str; 3] = ["one", "two", "three"];
/// Messages that somebody says in each room.
const EACH: u64 = 80;
const DEATHS: usize = 4;

/// Somebody who says everything once, however often the server dies.
async fn talk(room: &str, mut backend: watch::Receiver<Backend>) {
    for nth in 1..=EACH {
        let key = format!("{room}-{nth}");
        loop {
            let now = backend.borrow_and_update().clone();
            match now.messages().send(send(room, "alice", &key, "hello")).await {
                Ok(_) => break,
                Err(_dead) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    }
}

/// Whether every message was taken: each room's in order and without a hole, however often some came again.
fn whole(heard: &[Heard]) -> bool {
    let (mut last, mut names) = (BTreeMap::<String, u64>::new(), BTreeSet::new());
    for delivery in heard.iter().filter(|delivery| delivery.is_taken && names.insert(delivery.id.clone())) {
        let event = delivery.event();
        let Some(Kind::Message(stored)) = event.kind else { panic!("only messages are wanted") };
        let last = last.entry(event.room).or_default();
        assert_eq!(stored.message.unwrap().seq, *last + 1, "in order, and nothing is missing");
        *last += 1;
    }
    ROOMS.iter().all(|room| last.get(*room) == Some(&EACH))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_loses_nothing() {
    // Every seventh fails once.
    let fails = |nth: usize| nth % 7 == 3;
    let receiver = Receiver::start(move |_, nth| if fails(nth) { Reply::Status(500) } else { Reply::Taken }).await;
    let mut process = at_home().settled().run();
    let _kept = process.keep_data();
    let mut backend = Backend::of(&process).await;
    for room in ROOMS {
        backend.room(room, "alice", &[]).await;
    }
    let made = backend.of_messages(&receiver.url("/")).await;
    let (tell, told) = watch::channel(backend.clone());
    let talking: Vec<_> = ROOMS.iter().map(|room| tokio::spawn(talk(room, told.clone()))).collect();
    for _death in 0..DEATHS {
        let count = receiver.count();
        // It dies while something waits for its next attempt, and something else was taken a moment ago.
        receiver.until(|heard| heard.len() > count + 12 && fails(heard.len() - 1)).await;
        process.kill();
        process = process.again().talkative().variable("WEBHOOKS_ALLOW_PRIVATE", true).run();
        backend = Backend::of(&process).await;
        tell.send(backend.clone()).unwrap();
    }
    join_all(talking).await;
    receiver.answer(|_, _| Reply::Taken);
    receiver.until(whole).await;
    let stands = backend.until(&made.id, |webhook| webhook.position == webhook.head).await;
    assert_eq!(stands.dead_letters, 0);
}

/// A dead letter, and an attempt that waits, are there after a crash.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_put_aside_outlives_a_crash() {
    let receiver = Receiver::start(|_, _| Reply::Status(500)).await;
    let mut process = impatient().settled().run();
    let _kept = process.keep_data();
    let backend = Backend::of(&process).await;
    backend.room("lounge", "alice", &[]).await;
    let made = backend.of_messages(&receiver.url("/")).await;
    backend.say("lounge", "alice", "k1", "hello").await;
    backend.until(&made.id, |webhook| webhook.dead_letters == 1).await;
    process.kill();
    let mut process = process.again().variable("WEBHOOKS_ALLOW_PRIVATE", true).run();
    let backend = Backend::of(&process).await;
    backend.say("lounge", "alice", "k2", "again").await;
    let failing = backend.until(&made.id, |webhook| webhook.failures >= 2).await;
    assert_eq!(failing.dead_letters, 1, "that one is still tried");
    process.kill();
    let process = process.again().variable("WEBHOOKS_ALLOW_PRIVATE", true).run();
    let backend = Backend::of(&process).await;
    let stands = backend.stands(&made.id).await;
    assert_eq!((stands.dead_letters, stands.last_outcome.as_str()), (1, "status 500"));
    assert!(stands.failures >= failing.failures && stands.position < stands.head);
    receiver.answer(|_, _| Reply::Taken);
    backend.replay(&made.id, replay_request::What::DeadLetters(true), "").await.unwrap();
    let done = backend.until(&made.id, |webhook| webhook.dead_letters == 0 && webhook.position == webhook.head).await;
    assert_eq!(done.failures, 0);
}

/// A receiver that never answers does not keep a server from stopping, and what it was sent comes again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_waits_for_no_answer_that_does_not_come() {
    let receiver = Receiver::start(|_, nth| if nth == 0 { Reply::Never } else { Reply::Taken }).await;
    let mut process = at_home().settled().run();
    let kept = process.keep_data();
    let again = process.again().variable("WEBHOOKS_ALLOW_PRIVATE", true);
    let backend = Backend::of(&process).await;
    backend.room("lounge", "alice", &[]).await;
    let made = backend.of_messages(&receiver.url("/")).await;
    backend.say("lounge", "alice", "a", "a").await;
    receiver.heard(1).await;
    let log = process.said().join("\n");
    assert!(log.contains("stopped") && !log.contains("not everything ended in time"), "{log}");
    let process = again.run();
    let backend = Backend::of(&process).await;
    let heard = receiver.heard(2).await;
    assert_eq!((said(&heard), heard[0].id == heard[1].id), (vec!["a".to_owned(), "a".to_owned()], true));
    backend.until(&made.id, |webhook| webhook.position == webhook.head).await;
    drop(kept);
}

/// Of two servers on one database one delivers; when it stops or dies the other one goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_one_delivers_and_the_other_takes_over() {
    let Some(cluster) = postgres::cluster() else { return };
    let database = cluster.database();
    let node = || -> Process { at_home().variable("DATABASE_URL", &database).run() };
    let receiver = Receiver::start(|_, _| Reply::Taken).await;
    let (mut first, second) = (node(), node());
    let (one, other) = (Backend::of(&first).await, Backend::of(&second).await);
    one.room("lounge", "alice", &[]).await;
    let made = one.of_messages(&receiver.url("/")).await;
    for nth in 0..20 {
        let backend = if nth % 2 == 0 { &one } else { &other };
        backend.say("lounge", "alice", &format!("k{nth}"), "hello").await;
    }
    let heard = receiver.heard(20).await;
    one.until(&made.id, |webhook| webhook.position == webhook.head).await;
    let seqs = |heard: &[Heard]| -> Vec<u64> {
        let seq = |heard: &Heard| match heard.event().kind {
            Some(Kind::Message(stored)) => stored.message.unwrap().seq,
            other => panic!("{other:?}"),
        };
        heard.iter().map(seq).collect()
    };
    assert_eq!(seqs(&heard), (1..=20).collect::<Vec<_>>(), "each once, whoever has written it");
    // It stops, and gives up what it has.
    assert_eq!(first.stop(), Some(0));
    other.say("lounge", "alice", "k21", "hello").await;
    assert_eq!(seqs(&receiver.heard(21).await[20..]), [21]);
    let third = node();
    let last = Backend::of(&third).await;
    // It dies, and is taken over when it has shown no life for a while.
    drop(second);
    last.say("lounge", "alice", "k22", "hello").await;
    let heard = receiver.until(|heard| heard.iter().any(|heard| seqs(std::slice::from_ref(heard)) == [22])).await;
    assert_eq!(seqs(&heard[20..])[0], 21);
}
