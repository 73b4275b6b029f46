use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, OpenFlags, Params, params_from_iter};
use veza_engine::ledger::{Write, Written};

use super::super::StoreError;
use super::super::sql::{self, Cell, Column, Find, Indexed, Kind, Row as _, Rows, Statement, Table, damaged};
use super::{checkpoint, connect};

pub(super) const ROOM_KEY_MAX: &str = "SELECT coalesce(max(key), 0) FROM rooms";
const INDEX: &str = "INSERT INTO search (rowid, words) VALUES (?1, ?2)";
/// Rooms of which something is missing in the index.
const BEHIND: &str = "SELECT key, indexed FROM rooms WHERE indexed < head AND head > 0";
const SAID: &str =
    "SELECT seq, author, body FROM entries WHERE room = ?1 AND seq > ?2 AND kind = 0 AND deleted_seq IS NULL";
const CAUGHT_UP: &str = "UPDATE rooms SET indexed = head WHERE key = ?1";
const IS_INDEXED: &str = "SELECT 1 FROM rooms WHERE key = ?1 AND indexed >= ?2";
const UNINDEX: &str = "DELETE FROM search WHERE rowid = ?1";
const UNINDEX_UP_TO: &str = "DELETE FROM search WHERE rowid IN (\
    SELECT ($1 << 40) | e.seq FROM entries AS e WHERE e.room = $1 AND e.seq <= $2 AND e.kind = 0)";
/// Messages that the index of words may miss before it catches up although nobody searches.
pub(super) const UNINDEXED_MAX: usize = 64;

/// How much may be written before the log is folded into the file: some 16 MiB of log.
const UNFOLDED_MAX: usize = 4_000;
/// What a commit writes beside its rows, in writes.
const COMMIT_WEIGHT: usize = 4;

/// Statements that are kept compiled: more than there are.
const STATEMENTS_KEPT: usize = 128;

/// A message's place in the index: one room is one range.
pub(super) const SEQ_BITS: u32 = 40;
const _: () = assert!(1099511627775 == (1_u64 << SEQ_BITS) - 1, "as it stands in the statement");

/// Every statement of a batch.
#[cfg(test)]
pub(super) fn every_statement() -> Vec<String> {
    let written = sql::EVERY_TABLE.iter().flat_map(|table| {
        let update = (!table.values.is_empty()).then(|| statement(Verb::Update, table));
        [statement(Verb::Insert, table), statement(Verb::Delete, table)].into_iter().chain(update)
    });
    let found = sql::EVERY_FIND.iter().map(|find| find_statement(find));
    let index = [INDEX, BEHIND, SAID, CAUGHT_UP, IS_INDEXED, UNINDEX, UNINDEX_UP_TO];
    let fixed = [ROOM_KEY_MAX].into_iter().chain(index).chain(sql::EXPIRE);
    written.chain(found).chain(fixed.map(str::to_owned)).collect()
}

/// The connection that writes. Its calls block, so it lives on a thread of its own.
#[derive(Debug)]
pub(super) struct Connected {
    inner: Connection,
    /// Writes since the log was last folded into the file, and a constant for each commit.
    unfolded: usize,
    /// Messages since the last catch-up of the index of words.
    unindexed: usize,
    /// Whether there are any, for those who search.
    behind: Arc<AtomicBool>,
}

/// A row that the connection gave, by the names of its columns.
#[derive(Debug)]
pub(super) struct Found {
    columns: Arc<[String]>,
    values: Vec<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Verb {
    Insert,
    Update,
    Delete,
}

impl Connected {
    /// Opens a file that has this version's schema, and reads back that what is committed is durable.
    pub(super) fn open(path: &Path, patience: Duration, behind: Arc<AtomicBool>) -> Result<Self, StoreError> {
        let inner =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        inner.busy_timeout(patience)?;
        inner.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        let journal: String = inner.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        inner.pragma_update(None, "synchronous", "FULL")?;
        inner.pragma_update(None, "foreign_keys", true)?;
        inner.query_row(&format!("PRAGMA journal_size_limit = {}", connect::LOG_BYTES_KEPT), [], |_| Ok(()))?;
        // See `Checkpoints`.
        inner.query_row("PRAGMA wal_autocheckpoint = 0", [], |_| Ok(()))?;
        let synchronous = inner.query_row("PRAGMA synchronous", [], |row| row.get(0))?;
        connect::durable(&journal, synchronous)?;
        // Whoever wrote before may have left something for the index.
        behind.store(true, Ordering::Release);
        Ok(Self { inner, unfolded: 0, unindexed: 0, behind })
    }

