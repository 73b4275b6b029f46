use std::os::unix::fs::PermissionsExt;

use sqlx::AssertSqlSafe;
use veza_engine::ledger::{Refusal, Settings};
use veza_proto::v1::{Role, RoomKind};
use veza_proto::{RoomId, UserId};

use super::connection::Connected;
use super::*;
use crate::store::contract::{appended, create, delete, edit, say, stored_at};
use crate::store::hooks::EVERY_LOOK as EVERY_HOOK;
use crate::store::sql::{self, Row as _};
use crate::store::{Anchor, Entry, Scope, Search, Store as _, Unread, View};
use crate::{config, store};

const PATIENCE: Duration = Duration::from_secs(30);

async fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, 2, PATIENCE).await.unwrap()
}

/// A store with the room `lobby`.
async fn with_lobby(path: &Path, timeout: Duration) -> SqliteStore {
    let store = SqliteStore::open(path, 2, timeout).await.unwrap();
    store.commit(&[create("lobby")]).await.unwrap();
    store
}

fn lobby() -> RoomId {
    RoomId::parse("lobby").unwrap()
}

async fn log(store: &SqliteStore) -> Vec<Entry> {
    let epoch = store.room(&lobby()).await.unwrap().unwrap().epoch;
    store.entries(&lobby(), epoch, View::Everything, Anchor::After(0), 1_000, None).await.unwrap()
}

/// Runs `sql` on the connection that writes.
async fn meddle(store: &SqliteStore, sql: &'static str) {
    store.writer.run(|connected| connected.script(sql)).await.unwrap();
}

#[tokio::test]
async fn what_was_committed_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("veza.db");
    let store = with_lobby(&path, PATIENCE).await;
    let batch: Vec<_> = (1..=20).map(|n| say("lobby", "alice", &format!("c{n}"), "hello")).collect();
    store.commit(&batch).await.unwrap();
    let (room, messages) = (store.room(&lobby()).await.unwrap(), log(&store).await);
    store.close().await;
    assert!(!dir.path().join("veza.db-wal").exists(), "the log is folded into the file");

    let store = open(&path).await;
    assert_eq!((store.room(&lobby()).await.unwrap(), log(&store).await), (room, messages.clone()));
    let (_, alice) = store.membership(&lobby(), &UserId::parse("alice").unwrap()).await.unwrap().unwrap();
    assert!(alice.unwrap().joined.is_some());
    let again = store.commit(&[batch[0].clone(), say("lobby", "alice", "c21", "next")]).await.unwrap();
    let Entry { row: first, .. } = &messages[0];
    assert_eq!(again[0], Written::Duplicate { epoch: first.epoch, seq: 1, at_ms: first.at_ms });
    assert_eq!(appended(&again[1]).seq, 21);
}

#[tokio::test]
async fn what_was_committed_is_there_without_closing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("veza.db");
    let store = with_lobby(&path, PATIENCE).await;
    store.commit(&[say("lobby", "alice", "c1", "hello")]).await.unwrap();
    // What a killed process leaves behind: the file and its log as they are now.
    for file in ["veza.db", "veza.db-wal"] {
        std::fs::copy(dir.path().join(file), dir.path().join(file.replace("veza", "copy"))).unwrap();
    }
    assert_eq!(log(&open(&dir.path().join("copy.db")).await).await, log(&store).await);
}

#[tokio::test]
async fn every_connection_that_writes_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("veza.db")).await;
    let read = async |pragma: &'static str| {
        store.writer.run(move |connected| connected.fetch(pragma, [])?[0].integer("value")).await.unwrap()
    };
    assert_eq!(read("SELECT synchronous AS value FROM pragma_synchronous").await, 2);
    assert_eq!(read("SELECT journal_mode = 'wal' AS value FROM pragma_journal_mode").await, 1);
    assert_eq!(read("SELECT foreign_keys AS value FROM pragma_foreign_keys").await, 1);
    assert_eq!(read("SELECT timeout AS value FROM pragma_busy_timeout").await, 30_000);
    assert!(sqlx::query("DELETE FROM rooms").execute(&store.readers).await.is_err(), "readers do not write");
    assert!(store.check().await.unwrap().contains("FULL"));
}

