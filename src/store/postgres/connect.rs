use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, PgConnection, Row as _, SqlSafeStr};

use super::super::{OpenError, StoreError, Versions};
use crate::config;

/// How long the schema's migration may take, and another node's before it.
pub(super) const MIGRATION_MAX: Duration = Duration::from_secs(3_600);

/// PostgreSQL 13.
const VERSION_MIN: i32 = 130_000;

/// Every migration in order. One that was released is never edited: its checksum stands in every database.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "rooms and entries", include_str!("../migrations/postgres/0001_rooms_and_entries.sql")),
    (2, "calls", include_str!("../migrations/postgres/0002_calls.sql")),
    (3, "trust", include_str!("../migrations/postgres/0003_trust.sql")),
    (4, "events", include_str!("../migrations/postgres/0004_events.sql")),
    (5, "streams", include_str!("../migrations/postgres/0005_streams.sql")),
    (6, "webhooks", include_str!("../migrations/postgres/0006_webhooks.sql")),
];

/// The schema's version that this server writes.
const VERSION: i64 = 6;

/// What the server insists on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    Full,
    /// `VEZA_ALLOW_WEAK_DURABILITY`: whatever the database is set to.
    AsItIs,
}

impl Durability {
    pub(super) fn of(database: &config::Database) -> Self {
        if database.allow_weak_durability { Self::AsItIs } else { Self::Full }
    }
}

/// What every connection has in common. The URL never appears in an error: it may hold a password.
pub(super) fn options(database: &config::Database) -> Result<PgConnectOptions, OpenError> {
    let refuse = || OpenError::Url("must be postgresql://[user[:password]@]host[:port]/database".into());
    let options = PgConnectOptions::from_str(database.url.expose()).map_err(|_| refuse())?;
    let timeout_ms = database.timeout.as_millis().to_string();
    Ok(options
        .application_name("veza")
        .options([
            ("statement_timeout", timeout_ms.as_str()),
            ("lock_timeout", timeout_ms.as_str()),
            ("idle_in_transaction_session_timeout", timeout_ms.as_str()),
        ])
        .disable_statement_logging())
}

/// A connection that writes, after it has read back that what it commits is durable.
pub(super) async fn writer(options: &PgConnectOptions, durability: Durability) -> Result<PgConnection, StoreError> {
    let mut connection = options.connect().await?;
    durable(&mut connection, durability).await?;
    Ok(connection)
}

pub(super) async fn readers(
    options: &PgConnectOptions,
    connections: u32,
    timeout: Duration,
) -> Result<PgPool, StoreError> {
    let options = options.clone().options([("default_transaction_read_only", "on")]);
    Ok(PgPoolOptions::new().max_connections(connections).acquire_timeout(timeout).connect_with(options).await?)
}

/// A sentence about the database's version and settings.
pub(super) async fn durable(connection: &mut PgConnection, durability: Durability) -> Result<String, StoreError> {
    let sql = "SELECT current_setting('server_version_num')::int AS number, current_setting('server_version') AS version, \
        current_setting('synchronous_commit') AS synchronous, current_setting('fsync') AS fsync";
    let row = sqlx::query(sql).fetch_one(connection).await?;
    let (number, version): (i32, String) = (row.try_get("number")?, row.try_get("version")?);
    let (synchronous, fsync): (String, String) = (row.try_get("synchronous")?, row.try_get("fsync")?);
    judge(number, &synchronous, &fsync, durability)?;
    Ok(format!("PostgreSQL {version}, synchronous_commit={synchronous}, fsync={fsync}"))
}

fn judge(version: i32, synchronous: &str, fsync: &str, durability: Durability) -> Result<(), StoreError> {
    if version < VERSION_MIN {
        return Err(StoreError::Unavailable(format!("PostgreSQL 13 or later is needed, this is {}", version / 10_000)));
    }
    let durable = matches!(synchronous, "on" | "remote_apply") && fsync == "on";
    if durable || durability == Durability::AsItIs {
        return Ok(());
    }
    Err(StoreError::Unavailable(format!(
        "it would not be durable: synchronous_commit reads {synchronous} and fsync {fsync}, and both must be on; for \
         development VEZA_ALLOW_WEAK_DURABILITY=true takes them as they are"
    )))
}

/// Brings the schema to this version, under a lock that every node takes. Running it again changes nothing.
pub(super) async fn migrate(options: &PgConnectOptions, durability: Durability) -> Result<(), StoreError> {
    let options = options.clone().options([("statement_timeout", "0"), ("lock_timeout", "0")]);
    let mut connection = writer(&options, durability).await?;
    #[expect(clippy::wildcard_enum_match_arm, reason = "another crate's enum, open to new variants")]
    migrator().run_direct(None, &mut connection, false).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => StoreError::Damaged(format!(
            "it was written by a newer version of this server (its migration {version} is unknown here)"
        )),
        MigrateError::VersionMismatch(version) => {
            StoreError::Damaged(format!("its migration {version} is not the one of this server"))
        }
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        other => StoreError::Damaged(other.to_string()),
    })?;
    let _ended = sqlx::Connection::close(connection).await;
    Ok(())
}

/// The schema's version of the database, and this server's. Nothing is changed.
pub(super) async fn versions(options: &PgConnectOptions, durability: Durability) -> Result<Versions, StoreError> {
    let mut connection = writer(options, durability).await?;
    let is_ours = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
    let found = if sqlx::query_scalar::<_, bool>(is_ours).fetch_one(&mut connection).await? {
        let last = "SELECT coalesce(max(version), 0) FROM _sqlx_migrations";
        sqlx::query_scalar(last).fetch_one(&mut connection).await?
    } else {
        0
    };
    Ok(Versions { found, wanted: VERSION })
}

fn migrator() -> Migrator {
    let migration = |&(version, description, sql): &(i64, &'static str, &'static str)| {
        Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(MIGRATIONS.iter().map(migration).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_survives_a_power_cut_is_durable() {
        for synchronous in ["on", "remote_apply"] {
            assert_eq!(judge(150_004, synchronous, "on", Durability::Full), Ok(()));
        }
        for (synchronous, fsync) in [("off", "on"), ("local", "on"), ("remote_write", "on"), ("on", "off")] {
            let why = judge(150_004, synchronous, fsync, Durability::Full).unwrap_err().to_string();
            assert!(why.contains("not be durable") && why.contains(synchronous), "{why}");
            assert_eq!(judge(150_004, synchronous, fsync, Durability::AsItIs), Ok(()));
        }
    }

    #[test]
    fn an_old_version_is_refused() {
        assert!(judge(130_000, "on", "on", Durability::Full).is_ok());
        assert!(judge(120_099, "on", "on", Durability::AsItIs).unwrap_err().to_string().contains("this is 12"));
    }
}
