//! PostgreSQL: several nodes may write at once, each locking the rooms of its batch.

mod connect;
mod connection;

#[cfg(test)]
mod tests;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgRow};
use sqlx::{AssertSqlSafe, Connection as _};
use veza_engine::ledger::{Write, Written};

use self::connect::Durability;
use self::connection::Connected;
use super::analysis::Query;
use super::sql::{self, Cell, Database, Find, Part, Rows, Statement};
use super::{OpenError, StoreError, Versions};
use crate::config;

/// A batch that met another node's is tried again: at most so often, then the client is told to.
const ATTEMPTS_MAX: u32 = 5;

/// Messages of a room that a search looks through from the newest on, before it asks the index of words: a common word has
/// filled its page by then, and a rare one has short lists in the index.
const WINDOW: u32 = 2_000;

#[derive(Debug)]
pub struct PostgresStore {
    options: PgConnectOptions,
    readers: PgPool,
    /// Connections that write and are idle. One is taken out for the time of a commit, so that what failed or was given up
    /// in the middle is never used again: dropping it closes it, and the server rolls back.
    writers: Mutex<Writers>,
    timeout: Duration,
    durability: Durability,
}

#[derive(Debug)]
enum Writers {
    Open(Vec<Connected>),
    Closed,
}

impl PostgresStore {
    /// Connects, brings the schema up to date (nodes that start at once wait for each other), and reads back that the
    /// database is durable.
    ///
    /// # Errors
    /// [`OpenError::Url`] for a URL that is not PostgreSQL's, [`StoreError::Damaged`] for a schema of a newer version,
    /// [`StoreError::Unavailable`] for a database that does not answer or will not be durable.
    pub async fn open(database: &config::Database) -> Result<Self, OpenError> {
        let options = connect::options(database)?;
        let durability = Durability::of(database);
        let migrated = tokio::time::timeout(connect::MIGRATION_MAX, connect::migrate(&options, durability)).await;
        migrated.map_err(|_| StoreError::Unavailable("the schema was not brought up to date in time".into()))??;
        let readers = connect::readers(&options, database.pool_size, database.timeout).await?;
        let writers = Mutex::new(Writers::Open(Vec::new()));
        Ok(Self { options, readers, writers, timeout: database.timeout, durability })
    }

    /// The schema's version of the database, and this server's; with `bring_up_to_date` it has this one afterwards.
    ///
    /// # Errors
    /// As [`PostgresStore::open`].
    pub(super) async fn versions(database: &config::Database, bring_up_to_date: bool) -> Result<Versions, OpenError> {
        let options = connect::options(database)?;
        let durability = Durability::of(database);
        let versions = connect::versions(&options, durability).await?;
        if bring_up_to_date {
            connect::migrate(&options, durability).await?;
        }
        Ok(versions)
    }

    /// Gives every room a new epoch, after the database was replaced by an older copy of itself.
    ///
    /// # Errors
    /// As [`PostgresStore::open`].
    pub(super) async fn renew_epochs(database: &config::Database, now_ms: u64) -> Result<(), OpenError> {
        let options = connect::options(database)?;
        let durability = Durability::of(database);
        connect::migrate(&options, durability).await?;
        let mut connection = connect::writer(&options, durability).await?;
        let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let renewed = sqlx::query(sql::RENEW_EPOCHS).bind(now_ms).execute(&mut connection).await;
        renewed.map_err(StoreError::from)?;
        Ok(())
    }

    async fn writer(&self) -> Result<Connected, StoreError> {
        let idle = match &mut *self.writers.lock().unwrap_or_else(PoisonError::into_inner) {
            Writers::Open(idle) => idle.pop(),
            Writers::Closed => return Err(StoreError::Unavailable("it was closed".into())),
        };
        match idle {
            Some(connected) => Ok(connected),
            None => Ok(connect::writer(&self.options, self.durability).await?.into()),
        }
    }

    fn put_back(&self, connected: Connected) {
        if let Writers::Open(idle) = &mut *self.writers.lock().unwrap_or_else(PoisonError::into_inner) {
            idle.push(connected);
        }
    }

    async fn commit_once(&self, batch: &[Write]) -> Result<Vec<Written>, StoreError> {
        let mut connected = self.writer().await?;
        connected.statements = 0;
        connected.simple("BEGIN").await?;
        let written = sql::apply(&mut connected, batch).await?;
        connected.simple("COMMIT").await?;
        self.put_back(connected);
        Ok(written)
    }

