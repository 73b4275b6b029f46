//! What the SQL databases have in common, which is nearly everything: the statements of reads, the rows, how a batch is
//! applied. [`Database`] and [`Connection`] are what they do differently.

mod commit;
mod find;
mod outbox;
mod read;
mod row;
mod table;

use std::future::Future;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use veza_engine::ledger::{AuditRow, InviteKey, InviteRow, MemberRow, RevisionRow, RoomRow, Write, Written};
use veza_proto::{RoomId, UserId};

pub(super) use self::commit::apply;
#[cfg(test)]
pub(super) use self::find::ALL as EVERY_FIND;
#[cfg(test)]
pub(super) use self::find::EXPIRE;
pub(super) use self::find::Find;
#[cfg(test)]
pub(super) use self::outbox::ALL as EVERY_LOOK;
pub(super) use self::outbox::{event, span, tell};
#[cfg(test)]
pub(super) use self::read::ALL as EVERY_READ;
pub(super) use self::row::{Row, damaged, entry_columns};
#[cfg(test)]
pub(super) use self::table::ALL as EVERY_TABLE;
pub(super) use self::table::{Cell, Column, Kind, Rows, Table};
use super::analysis::{self, Document, Query};
use super::{Anchor, Entry, Invites, Members, Rooms, Search, Store, StoreError, Unread, UnreadRow, View};
use crate::telemetry::metrics;

/// After a restore: `$1` is the time in milliseconds. Entries have no epoch of their own.
pub(super) const RENEW_EPOCHS: &str = "UPDATE rooms SET epoch = CASE WHEN epoch < $1 THEN $1 ELSE epoch + 1 END";

/// A database that speaks SQL with parameters `$1`, `$2` ….
pub(super) trait Database: Send + Sync + 'static {
    type Row: Row;

    /// Has whoever begins to listen wait for the end of the transaction that it is in. None where transactions come one
    /// after another.
    const HOLD_LISTENERS: Option<&'static str>;

    /// One durable transaction around [`apply`].
    fn commit_batch(&self, batch: &[Write]) -> impl Future<Output = Result<Vec<Written>, StoreError>> + Send;

    fn fetch(
        &self,
        sql: &'static str,
        values: &[Cell<'_>],
    ) -> impl Future<Output = Result<Vec<Self::Row>, StoreError>> + Send;

    fn find(
        &self,
        find: &'static Find,
        keys: Rows<'_>,
    ) -> impl Future<Output = Result<Vec<Self::Row>, StoreError>> + Send;

    /// Messages of a room that match, newest first, with the columns of an entry.
    fn matching(
        &self,
        query: &Query,
        part: Part,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<Self::Row>, StoreError>> + Send;

    /// Runs statements that change rows, in one durable transaction.
    fn change<'a>(&'a self, statements: Vec<Statement<'a>>)
    -> impl Future<Output = Result<(), StoreError>> + Send + 'a;

    /// As [`Database::change`]; when the first statement finds no row to change, nothing is done, which is told by
    /// `false`.
    fn change_if<'a>(
        &'a self,
        first: Statement<'a>,
        then: Vec<Statement<'a>>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send + 'a;
    /// Returns when every commit has ended that was running when it was called.
    fn outlive_commits(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Gives positions to events that have none; `false` when there may be more. Nothing to do where the commits come one
    /// after another and give them.
    fn number_events(&self) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// A sentence for `/health/ready`.
    fn health(&self) -> impl Future<Output = Result<String, StoreError>> + Send;

    fn end(&self) -> impl Future<Output = ()> + Send;

    /// Whether other nodes may be using it.
    fn is_shared(&self) -> bool;

    /// The bound of every call.
    fn timeout(&self) -> Duration;
}

/// A statement and the values of its `$1`, `$2` ….
pub(super) type Statement<'a> = (&'static str, Vec<Cell<'a>>);

/// A connection that is in the transaction of a batch.
pub(super) trait Connection: Send {
    type Row: Row;

    fn find(
        &mut self,
        find: &'static Find,
        keys: Rows<'_>,
    ) -> impl Future<Output = Result<Vec<Self::Row>, StoreError>> + Send;

    /// # Errors
    /// Also when one of the rows is there already.
    fn insert(&mut self, table: &'static Table, rows: Rows<'_>) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Sets the values of the rows under these keys.
    fn update(&mut self, table: &'static Table, rows: Rows<'_>) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Removes the rows under these keys.
    fn delete(&mut self, table: &'static Table, keys: Rows<'_>) -> impl Future<Output = Result<(), StoreError>> + Send;

    fn run(&mut self, sql: &'static str, values: &[Cell<'_>]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Keys for so many new rooms.
    fn room_keys(&mut self, count: usize) -> impl Future<Output = Result<Vec<i64>, StoreError>> + Send;

    /// Takes these messages into the index of words, at the latest when somebody searches.
    fn index(&mut self, messages: Vec<Indexed<'_>>) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Takes these messages (room's key, sequence number) out of the index.
    fn unindex(&mut self, messages: Vec<(i64, u64)>) -> impl Future<Output = Result<(), StoreError>> + Send;

    fn unindex_up_to(&mut self, room: i64, up_to: u64) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A message on its way into the index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Indexed<'a> {
    pub(super) room: i64,
    pub(super) seq: u64,
    /// Whether it may be there already.
    pub(super) replaces: bool,
    pub(super) author: &'a str,
    pub(super) body: &'a str,
}

impl Indexed<'_> {
    /// What it is found by.
    pub(super) fn words(&self) -> Document {
        analysis::document(self.body, self.author)
    }
}

/// Which messages of a room a search looks at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) room: i64,
    /// Exclusive.
    pub(super) before: u64,
    /// Inclusive.
    pub(super) at_ms_max: u64,
}

