use std::sync::Arc;
use std::time::Duration;

use veza_engine::ledger::Settings;
use veza_proto::v1::RoomKind;

use super::*;
use crate::audio::{Audio, Pool};
use crate::authz::Authz;
use crate::bus::MemoryBus;
use crate::clock::Clock;
use crate::config::CodecBudget;
use crate::events::{Events, Retention};
use crate::gateway::access::Service;
use crate::gateway::scope::Scope;
use crate::hub::{Guards, Hub, UserRate};
use crate::store::desk::Desk;
use crate::store::{MemoryStore, Store, Writer};
use crate::tasks::Tasks;

#[test]
fn a_reason_at_its_limit_and_cut_between_letters() {
    let max = wire::REASON_BYTES_MAX;
    assert_eq!(shortened(&"r".repeat(max)).len(), max);
    assert_eq!(shortened(&"r".repeat(max + 1)).len(), max);
    assert_eq!(shortened(&format!("{}é", "r".repeat(max - 1))).len(), max - 1);
}

#[test]
fn scores_at_their_limits_and_past_them() {
    let score = |label: &str, value| Score { label: label.into(), value };
    assert!(check_scores(&vec![score("spam", 1.0); SCORES_MAX]).is_ok());
    assert!(check_scores(&vec![score("spam", 1.0); SCORES_MAX + 1]).is_err());
    assert!(check_scores(&[score(&"l".repeat(LABEL_BYTES_MAX), 0.0)]).is_ok());
    let long = score(&"l".repeat(LABEL_BYTES_MAX + 1), 0.0);
    for bad in [long, score("", 0.5), score("a", 1.1), score("a", f64::NAN)] {
        assert!(check_scores(&[bad]).is_err());
    }
}

fn id(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn lounge() -> RoomId {
    RoomId::parse("lounge").unwrap()
}

/// Alice owns the room, bob is a member, and something of bob's is under review.
async fn calls(tasks: &Tasks) -> (ReviewCalls, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::new());
    let (title, topic, settings) = ("Lounge".to_owned(), String::new(), Settings::of(RoomKind::Public));
    let (room, kind, creator, at_ms) = (lounge(), RoomKind::Public, Some(id("alice")), 1);
    let made = Write::CreateRoom { room, title, topic, kind, settings, creator, at_ms };
    let (room, user, invite, entitlements) = (lounge(), id("bob"), None, Vec::new());
    let joined = Write::Join { room, user, invite, entitlements, admitted_by: None, at_ms: 2 };
    store.commit(&[made, joined]).await.unwrap();
    let shared: Arc<dyn Store> = store.clone();
    let (writer, handle) = Writer::new(Arc::clone(&shared), Duration::from_secs(5));
    tasks.spawn("writer", writer.run(tasks.token()));
    let guards = Guards { rate: UserRate { per_second: 1_000, burst: 1_000 }, authz: Authz::default() };
    let hub = Hub::start(shared, handle, Arc::new(MemoryBus::new()), 1, guards, Clock::start(), tasks);
    let review = Review {
        id: "r".into(),
        state: ReviewState::Open.into(),
        room: "lounge".into(),
        user: "bob".into(),
        revision: 1,
        ..Review::default()
    };
    let row = ReviewRow { review, report: String::new(), pending: None };
    assert!(store.keep_review(&row, None, 1).await.unwrap());
    let desk: Arc<dyn Desk> = store.clone();
    let retention = Retention { hours: 1, rows_max: 1_000 };
    let events = Events::start(store.clone(), Arc::default(), retention, Clock::start(), tasks);
    let pool = Pool::start(CodecBudget { threads: 0, percent: 0 }, tasks).unwrap();
    let audio = Audio::start(hub.clone(), Arc::clone(&desk), events.clone(), 1, pool, Clock::start(), tasks);
    (ReviewCalls { records: Records { hub, desk, events, audio } }, store)
}

fn asked(outcome: Outcome) -> Request<DecideRequest> {
    let decision = Decision { outcome: outcome.into(), statement: "spam".into(), ..Decision::default() };
    let asked = DecideRequest { id: "r".into(), decision: Some(decision), actor: "alice".into(), ..Default::default() };
    let mut request = Request::new(asked);
    request.extensions_mut().insert(Arc::new(Service::for_tests("bot", &[Scope::Moderation])));
    request
}

/// The server has died between writing alice's decision down and marking the review decided.
async fn begin(store: &MemoryStore) -> ReviewRow {
    let row = store.review("r").await.unwrap().unwrap();
    let decision = Decision {
        outcome: Outcome::Mute.into(),
        statement: "spam".into(),
        decided_by: "alice".into(),
        at_ms: 5,
        ..Decision::default()
    };
    let begun = ReviewRow { review: next(row.review), pending: Some(decision), ..row };
    assert!(store.keep_review(&begun, None, 5).await.unwrap());
    begun
}

async fn audited(store: &MemoryStore, action: &str) -> usize {
    let audit = store.audit(&lounge(), u64::MAX, 10).await.unwrap();
    audit.iter().filter(|(_, row)| row.action == action).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_begun_before_a_crash_is_carried_out_by_the_same_decision_again() {
    let tasks = Tasks::new();
    let (calls, store) = calls(&tasks).await;
    begin(&store).await;
    let review = calls.decide(asked(Outcome::Mute)).await.unwrap().into_inner().review.unwrap();
    assert_eq!((review.state(), review.decisions.len(), review.decisions[0].at_ms), (ReviewState::Decided, 1, 5));
    let (_, member) = store.membership(&lounge(), &id("bob")).await.unwrap().unwrap();
    assert!(member.unwrap().muted_until_ms > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_begun_before_a_crash_stands_against_another_decision() {
    let tasks = Tasks::new();
    let (calls, store) = calls(&tasks).await;
    begin(&store).await;
    let refused = calls.decide(asked(Outcome::Ban)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let review = store.review("r").await.unwrap().unwrap().review;
    assert_eq!((review.state(), review.decisions[0].outcome()), (ReviewState::Decided, Outcome::Mute));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_carried_out_before_a_crash_is_not_done_twice() {
    let tasks = Tasks::new();
    let (calls, store) = calls(&tasks).await;
    let begun = begin(&store).await;
    let decision = begun.pending.clone().unwrap();
    calls.perform(&begun.review, &decision, Deed::Moderate(Sanction::Mute)).await.unwrap();
    assert_eq!((audited(&store, "mute").await, audited(&store, "decide_review").await), (1, 0));
    for _twice in 0..2 {
        let step = format!("{}.audit", begun.review.revision);
        calls.audit(&begun.review, &step, id("alice"), "decide_review", "spam", "mute".into()).await.unwrap();
    }
    calls.decide(asked(Outcome::Mute)).await.unwrap();
    assert_eq!((audited(&store, "mute").await, audited(&store, "decide_review").await), (1, 1));
}