    async fn change_once(&self, statements: &[Statement<'_>]) -> Result<(), StoreError> {
        let mut connected = self.writer().await?;
        connected.simple("BEGIN").await?;
        for (sql, values) in statements {
            connection::values(sql, values).execute(&mut connected.inner).await?;
        }
        connected.simple("COMMIT").await?;
        self.put_back(connected);
        Ok(())
    }

    async fn change_if_once(&self, first: &Statement<'_>, then: &[Statement<'_>]) -> Result<bool, StoreError> {
        let mut connected = self.writer().await?;
        connected.simple("BEGIN").await?;
        let changed = connection::values(first.0, &first.1).execute(&mut connected.inner).await?.rows_affected() > 0;
        if changed {
            for (sql, values) in then {
                connection::values(sql, values).execute(&mut connected.inner).await?;
            }
        }
        connected.simple("COMMIT").await?;
        self.put_back(connected);
        Ok(changed)
    }
}

/// Whether what met another node's work is tried again.
fn again(tried: &mut u32, why: &str) -> bool {
    *tried += 1;
    tracing::debug!(tried, why, "a batch met another's");
    *tried < ATTEMPTS_MAX
}

impl Database for PostgresStore {
    type Row = PgRow;

    /// As a batch does that looks at rooms; [`Database::outlive_commits`] waits for both.
    const HOLD_LISTENERS: Option<&'static str> = Some("LOCK TABLE rooms IN ROW SHARE MODE");

    /// Two nodes that make the same room, or lock each other out, are told so by the database: one of them begins anew and
    /// finds what the other has done.
    async fn commit_batch(&self, batch: &[Write]) -> Result<Vec<Written>, StoreError> {
        let mut tried = 0;
        loop {
            match self.commit_once(batch).await {
                Err(StoreError::Conflict(why)) if again(&mut tried, &why) => {}
                result => return result,
            }
        }
    }

    async fn change<'a>(&'a self, statements: Vec<Statement<'a>>) -> Result<(), StoreError> {
        let mut tried = 0;
        loop {
            match self.change_once(&statements).await {
                Err(StoreError::Conflict(why)) if again(&mut tried, &why) => {}
                result => return result,
            }
        }
    }

    async fn change_if<'a>(&'a self, first: Statement<'a>, then: Vec<Statement<'a>>) -> Result<bool, StoreError> {
        let mut tried = 0;
        loop {
            match self.change_if_once(&first, &then).await {
                Err(StoreError::Conflict(why)) if again(&mut tried, &why) => {}
                result => return result,
            }
        }
    }

    /// Every commit holds a lock on the table of rooms that lets its like pass, and this one waits for.
    async fn outlive_commits(&self) -> Result<(), StoreError> {
        self.change(vec![("LOCK TABLE rooms IN EXCLUSIVE MODE", Vec::new())]).await
    }

    /// See docs/design/outbox.md.
    async fn number_events(&self) -> Result<bool, StoreError> {
        let mut connected = self.writer().await?;
        connected.simple("BEGIN").await?;
        // Who comes while another node is at it leaves it to that one.
        let held = sqlx::query(connection::HOLD_POSITIONS).fetch_optional(&mut connected.inner).await?.is_some();
        let mut given = 0;
        if held {
            given = sqlx::query(connection::GIVE_POSITIONS).execute(&mut connected.inner).await?.rows_affected();
            connected.simple(connection::KEEP_LAST_POSITION).await?;
        }
        connected.simple("COMMIT").await?;
        self.put_back(connected);
        Ok(held && given < connection::POSITIONS_AT_ONCE)
    }

    async fn fetch(&self, sql: &'static str, values: &[Cell<'_>]) -> Result<Vec<PgRow>, StoreError> {
        Ok(connection::values(sql, values).fetch_all(&self.readers).await?)
    }

    async fn find(&self, find: &'static Find, keys: Rows<'_>) -> Result<Vec<PgRow>, StoreError> {
        let query = sqlx::query(AssertSqlSafe(connection::find_statement(find)));
        let kinds = find.on.iter().map(|(_, kind)| *kind);
        Ok(connection::bind_columns(query, kinds, &keys).fetch_all(&self.readers).await?)
    }

    async fn matching(&self, query: &Query, part: Part, limit: u32) -> Result<Vec<PgRow>, StoreError> {
        let [words, room, before, at_ms_max, limit_cell] = connection::matching_values(query, part, limit);
        let values = [words, room, before, at_ms_max, limit_cell, WINDOW.into()];
        let newest = self.fetch(connection::MATCHING_NEWEST, &values).await?;
        if newest.len() >= limit as usize {
            return Ok(newest);
        }
        self.fetch(connection::MATCHING, &values[..5]).await
    }

    async fn health(&self) -> Result<String, StoreError> {
        let mut connection = self.readers.acquire().await?;
        connect::durable(&mut connection, self.durability).await
    }

    async fn end(&self) {
        let writers =
            std::mem::replace(&mut *self.writers.lock().unwrap_or_else(PoisonError::into_inner), Writers::Closed);
        if let Writers::Open(idle) = writers {
            for connected in idle {
                // The server ends what it has of a connection that is gone.
                let _ended = connected.inner.close().await;
            }
        }
        self.readers.close().await;
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }
}
