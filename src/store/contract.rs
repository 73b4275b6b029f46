//! What every store keeps, told as stories. A suite is one line: `suite!(memory, open)`, where `open` is an async
//! function that gives an empty store and what must live as long as it.

mod pages;
mod random;
mod rooms;
mod sequence;

use std::sync::Arc;

use veza_proto::{Cmid, RoomId, UserId};

use super::{MemoryStore, MessageRecord, RoomRecord, SqliteStore, Store, Write, Written};

macro_rules! suite {
    ($implementation:ident, $open:path, [$($module:ident :: $story:ident),* $(,)?]) => {
        mod $implementation {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() {
                let (store, _lives) = $open().await;
                super::$module::$story(store.clone()).await;
                store.close().await;
            })*
        }
    };
}

macro_rules! suites {
    ($($implementation:ident, $open:path;)*) => {
        $(suite!($implementation, $open, [
            sequence::a_room_counts_from_one_without_holes,
            sequence::interleaved_rooms_count_for_themselves,
            sequence::a_retry_in_the_same_batch_is_a_duplicate,
            sequence::a_retry_in_a_later_batch_is_a_duplicate,
            sequence::another_body_under_the_same_cmid_is_a_conflict,
            sequence::a_cmid_belongs_to_its_room_and_author,
            sequence::an_unknown_room_does_not_harm_its_neighbours,
            sequence::a_room_takes_messages_in_the_batch_that_makes_it,
            sequence::a_batch_of_every_size_keeps_the_order,
            sequence::bodies_come_back_as_they_were,
            sequence::an_empty_batch_is_no_error,
            rooms::a_room_is_made_once,
            rooms::an_epoch_is_never_zero,
            rooms::joining_and_leaving_twice_counts_once,
            rooms::who_joins_and_leaves_in_one_batch_is_counted_right,
            rooms::membership_of_an_unknown_room_is_refused,
            rooms::pages_of_all_rooms,
            rooms::pages_of_my_rooms,
            pages::every_boundary_after,
            pages::every_boundary_before,
            pages::another_epoch_has_nothing,
            pages::numbers_beyond_any_log_are_answered,
            pages::readers_see_only_whole_commits,
            random::the_same_operations_give_the_same_answers_as_memory,
        ]);)*
    };
}

suites! {
    memory, super::open_memory;
    sqlite, super::open_sqlite;
}

type Opened<Lives> = (Arc<dyn Store>, Lives);

async fn open_memory() -> Opened<()> {
    (Arc::new(MemoryStore::new()), ())
}

async fn open_sqlite() -> Opened<tempfile::TempDir> {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("veza.db"), 2, std::time::Duration::from_secs(30)).await.unwrap();
    (Arc::new(store), dir)
}

/// The clock of the stories.
const NOW: u64 = 1_760_000_000_000;

fn room_id(id: &str) -> RoomId {
    RoomId::parse(id).unwrap()
}

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

pub(super) fn create(room: &str) -> Write {
    Write::CreateRoom { room: room_id(room), title: format!("The {room}"), creator: user("alice"), at_ms: NOW }
}

fn join(room: &str, who: &str) -> Write {
    Write::AddMember { room: room_id(room), user: user(who), at_ms: NOW + 1 }
}

fn leave(room: &str, who: &str) -> Write {
    Write::RemoveMember { room: room_id(room), user: user(who) }
}

pub(super) fn say(room: &str, author: &str, cmid: &str, body: &str) -> Write {
    let cmid = Cmid::parse(cmid).unwrap();
    Write::Append { room: room_id(room), author: user(author), cmid, body: body.into(), at_ms: NOW + 2 }
}

async fn commit_one(store: &Arc<dyn Store>, write: Write) -> Written {
    let mut written = store.commit(&[write]).await.unwrap();
    assert_eq!(written.len(), 1);
    written.remove(0)
}

async fn record(store: &Arc<dyn Store>, room: &str) -> RoomRecord {
    store.room(&room_id(room)).await.unwrap().expect("the story has made this room")
}

#[track_caller]
pub(super) fn appended(written: &Written) -> &MessageRecord {
    let Written::Appended(message) = written else { panic!("not appended: {written:?}") };
    message
}

/// Says `bodies` 1…n in the room, one batch.
async fn fill(store: &Arc<dyn Store>, room: &str, count: u64) {
    let batch: Vec<_> = (1..=count).map(|n| say(room, "alice", &format!("c{n}"), &format!("body {n}"))).collect();
    store.commit(&batch).await.unwrap();
}
