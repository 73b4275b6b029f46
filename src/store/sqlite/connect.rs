use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqlSafeStr, SqliteConnection};

use super::super::{OpenError, StoreError};

/// What the log's file may keep on disk after a burst, bytes.
pub(super) const LOG_BYTES_KEPT: &str = "67108864";

/// What `PRAGMA synchronous` reads back for FULL.
const SYNCHRONOUS_FULL: i64 = 2;

/// Every migration in order. One that was released is never edited: its checksum stands in every database.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "rooms and messages", include_str!("../migrations/sqlite/0001_rooms_and_messages.sql")),
    (2, "entries", include_str!("../migrations/sqlite/0002_entries.sql")),
    (3, "calls", include_str!("../migrations/sqlite/0003_calls.sql")),
    (4, "trust", include_str!("../migrations/sqlite/0004_trust.sql")),
    (5, "words later", include_str!("../migrations/sqlite/0005_words_later.sql")),
    (6, "events", include_str!("../migrations/sqlite/0006_events.sql")),
    (7, "streams", include_str!("../migrations/sqlite/0007_streams.sql")),
    (8, "webhooks", include_str!("../migrations/sqlite/0008_webhooks.sql")),
];

/// The schema's version that this server writes.
pub(super) const VERSION: i64 = 8;

/// The file that `sqlite://path` or `sqlite:path` names.
pub(in crate::store) fn path_of(url: &str) -> Result<PathBuf, OpenError> {
    let refuse = |why: &str| Err(OpenError::Url(why.into()));
    let Some(path) = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:")) else {
        return refuse("must be sqlite://path");
    };
    if path.contains(":memory:") || path.contains("mode=memory") {
        return refuse("names a database in memory, which forgets what was acknowledged; use sqlite://path");
    }
    if path.contains('?') {
        return refuse("must be sqlite://path without options; the server sets its own");
    }
    if path.is_empty() || path.ends_with('/') || path.starts_with("file:") {
        return refuse("must name a file: sqlite://path");
    }
    Ok(PathBuf::from(path))
}

/// Makes the directory and an empty file, both for their owner only; SQLite gives its log the same mode as the file.
pub(super) fn create(path: &Path) -> Result<(), StoreError> {
    let failed = |error: io::Error| StoreError::Unavailable(format!("cannot create {}: {error}", path.display()));
    let directory = create_directory(path)?;
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        // The file's name must survive the loss of power as well as its content.
        Ok(_) => File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

pub(super) fn create_directory(path: &Path) -> Result<&Path, StoreError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| StoreError::Unavailable(format!("cannot create {}: {error}", directory.display())))?;
    Ok(directory)
}

/// Claims the database for this process until the file is dropped or the process ends, however it ends. What another
/// server committed would reach nobody here: the bus beside SQLite is inside the process.
pub(super) fn claim(path: &Path) -> Result<File, StoreError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let failed = |why: &dyn std::fmt::Display| {
        StoreError::Unavailable(format!("cannot claim {}: {why}", Path::new(&beside).display()))
    };
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&beside);
    let file = file.map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(failed(&"another server is using this database")),
        Err(TryLockError::Error(error)) => Err(failed(&error)),
    }
}

/// What every connection has in common.
pub(super) fn options(path: &Path, timeout: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(timeout)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .disable_statement_logging()
}

/// A connection that may change the schema, after it has read back that what it commits is durable.
pub(super) async fn writer(options: &SqliteConnectOptions) -> Result<SqliteConnection, StoreError> {
    let options = options.clone().journal_mode(SqliteJournalMode::Wal).pragma("journal_size_limit", LOG_BYTES_KEPT);
    let mut connection = options.connect().await?;
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut connection).await?;
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut connection).await?;
    durable(&journal, synchronous)?;
    Ok(connection)
}

pub(super) fn durable(journal: &str, synchronous: i64) -> Result<(), StoreError> {
    if journal == "wal" && synchronous == SYNCHRONOUS_FULL {
        return Ok(());
    }
    Err(StoreError::Unavailable(format!(
        "it would not be durable: journal_mode reads {journal} instead of wal, or synchronous {synchronous} instead of 2; \
         is the file on a network share?"
    )))
}

pub(super) async fn readers(
    options: &SqliteConnectOptions,
    readers: u32,
    timeout: Duration,
) -> Result<SqlitePool, StoreError> {
    let options = options.clone().pragma("query_only", "ON");
    Ok(SqlitePoolOptions::new()
        .max_connections(readers)
        .acquire_timeout(timeout)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(options)
        .await?)
}

/// Brings the schema to this version. Running it again changes nothing.
pub(super) async fn migrate(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    migrate_to(connection, VERSION).await
}

/// As [`migrate`], to an older version of the schema.
pub(super) async fn migrate_to(connection: &mut SqliteConnection, version: i64) -> Result<(), StoreError> {
    let migration = |&(version, description, sql): &(i64, &'static str, &'static str)| {
        Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    let wanted = MIGRATIONS.iter().filter(|(of, _, _)| *of <= version);
    let migrator = Migrator::with_migrations(wanted.map(migration).collect());
    #[expect(clippy::wildcard_enum_match_arm, reason = "another crate's enum, open to new variants")]
    migrator.run_direct(None, connection, false).await.map_err(|error| match error {
        MigrateError::VersionMissing(version) => StoreError::Damaged(format!(
            "it was written by a newer version of this server (its migration {version} is unknown here)"
        )),
        MigrateError::VersionMismatch(version) => {
            StoreError::Damaged(format!("its migration {version} is not the one of this server"))
        }
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        other => StoreError::Damaged(other.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_file() {
        assert_eq!(path_of("sqlite://veza.db").unwrap(), PathBuf::from("veza.db"));
        assert_eq!(path_of("sqlite:///var/lib/veza.db").unwrap(), PathBuf::from("/var/lib/veza.db"));
        assert_eq!(path_of("sqlite:data/veza.db").unwrap(), PathBuf::from("data/veza.db"));
    }

    #[test]
    fn a_url_that_forgets_or_says_more_than_a_path_is_refused() {
        for url in ["sqlite::memory:", "sqlite://:memory:", "sqlite://a.db?mode=memory", "sqlite:file::memory:"] {
            assert!(path_of(url).unwrap_err().to_string().contains("in memory"), "{url}");
        }
        for url in ["sqlite://a.db?mode=ro", "sqlite://", "sqlite:", "sqlite:///var/lib/", "sqlite:file:a.db"] {
            assert!(path_of(url).is_err(), "{url}");
        }
    }

    #[test]
    fn less_than_full_is_not_durable() {
        assert!(durable("wal", 2).is_ok());
        for (journal, synchronous) in [("wal", 1), ("wal", 0), ("delete", 2), ("memory", 2)] {
            assert!(durable(journal, synchronous).is_err(), "{journal} {synchronous}");
        }
    }
}
