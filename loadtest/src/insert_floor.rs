//! Bare inserts: rows of an entry's shape into a scratch table, one commit for each batch, with nothing above the database.

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection as _, Executor, QueryBuilder};

use crate::Failure;
use crate::member::body;
use crate::report::Report;

const TABLE: &str = "veza_insert_floor";
const ROOMS: i64 = 250;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `sqlite://FILE`, a new file, or `postgresql://…`, where a scratch table is made and dropped.
    #[arg(long, value_name = "URL")]
    database: String,
    /// Rows of one commit; what the server's writer takes at most.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    batch: u32,
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    body: u32,
    /// Write the figures here as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<std::path::PathBuf>,
}

/// What was inserted.
pub(crate) struct Inserted {
    rows: u64,
    took: Duration,
}

impl Inserted {
    pub(crate) fn per_second(&self) -> f64 {
        self.rows as f64 / self.took.as_secs_f64()
    }
}

pub(crate) async fn run(args: Args) -> Result<Report, Failure> {
    let parameters = json!({
        "database": kind(&args.database), "batch": args.batch, "seconds": args.seconds, "body_bytes": args.body,
    });
    let mut report = Report::new("insert-floor", args.json, parameters, "");
    let inserted = measure(&args.database, args.batch, args.seconds, args.body as usize).await?;
    report.figure("rows", inserted.rows);
    report.decimal("rows_per_second", inserted.per_second());
    report.decimal("commits_per_second", inserted.per_second() / f64::from(args.batch));
    Ok(report)
}

/// Without user and password.
pub(crate) fn kind(url: &str) -> &'static str {
    if url.starts_with("sqlite:") { "sqlite" } else { "postgresql" }
}

pub(crate) async fn measure(url: &str, batch: u32, seconds: u32, bytes: usize) -> Result<Inserted, Failure> {
    let failed = |error: sqlx::Error| Failure::setup(format!("bare inserts into {} failed: {error}", kind(url)));
    let until = Duration::from_secs(seconds.into());
    if let Some(path) = url.strip_prefix("sqlite://") {
        if std::path::Path::new(path).exists() {
            return Err(Failure::setup(format!("{path} exists: give a file that does not")));
        }
        let inserted = into_sqlite(path, batch, until, bytes).await.map_err(failed);
        for ending in ["", "-wal", "-shm"] {
            // The journal's files are there or not.
            std::fs::remove_file(format!("{path}{ending}")).ok();
        }
        inserted
    } else {
        into_postgres(url, batch, until, bytes).await.map_err(failed)
    }
}

/// An entry's columns and keys, as far as a message fills them.
fn table(number: &str, bytes: &str, ending: &str) -> String {
    format!(
        "CREATE TABLE {TABLE} (room {number} NOT NULL, seq {number} NOT NULL, kind {number} NOT NULL, place {number}, \
         author TEXT NOT NULL, cmid TEXT, at_ms {number} NOT NULL, digest {number} NOT NULL, messages {number} NOT NULL, \
         body TEXT NOT NULL, detail {bytes} NOT NULL, edits {number} NOT NULL, pinned {number} NOT NULL, \
         reacted {number} NOT NULL, replies {number} NOT NULL, PRIMARY KEY (room, seq)) {ending}"
    )
}

fn index() -> String {
    format!("CREATE UNIQUE INDEX {TABLE}_cmid ON {TABLE} (room, author, cmid)")
}

async fn into_sqlite(path: &str, batch: u32, until: Duration, bytes: usize) -> Result<Inserted, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .disable_statement_logging();
    let mut connection = SqliteConnection::connect_with(&options).await?;
    connection.execute(sqlx::AssertSqlSafe(table("INTEGER", "BLOB", "STRICT, WITHOUT ROWID"))).await?;
    connection.execute(sqlx::AssertSqlSafe(index())).await?;
    let (mut rows, begun) = (0, Instant::now());
    while begun.elapsed() < until {
        let mut transaction = connection.begin().await?;
        insert::<sqlx::Sqlite>(rows, batch, bytes).build().execute(&mut *transaction).await?;
        transaction.commit().await?;
        rows += u64::from(batch);
    }
    let took = begun.elapsed();
    connection.close().await?;
    Ok(Inserted { rows, took })
}

async fn into_postgres(url: &str, batch: u32, until: Duration, bytes: usize) -> Result<Inserted, sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    connection.execute(sqlx::AssertSqlSafe(format!("DROP TABLE IF EXISTS {TABLE}"))).await?;
    connection.execute(sqlx::AssertSqlSafe(table("BIGINT", "BYTEA", ""))).await?;
    connection.execute(sqlx::AssertSqlSafe(index())).await?;
    let (mut rows, begun) = (0, Instant::now());
    while begun.elapsed() < until {
        let mut transaction = connection.begin().await?;
        insert::<sqlx::Postgres>(rows, batch, bytes).build().execute(&mut *transaction).await?;
        transaction.commit().await?;
        rows += u64::from(batch);
    }
    let took = begun.elapsed();
    connection.execute(sqlx::AssertSqlSafe(format!("DROP TABLE {TABLE}"))).await?;
    connection.close().await?;
    Ok(Inserted { rows, took })
}

/// One statement for the batch, which comes from many rooms as a server's batches do.
fn insert<DB>(first: u64, batch: u32, bytes: usize) -> QueryBuilder<DB>
where
    DB: sqlx::Database,
    i64: sqlx::Type<DB> + for<'a> sqlx::Encode<'a, DB>,
    String: sqlx::Type<DB> + for<'a> sqlx::Encode<'a, DB>,
    Vec<u8>: sqlx::Type<DB> + for<'a> sqlx::Encode<'a, DB>,
{
    let mut query = QueryBuilder::new(format!(
        "INSERT INTO {TABLE} (room, seq, kind, place, author, cmid, at_ms, digest, messages, body, detail, edits, pinned, \
         reacted, replies) "
    ));
    query.push_values(0..batch, |mut row, nth| {
        let number = first + u64::from(nth);
        let at = i64::try_from(number).unwrap_or(i64::MAX);
        row.push_bind(at % ROOMS).push_bind(at / ROOMS + 1).push("0").push("0");
        row.push_bind(format!("load-{}", at % 500)).push_bind(format!("{number}"));
        row.push_bind(1_760_000_000_000_i64 + at)
            .push_bind(at.wrapping_mul(0x5851_f42d_4c95_7f2d))
            .push_bind(at / ROOMS + 1);
        row.push_bind(body(number, bytes)).push_bind(Vec::new()).push("0").push("0").push("0").push("0");
    });
    query
}
