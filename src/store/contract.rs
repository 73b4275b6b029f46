//! What every store keeps, told as stories. A suite is one line: `suite!(memory, open)`, where `open` is an async
//! function that gives an empty store and what must live as long as it.

#[path = "../../tests/support/postgres.rs"]
mod launcher;

mod calls;
mod changes;
mod events;
mod hooks;
mod members;
mod pages;
mod random;
mod retention;
mod rooms;
mod search;
mod sequence;
mod unread;

use std::sync::Arc;

use veza_engine::ledger::{Content, EntryRow, MemberRow, Refusal, RoomRow, Settings, Write, Written};
use veza_proto::v1::{Role, RoomKind, Sanction};
use veza_proto::{Cmid, RoomId, UserId};

pub(super) use self::launcher::cluster;
use super::desk::Desk;
use super::hooks::Hooks;
use super::outbox::Outbox;
use super::records::Records;
use super::{Anchor, Entry, MemoryStore, PostgresStore, SqliteStore, Store, View};
use crate::config;

macro_rules! suite {
    ($implementation:ident, $open:path, [$($module:ident :: $story:ident),* $(,)?]) => {
        mod $implementation {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() {
                let Some((store, _lives)) = $open().await else { return };
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
            sequence::a_nul_byte_harms_nobody,
            sequence::an_empty_batch_is_no_error,
            calls::a_key_does_its_deed_once,
            calls::a_key_is_for_one_request,
            calls::a_refusal_uses_up_no_key,
            calls::an_invitation_of_a_key_is_found_again,
            calls::keys_are_forgotten_after_a_day,
            calls::a_service_stands_above_the_owner,
            calls::only_the_named_settings_change,
            rooms::a_room_is_made_once,
            rooms::an_epoch_is_never_zero,
            rooms::what_managers_set_is_kept,
            rooms::a_room_of_two_is_made_once,
            rooms::pages_of_visible_rooms,
            rooms::pages_of_my_rooms,
            rooms::a_membership_is_told_with_its_room,
            members::joining_and_leaving_twice_counts_once,
            members::who_joins_and_leaves_in_one_batch_is_counted_right,
            members::an_unknown_room_has_no_members,
            members::lists_by_what_members_are,
            members::members_of_a_room_by_name,
            members::a_ban_outlives_the_membership,
            members::invitations_are_spent,
            members::invitations_are_listed,
            members::the_audit_log_in_pages,
            pages::every_boundary_after,
            pages::every_boundary_before,
            pages::another_epoch_has_nothing,
            pages::numbers_beyond_any_log_are_answered,
            pages::the_timeline_has_no_changes_and_no_replies,
            pages::a_thread_begins_with_its_first_message,
            pages::readers_see_only_whole_commits,
            changes::an_edit_is_an_entry_and_changes_its_message,
            changes::bodies_before_an_edit_are_kept,
            changes::reactions_are_counted_by_emoji,
            changes::pins_are_listed_latest_first,
            changes::a_deletion_leaves_no_trace,
            changes::what_is_said_changed_and_deleted_in_one_batch_is_gone,
            changes::a_retry_after_the_deletion_is_a_duplicate,
            changes::what_was_done_is_a_duplicate_with_another_cmid,
            unread::messages_of_others_are_counted,
            unread::mentions_are_counted_by_message,
            unread::an_edit_takes_a_mention_back,
            unread::unread_rooms_in_pages,
            search::words_are_found_in_both_languages,
            search::pages_of_one_room,
            search::pages_of_all_my_rooms,
            search::an_edit_is_found_as_it_is_now,
            search::only_messages_of_an_author,
            search::a_deleted_message_is_not_found,
            retention::what_is_too_much_or_too_old_is_overdue,
            retention::what_expired_is_nowhere,
            retention::numbers_go_on_after_everything_expired,
            events::nothing_is_kept_while_nobody_listens,
            events::events_come_in_the_order_of_the_commits,
            events::a_message_is_told_as_it_is_by_then,
            events::a_cursor_moves_forward_only,
            events::who_registers_again_goes_on_where_it_stood,
            events::there_are_so_many_consumers_and_no_more,
            events::old_events_are_removed_and_it_is_known_how_far,
            events::a_consumer_is_removed_once_under_a_key,
            events::events_of_others_are_appended,
            hooks::a_webhook_is_kept_as_it_was_made_and_changed,
            hooks::a_webhook_is_a_consumer_that_nobody_sees,
            hooks::there_are_so_many_webhooks_and_no_more,
            hooks::a_webhook_is_made_once_under_a_key,
            hooks::one_node_holds_a_webhook_until_it_falls_silent,
            hooks::only_who_holds_a_webhook_settles,
            hooks::a_webhook_that_is_set_back_repeats,
            hooks::what_is_put_aside_is_listed_and_told_as_it_is_by_then,
            hooks::dead_letters_are_delivered_again_oldest_first,
            hooks::dead_letters_at_their_bound_and_one_past,
            hooks::what_is_removed_is_gone,
            events::streams_and_reviews_are_told_as_they_are_kept,
            events::a_revocation_is_told_with_itself,
            random::the_same_operations_give_the_same_answers_as_memory,
        ]);)*
    };
}

