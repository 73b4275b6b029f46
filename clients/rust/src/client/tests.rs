use std::time::Duration;

use veza_proto::v1::{
    ErrorCode, Message, MessageDelivered, PresenceState, Publish, Reconnect, RoomEvicted, RoomHead, Sanction,
    message::Change, push,
};
use veza_proto::{CloseCode, Format};

use super::*;
use crate::event::State;
use crate::peer::{Peer, ROOM, Whim};

struct Told {
    client: Client,
    events: Events,
}

/// A client of the peer that has joined its room.
async fn joined(peer: &Peer) -> Told {
    let told = started(peer, TokenSource::fixed("token"));
    told.client.join(ROOM, Delivery::Unspecified).await.unwrap();
    told
}

fn started(peer: &Peer, token: TokenSource) -> Told {
    let config =
        Config { options: Peer::options(Format::Proto), ..Config::new(Peer::endpoints(), peer.target.clone(), token) };
    let (client, events) = Client::start(config);
    Told { client, events }
}

impl Told {
    async fn event(&mut self) -> Event {
        let next = tokio::time::timeout(Duration::from_secs(10), self.events.recv());
        next.await.expect("an event within ten seconds").expect("the client lives")
    }

    /// The next messages' bodies; other events are passed over, a gap is not.
    async fn bodies(&mut self, count: usize) -> Vec<String> {
        let mut bodies = Vec::new();
        while bodies.len() < count {
            match self.event().await {
                Event::Message(message) => bodies.push(message.body),
                Event::Gap(hole) => panic!("{hole:?}"),
                Event::State(_)
                | Event::Resumed { .. }
                | Event::Left { .. }
                | Event::Evicted(_)
                | Event::RoomChanged(_)
                | Event::Receipts(_)
                | Event::Presence(_)
                | Event::Typing(_) => {}
            }
        }
        bodies
    }

    async fn closed(&mut self) -> Option<CloseCode> {
        loop {
            if let Event::State(State::Closed { code, .. }) = self.event().await {
                return code;
            }
        }
    }
}

async fn until(mut reached: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("it came so far within ten seconds");
}

#[tokio::test]
async fn what_is_published_comes_back_in_order() {
    let peer = Peer::start().await;
    let mut told = joined(&peer).await;
    let published = told.client.publish(ROOM, "one").await.unwrap();
    assert_eq!((published.seq, published.duplicate), (1, false));
    peer.say("two");
    told.client.publish(ROOM, "three").await.unwrap();
    assert_eq!(told.bodies(3).await, ["one", "two", "three"]);
    assert!(told.client.ping().await.is_ok());
    told.client.clone().close().await;
    assert_eq!(told.closed().await, None);
    assert_eq!(told.client.publish(ROOM, "late").await, Err(Error::Closed));
}

#[tokio::test]
async fn a_lost_acknowledgement_is_asked_for_again_and_stored_once() {
    let peer = Peer::start().await;
    let mut told = joined(&peer).await;
    peer.whim(Whim::LoseTheAcknowledgement);
    let published = told.client.publish(ROOM, "once").await.unwrap();
    assert_eq!((published.seq, published.duplicate), (1, true));
    assert_eq!(peer.bodies(), ["once"]);
    assert_eq!(told.bodies(1).await, ["once"], "the resume brings the delivery that the lost link did not");
}

#[tokio::test]
async fn what_was_said_while_the_link_was_down_is_recovered_in_order() {
    let peer = Peer::start().await;
    let mut told = joined(&peer).await;
    peer.say("before");
    assert_eq!(told.bodies(1).await, ["before"]);
    peer.drop_links();
    peer.say_unheard("meanwhile");
    let _stored = told.client.publish(ROOM, "after").await.unwrap();
    assert_eq!(told.bodies(2).await, ["meanwhile", "after"]);
    let hellos = peer.hellos();
    assert_eq!(hellos[1].resume_token, "resume");
    assert_eq!(hellos[1].rooms[0].last_seq, 1);
}