/// A statement that walks a whole table is fast in every test and slow in every database that is used.
#[tokio::test]
async fn no_statement_walks_a_table() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("veza.db")).await;
    let reads =
        [read::MATCHING].into_iter().chain(sql::EVERY_READ).chain(sql::EVERY_LOOK).chain(EVERY_HOOK).map(str::to_owned);
    for sql in connection::every_statement().into_iter().chain(reads) {
        let plan = sqlx::query_as::<_, (i64, i64, i64, String)>(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
        for (_, _, _, step) in plan.fetch_all(&store.readers).await.unwrap() {
            // What the batch brings itself, and the index of words, which is asked for a range of one word's list.
            let of_the_batch =
                ["SCAN j VIRTUAL TABLE INDEX 1:", "SCAN CONSTANT ROW", "SCAN 4-ROW VALUES CLAUSE", "SCAN u", "SCAN c"];
            let of_words = step.starts_with("SCAN search VIRTUAL TABLE INDEX") && step.contains(['M', '=']);
            assert!(of_the_batch.contains(&step.as_str()) || of_words || !step.starts_with("SCAN"), "{step} in {sql}");
        }
    }
}

#[tokio::test]
async fn files_are_for_their_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/deep/veza.db");
    let store = with_lobby(&path, PATIENCE).await;
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&path.with_extension("db-wal")), 0o600);
    drop(store);
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("veza.db");
    let store = with_lobby(&path, PATIENCE).await;
    meddle(
        &store,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (999, 'later', true, x'00', 0)",
    )
    .await;
    store.close().await;
    let error = SqliteStore::open(&path, 2, PATIENCE).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Damaged(why) if why.contains("newer version") && why.contains("999")),
        "{error}"
    );
}

#[tokio::test]
async fn one_server_at_a_time_uses_a_database() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("veza.db");
    let first = with_lobby(&path, PATIENCE).await;
    let error = SqliteStore::open(&path, 2, PATIENCE).await.unwrap_err();
    assert!(error.to_string().contains("another server"), "{error}");
    first.commit(&[say("lobby", "alice", "c1", "hello")]).await.unwrap();
    first.close().await;
    let second = open(&path).await;
    assert_eq!(log(&second).await.len(), 1);
    drop(second);
    open(&path).await;
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("veza.db");
    std::fs::write(&path, "this is a letter to my aunt, and she would not like it overwritten".repeat(100)).unwrap();
    let error = SqliteStore::open(&path, 2, PATIENCE).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
}

#[tokio::test]
async fn a_row_that_makes_no_sense_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let store = with_lobby(&dir.path().join("veza.db"), PATIENCE).await;
    store.commit(&[say("lobby", "alice", "c1", "hello")]).await.unwrap();
    meddle(&store, "UPDATE rooms SET head = -1").await;
    assert!(matches!(store.room(&lobby()).await, Err(StoreError::Damaged(_))));
    meddle(&store, "UPDATE rooms SET head = 0").await;
    let error = store.commit(&[say("lobby", "alice", "c2", "hello")]).await.unwrap_err();
    assert!(error.to_string().contains("UNIQUE"), "a head that is behind its log never overwrites it: {error}");
    assert_eq!(log(&store).await.len(), 1);
}

/// A full disk refuses the batch whole; numbers go on without a hole when there is room again.
#[tokio::test]
async fn a_full_disk_writes_nothing_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let store = with_lobby(&dir.path().join("veza.db"), PATIENCE).await;
    store.commit(&[say("lobby", "alice", "c1", "before")]).await.unwrap();
    meddle(&store, "PRAGMA max_page_count = 1").await;
    let large = "x".repeat(32 * 1024);
    let batch: Vec<_> = (2..40).map(|n| say("lobby", "alice", &format!("c{n}"), &large)).collect();
    let error = store.commit(&batch).await.unwrap_err();
    assert!(matches!(error, StoreError::Full(_)), "{error}");
    assert_eq!(log(&store).await.len(), 1, "nothing of the batch");

    let written = store.commit(&[say("lobby", "alice", "c50", "after")]).await.unwrap();
    assert_eq!(appended(&written[0]).seq, 2);
}

/// Another process holds the database: the commit gives up in time, and the next one works.
#[tokio::test]
async fn a_locked_database_is_unavailable_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("veza.db");
    let store = with_lobby(&path, Duration::from_secs(1)).await;
    let mut other = connect::writer(&connect::options(&path, PATIENCE)).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    for _ in 0..2 {
        let error = store.commit(&[say("lobby", "alice", "c1", "hello")]).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    }
    assert!(log(&store).await.is_empty(), "readers are not disturbed");
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();

    // What was given up may have been done when the lock was gone.
    let written = store.commit(&[say("lobby", "alice", "c1", "hello")]).await.unwrap();
    assert_eq!(stored_at(&written[0]), 1);
    assert_eq!(log(&store).await.len(), 1);
}

