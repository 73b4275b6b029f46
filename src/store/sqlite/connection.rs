use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Decode, Row as _, Sqlite, SqliteConnection, Type};

use super::super::StoreError;
use super::super::analysis::{self, Term};
use super::super::sql::{self, Cell, Column, Find, Indexed, Kind, Part, Rows, Table, damaged, entry_columns};

/// Rows of one statement, largest first. A few fixed sizes keep their prepared statements; any number is made of them.
const ROWS: [usize; 5] = [256, 64, 16, 4, 1];

pub(super) const ROOM_KEY_MAX: &str = "SELECT coalesce(max(key), 0) FROM rooms";
const UNINDEX: &str = "DELETE FROM search WHERE rowid IN (SELECT j.value FROM json_each($1) AS j)";
const UNINDEX_UP_TO: &str = "DELETE FROM search WHERE rowid IN (\
    SELECT ($1 << 40) | e.seq FROM entries AS e WHERE e.room = $1 AND e.seq <= $2 AND e.kind = 0)";
/// The words' index gives one room's messages from the newest on, so it ends with the page.
pub(super) const MATCHING: &str = concat!(
    "SELECT e.room AS room_key, ",
    entry_columns!(),
    " FROM search CROSS JOIN entries AS e \
     WHERE search MATCH $1 AND search.rowid >= $2 << 40 AND search.rowid < ($2 << 40) + $3 \
     AND e.room = $2 AND e.seq = search.rowid & 1099511627775 AND e.at_ms <= $4 ORDER BY search.rowid DESC LIMIT $5"
);

/// A message's place in the index: one room is one range.
const SEQ_BITS: u32 = 40;
const _: () = assert!(1099511627775 == (1_u64 << SEQ_BITS) - 1, "as it stands in the statement");

static SEARCH: Table = Table {
    name: "search",
    keys: &[Column { name: "rowid", kind: Kind::Number }],
    values: &[Column { name: "words", kind: Kind::Text }],
};

/// Every statement of reads and of a batch, with rows of more than one.
#[cfg(test)]
pub(super) fn every_statement() -> Vec<String> {
    let written = sql::EVERY_TABLE.iter().flat_map(|table| {
        let update = (!table.values.is_empty()).then(|| statement(Verb::Update, table, 4));
        [statement(Verb::Insert, table, 4), statement(Verb::Delete, table, 4)].into_iter().chain(update)
    });
    let found = sql::EVERY_FIND.iter().map(|find| find_statement(find));
    let fixed = [ROOM_KEY_MAX, MATCHING, UNINDEX, UNINDEX_UP_TO].into_iter().chain(sql::EVERY_READ).chain(sql::EXPIRE);
    written.chain(found).chain(fixed.map(str::to_owned)).collect()
}

/// The connection that writes, and the statements made for it. Each costs a hop to the connection's thread, so they take
/// many rows at once.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) inner: SqliteConnection,
    made: HashMap<(Verb, &'static str, usize, usize), Arc<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Verb {
    Insert,
    Update,
    Delete,
}

impl From<SqliteConnection> for Connected {
    fn from(inner: SqliteConnection) -> Self {
        Self { inner, made: HashMap::new() }
    }
}

impl Connected {
    async fn write(&mut self, verb: Verb, table: &'static Table, rows: Rows<'_>) -> Result<(), StoreError> {
        let columns: Vec<Kind> = match verb {
            Verb::Insert | Verb::Update => table.columns().map(|column| column.kind).collect(),
            Verb::Delete => table.keys.iter().map(|column| column.kind).collect(),
        };
        let mut rows = rows.iter();
        for size in ROWS {
            while rows.len() >= size {
                let made = self.made.entry((verb, table.name, columns.len(), size));
                let sql = made.or_insert_with(|| statement(verb, table, size).into());
                let mut query = sqlx::query(AssertSqlSafe(Arc::clone(sql)));
                for row in rows.by_ref().take(size) {
                    for (cell, kind) in row.iter().zip(&columns) {
                        query = bind(query, *kind, cell);
                    }
                }
                query.execute(&mut self.inner).await?;
            }
        }
        Ok(())
    }
}

/// A statement for so many rows at once.
fn statement(verb: Verb, table: &Table, rows: usize) -> String {
    let width = if verb == Verb::Delete { table.keys.len() } else { table.width() };
    let row = format!("({})", vec!["?"; width].join(", "));
    let values = vec![row.as_str(); rows].join(", ");
    let names = |columns: &[Column]| columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ");
    let name = table.name;
    match verb {
        Verb::Insert => {
            let columns = table.columns().map(|column| column.name).collect::<Vec<_>>().join(", ");
            format!("INSERT INTO {name} ({columns}) VALUES {values}")
        }
        Verb::Update => {
            let mut sql = format!("UPDATE {name} SET ");
            for (at, column) in table.values.iter().enumerate() {
                let comma = if at == 0 { "" } else { ", " };
                let from = table.keys.len() + at + 1;
                write!(sql, "{comma}{} = u.column{from}", column.name).expect("writing to a String does not fail");
            }
            write!(sql, " FROM (VALUES {values}) AS u WHERE ").expect("writing to a String does not fail");
            for (at, column) in table.keys.iter().enumerate() {
                let and = if at == 0 { "" } else { " AND " };
                let from = at + 1;
                write!(sql, "{and}{name}.{} = u.column{from}", column.name).expect("writing to a String does not fail");
            }
            sql
        }
        Verb::Delete => format!("DELETE FROM {name} WHERE ({}) IN (VALUES {values})", names(table.keys)),
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

pub(super) fn bind<'q>(
    query: Query<'q, Sqlite, SqliteArguments>,
    kind: Kind,
    cell: &Cell<'_>,
) -> Query<'q, Sqlite, SqliteArguments> {
    match cell {
        Cell::Null => query.bind(None::<i64>),
        Cell::Number(0) if kind == Kind::Sparse => query.bind(None::<i64>),
        Cell::Number(number) => query.bind(*number),
        Cell::Text(text) => query.bind(text.as_ref()),
        Cell::Bytes(bytes) => query.bind(bytes.as_ref()),
    }
}

