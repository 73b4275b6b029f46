//! SQLite: one file, one connection that writes, a few that read.

mod connect;
mod connection;
pub(super) mod copy;
mod fill;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::sync::Mutex;
use veza_engine::ledger::{Write, Written};

pub(super) use self::connect::path_of;
use self::connection::Connected;
use super::StoreError;
use super::analysis::Query;
use super::sql::{self, Cell, Database, Find, Part, Rows};

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
    Idle(Box<Connected>),
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
        let mut writer = Box::new(Connected::from(writer));
        fill::fill(&mut writer).await?;
        let readers = connect::readers(&options, readers, timeout).await?;
        Ok(Self { options, writer: Mutex::new(Writer::Idle(writer)), readers, timeout, claim })
    }
}

impl Database for SqliteStore {
    type Row = SqliteRow;

    async fn commit_batch(&self, batch: &[Write]) -> Result<Vec<Written>, StoreError> {
        let mut writer = self.writer.lock().await;
        let mut connected = match std::mem::replace(&mut *writer, Writer::Lost) {
            Writer::Idle(connected) => connected,
            Writer::Lost => Box::new(connect::writer(&self.options).await?.into()),
            Writer::Closed => {
                *writer = Writer::Closed;
                return Err(StoreError::Unavailable("it was closed".into()));
            }
        };
        sqlx::query("BEGIN IMMEDIATE").execute(&mut connected.inner).await?;
        let written = sql::apply(&mut *connected, batch).await?;
        sqlx::query("COMMIT").execute(&mut connected.inner).await?;
        *writer = Writer::Idle(connected);
        Ok(written)
    }

    async fn fetch(&self, sql: &'static str, values: &[Cell<'_>]) -> Result<Vec<SqliteRow>, StoreError> {
        Ok(connection::values(sql, values).fetch_all(&self.readers).await?)
    }

    async fn find(&self, find: &'static Find, keys: Rows<'_>) -> Result<Vec<SqliteRow>, StoreError> {
        let query = sqlx::query(AssertSqlSafe(connection::find_statement(find)));
        Ok(query.bind(connection::keys_as_json(&keys)).fetch_all(&self.readers).await?)
    }

    async fn matching(&self, query: &Query, part: Part, limit: u32) -> Result<Vec<SqliteRow>, StoreError> {
        self.fetch(connection::MATCHING, &connection::matching_values(query, part, limit)).await
    }

    async fn health(&self) -> Result<String, StoreError> {
        let rooms: i64 = sqlx::query_scalar(connection::ROOM_KEY_MAX).fetch_one(&self.readers).await?;
        Ok(format!("SQLite, WAL, synchronous=FULL, {rooms} rooms"))
    }

    async fn end(&self) {
        self.readers.close().await;
        // The last connection to close folds the log into the file, so it is the one that may write.
        let writer = std::mem::replace(&mut *self.writer.lock().await, Writer::Closed);
        if let Writer::Idle(connected) = writer
            && let Err(error) = connected.inner.close().await
        {
            tracing::warn!(%error, "the database did not close cleanly; its log is folded in at the next start");
        }
        if let Err(error) = self.claim.unlock() {
            tracing::warn!(%error, "the claim on the database ends with the process");
        }
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }
}