/// A commit that is given up at any point leaves nothing half-done behind.
#[tokio::test]
async fn a_commit_that_is_given_up_leaves_the_log_dense() {
    let dir = tempfile::tempdir().unwrap();
    let store = with_lobby(&dir.path().join("veza.db"), PATIENCE).await;
    for round in 0..60_u64 {
        let batch: Vec<_> = (0..10).map(|n| say("lobby", "alice", &format!("{round}-{n}"), "hello")).collect();
        let patience = Duration::from_micros(round * 50);
        // Whether it was in time is of no interest: the retry must find out.
        let _ = tokio::time::timeout(patience, store.commit(&batch)).await;
        let written = store.commit(&batch).await.unwrap();
        for (n, written) in written.iter().enumerate() {
            assert_eq!(stored_at(written), round * 10 + n as u64 + 1);
        }
    }
    assert!(log(&store).await.iter().map(|entry| entry.row.seq).eq(1..=600));
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = with_lobby(&dir.path().join("veza.db"), PATIENCE).await;
    store.close().await;
    store.close().await;
    for _ in 0..2 {
        assert!(matches!(store.commit(&[create("late")]).await, Err(StoreError::Unavailable(_))));
    }
    assert!(matches!(store.room(&lobby()).await, Err(StoreError::Unavailable(_))));
    assert!(store.check().await.is_err());
}

#[tokio::test]
async fn reads_are_counted_by_kind_and_outcome() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let _local = ::metrics::set_default_local_recorder(&recorder);
    let dir = tempfile::tempdir().unwrap();
    let store = with_lobby(&dir.path().join("veza.db"), PATIENCE).await;
    log(&store).await;
    store.close().await;
    store.check().await.unwrap_err();
    let shown = recorder.handle().render();
    for line in [
        "veza_store_reads_total{kind=\"room\",outcome=\"ok\"} 1",
        "veza_store_reads_total{kind=\"entries\",outcome=\"ok\"} 1",
        "veza_store_reads_total{kind=\"check\",outcome=\"failed\"} 1",
        "veza_store_read_seconds_count{kind=\"entries\"} 1",
    ] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
}

fn database(url: &str) -> config::Database {
    config::Database { url: config::Secret::new(url), pool_size: 100, timeout: PATIENCE, allow_weak_durability: false }
}

#[tokio::test]
async fn a_url_opens_its_database() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("data/rooms.db");
    let opened = store::open(&database(&format!("sqlite://{}", file.display())), dir.path()).await.unwrap();
    opened.store.commit(&[create("lobby")]).await.unwrap();
    assert!(file.exists());

    store::open(&database(""), dir.path()).await.unwrap();
    assert!(dir.path().join("veza.db").exists(), "the default is in the data directory");
}

#[tokio::test]
async fn a_url_of_another_kind_is_refused_without_showing_it() {
    let dir = tempfile::tempdir().unwrap();
    for url in ["mysql://veza:secret@db/veza", "sqlite::memory:", "secret"] {
        let error = store::open(&database(url), dir.path()).await.err().unwrap().to_string();
        assert!(error.starts_with("DATABASE_URL ") && !error.contains("secret"), "{error}");
    }
}

/// A database of the first version, with rows, is brought up to date: nobody's messages, membership or retry is lost.
#[tokio::test]
async fn a_database_of_the_first_version_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("veza.db");
    connect::create(&path).unwrap();
    let options = connect::options(&path, PATIENCE);
    let mut first = connect::writer(&options).await.unwrap();
    connect::migrate_to(&mut first, 1).await.unwrap();
    let rows = "
        INSERT INTO rooms VALUES (1, 'lobby', 'The lobby', 7000, 3, 1, 2, 7000), (2, 'silent', 'Silent', 8000, 0, 1, 0, 8000);
        INSERT INTO members VALUES (1, 'bob', 7001), (1, 'alice', 7000);
        INSERT INTO messages VALUES (1, 7000, 1, 'alice', 'c1', 7100, 'Une chanson'), (1, 7000, 2, 'bob', 'c1', 7200, 'hello'),
            (1, 7000, 3, 'alice', 'c2', 7300, 'bye');
    ";
    sqlx::raw_sql(rows).execute(&mut first).await.unwrap();
    first.close().await.unwrap();

    let store = open(&path).await;
    let room = store.room(&lobby()).await.unwrap().unwrap();
    assert_eq!((room.kind, room.settings.clone()), (RoomKind::Public, Settings::of(RoomKind::Public)));
    assert_eq!((room.epoch, room.head, room.messages, room.members, room.last_message_ms), (7000, 3, 3, 2, 7300));
    let read: Vec<_> = log(&store).await.into_iter().map(|entry| entry.row).collect();
    assert_eq!(
        read.iter().map(|row| (row.seq, row.messages, row.at_ms)).collect::<Vec<_>>(),
        [(1, 1, 7100), (2, 2, 7200), (3, 3, 7300)]
    );
    let (alice, bob) = (UserId::parse("alice").unwrap(), UserId::parse("bob").unwrap());
    let role = async |user| store.membership(&lobby(), user).await.unwrap().unwrap().1.unwrap().role().unwrap();
    assert_eq!((role(&alice).await, role(&bob).await), (Role::Owner, Role::Member), "who was first has made it");
    let unread = store.unread(&bob, Unread::In(&lobby()), 1).await.unwrap();
    assert_eq!((unread[0].unread, unread[0].read_seq), (0, 3), "what was there counts as read");

    let retries =
        [say("lobby", "bob", "c1", "hello"), say("lobby", "alice", "c2", "other"), say("lobby", "bob", "c9", "on")];
    let answers = store.commit(&retries).await.unwrap();
    assert_eq!(answers[0], Written::Duplicate { epoch: 7000, seq: 2, at_ms: 7200 });
    assert_eq!(answers[1], Written::Refused(Refusal::CmidConflict));
    assert_eq!(appended(&answers[2]).seq, 4);
    let scope = Scope::Room { room: lobby(), before: u64::MAX, viewer: alice.clone() };
    let hits = store.search(&Search { query: "chansons".into(), scope, author: Some(alice) }, 9).await.unwrap();
    assert_eq!(hits.len(), 1, "older messages are found too");
    store.close().await;
    assert_eq!(log(&open(&path).await).await.len(), 4, "and once is enough");
}