    pub(super) fn close(self) -> Result<(), StoreError> {
        self.inner.close().map_err(|(_, error)| error.into())
    }

    /// One transaction. After an error the caller drops the connection, which rolls back.
    pub(super) fn commit(&mut self, batch: &[Write]) -> Result<Vec<Written>, StoreError> {
        self.execute("BEGIN IMMEDIATE", [])?;
        let written = sql::apply(self, batch).now_or_never().expect("nothing of this connection waits")?;
        self.execute("COMMIT", [])?;
        self.unfolded += batch.len() + COMMIT_WEIGHT;
        Ok(written)
    }

    /// As [`Connected::commit`], of statements.
    pub(super) fn change(&mut self, statements: &[Statement<'_>]) -> Result<(), StoreError> {
        self.execute("BEGIN IMMEDIATE", [])?;
        self.run_all(statements)?;
        self.execute("COMMIT", [])?;
        self.unfolded += statements.len() + COMMIT_WEIGHT;
        Ok(())
    }

    /// As [`Connected::change`], unless the first of the statements changes nothing.
    pub(super) fn change_if(&mut self, first: &[Statement<'_>], then: &[Statement<'_>]) -> Result<bool, StoreError> {
        self.execute("BEGIN IMMEDIATE", [])?;
        if self.run_all(first)? == 0 {
            self.execute("ROLLBACK", [])?;
            return Ok(false);
        }
        self.run_all(then)?;
        self.execute("COMMIT", [])?;
        self.unfolded += 1 + then.len() + COMMIT_WEIGHT;
        Ok(true)
    }

    /// How many rows they have changed.
    fn run_all(&self, statements: &[Statement<'_>]) -> Result<usize, StoreError> {
        let mut changed = 0;
        for (sql, cells) in statements {
            let mut statement = self.inner.prepare_cached(sql)?;
            for (at, cell) in cells.iter().enumerate() {
                // SQLite counts parameters by their first appearance; their names say which value is meant.
                if let Some(index) = statement.parameter_index(&format!("${}", at + 1))? {
                    statement.raw_bind_parameter(index, value(Kind::Number, cell))?;
                }
            }
            changed += statement.raw_execute()?;
        }
        Ok(changed)
    }

    /// Whether so much stands in the log that it is worth folding it into the file.
    pub(super) fn has_a_long_log(&self) -> bool {
        self.unfolded >= UNFOLDED_MAX
    }

    /// Folds the rest of the log into the file; the next commit begins it anew unless a reader is in it.
    pub(super) fn fold(&mut self) -> Result<(), StoreError> {
        self.unfolded = 0;
        checkpoint::copy(&self.inner)
    }

    pub(super) fn execute(&self, sql: &str, params: impl Params) -> Result<(), StoreError> {
        self.inner.prepare_cached(sql)?.execute(params)?;
        Ok(())
    }

    pub(super) fn fetch(&self, sql: &str, params: impl Params) -> Result<Vec<Found>, StoreError> {
        let mut statement = self.inner.prepare_cached(sql)?;
        let columns: Arc<[String]> = statement.column_names().into_iter().map(str::to_owned).collect();
        let found = statement.query_map(params, |row| {
            let values = (0..columns.len()).map(|at| row.get(at)).collect::<Result<_, _>>()?;
            Ok(Found { columns: Arc::clone(&columns), values })
        })?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// Many statements at once, without parameters.
    #[cfg(test)]
    pub(super) fn script(&self, sql: &str) -> Result<(), StoreError> {
        Ok(self.inner.execute_batch(sql)?)
    }

    /// Whether so much is missing in the index of words that it is worth a transaction.
    pub(super) fn is_far_behind(&self) -> bool {
        self.unindexed >= UNINDEXED_MAX
    }

    /// Takes into the index what was said since the last time.
    pub(super) fn catch_up(&mut self) -> Result<(), StoreError> {
        if !self.behind.load(Ordering::Acquire) {
            return Ok(());
        }
        self.execute("BEGIN IMMEDIATE", [])?;
        for room in self.fetch(BEHIND, [])? {
            let key = room.integer("key")?;
            for said in self.fetch(SAID, (key, room.integer("indexed")?))? {
                let (seq, author, body) = (said.natural("seq")?, said.text("author")?, said.text("body")?);
                self.put_in_index(&Indexed { room: key, seq, replaces: false, author: &author, body: &body })?;
            }
            self.execute(CAUGHT_UP, [key])?;
        }
        self.execute("COMMIT", [])?;
        self.unindexed = 0;
        self.behind.store(false, Ordering::Release);
        Ok(())
    }

    pub(super) fn put_in_index(&self, message: &Indexed<'_>) -> Result<(), StoreError> {
        if message.replaces {
            self.take_from_index(message.room, message.seq)?;
        }
        let words: Vec<String> = message.words().into_iter().collect();
        self.execute(INDEX, (document_id(message.room, message.seq), words.join(" ")))
    }

    fn take_from_index(&self, room: i64, seq: u64) -> Result<(), StoreError> {
        self.execute(UNINDEX, [document_id(room, seq)])
    }

    fn write(&self, verb: Verb, table: &Table, rows: &Rows<'_>) -> Result<(), StoreError> {
        let columns: Vec<&Column> = match verb {
            Verb::Insert | Verb::Update => table.columns().collect(),
            Verb::Delete => table.keys.iter().collect(),
        };
        let mut statement = self.inner.prepare_cached(&statement(verb, table))?;
        for row in rows.iter() {
            let cells = row.iter().zip(&columns).map(|(cell, column)| value(column.kind, cell));
            statement.execute(params_from_iter(cells))?;
        }
        Ok(())
    }
}

/// A statement for one row, whose cells are numbered as the table's columns.
fn statement(verb: Verb, table: &Table) -> String {
    let name = table.name;
    let columns = |columns: &[Column], from: usize, between: &str| {
        let column = |(at, column): (usize, &Column)| format!("{} = ?{}", column.name, from + at);
        columns.iter().enumerate().map(column).collect::<Vec<_>>().join(between)
    };
    let keys = columns(table.keys, 1, " AND ");
    match verb {
        Verb::Insert => {
            let names = table.columns().map(|column| column.name).collect::<Vec<_>>().join(", ");
            format!("INSERT INTO {name} ({names}) VALUES ({})", vec!["?"; table.width()].join(", "))
        }
        Verb::Update => {
            format!("UPDATE {name} SET {} WHERE {keys}", columns(table.values, table.keys.len() + 1, ", "))
        }
        Verb::Delete => format!("DELETE FROM {name} WHERE {keys}"),
    }
}

/// `json_each` turns the batch's keys into rows, and CROSS JOIN keeps them the outer loop, so that every step is a look-up
/// in an index.
pub(super) fn find_statement(find: &Find) -> String {
    let mut sql = format!("SELECT {} FROM json_each($1) AS j CROSS JOIN {} WHERE ", find.columns, find.from);
    for (at, (column, _)) in find.on.iter().enumerate() {
        let and = if at == 0 { "" } else { " AND " };
        write!(sql, "{and}{column} = j.value ->> {at}").expect("writing to a String does not fail");
    }
    if !find.and.is_empty() {
        write!(sql, " AND {}", find.and).expect("writing to a String does not fail");
    }
    sql
}

fn value<'a>(kind: Kind, cell: &'a Cell<'_>) -> ToSqlOutput<'a> {
    ToSqlOutput::Borrowed(match cell {
        Cell::Null => ValueRef::Null,
        Cell::Number(0) if kind == Kind::Sparse => ValueRef::Null,
        Cell::Number(number) => ValueRef::Integer(*number),
        Cell::Text(text) => ValueRef::Text(text.as_bytes()),
        Cell::Bytes(bytes) => ValueRef::Blob(bytes),
    })
}

/// The keys as JSON: rows of numbers and texts.
pub(super) fn keys_as_json(keys: &Rows<'_>) -> String {
    let row = |row: &[Cell<'_>]| -> Vec<serde_json::Value> {
        let cell = |cell: &Cell<'_>| match cell {
            Cell::Null | Cell::Bytes(_) => serde_json::Value::Null,
            Cell::Number(number) => (*number).into(),
            Cell::Text(text) => text.as_ref().into(),
        };
        row.iter().map(cell).collect()
    };
    serde_json::Value::from(keys.iter().map(|cells| serde_json::Value::from(row(cells))).collect::<Vec<_>>())
        .to_string()
}

fn document_id(room: i64, seq: u64) -> i64 {
    (room << SEQ_BITS) | i64::try_from(seq).unwrap_or(i64::MAX)
}

impl sql::Connection for Connected {
    type Row = Found;

    async fn find(&mut self, find: &'static Find, keys: Rows<'_>) -> Result<Vec<Found>, StoreError> {
        self.fetch(&find_statement(find), [keys_as_json(&keys)])
    }

    async fn insert(&mut self, table: &'static Table, rows: Rows<'_>) -> Result<(), StoreError> {
        self.write(Verb::Insert, table, &rows)
    }

    async fn update(&mut self, table: &'static Table, rows: Rows<'_>) -> Result<(), StoreError> {
        if table.values.is_empty() { Ok(()) } else { self.write(Verb::Update, table, &rows) }
    }

    async fn delete(&mut self, table: &'static Table, keys: Rows<'_>) -> Result<(), StoreError> {
        self.write(Verb::Delete, table, &keys)
    }

    async fn run(&mut self, sql: &'static str, of: &[Cell<'_>]) -> Result<(), StoreError> {
        self.execute(sql, params_from_iter(of.iter().map(|cell| value(Kind::Number, cell))))
    }

    /// Only this connection writes, so what is free now stays so.
    async fn room_keys(&mut self, count: usize) -> Result<Vec<i64>, StoreError> {
        let last: i64 = self.inner.prepare_cached(ROOM_KEY_MAX)?.query_row([], |row| row.get(0))?;
        Ok((last + 1..).take(count).collect())
    }

    /// What is new waits for [`Connected::catch_up`], which takes messages as they are then.
    async fn index(&mut self, messages: Vec<Indexed<'_>>) -> Result<(), StoreError> {
        for message in messages {
            if !message.replaces {
                self.unindexed += 1;
                self.behind.store(true, Ordering::Release);
            } else if self.fetch(IS_INDEXED, (message.room, message.seq.cast_signed()))?.len() == 1 {
                self.put_in_index(&message)?;
            }
        }
        Ok(())
    }

    async fn unindex(&mut self, messages: Vec<(i64, u64)>) -> Result<(), StoreError> {
        messages.into_iter().try_for_each(|(room, seq)| self.take_from_index(room, seq))
    }

    async fn unindex_up_to(&mut self, room: i64, up_to: u64) -> Result<(), StoreError> {
        self.run(UNINDEX_UP_TO, &[room.into(), up_to.into()]).await
    }
}

impl Found {
    fn value(&self, column: &str) -> Result<&Value, StoreError> {
        let at = self.columns.iter().position(|name| name == column);
        Ok(&self.values[at.ok_or_else(|| damaged(format!("there is no column {column}")))?])
    }

    fn other(&self, column: &str) -> StoreError {
        damaged(format!("column {column} holds another type"))
    }
}

impl sql::Row for Found {
    fn integer(&self, column: &str) -> Result<i64, StoreError> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "every other type is the same mistake")]
        match self.value(column)? {
            Value::Integer(number) => Ok(*number),
            Value::Null => Ok(0),
            _ => Err(self.other(column)),
        }
    }

    fn text(&self, column: &str) -> Result<String, StoreError> {
        self.text_or_null(column)?.ok_or_else(|| self.other(column))
    }

    fn text_or_null(&self, column: &str) -> Result<Option<String>, StoreError> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "every other type is the same mistake")]
        match self.value(column)? {
            Value::Text(text) => Ok(Some(text.clone())),
            Value::Null => Ok(None),
            _ => Err(self.other(column)),
        }
    }

    fn bytes(&self, column: &str) -> Result<Vec<u8>, StoreError> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "every other type is the same mistake")]
        match self.value(column)? {
            Value::Blob(bytes) => Ok(bytes.clone()),
            _ => Err(self.other(column)),
        }
    }
}