/// One call, bounded in time.
pub(super) async fn within<T>(
    timeout: Duration,
    call: impl Future<Output = Result<T, StoreError>> + Send,
) -> Result<T, StoreError> {
    let late = || StoreError::Unavailable(format!("no answer within {} ms", timeout.as_millis()));
    tokio::time::timeout(timeout, call).await.unwrap_or_else(|_| Err(late()))
}

/// One read, bounded in time and counted.
pub(super) fn counted<'a, T: Send + 'a>(
    kind: &'static str,
    timeout: Duration,
    read: impl Future<Output = Result<T, StoreError>> + Send + 'a,
) -> BoxFuture<'a, Result<T, StoreError>> {
    async move {
        let begun = Instant::now();
        let result = within(timeout, read).await;
        metrics::store_read_seconds(kind).record(begun.elapsed());
        metrics::store_reads_total(kind, if result.is_ok() { "ok" } else { "failed" }).increment(1);
        result
    }
    .boxed()
}

impl<D: Database> Store for D {
    fn commit<'a>(&'a self, batch: &'a [Write]) -> BoxFuture<'a, Result<Vec<Written>, StoreError>> {
        within(self.timeout(), self.commit_batch(batch)).boxed()
    }

    fn room<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, Result<Option<RoomRow>, StoreError>> {
        counted("room", self.timeout(), read::room(self, room))
    }

    fn membership<'a>(
        &'a self,
        room: &'a RoomId,
        user: &'a UserId,
    ) -> BoxFuture<'a, Result<Option<(RoomRow, Option<MemberRow>)>, StoreError>> {
        counted("membership", self.timeout(), read::membership(self, room, user))
    }

    fn rooms<'a>(
        &'a self,
        viewer: &'a UserId,
        which: Rooms,
        after: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<(RoomRow, Option<MemberRow>)>, StoreError>> {
        counted("rooms", self.timeout(), read::rooms(self, viewer, which, after, limit))
    }

    fn entries<'a>(
        &'a self,
        room: &'a RoomId,
        epoch: u64,
        view: View,
        anchor: Anchor,
        limit: u32,
        viewer: Option<&'a UserId>,
    ) -> BoxFuture<'a, Result<Vec<Entry>, StoreError>> {
        counted("entries", self.timeout(), read::entries(self, room, epoch, view, anchor, limit, viewer))
    }

    fn members<'a>(
        &'a self,
        room: &'a RoomId,
        which: Members,
        after: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<(UserId, MemberRow)>, StoreError>> {
        counted("members", self.timeout(), read::members(self, room, which, after, limit))
    }

    fn members_of<'a>(
        &'a self,
        room: &'a RoomId,
        users: &'a [UserId],
    ) -> BoxFuture<'a, Result<Vec<(UserId, MemberRow)>, StoreError>> {
        counted("members_of", self.timeout(), read::members_of(self, room, users))
    }

    fn invites<'a>(
        &'a self,
        which: Invites<'a>,
        now_ms: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<(InviteKey, InviteRow, String)>, StoreError>> {
        counted("invites", self.timeout(), read::invites(self, which, now_ms, limit))
    }

    fn revisions<'a>(
        &'a self,
        room: &'a RoomId,
        epoch: u64,
        seq: u64,
    ) -> BoxFuture<'a, Result<Vec<RevisionRow>, StoreError>> {
        counted("revisions", self.timeout(), read::revisions(self, room, epoch, seq))
    }

    fn reactors<'a>(
        &'a self,
        room: &'a RoomId,
        epoch: u64,
        seq: u64,
        emoji: &'a str,
        limit: u32,
    ) -> BoxFuture<'a, Result<(Vec<UserId>, u32), StoreError>> {
        counted("reactors", self.timeout(), read::reactors(self, room, epoch, seq, emoji, limit))
    }

    fn pins<'a>(&'a self, room: &'a RoomId, viewer: &'a UserId) -> BoxFuture<'a, Result<Vec<Entry>, StoreError>> {
        counted("pins", self.timeout(), read::pins(self, room, viewer))
    }

    fn audit<'a>(
        &'a self,
        room: &'a RoomId,
        before: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<(u64, AuditRow)>, StoreError>> {
        counted("audit", self.timeout(), read::audit(self, room, before, limit))
    }

    fn unread<'a>(
        &'a self,
        user: &'a UserId,
        which: Unread<'a>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<UnreadRow>, StoreError>> {
        counted("unread", self.timeout(), read::unread(self, user, which, limit))
    }

    fn search<'a>(&'a self, search: &'a Search, limit: u32) -> BoxFuture<'a, Result<Vec<Entry>, StoreError>> {
        counted("search", self.timeout(), read::search(self, search, limit))
    }

    fn overdue<'a>(
        &'a self,
        now_ms: u64,
        entries_max: u32,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<(RoomId, u64)>, StoreError>> {
        counted("overdue", self.timeout(), read::overdue(self, now_ms, entries_max, limit))
    }

    fn check<'a>(&'a self) -> BoxFuture<'a, Result<String, StoreError>> {
        counted("check", self.timeout(), self.health())
    }

    fn close<'a>(&'a self) -> BoxFuture<'a, ()> {
        self.end().boxed()
    }
}