/// Words wait for the first search; a crash before it loses none, and what was edited or deleted meanwhile is found as it is.
#[tokio::test]
async fn words_that_wait_are_found_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let store = with_lobby(&dir.path().join("veza.db"), PATIENCE).await;
    store.commit(&[say("lobby", "alice", "c1", "chanson"), say("lobby", "alice", "c2", "guitare")]).await.unwrap();
    store.commit(&[say("lobby", "alice", "c3", "violon"), edit("lobby", "alice", "c4", 1, "piano")]).await.unwrap();
    store.commit(&[delete("lobby", "alice", "c5", 2)]).await.unwrap();
    let indexed = "SELECT count(*) AS value FROM search";
    let count = |connected: &mut Connected| connected.fetch(indexed, [])?[0].integer("value");
    assert_eq!(store.writer.run(count).await, Ok(0), "nobody has searched yet");
    for file in ["veza.db", "veza.db-wal"] {
        std::fs::copy(dir.path().join(file), dir.path().join(file.replace("veza", "copy"))).unwrap();
    }
    let copy = open(&dir.path().join("copy.db")).await;
    for (word, found) in [("piano", 1), ("violon", 1), ("chanson", 0), ("guitare", 0)] {
        let scope = Scope::Room { room: lobby(), before: u64::MAX, viewer: UserId::parse("alice").unwrap() };
        let search = Search { query: word.into(), scope, author: None };
        assert_eq!(copy.search(&search, 9).await.unwrap().len(), found, "{word}");
    }
    assert_eq!(copy.writer.run(count).await, Ok(2), "what is shown, and nothing else");
}

#[tokio::test]
async fn words_are_indexed_without_a_search_at_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let store = with_lobby(&dir.path().join("veza.db"), PATIENCE).await;
    let count =
        |connected: &mut Connected| connected.fetch("SELECT count(*) AS value FROM search", [])?[0].integer("value");
    let batch = |from: usize, to: usize| -> Vec<Write> {
        (from..to).map(|n| say("lobby", "alice", &format!("c{n}"), "hello")).collect()
    };
    store.commit(&batch(0, connection::UNINDEXED_MAX - 1)).await.unwrap();
    assert_eq!(store.writer.run(count).await, Ok(0));
    store.commit(&batch(connection::UNINDEXED_MAX - 1, connection::UNINDEXED_MAX)).await.unwrap();
    assert_eq!(store.writer.run(count).await, Ok(connection::UNINDEXED_MAX as i64));
}

/// The log of commits is folded into the file while commits go on, so that it begins anew again and again.
#[tokio::test]
async fn the_log_does_not_grow_with_the_history() {
    let dir = tempfile::tempdir().unwrap();
    let store = with_lobby(&dir.path().join("veza.db"), PATIENCE).await;
    let (mut written, body) = (0, "x".repeat(1_000));
    for round in 0..60 {
        let batch: Vec<_> = (0..500).map(|n| say("lobby", "alice", &format!("{round}-{n}"), &body)).collect();
        store.commit(&batch).await.unwrap();
        written += batch.len() * body.len();
    }
    let log = dir.path().join("veza.db-wal").metadata().unwrap().len();
    assert!(log < written as u64, "{log} bytes of log after {written} bytes of messages");
}
