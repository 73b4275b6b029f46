//! SQLite: one file, one connection that writes, a few that read.

mod commit;
mod connect;
mod error;
mod plan;
mod read;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{Connection, SqliteConnection};
use tokio::sync::Mutex;
use veza_proto::{RoomId, UserId};

pub(super) use self::connect::path_of;
use super::{Anchor, MessageRecord, RoomRecord, Store, StoreError, Write, Written};
use crate::telemetry::metrics;

/// Connections that read; more would only wait for the same disk.
pub(super) const READERS_MAX: u32 = 8;

/// The embedded database: WAL with `synchronous=FULL`, so a commit that returned survives the loss of power.
#[derive(Debug)]
pub struct SqliteStore {
    options: SqliteConnectOptions,
    writer: Mutex<Writer>,
    readers: SqlitePool,
    timeout: Duration,
    claim: File,
}

/// The connection that writes. It is taken out for the time of a commit, so that one which failed or was given up in
/// the middle is never used again: dropping it rolls back.
#[derive(Debug)]
enum Writer {
    Idle(SqliteConnection),
    Lost,
    Closed,
}

impl SqliteStore {
    /// Opens or creates the file (directories for their owner only), runs the migrations, and reads back that the
    /// database is durable. `timeout` bounds the wait for a lock and every call.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] for a file that is not ours or of a newer version, [`StoreError::Unavailable`] for one
    /// that cannot be opened, is used by another server, or will not be durable.
    pub async fn open(path: &Path, readers: u32, timeout: Duration) -> Result<Self, StoreError> {
        connect::create(path)?;
        let claim = connect::claim(path)?;
        let options = connect::options(path, timeout);
        let mut writer = connect::writer(&options).await?;
        connect::migrate(&mut writer).await?;
        let readers = connect::readers(&options, readers, timeout).await?;
        Ok(Self { options, writer: Mutex::new(Writer::Idle(writer)), readers, timeout, claim })
    }

    async fn commit_once(&self, batch: &[Write]) -> Result<Vec<Written>, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut connection = match std::mem::replace(&mut *writer, Writer::Lost) {
            Writer::Idle(connection) => connection,
            Writer::Lost => connect::writer(&self.options).await?,
            Writer::Closed => {
                *writer = Writer::Closed;
                return Err(StoreError::Unavailable("it was closed".into()));
            }
        };
        let written = commit::commit(&mut connection, batch).await?;
        *writer = Writer::Idle(connection);
        Ok(written)
    }

    /// One read, bounded in time and counted.
    async fn read<T>(
        &self,
        kind: &'static str,
        read: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let begun = Instant::now();
        let result = self.within(read).await;
        metrics::store_read_seconds(kind).record(begun.elapsed());
        metrics::store_reads_total(kind, if result.is_ok() { "ok" } else { "failed" }).increment(1);
        result
    }

    async fn within<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let late = || StoreError::Unavailable(format!("no answer within {} ms", self.timeout.as_millis()));
        tokio::time::timeout(self.timeout, call).await.unwrap_or_else(|_| Err(late()))
    }
}

impl Store for SqliteStore {
    fn commit<'a>(&'a self, batch: &'a [Write]) -> BoxFuture<'a, Result<Vec<Written>, StoreError>> {
        self.within(self.commit_once(batch)).boxed()
    }

    fn room<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, Result<Option<RoomRecord>, StoreError>> {
        self.read("room", read::room(&self.readers, room)).boxed()
    }

    fn rooms<'a>(
        &'a self,
        member: Option<&'a UserId>,
        after: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<RoomRecord>, StoreError>> {
        self.read("rooms", read::rooms(&self.readers, member, after, limit)).boxed()
    }

    fn is_member<'a>(&'a self, room: &'a RoomId, user: &'a UserId) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.read("is_member", read::is_member(&self.readers, room, user)).boxed()
    }

    fn messages<'a>(
        &'a self,
        room: &'a RoomId,
        epoch: u64,
        anchor: Anchor,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<MessageRecord>, StoreError>> {
        self.read("messages", read::messages(&self.readers, room, epoch, anchor, limit)).boxed()
    }

    fn check<'a>(&'a self) -> BoxFuture<'a, Result<String, StoreError>> {
        self.read("check", read::check(&self.readers)).boxed()
    }

    fn close<'a>(&'a self) -> BoxFuture<'a, ()> {
        async {
            self.readers.close().await;
            // The last connection to close folds the log into the file, so it is the one that may write.
            let writer = std::mem::replace(&mut *self.writer.lock().await, Writer::Closed);
            if let Writer::Idle(connection) = writer
                && let Err(error) = connection.close().await
            {
                tracing::warn!(%error, "the database did not close cleanly; its log is folded in at the next start");
            }
            if let Err(error) = self.claim.unlock() {
                tracing::warn!(%error, "the claim on the database ends with the process");
            }
        }
        .boxed()
    }
}