pub(super) fn values<'q>(sql: &'static str, values: &[Cell<'_>]) -> Query<'q, Sqlite, SqliteArguments> {
    values.iter().fold(sqlx::query(sql), |query, value| bind(query, Kind::Number, value))
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

/// The query in the index's own language.
pub(super) fn match_text(query: &analysis::Query) -> String {
    let term = |term: &Term| match term {
        Term::Any(forms) => {
            format!("({})", forms.iter().map(|form| format!("\"{form}\"")).collect::<Vec<_>>().join(" OR "))
        }
        Term::Prefix(begin) => format!("\"{begin}\"*"),
    };
    query.terms.iter().map(term).collect::<Vec<_>>().join(" AND ")
}

pub(super) fn matching_values(query: &analysis::Query, part: Part, limit: u32) -> [Cell<'static>; 5] {
    let before = part.before.min(1 << SEQ_BITS);
    [match_text(query).into(), part.room.into(), before.into(), part.at_ms_max.into(), limit.into()]
}

fn document_id(room: i64, seq: u64) -> i64 {
    (room << SEQ_BITS) | i64::try_from(seq).unwrap_or(i64::MAX)
}

impl sql::Connection for Connected {
    type Row = SqliteRow;

    async fn find(&mut self, find: &'static Find, keys: Rows<'_>) -> Result<Vec<SqliteRow>, StoreError> {
        let query = sqlx::query(AssertSqlSafe(find_statement(find)));
        Ok(query.bind(keys_as_json(&keys)).fetch_all(&mut self.inner).await?)
    }

    async fn insert(&mut self, table: &'static Table, rows: Rows<'_>) -> Result<(), StoreError> {
        self.write(Verb::Insert, table, rows).await
    }

    async fn update(&mut self, table: &'static Table, rows: Rows<'_>) -> Result<(), StoreError> {
        if table.values.is_empty() { Ok(()) } else { self.write(Verb::Update, table, rows).await }
    }

    async fn delete(&mut self, table: &'static Table, keys: Rows<'_>) -> Result<(), StoreError> {
        self.write(Verb::Delete, table, keys).await
    }

    async fn run(&mut self, sql: &'static str, of: &[Cell<'_>]) -> Result<(), StoreError> {
        values(sql, of).execute(&mut self.inner).await?;
        Ok(())
    }

    /// Only this connection writes, so what is free now stays so.
    async fn room_keys(&mut self, count: usize) -> Result<Vec<i64>, StoreError> {
        let last: i64 = sqlx::query_scalar(ROOM_KEY_MAX).fetch_one(&mut self.inner).await?;
        Ok((last + 1..).take(count).collect())
    }

    async fn index(&mut self, messages: Vec<Indexed>) -> Result<(), StoreError> {
        let replaced = messages.iter().filter(|message| message.replaces).map(|message| (message.room, message.seq));
        self.unindex(replaced.collect()).await?;
        let mut rows = Rows::new(SEARCH.width());
        for Indexed { room, seq, words, .. } in messages {
            let words: Vec<String> = words.into_iter().collect();
            rows.push([document_id(room, seq).into(), words.join(" ").into()]);
        }
        self.write(Verb::Insert, &SEARCH, rows).await
    }

    async fn unindex(&mut self, messages: Vec<(i64, u64)>) -> Result<(), StoreError> {
        if messages.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = messages.into_iter().map(|(room, seq)| document_id(room, seq)).collect();
        self.run(UNINDEX, &[serde_json::Value::from(ids).to_string().into()]).await
    }

    async fn unindex_up_to(&mut self, room: i64, up_to: u64) -> Result<(), StoreError> {
        self.run(UNINDEX_UP_TO, &[room.into(), up_to.into()]).await
    }
}

impl sql::Row for SqliteRow {
    fn integer(&self, column: &str) -> Result<i64, StoreError> {
        Ok(get::<Option<i64>>(self, column)?.unwrap_or(0))
    }

    fn text(&self, column: &str) -> Result<String, StoreError> {
        get(self, column)
    }

    fn text_or_null(&self, column: &str) -> Result<Option<String>, StoreError> {
        get(self, column)
    }

    fn bytes(&self, column: &str) -> Result<Vec<u8>, StoreError> {
        get(self, column)
    }
}

fn get<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(row: &'r SqliteRow, column: &str) -> Result<T, StoreError> {
    row.try_get(column).map_err(damaged)
}
