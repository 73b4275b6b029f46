//! What every database keeps of streams and reviews, told as stories.

use std::sync::Arc;
use std::time::Duration;

use veza_engine::ledger::KEPT_MS;
use veza_proto::gateway::v1::{Gain, Outcome, StreamState, StreamVisibility};

use super::*;
use crate::store::contract::{cluster, postgres_at};
use crate::store::{MemoryStore, PostgresStore, SqliteStore};

macro_rules! suites {
    ($($implementation:ident, $open:path;)*) => {
        $(mod $implementation {
            suites!(@stories $open;
                a_stream_is_changed_only_by_who_saw_it_last
                live_streams_are_found_newest_first
                a_review_is_filed_once_for_every_report
                reviews_are_found_oldest_first
                a_key_is_remembered_with_what_it_made_and_forgotten
            );
        })*
    };
    (@stories $open:path; $($story:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $story() {
            let Some((desk, _lives)) = $open().await else { return };
            super::$story(desk).await;
        })*
    };
}

suites! {
    memory, super::open_memory;
    sqlite, super::open_sqlite;
    postgres, super::open_postgres;
}

type Opened<Lives> = Option<(Arc<dyn Desk>, Lives)>;

async fn open_memory() -> Opened<()> {
    Some((Arc::new(MemoryStore::new()), ()))
}

async fn open_sqlite() -> Opened<tempfile::TempDir> {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("veza.db"), 2, Duration::from_secs(30)).await.unwrap();
    Some((Arc::new(store), dir))
}

async fn open_postgres() -> Opened<()> {
    let database = postgres_at(cluster()?.database());
    Some((Arc::new(PostgresStore::open(&database).await.unwrap()), ()))
}

fn stream(id: &str, owner: &str, started_ms: u64) -> StreamRow {
    let state = if started_ms == 0 { StreamState::Created } else { StreamState::Live };
    let stream = Stream {
        id: id.into(),
        owner: owner.into(),
        category: StreamCategory::Music.into(),
        visibility: StreamVisibility::Public.into(),
        state: state.into(),
        started_ms,
        revision: 1,
        ..Stream::default()
    };
    StreamRow { stream, effects: Effects::default() }
}

fn review(id: &str, created_ms: u64, report: &str) -> ReviewRow {
    let review = Review {
        id: id.into(),
        created_ms,
        state: ReviewState::Open.into(),
        category: ReviewCategory::Spam.into(),
        room: "lounge".into(),
        user: "bob".into(),
        revision: 1,
        ..Review::default()
    };
    ReviewRow { review, report: report.into(), pending: None }
}

fn used(key: &str, made: &str, at_ms: u64) -> Used {
    Used { service: "gateway".into(), key: key.into(), digest: u64::MAX - 1, made: made.into(), at_ms }
}

async fn a_stream_is_changed_only_by_who_saw_it_last(desk: Arc<dyn Desk>) {
    assert_eq!(desk.stream("show").await.unwrap(), None);
    let first = stream("show", "ü'\";--%_\\ 数", 0);
    assert!(desk.keep_stream(&first, None, 1).await.unwrap());
    assert!(!desk.keep_stream(&stream("show", "bob", 0), None, 1).await.unwrap(), "there is one of this id");
    assert_eq!(desk.stream("show").await.unwrap(), Some(first.clone()));
    let next = StreamRow {
        stream: Stream { title: "Later".into(), revision: 2, ..first.stream.clone() },
        effects: Effects { gain: Some(Gain { db: 3.0, pan: 0.0 }), ..Effects::default() },
    };
    assert!(desk.keep_stream(&next, None, 1).await.unwrap());
    let late = StreamRow { stream: Stream { title: "Late".into(), ..next.stream.clone() }, ..first };
    assert!(!desk.keep_stream(&late, Some(&used("k", "show", 1)), 1).await.unwrap(), "somebody was first");
    assert_eq!(desk.stream("show").await.unwrap(), Some(next));
    assert_eq!(desk.used("gateway", "k").await.unwrap(), None, "what was not kept has used no key");
    let from_nowhere = StreamRow { stream: Stream { revision: 2, ..stream("other", "bob", 0).stream }, ..late };
    assert!(!desk.keep_stream(&from_nowhere, None, 1).await.unwrap());
}