#[tokio::test]
async fn a_publish_waits_for_the_verdict_of_its_room() {
    let peer = Peer::start().await;
    let mut told = joined(&peer).await;
    peer.whim(Whim::LoseTheAcknowledgement);
    peer.whim(Whim::ResumeSlowly(100));
    let (first, second) = tokio::join!(told.client.publish(ROOM, "one"), told.client.publish(ROOM, "two"));
    assert!(first.unwrap().duplicate);
    second.unwrap();
    assert_eq!(told.bodies(2).await, ["one", "two"]);
}

#[tokio::test]
async fn a_rate_limit_is_waited_out() {
    let peer = Peer::start().await;
    let mut told = joined(&peer).await;
    peer.whim(Whim::RateLimit(120));
    let asked = std::time::Instant::now();
    told.client.publish(ROOM, "patient").await.unwrap();
    assert!(asked.elapsed() >= Duration::from_millis(120));
    assert_eq!(told.bodies(1).await, ["patient"]);
    assert_eq!(peer.bodies(), ["patient"]);
}

#[tokio::test]
async fn a_definite_refusal_is_told_and_not_repeated() {
    let peer = Peer::start().await;
    let told = joined(&peer).await;
    let refused = told.client.publish(ROOM, "").await.unwrap_err();
    assert!(refused.is(ErrorCode::InvalidArgument));
    let refused = told.client.join("elsewhere", Delivery::Unspecified).await.unwrap_err();
    assert!(refused.is(ErrorCode::NotFound));
}

#[tokio::test]
async fn a_lost_delivery_is_repaired_when_the_head_tells() {
    let peer = Peer::start().await;
    let mut told = joined(&peer).await;
    peer.whim(Whim::LoseTheDelivery);
    let published = told.client.publish(ROOM, "quiet").await.unwrap();
    peer.push(push::Event::RoomHead(RoomHead { room: ROOM.into(), epoch: published.epoch, head: published.seq }));
    assert_eq!(told.bodies(1).await, ["quiet"]);
}

#[tokio::test]
async fn a_delivery_that_comes_twice_is_shown_once() {
    let peer = Peer::start().await;
    let mut told = joined(&peer).await;
    let published = told.client.publish(ROOM, "one").await.unwrap();
    let again =
        Message { room: ROOM.into(), epoch: published.epoch, seq: 1, body: "again".into(), ..Message::default() };
    peer.push(push::Event::Message(MessageDelivered { message: Some(again) }));
    peer.say("two");
    assert_eq!(told.bodies(2).await, ["one", "two"]);
}

#[tokio::test]
async fn an_announced_drain_moves_the_session_at_its_time() {
    let peer = Peer::start().await;
    let mut told = joined(&peer).await;
    peer.push(push::Event::Reconnect(Reconnect { after_ms: 80, reason: "drain".into() }));
    let started = std::time::Instant::now();
    until(|| peer.hellos().len() == 2).await;
    assert!(started.elapsed() >= Duration::from_millis(80));
    peer.say_unheard("over there");
    told.client.publish(ROOM, "hello").await.unwrap();
    assert_eq!(told.bodies(2).await, ["over there", "hello"]);
}

#[tokio::test]
async fn close_codes_decide_about_coming_back() {
    let peer = Peer::start().await;
    peer.whim(Whim::CloseAfterWelcome(CloseCode::Draining));
    peer.whim(Whim::CloseAfterWelcome(CloseCode::Revoked));
    let mut told = started(&peer, TokenSource::fixed("token"));
    assert_eq!(told.closed().await, Some(CloseCode::Revoked));
    assert_eq!(peer.hellos().len(), 2);
}

#[tokio::test]
async fn a_refused_token_is_not_tried_twice() {
    let peer = Peer::start().await;
    peer.whim(Whim::RefuseHello(ErrorCode::Unauthenticated));
    let mut told = started(&peer, TokenSource::fixed("the only one"));
    assert_eq!(told.closed().await, Some(CloseCode::Unauthenticated));
    assert_eq!(peer.hellos().len(), 1);
}

#[tokio::test]
async fn another_token_is_tried() {
    let peer = Peer::start().await;
    peer.whim(Whim::RefuseHello(ErrorCode::Unauthenticated));
    let count = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let source = TokenSource::new(move || {
        let next = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        std::future::ready(Ok(format!("token {next}")))
    });
    let told = started(&peer, source);
    told.client.join(ROOM, Delivery::Unspecified).await.unwrap();
    let tokens: Vec<_> = peer.hellos().into_iter().map(|hello| hello.token).collect();
    assert_eq!(tokens, ["token 0", "token 1"]);
}

