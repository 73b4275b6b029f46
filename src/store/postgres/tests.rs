use std::sync::Arc;

use veza_proto::RoomId;
use veza_proto::gateway::v1::{Revoked, event};

use super::*;
use crate::store::contract::{appended, cluster, create, postgres_at, say, stored_at};
use crate::store::outbox::{Outbox as _, Registration, Start, Told};
use crate::store::{Anchor, Entry, Store as _, View};

/// A new database, where PostgreSQL is installed.
async fn opened() -> Option<(PostgresStore, config::Database)> {
    let database = postgres_at(cluster()?.database());
    Some((PostgresStore::open(&database).await.unwrap(), database))
}

async fn log(store: &PostgresStore, room: &str) -> Vec<Entry> {
    let room = RoomId::parse(room).unwrap();
    let epoch = store.room(&room).await.unwrap().unwrap().epoch;
    store.entries(&room, epoch, View::Everything, Anchor::After(0), 10_000, None).await.unwrap()
}

fn assert_dense(log: &[Entry], count: u64) {
    assert!(log.iter().map(|entry| entry.row.seq).eq(1..=count), "{:?}", log.len());
}

/// Runs `sql` on a connection of its own.
async fn meddle(database: &config::Database, sql: &'static str) {
    use std::str::FromStr;
    let options = PgConnectOptions::from_str(database.url.expose()).unwrap();
    let mut connection = sqlx::PgConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
}

#[tokio::test]
async fn what_was_committed_is_there_after_reopening() {
    let Some((store, database)) = opened().await else { return };
    store.commit(&[create("lobby"), say("lobby", "alice", "c1", "hello")]).await.unwrap();
    let before = log(&store, "lobby").await;
    store.close().await;
    let store = PostgresStore::open(&database).await.unwrap();
    assert_eq!(log(&store, "lobby").await, before);
    assert!(store.check().await.unwrap().contains("synchronous_commit=on"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_may_start_at_once() {
    let Some(cluster) = cluster() else { return };
    let database = postgres_at(cluster.database());
    let opened = futures_util::future::join_all((0..4).map(|_| PostgresStore::open(&database))).await;
    for store in opened {
        store.unwrap().commit(&[create("lobby")]).await.unwrap();
    }
}

/// The number of statements of a batch, begin and commit among them, is that of a batch of one.
#[tokio::test]
async fn a_batch_of_any_size_is_a_few_statements() {
    let Some((store, _)) = opened().await else { return };
    let mut counted = Vec::new();
    store.commit(&[create("a"), create("b")]).await.unwrap();
    for (round, size) in [1_usize, 2, 512].into_iter().enumerate() {
        let say = |n| say(["a", "b"][n % 2], "alice", &format!("{round}.{n}"), "hello");
        store.commit(&(0..size).map(say).collect::<Vec<_>>()).await.unwrap();
        let Writers::Open(idle) = &*store.writers.lock().unwrap() else { panic!("closed") };
        assert_eq!(idle.len(), 1, "one connection does it");
        counted.push(idle[0].statements);
    }
    // Begin, rooms, members, cmids; rooms, members, entries, words; commit.
    assert_eq!(counted, [9, 9, 9]);
    store.register(&listener()).await.unwrap();
    for size in [1_usize, 512] {
        let say = |n| say(["a", "b"][n % 2], "alice", &format!("heard.{size}.{n}"), "hello");
        store.commit(&(0..size).map(say).collect::<Vec<_>>()).await.unwrap();
        let Writers::Open(idle) = &*store.writers.lock().unwrap() else { panic!("closed") };
        assert_eq!(idle[0].statements, 10, "what happened is one more");
    }
}

fn listener() -> Registration {
    Registration { name: "shop".into(), filter: None, start: Start::Now, holder: 1, at_ms: 1 }
}

/// Two nodes write the same rooms while a third gives positions and reads: nothing appears at a position that was passed,
/// and each room's entries come in their order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_two_nodes_never_appear_behind_a_reader() {
    const ROUNDS: u64 = 60;
    let Some((one, database)) = opened().await else { return };
    let (other, reader) =
        (PostgresStore::open(&database).await.unwrap(), PostgresStore::open(&database).await.unwrap());
    let rooms = ["a", "b", "c"];
    one.commit(&rooms.map(create)).await.unwrap();
    reader.register(&listener()).await.unwrap();
    let node = |store: PostgresStore, name: &'static str| async move {
        for round in 0..ROUNDS {
            let batch: Vec<_> =
                rooms.iter().map(|room| say(room, "alice", &format!("{name}{round}"), "hello")).collect();
            store.commit(&batch).await.unwrap();
        }
    };
    let written = futures_util::future::join(node(one, "x"), node(other, "y"));
    let all = ROUNDS * 2 * rooms.len() as u64;
    let (mut position, mut count) = (0, 0);
    let mut last = std::collections::BTreeMap::<String, u64>::new();
    let reading = async {
        while count < all {
            reader.arrange().await.unwrap();
            for event in reader.events(position, 50).await.unwrap() {
                assert!(event.position > position);
                (position, count) = (event.position, count + 1);
                let Some(event::Kind::Message(stored)) = event.kind else { panic!("only messages were said") };
                let seq = stored.message.unwrap().seq;
                let last = last.entry(event.room).or_default();
                assert_eq!(seq, *last + 1, "one after another");
                *last = seq;
            }
        }
    };
    let both = futures_util::future::join(written, reading);
    tokio::time::timeout(Duration::from_secs(120), both).await.expect("every event is read in the end");
}

/// A commit that found nobody listening is still running: whoever registers is answered after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_registers_waits_for_commits_that_found_nobody() {
    let Some((store, database)) = opened().await else { return };
    store.commit(&[create("lobby")]).await.unwrap();
    let mut running = store.writer().await.unwrap();
    running.simple("BEGIN").await.unwrap();
    sql::apply(&mut running, &[say("lobby", "alice", "c1", "unheard")]).await.unwrap();
    let other = PostgresStore::open(&database).await.unwrap();
    let listener = listener();
    let mut registering = other.register(&listener);
    loop {
        let early = tokio::time::timeout(Duration::from_millis(200), &mut registering).await;
        assert!(early.is_err(), "it was answered before the commit ended that found nobody");
        if store.consumer("shop").await.unwrap().is_some() {
            break;
        }
    }
    running.simple("COMMIT").await.unwrap();
    let row = registering.await.unwrap();
    other.commit(&[say("lobby", "alice", "c2", "heard")]).await.unwrap();
    assert!(other.arrange().await.unwrap());
    let events = other.events(row.unwrap().position, 10).await.unwrap();
    assert_eq!(events.len(), 1, "{events:?}");
}

