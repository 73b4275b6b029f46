//! A copy of the database while it is in use, and a database from such a copy.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use super::super::sql::RENEW_EPOCHS;
use super::super::{StoreError, Versions};
use super::connection::Connected;
use super::{connect, fill};

/// How long a copy waits for a server that is writing.
const PATIENCE: Duration = Duration::from_secs(60);

/// The schema's version of the file, and this server's. Nothing is changed.
pub(in crate::store) async fn versions(path: &Path) -> Result<Versions, StoreError> {
    let found = if path.exists() { version(&mut reading(path).await?).await? } else { 0 };
    Ok(Versions { found, wanted: connect::VERSION })
}

/// Brings the schema up to date, as a starting server does; none may be running. What was found is told.
pub(in crate::store) async fn migrate(path: &Path) -> Result<Versions, StoreError> {
    connect::create(path)?;
    let _claim = connect::claim(path)?;
    let mut writer = connect::writer(&connect::options(path, PATIENCE)).await?;
    let found = version(&mut writer).await?;
    connect::migrate(&mut writer).await?;
    writer.close().await?;
    fill_in(path).await?;
    Ok(Versions { found, wanted: connect::VERSION })
}

/// What SQL could not bring up to date; closing folds the log into the file.
async fn fill_in(path: &Path) -> Result<(), StoreError> {
    let path = path.to_owned();
    let filled = tokio::task::spawn_blocking(move || {
        let connected = Connected::open(&path, PATIENCE, Arc::default())?;
        fill::fill(&connected)?;
        connected.close()
    });
    filled.await.map_err(|error| StoreError::Unavailable(error.to_string()))?
}

async fn version(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    let is_ours = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = '_sqlx_migrations')";
    if !sqlx::query_scalar::<_, bool>(is_ours).fetch_one(&mut *connection).await? {
        return Ok(0);
    }
    Ok(sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations").fetch_one(connection).await?)
}

/// Writes what is committed now into a new file, for its owner only. A server may be running.
pub(in crate::store) async fn backup(path: &Path, to: &Path) -> Result<(), StoreError> {
    if !path.exists() {
        return Err(failed("there is no database at", path, &"nothing to copy"));
    }
    new_file(to)?;
    let copied = async {
        let mut connection = reading(path).await?;
        let name = to.to_str().ok_or_else(|| failed("cannot write", to, &"its name is not UTF-8"))?;
        sqlx::query("VACUUM INTO $1").bind(name).execute(&mut connection).await?;
        connection.close().await?;
        sound(to).await?;
        sync(to)
    };
    let copied = copied.await;
    if copied.is_err() {
        // Half a copy looks like one.
        let _gone = std::fs::remove_file(to);
    }
    copied
}

/// Makes the database from a copy. Every room gets a new epoch: clients that held more than the copy has are told so
/// instead of taking the new log for the old one.
pub(in crate::store) async fn restore(path: &Path, from: &Path, now_ms: u64) -> Result<(), StoreError> {
    if path.exists() {
        return Err(failed("will not overwrite", path, &"move it away first"));
    }
    connect::create_directory(path)?;
    let _claim = connect::claim(path)?;
    // Under another name until it is whole.
    let beside = with_suffix(path, ".restoring");
    let _gone = std::fs::remove_file(&beside);
    new_file(&beside)?;
    std::fs::copy(from, &beside).map_err(|error| failed("cannot copy", from, &error))?;
    sound(&beside).await?;
    let mut writer = connect::writer(&connect::options(&beside, PATIENCE)).await?;
    if version(&mut writer).await? == 0 {
        return Err(failed("is no database of this server:", from, &"nothing was restored"));
    }
    connect::migrate(&mut writer).await?;
    sqlx::query(RENEW_EPOCHS).bind(i64::try_from(now_ms).unwrap_or(i64::MAX)).execute(&mut writer).await?;
    writer.close().await?;
    fill_in(&beside).await?;
    sync(&beside)?;
    std::fs::rename(&beside, path).map_err(|error| failed("cannot name", path, &error))?;
    sync_directory(path)
}

async fn reading(path: &Path) -> Result<SqliteConnection, StoreError> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(PATIENCE);
    Ok(options.disable_statement_logging().connect().await?)
}

/// Whether every page of the file is what it should be.
async fn sound(path: &Path) -> Result<(), StoreError> {
    let mut connection = reading(path).await?;
    let said: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut connection).await?;
    connection.close().await?;
    if said == "ok" { Ok(()) } else { Err(StoreError::Damaged(format!("{}: {said}", path.display()))) }
}

fn new_file(path: &Path) -> Result<(), StoreError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map(drop).map_err(|error| failed("cannot make", path, &error))
}

fn sync(path: &Path) -> Result<(), StoreError> {
    let synced = File::open(path).and_then(|file| file.sync_all());
    synced.map_err(|error| failed("cannot sync", path, &error))?;
    sync_directory(path)
}

fn sync_directory(path: &Path) -> Result<(), StoreError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error: io::Error| failed("cannot sync", directory, &error))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(suffix);
    beside.into()
}

fn failed(what: &str, path: &Path, why: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unavailable(format!("{what} {}: {why}", path.display()))
}
