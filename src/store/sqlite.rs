//! SQLite: one file, one connection that writes, a few that read. The one that writes is rusqlite's, on a thread of its
//! own; those that read and the migrations are sqlx's.

mod checkpoint;
mod connect;
mod connection;
pub(super) mod copy;
mod fill;
mod read;
mod writer;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, Connection as _};
use veza_engine::ledger::{Write, Written};

pub(super) use self::connect::path_of;
use self::writer::Writer;
use super::StoreError;
use super::analysis::Query;
use super::sql::{Cell, Database, Find, Part, Rows, Statement};

/// Connections that read; more would only wait for the same disk.
pub(super) const READERS_MAX: u32 = 8;

const NOBODY_DELIVERS: &str = "UPDATE webhooks SET holder = 0 WHERE holder <> 0";

/// The embedded database: WAL with `synchronous=FULL`, so a commit that returned survives the loss of power.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Writer,
    readers: SqlitePool,
    timeout: Duration,
    claim: File,
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
        let mut schema = connect::writer(&options).await?;
        connect::migrate(&mut schema).await?;
        let writer = Writer::start(path, timeout)?;
        writer.run(|connected| fill::fill(connected)).await?;
        // Who delivered for webhooks is gone: the file is ours.
        writer.run(|connected| connected.execute(NOBODY_DELIVERS, [])).await?;
        schema.close().await?;
        let readers = connect::readers(&options, readers, timeout).await?;
        Ok(Self { writer, readers, timeout, claim })
    }
}

impl Database for SqliteStore {
    type Row = SqliteRow;

    const HOLD_LISTENERS: Option<&'static str> = None;

    async fn commit_batch(&self, batch: &[Write]) -> Result<Vec<Written>, StoreError> {
        let batch = batch.to_vec();
        self.writer.run(move |connected| connected.commit(&batch)).await
    }

    async fn change<'a>(&'a self, statements: Vec<Statement<'a>>) -> Result<(), StoreError> {
        let statements = owned(statements);
        self.writer.run(move |connected| connected.change(&statements)).await
    }

    async fn change_if<'a>(&'a self, first: Statement<'a>, then: Vec<Statement<'a>>) -> Result<bool, StoreError> {
        let (first, then) = (owned(vec![first]), owned(then));
        self.writer.run(move |connected| connected.change_if(&first, &then)).await
    }

    /// One thread writes: whoever was given an answer by it came after every commit before.
    async fn outlive_commits(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// A row's id is its place in the order of the commits.
    async fn number_events(&self) -> Result<bool, StoreError> {
        Ok(true)
    }

    async fn fetch(&self, sql: &'static str, values: &[Cell<'_>]) -> Result<Vec<SqliteRow>, StoreError> {
        Ok(read::values(sql, values).fetch_all(&self.readers).await?)
    }

    async fn find(&self, find: &'static Find, keys: Rows<'_>) -> Result<Vec<SqliteRow>, StoreError> {
        let query = sqlx::query(AssertSqlSafe(connection::find_statement(find)));
        Ok(query.bind(connection::keys_as_json(&keys)).fetch_all(&self.readers).await?)
    }

    async fn matching(&self, query: &Query, part: Part, limit: u32) -> Result<Vec<SqliteRow>, StoreError> {
        self.writer.catch_up().await?;
        self.fetch(read::MATCHING, &read::matching_values(query, part, limit)).await
    }

    async fn health(&self) -> Result<String, StoreError> {
        let rooms: i64 = sqlx::query_scalar(connection::ROOM_KEY_MAX).fetch_one(&self.readers).await?;
        Ok(format!("SQLite, WAL, synchronous=FULL, {rooms} rooms"))
    }

    async fn end(&self) {
        self.readers.close().await;
        // The last connection to close folds the log into the file, so it is the one that may write.
        if let Err(error) = self.writer.close().await {
            tracing::warn!(%error, "the database did not close cleanly; its log is folded in at the next start");
        }
        if let Err(error) = self.claim.unlock() {
            tracing::warn!(%error, "the claim on the database ends with the process");
        }
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// Statements that cross over to the thread that writes.
fn owned(statements: Vec<Statement<'_>>) -> Vec<Statement<'static>> {
    let owned = |(sql, values): Statement<'_>| (sql, values.into_iter().map(Cell::into_owned).collect());
    statements.into_iter().map(owned).collect()
}