/// The same for what is no write of a room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_registers_waits_for_changes_that_found_nobody() {
    let Some((store, database)) = opened().await else { return };
    let kind = event::Kind::Revoked(Revoked::default());
    let told = Told { at_ms: 1, room: None, user: None, kind };
    let mut running = store.writer().await.unwrap();
    running.simple("BEGIN").await.unwrap();
    for (sql, values) in sql::tell::<PostgresStore>(std::slice::from_ref(&told)) {
        connection::values(sql, &values).execute(&mut running.inner).await.unwrap();
    }
    let other = PostgresStore::open(&database).await.unwrap();
    let listener = listener();
    let mut registering = other.register(&listener);
    loop {
        let early = tokio::time::timeout(Duration::from_millis(200), &mut registering).await;
        assert!(early.is_err(), "it was answered before the change ended that found nobody");
        if store.consumer("shop").await.unwrap().is_some() {
            break;
        }
    }
    running.simple("COMMIT").await.unwrap();
    registering.await.unwrap();
    other.append(&[told]).await.unwrap();
    assert!(other.arrange().await.unwrap());
    assert_eq!(other.events(0, 10).await.unwrap().len(), 1);
}

/// Two nodes write the same rooms in opposite orders, and make the same ones. Neither locks the other out, nothing is
/// numbered twice, and every write is there once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_write_the_same_rooms() {
    const ROUNDS: u64 = 40;
    let Some((one, database)) = opened().await else { return };
    let (one, other) = (Arc::new(one), Arc::new(PostgresStore::open(&database).await.unwrap()));
    let rooms = ["a", "b", "c", "d", "e"];
    let node = |store: Arc<PostgresStore>, name: &'static str, backwards: bool| async move {
        for round in 0..ROUNDS {
            let mut batch: Vec<Write> = Vec::new();
            batch.extend(rooms.iter().map(|room| create(room)));
            batch.push(create(&format!("new{round}")));
            batch.extend(rooms.iter().map(|room| say(room, "alice", &format!("{name}{round}"), "hello")));
            if backwards {
                batch[..6].reverse();
                batch[6..].reverse();
            }
            for answer in store.commit(&batch).await.unwrap() {
                assert!(!matches!(answer, Written::Refused(_)), "{answer:?}");
            }
        }
    };
    let both = futures_util::future::join(node(one.clone(), "x", false), node(other, "y", true));
    tokio::time::timeout(Duration::from_secs(120), both).await.unwrap();
    for room in rooms {
        assert_dense(&log(&one, room).await, ROUNDS * 2);
    }
}