async fn live_streams_are_found_newest_first(desk: Arc<dyn Desk>) {
    let unlisted = |mut row: StreamRow| {
        row.stream.visibility = StreamVisibility::Unlisted.into();
        row
    };
    let mut talk = stream("talk", "carol", 30);
    talk.stream.category = StreamCategory::Talk.into();
    let rows = [
        stream("b", "alice", 20),
        stream("a", "bob", 20),
        stream("made", "bob", 0),
        talk,
        unlisted(stream("u", "bob", 40)),
    ];
    for row in &rows {
        assert!(desk.keep_stream(row, None, 1).await.unwrap());
    }
    let find = async |which: Live, limit| {
        let found = desk.live(&which, limit).await.unwrap();
        found.into_iter().map(|row| row.stream.id).collect::<Vec<_>>()
    };
    let viewer = |name: &str| Live { viewer: Some(name.into()), ..Live::default() };
    assert_eq!(find(Live::default(), 10).await, ["u", "talk", "a", "b"]);
    assert_eq!(find(viewer("bob"), 10).await, ["u", "talk", "a", "b"]);
    assert_eq!(find(viewer("alice"), 10).await, ["talk", "a", "b"]);
    assert_eq!(find(viewer("alice"), 2).await, ["talk", "a"]);
    assert_eq!(find(Live { after: Some((20, "a".into())), ..viewer("alice") }, 10).await, ["b"]);
    assert_eq!(find(Live { owner: Some("alice".into()), ..Live::default() }, 10).await, ["b"]);
    assert_eq!(find(Live { category: Some(StreamCategory::Talk), ..Live::default() }, 10).await, ["talk"]);
}

async fn a_review_is_filed_once_for_every_report(desk: Arc<dyn Desk>) {
    let first = review("r1", 10, "carol lounge 7");
    assert!(desk.keep_review(&first, None, 1).await.unwrap());
    assert!(!desk.keep_review(&review("r2", 11, "carol lounge 7"), None, 1).await.unwrap());
    assert_eq!(desk.reported("carol lounge 7").await.unwrap(), Some(first.clone()));
    assert_eq!(desk.reported("").await.unwrap(), None);
    for anonymous in ["r3", "r4"] {
        assert!(desk.keep_review(&review(anonymous, 12, ""), None, 1).await.unwrap());
    }
    let pending = Some(Decision { outcome: Outcome::Ban.into(), statement: "spam".into(), ..Decision::default() });
    let begun = ReviewRow { review: Review { revision: 2, ..first.review }, pending, ..first };
    assert!(desk.keep_review(&begun, None, 1).await.unwrap() && !desk.keep_review(&begun, None, 1).await.unwrap());
    assert_eq!(desk.review("r1").await.unwrap(), Some(begun.clone()));
    // Once its report is let go, the same may be reported again.
    let done = ReviewRow { review: Review { revision: 3, ..begun.review }, report: String::new(), pending: None };
    assert!(desk.keep_review(&done, None, 1).await.unwrap());
    assert!(desk.keep_review(&review("r5", 13, "carol lounge 7"), None, 1).await.unwrap());
}

async fn reviews_are_found_oldest_first(desk: Arc<dyn Desk>) {
    let mut closed = review("c", 5, "");
    closed.review.state = ReviewState::Closed.into();
    let mut elsewhere = review("e", 30, "");
    (elsewhere.review.room, elsewhere.review.user) = ("den".into(), "dave".into());
    elsewhere.review.category = ReviewCategory::Hate.into();
    for row in [review("b", 20, ""), review("a", 20, ""), closed, elsewhere] {
        assert!(desk.keep_review(&row, None, 1).await.unwrap());
    }
    let find = async |which: Queue, limit| {
        let found = desk.reviews(&which, limit).await.unwrap();
        found.into_iter().map(|row| row.review.id).collect::<Vec<_>>()
    };
    assert_eq!(find(Queue::default(), 10).await, ["c", "a", "b", "e"]);
    assert_eq!(find(Queue { after: Some((20, "a".into())), ..Queue::default() }, 1).await, ["b"]);
    assert_eq!(find(Queue { state: Some(ReviewState::Closed), ..Queue::default() }, 10).await, ["c"]);
    assert_eq!(find(Queue { category: Some(ReviewCategory::Hate), ..Queue::default() }, 10).await, ["e"]);
    assert_eq!(find(Queue { room: Some("lounge".into()), ..Queue::default() }, 10).await, ["c", "a", "b"]);
    assert_eq!(find(Queue { user: Some("dave".into()), ..Queue::default() }, 10).await, ["e"]);
}

async fn a_key_is_remembered_with_what_it_made_and_forgotten(desk: Arc<dyn Desk>) {
    let first = used("k1", "show", 1_000);
    assert!(desk.keep_stream(&stream("show", "alice", 0), Some(&first), 1).await.unwrap());
    assert_eq!(desk.used("gateway", "k1").await.unwrap(), Some(first));
    assert_eq!(desk.used("other", "k1").await.unwrap(), None);
    let second = used("k2", "r", 1_000 + KEPT_MS - 1);
    assert!(desk.keep_review(&review("r", 1, ""), Some(&second), 1).await.unwrap());
    assert!(desk.used("gateway", "k1").await.unwrap().is_some());
    let third = used("k3", "next", 1_000 + KEPT_MS);
    assert!(desk.keep_stream(&stream("next", "alice", 0), Some(&third), 1).await.unwrap());
    assert_eq!(desk.used("gateway", "k1").await.unwrap(), None);
    assert_eq!(desk.used("gateway", "k2").await.unwrap(), Some(second));
}
