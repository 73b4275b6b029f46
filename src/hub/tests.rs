//! Hubs on a store in memory: what happens between nodes, and when sessions end at awkward moments.

use std::task::Poll;
use std::time::Duration;

use super::mailbox::Letter;
use super::*;
use crate::bus::MemoryBus;
use crate::store::{MemoryStore, Writer};
use veza_engine::ledger::{Actor, Content, OnceKey};
use veza_proto::Cmid;
use veza_proto::v1::Sanction;

struct Nodes {
    store: Arc<dyn Store>,
    bus: Arc<MemoryBus>,
    tasks: Tasks,
    next: u64,
}

impl Nodes {
    fn new() -> Self {
        Self { store: Arc::new(MemoryStore::new()), bus: Arc::new(MemoryBus::new()), tasks: Tasks::new(), next: 0 }
    }

    fn hub(&self) -> Hub {
        let (writer, handle) = Writer::new(Arc::clone(&self.store), Duration::from_secs(5));
        self.tasks.spawn("writer", writer.run(self.tasks.token()));
        let bus: Arc<dyn Bus> = self.bus.clone();
        let rate = UserRate { per_second: 1_000, burst: 1_000 };
        Hub::start(
            Arc::clone(&self.store),
            handle,
            bus,
            2,
            Guards { rate, authz: Authz::default() },
            Clock::start(),
            &self.tasks,
        )
    }

    fn caller(&mut self, user: &str) -> Caller {
        self.next += 1;
        let (session, user) = (SessionKey(self.next), UserId::parse(user).unwrap());
        Caller { session, user, entitlements: Arc::default(), mailbox: Arc::default() }
    }
}

fn lobby() -> RoomId {
    RoomId::parse("lobby").unwrap()
}

fn ticket() -> Ticket {
    Ticket::for_tests(1)
}

async fn letter(caller: &Caller) -> Letter {
    let next = std::future::poll_fn(|cx| caller.mailbox.poll_next(cx));
    tokio::time::timeout(Duration::from_secs(5), next).await.expect("no letter came")
}

async fn answer(caller: &Caller) -> Answer {
    loop {
        if let Letter::Answer(answer) = letter(caller).await {
            return answer.1;
        }
    }
}

async fn delivered(caller: &Caller) -> u64 {
    loop {
        if let Letter::Delivery(delivery) = letter(caller).await {
            return delivery.entry.seq;
        }
    }
}

async fn joined(hub: &Hub, caller: &Caller) -> veza_engine::Joined {
    hub.ask(caller, ticket(), Ask::Join { room: lobby(), invite: None });
    let answer = answer(caller).await;
    let Answer::Joined(joined) = answer else { panic!("{answer:?}") };
    *joined
}

fn publish(hub: &Hub, caller: &Caller, cmid: &str) {
    let publish = Ask::Append { room: lobby(), cmid: Cmid::parse(cmid).unwrap(), content: Content::text("hello") };
    hub.ask(caller, ticket(), publish);
}

#[tokio::test]
async fn what_one_node_commits_reaches_the_other_in_sequence() {
    let mut nodes = Nodes::new();
    let (one, two) = (nodes.hub(), nodes.hub());
    let (alice, bob) = (nodes.caller("alice"), nodes.caller("bob"));
    one.ensure_room(lobby(), "Lobby").await.unwrap();
    joined(&one, &alice).await;
    joined(&two, &bob).await;
    for n in 0..50 {
        publish(&one, &alice, &format!("a{n}"));
        publish(&two, &bob, &format!("b{n}"));
    }
    for caller in [&alice, &bob] {
        for seq in 1..=100 {
            assert_eq!(delivered(caller).await, seq, "{}", caller.user);
        }
    }
}

fn service() -> Call {
    Call { actor: Actor::service("gateway"), once: None }
}

#[tokio::test]
async fn what_calls_and_sessions_say_reaches_every_node_in_sequence() {
    let mut nodes = Nodes::new();
    let (one, two) = (nodes.hub(), nodes.hub());
    let (alice, bob) = (nodes.caller("alice"), nodes.caller("bob"));
    one.ensure_room(lobby(), "Lobby").await.unwrap();
    joined(&one, &alice).await;
    joined(&two, &bob).await;
    for n in 0..50 {
        publish(&one, &alice, &format!("a{n}"));
        let cmid = Cmid::parse(&format!("s{n}")).unwrap();
        let said = two.call(service(), Ask::Append { room: lobby(), cmid, content: Content::text("news") }).await;
        assert!(matches!(&said, Answer::Published(published) if !published.duplicate), "{said:?}");
    }
    for caller in [&alice, &bob] {
        for seq in 1..=100 {
            assert_eq!(delivered(caller).await, seq, "{}", caller.user);
        }
    }
}