suites! {
    memory, super::open_memory;
    sqlite, super::open_sqlite;
    postgres, super::open_postgres;
}

/// `None` where the database is not installed.
type Opened<Lives> = Option<(Arc<dyn Database>, Lives)>;

async fn open_memory() -> Opened<()> {
    Some((Arc::new(MemoryStore::new()), ()))
}

async fn open_sqlite() -> Opened<tempfile::TempDir> {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("veza.db"), 2, std::time::Duration::from_secs(30)).await.unwrap();
    Some((Arc::new(store), dir))
}

async fn open_postgres() -> Opened<()> {
    let database = postgres_at(cluster()?.database());
    Some((Arc::new(PostgresStore::open(&database).await.unwrap()), ()))
}

pub(super) fn postgres_at(url: String) -> config::Database {
    let timeout = std::time::Duration::from_secs(30);
    config::Database { url: config::Secret::new(url), pool_size: 4, timeout, allow_weak_durability: false }
}

/// All that a database is.
pub(super) trait Database: Store + Outbox + Records + Desk + Hooks {}
impl<T: Store + Outbox + Records + Desk + Hooks> Database for T {}

/// The clock of the stories.
const NOW: u64 = 1_760_000_000_000;

fn room_id(id: &str) -> RoomId {
    RoomId::parse(id).unwrap()
}

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

/// A public room of alice's.
pub(super) fn create(room: &str) -> Write {
    create_as(room, RoomKind::Public, Settings::of(RoomKind::Public))
}

fn create_as(room: &str, kind: RoomKind, settings: Settings) -> Write {
    Write::CreateRoom {
        room: room_id(room),
        title: format!("The {room}"),
        topic: String::new(),
        kind,
        settings,
        creator: Some(user("alice")),
        at_ms: NOW,
    }
}

fn join(room: &str, who: &str) -> Write {
    Write::Join {
        room: room_id(room),
        user: user(who),
        invite: None,
        entitlements: Vec::new(),
        admitted_by: None,
        at_ms: NOW + 1,
    }
}

fn leave(room: &str, who: &str) -> Write {
    Write::Leave { room: room_id(room), user: user(who), ended_by: None, at_ms: NOW + 2 }
}

fn moderate(room: &str, actor: &str, who: &str, sanction: Sanction, seconds: u64) -> Write {
    let (room, actor, user) = (room_id(room), user(actor).into(), user(who));
    Write::Moderate { room, actor, user, sanction, reason: "spam".into(), seconds, at_ms: NOW + 2 }
}

fn set_role(room: &str, who: &str, role: Role) -> Write {
    Write::SetRole { room: room_id(room), actor: user("alice").into(), user: user(who), role, at_ms: NOW + 2 }
}

pub(super) fn say(room: &str, author: &str, cmid: &str, body: &str) -> Write {
    add(room, author, cmid, Content::text(body))
}

fn add(room: &str, author: &str, cmid: &str, content: Content) -> Write {
    let cmid = Cmid::parse(cmid).unwrap();
    Write::Append { room: room_id(room), author: user(author).into(), cmid, content, at_ms: NOW + 2 }
}