/// A commit that is given up at any point leaves nothing half-done behind, and its connection answers nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_given_up_leaves_the_log_dense() {
    let Some((store, _)) = opened().await else { return };
    store.commit(&[create("lobby")]).await.unwrap();
    for round in 0..40_u64 {
        let batch: Vec<_> = (0..10).map(|n| say("lobby", "alice", &format!("{round}-{n}"), "hello")).collect();
        // Whether it was in time is of no interest: the retry must find out.
        let _ = tokio::time::timeout(Duration::from_micros(round * 150), store.commit(&batch)).await;
        for (n, written) in store.commit(&batch).await.unwrap().iter().enumerate() {
            assert_eq!(stored_at(written), round * 10 + n as u64 + 1);
        }
    }
    assert_dense(&log(&store, "lobby").await, 400);
}

/// Every connection is cut, as when the database starts anew: what was under way is undecided, the next is written.
#[tokio::test]
async fn a_lost_connection_is_made_anew() {
    let Some((store, database)) = opened().await else { return };
    store.commit(&[create("lobby")]).await.unwrap();
    log(&store, "lobby").await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
        AND pid <> pg_backend_pid()";
    for round in 0..3 {
        meddle(&database, cut).await;
        let write = say("lobby", "alice", &format!("c{round}"), "hello");
        let first = store.commit(std::slice::from_ref(&write)).await;
        assert!(matches!(first, Err(StoreError::Unavailable(_))), "{first:?}");
        assert_eq!(appended(&store.commit(&[write]).await.unwrap()[0]).seq, round + 1);
    }
    assert_dense(&log(&store, "lobby").await, 3);
}

/// Another node holds the room longer than anybody waits.
#[tokio::test]
async fn a_locked_room_is_unavailable_in_time() {
    let Some((store, mut database)) = opened().await else { return };
    store.commit(&[create("lobby"), create("other")]).await.unwrap();
    database.timeout = Duration::from_secs(1);
    let hasty = PostgresStore::open(&database).await.unwrap();
    let mut holder = store.writer().await.unwrap();
    holder.simple("BEGIN").await.unwrap();
    holder.simple("SELECT 1 FROM rooms WHERE id = 'lobby' FOR UPDATE").await.unwrap();
    let write = say("lobby", "alice", "c1", "hello");
    let error = hasty.commit(std::slice::from_ref(&write)).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    hasty.commit(&[say("other", "alice", "c1", "hello")]).await.unwrap();
    assert!(log(&hasty, "lobby").await.is_empty(), "readers are not disturbed");
    drop(holder);
    assert_eq!(appended(&hasty.commit(&[write]).await.unwrap()[0]).seq, 1);
}

#[tokio::test]
async fn a_database_that_may_forget_is_refused() {
    let Some((store, mut database)) = opened().await else { return };
    store.close().await;
    meddle(
        &database,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$",
    )
    .await;
    let error = PostgresStore::open(&database).await.unwrap_err().to_string();
    assert!(error.contains("synchronous_commit reads off") && error.contains("VEZA_ALLOW_WEAK_DURABILITY"), "{error}");
    database.allow_weak_durability = true;
    let store = PostgresStore::open(&database).await.unwrap();
    assert!(store.check().await.unwrap().contains("synchronous_commit=off"), "readiness says how it is");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let Some((store, database)) = opened().await else { return };
    store.close().await;
    meddle(
        &database,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (999, 'later', true, '\\x00', 0)",
    )
    .await;
    let error = PostgresStore::open(&database).await.unwrap_err().to_string();
    assert!(error.contains("newer version") && error.contains("999"), "{error}");
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let Some((store, _)) = opened().await else { return };
    store.close().await;
    store.close().await;
    assert!(matches!(store.commit(&[create("late")]).await, Err(StoreError::Unavailable(_))));
    assert!(store.check().await.is_err());
}

#[tokio::test]
async fn a_url_that_cannot_be_reached_is_not_shown() {
    for url in ["postgresql://veza:hunter2@127.0.0.1:1/veza", "postgresql://veza:hunter2@[/veza"] {
        let error = PostgresStore::open(&postgres_at(url.into())).await.unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