#[tokio::test]
async fn a_kick_by_a_call_puts_out_sessions_of_every_node_once() {
    let mut nodes = Nodes::new();
    let (one, two) = (nodes.hub(), nodes.hub());
    let (alice, bob) = (nodes.caller("bob"), nodes.caller("bob"));
    one.ensure_room(lobby(), "Lobby").await.unwrap();
    joined(&one, &alice).await;
    joined(&two, &bob).await;
    let kick = || {
        let once = Some(OnceKey { service: "gateway".into(), key: "k".into(), digest: 1 });
        let (actor, user) = (service().actor, UserId::parse("bob").unwrap());
        let (room, sanction, reason) = (lobby(), Sanction::Kick, "spam".to_owned());
        let write = Write::Moderate { room, actor, user, sanction, reason, seconds: 0, at_ms: 1 };
        one.call(Call { once, ..service() }, Ask::Write(Box::new(write)))
    };
    assert!(matches!(kick().await, Answer::Reply(_)));
    let evicted = async |caller: &Caller| {
        loop {
            if let Letter::Evicted(room, _) = letter(caller).await {
                return room;
            }
        }
    };
    assert_eq!((evicted(&alice).await, evicted(&bob).await), (lobby(), lobby()));
    joined(&two, &bob).await;
    assert!(matches!(kick().await, Answer::Reply(_)));
    publish(&two, &bob, "b1");
    assert!(matches!(answer(&bob).await, Answer::Published(_)), "the key was used before: he stays");
}

#[tokio::test]
async fn a_session_that_ends_while_it_joins_leaves_nothing_behind() {
    let mut nodes = Nodes::new();
    let hub = nodes.hub();
    hub.ensure_room(lobby(), "Lobby").await.unwrap();
    for _ in 0..20 {
        let ghost = nodes.caller("ghost");
        hub.ask(&ghost, ticket(), Ask::Join { room: lobby(), invite: None });
        hub.forget(ghost.session, &ghost.mailbox, [lobby()].iter());
    }
    let alice = nodes.caller("alice");
    assert_eq!(joined(&hub, &alice).await.present, ["alice"]);
}

#[tokio::test]
async fn join_and_leave_in_one_breath_end_outside() {
    let mut nodes = Nodes::new();
    let hub = nodes.hub();
    hub.ensure_room(lobby(), "Lobby").await.unwrap();
    let bob = nodes.caller("bob");
    hub.ask(&bob, ticket(), Ask::Join { room: lobby(), invite: None });
    hub.ask(&bob, ticket(), Ask::Leave { room: lobby() });
    assert!(matches!(answer(&bob).await, Answer::Joined(_)));
    assert_eq!(answer(&bob).await, Answer::Left);
    let alice = nodes.caller("alice");
    assert_eq!(joined(&hub, &alice).await.present, ["alice"]);
}

#[tokio::test]
async fn a_room_that_others_moved_on_is_told_at_its_real_end() {
    let mut nodes = Nodes::new();
    let hub = nodes.hub();
    hub.ensure_room(lobby(), "Lobby").await.unwrap();
    let alice = nodes.caller("alice");
    joined(&hub, &alice).await;
    // Another node commits, and its announcements are lost.
    let append = |n: u64| Write::Append {
        room: lobby(),
        author: UserId::parse("zoe").unwrap().into(),
        cmid: Cmid::parse(&format!("z{n}")).unwrap(),
        content: Content::text("elsewhere"),
        at_ms: n,
    };
    let (user, entitlements) = (UserId::parse("zoe").unwrap(), Vec::new());
    let join = Write::Join { room: lobby(), user, invite: None, entitlements, admitted_by: None, at_ms: 1 };
    nodes.store.commit(&[join, append(1), append(2)]).await.unwrap();
    let bob = nodes.caller("bob");
    assert_eq!(joined(&hub, &bob).await.room.head, 2);
    // Whoever was there gets them too, by the read that heals the room.
    assert_eq!(delivered(&alice).await, 1);
    assert_eq!(delivered(&alice).await, 2);
}

#[tokio::test]
async fn a_reader_that_is_gone_costs_nothing() {
    let mailbox = Mailbox::default();
    mailbox.close();
    assert!(mailbox.is_closed());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(matches!(mailbox.poll_next(&mut cx), Poll::Pending));
}
