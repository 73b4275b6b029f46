//! A kick: out of the room at one place of its log, on every carrier, while much is being said.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures_util::FutureExt;
use veza_client::proto::gateway::v1::KickRequest;
use veza_client::proto::v1::history::Anchor;
use veza_client::proto::v1::{CreateRoom, Message, Sanction, SystemKind, View, message, push};

use super::platform::Backend;
use crate::carrier::{Carrier, Player, SOON, Stage, ask};
use crate::gateway;

const ROOM: &str = "stage";

/// Says something without a pause, and counts it.
async fn talk(player: &Player, said: &AtomicUsize) {
    for n in 0_u64.. {
        player.publish(ROOM, &format!("c{n}"), "hello").await.unwrap();
        said.fetch_add(1, Ordering::Relaxed);
    }
}

/// What of the room is heard until its end is told.
async fn heard_until_evicted(bob: &mut Player) -> Vec<u64> {
    let mut heard = Vec::new();
    loop {
        match tokio::time::timeout(SOON, bob.pushes.next())
            .await
            .expect("nothing ends in time")
            .expect("the link holds")
        {
            push::Event::Message(delivered) => heard.push(delivered.message.unwrap().seq),
            push::Event::RoomEvicted(evicted) => {
                assert_eq!(evicted.sanction(), Sanction::Kick);
                return heard;
            }
            _ => {}
        }
    }
}

/// The number of the note that tells of the kick.
async fn kicked_at(alice: &Player) -> u64 {
    let is_kick = |message: &&Message| matches!(&message.change, Some(message::Change::System(note)) if note.kind() == SystemKind::Kicked);
    let mut after = 0;
    loop {
        let (anchor, view) = (Anchor::AfterSeq(after), View::Everything);
        let page =
            ask!(alice, History { room: ROOM, anchor: anchor, view: view, limit: 100u32 } => HistoryPage).unwrap();
        if let Some(kick) = page.messages.iter().find(is_kick) {
            return kick.seq;
        }
        after = page.messages.last().expect("the kick is in the log").seq;
    }
}

/// Alice and carol talk, dave listens. Bob is kicked out of the midst of it: what was said before the kick he may have heard,
/// nothing of what was said after it.
async fn ends(stage: &Stage) {
    let backend = gateway::Backend::of(&stage.process).await;
    let alice = stage.player("alice").await;
    alice.create(CreateRoom { room: ROOM.into(), ..CreateRoom::default() }).await.unwrap();
    let [carol, mut dave, mut bob] =
        [stage.player("carol").await, stage.player("dave").await, stage.player("bob").await];
    for player in [&alice, &carol, &dave, &bob] {
        player.join(ROOM).await.unwrap();
    }
    let said = AtomicUsize::new(0);
    let acting = async {
        while said.load(Ordering::Relaxed) < 50 {
            tokio::task::yield_now().await;
        }
        let kick = KickRequest { room: ROOM.into(), user: "bob".into(), ..KickRequest::default() };
        let called = Instant::now();
        let call = async {
            backend.moderation().kick(kick).await.unwrap();
            called.elapsed()
        };
        let hearing = async {
            let heard = heard_until_evicted(&mut bob).await;
            (heard, called.elapsed())
        };
        let (to_answer, (heard, to_end)) = tokio::join!(call, hearing);
        eprintln!("Kick on {:?}: answered after {to_answer:?}, the room ended after {to_end:?}", stage.carrier);
        let at = kicked_at(&alice).await;
        assert!(!heard.is_empty() && heard.iter().all(|seq| *seq < at), "{:?}: {at} among {heard:?}", stage.carrier);
        // Others go on, and his session does.
        while dave.message().await.seq <= at {}
        let until = said.load(Ordering::Relaxed) + 50;
        while said.load(Ordering::Relaxed) < until {
            tokio::task::yield_now().await;
        }
        stage.player("bob").await.join(ROOM).await.unwrap();
        ask!(bob, ListUnread {} => UnreadList).unwrap();
        // Another lane may bring what was said before, and nothing else.
        while let Some(Ok(event)) = bob.pushes.next().now_or_never() {
            if let push::Event::Message(delivered) = event {
                assert!(delivered.message.as_ref().unwrap().seq < at, "{:?}: {at}, then {delivered:?}", stage.carrier);
            }
        }
    };
    tokio::select! {
        () = talk(&alice, &said) => unreachable!("she talks for ever"),
        () = talk(&carol, &said) => unreachable!("she does, too"),
        () = acting => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_kicked_hears_nothing_that_was_said_afterwards() {
    for carrier in Carrier::ALL {
        ends(&Stage::new(Backend::start().run(), carrier).await).await;
    }
}