fn reply(room: &str, author: &str, cmid: &str, thread: u64, body: &str) -> Write {
    let (reply_to, mentions, attachments) = (0, Vec::new(), Vec::new());
    add(room, author, cmid, Content::Text { body: body.into(), thread, reply_to, mentions, attachments })
}

fn mention(room: &str, author: &str, cmid: &str, mentions: &[&str], body: &str) -> Write {
    let mentions = mentions.iter().map(|user| (*user).to_owned()).collect();
    let (thread, reply_to, attachments) = (0, 0, Vec::new());
    add(room, author, cmid, Content::Text { body: body.into(), thread, reply_to, mentions, attachments })
}

pub(super) fn edit(room: &str, author: &str, cmid: &str, target: u64, body: &str) -> Write {
    add(room, author, cmid, Content::Edit { target, body: body.into(), mentions: Vec::new() })
}

pub(super) fn delete(room: &str, author: &str, cmid: &str, target: u64) -> Write {
    add(room, author, cmid, Content::Delete { target, reason: "because".into() })
}

fn react(room: &str, author: &str, cmid: &str, target: u64, emoji: &str) -> Write {
    add(room, author, cmid, Content::React { target, emoji: emoji.into(), remove: false })
}

fn pin(room: &str, author: &str, cmid: &str, target: u64) -> Write {
    add(room, author, cmid, Content::Pin { target, remove: false })
}

async fn commit_one(store: &Arc<dyn Store>, write: Write) -> Written {
    let mut written = store.commit(&[write]).await.unwrap();
    assert_eq!(written.len(), 1);
    written.remove(0)
}

/// Commits the batch; none of it is refused.
async fn commit_all(store: &Arc<dyn Store>, batch: &[Write]) -> Vec<Written> {
    let written = store.commit(batch).await.unwrap();
    for (write, written) in batch.iter().zip(&written) {
        assert!(!matches!(written, Written::Refused(_)), "{written:?} for {write:?}");
    }
    written
}

async fn row(store: &Arc<dyn Store>, room: &str) -> RoomRow {
    store.room(&room_id(room)).await.unwrap().expect("the story has made this room")
}

async fn member(store: &Arc<dyn Store>, room: &str, who: &str) -> Option<MemberRow> {
    store.membership(&room_id(room), &user(who)).await.unwrap()?.1
}

async fn is_member(store: &Arc<dyn Store>, room: &str, who: &str) -> bool {
    member(store, room, who).await.is_some_and(|member| member.joined.is_some())
}

/// The whole log, as alice sees it.
async fn log(store: &Arc<dyn Store>, room: &str) -> Vec<Entry> {
    let epoch = row(store, room).await.epoch;
    let alice = user("alice");
    store.entries(&room_id(room), epoch, View::Everything, Anchor::After(0), 10_000, Some(&alice)).await.unwrap()
}

async fn entry(store: &Arc<dyn Store>, room: &str, seq: u64) -> Entry {
    log(store, room).await.into_iter().find(|entry| entry.row.seq == seq).expect("the story has written this entry")
}

/// The number of a message that was stored, now or before.
#[track_caller]
pub(super) fn stored_at(written: &Written) -> u64 {
    if let Written::Duplicate { seq, .. } = written { *seq } else { appended(written).seq }
}

#[track_caller]
pub(super) fn appended(written: &Written) -> &EntryRow {
    let Written::Appended(entry) = written else { panic!("not appended: {written:?}") };
    entry
}

/// The answer to a retry.
fn duplicate(entry: &EntryRow) -> Written {
    Written::Duplicate { epoch: entry.epoch, seq: entry.seq, at_ms: entry.at_ms }
}

/// Says `bodies` 1…n in the room, one batch.
async fn fill(store: &Arc<dyn Store>, room: &str, count: u64) {
    let batch: Vec<_> = (1..=count).map(|n| say(room, "alice", &format!("c{n}"), &format!("body {n}"))).collect();
    store.commit(&batch).await.unwrap();
}