#[tokio::test]
async fn changes_go_out_again_under_their_ids_and_in_their_order() {
    let peer = Peer::start().await;
    let mut told = joined(&peer).await;
    peer.whim(Whim::LoseTheAcknowledgement);
    let (said, edited, deleted) = tokio::join!(
        told.client.publish(ROOM, "helo"),
        told.client.edit(ROOM, 1, "hello"),
        told.client.delete(ROOM, 1, "")
    );
    assert!(said.unwrap().duplicate, "it was stored before the link was lost");
    assert_eq!((edited.unwrap().seq, deleted.unwrap().seq), (2, 3));
    let kinds: Vec<_> = peer.log().iter().map(|entry| entry.change.clone()).collect();
    assert!(matches!(kinds[..], [None, Some(Change::Edit(_)), Some(Change::Deletion(_))]), "{kinds:?}");
    assert_eq!(told.bodies(3).await, ["helo", "", ""], "the log tells all of it, once");
}

#[tokio::test]
async fn slow_mode_is_the_persons_to_wait_out() {
    let peer = Peer::start().await;
    let told = joined(&peer).await;
    peer.whim(Whim::SlowMode(3_600_000));
    let refused = told.client.publish(ROOM, "too soon").await.unwrap_err();
    assert!(refused.is(ErrorCode::SlowMode));
    told.client.publish(ROOM, "elsewhere it goes on").await.unwrap();
    assert_eq!(peer.bodies(), ["elsewhere it goes on"]);
}

#[tokio::test]
async fn a_status_is_said_again_on_every_link_until_it_is_taken_back() {
    let peer = Peer::start().await;
    let told = joined(&peer).await;
    let texts = || peer.statuses().into_iter().map(|said| said.text).collect::<Vec<_>>();
    told.client.set_presence(PresenceState::Away, "lunch").await.unwrap();
    peer.drop_links();
    until(|| texts() == ["lunch", "lunch"]).await;
    told.client.set_presence(PresenceState::Online, "").await.unwrap();
    peer.drop_links();
    until(|| peer.hellos().len() == 3).await;
    told.client.set_presence(PresenceState::DoNotDisturb, "busy").await.unwrap();
    assert_eq!(texts(), ["lunch", "lunch", "", "busy"]);
    let refused = told.client.set_presence(PresenceState::Away, "too long").await.unwrap_err();
    assert!(refused.is(ErrorCode::InvalidArgument));
}

#[tokio::test]
async fn an_eviction_ends_the_rooms_log() {
    let peer = Peer::start().await;
    let mut told = joined(&peer).await;
    peer.say("before");
    assert_eq!(told.bodies(1).await, ["before"]);
    let evicted = RoomEvicted { room: ROOM.into(), sanction: Sanction::Ban.into(), reason: "spam".into(), until_ms: 0 };
    peer.push(push::Event::RoomEvicted(evicted.clone()));
    loop {
        if let Event::Evicted(told) = told.event().await {
            assert_eq!(told, evicted);
            break;
        }
    }
    peer.say("not for this one");
    peer.drop_links();
    until(|| peer.hellos().len() == 2).await;
    assert_eq!(peer.hellos()[1].rooms, [], "the room is not asked for on the next link");
    // Who is let in again begins a new log at its end.
    told.client.join(ROOM, Delivery::Unspecified).await.unwrap();
    peer.say("welcome back");
    assert_eq!(told.bodies(1).await, ["welcome back"]);
}

#[tokio::test]
async fn a_whole_publish_keeps_what_it_says() {
    let peer = Peer::start().await;
    let told = joined(&peer).await;
    let publish = Publish { room: ROOM.into(), body: "named".into(), cmid: "mine".into(), ..Publish::default() };
    assert_eq!(told.client.send(publish).await.unwrap().cmid, "mine");
    assert_eq!(told.client.publish(ROOM, "nameless").await.unwrap().cmid.len(), 32);
}
