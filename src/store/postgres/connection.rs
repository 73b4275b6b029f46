use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Decode, PgConnection, Postgres, Row as _, Type, TypeInfo as _, ValueRef as _};

use super::super::StoreError;
use super::super::analysis::{self, Term};
use super::super::sql::{self, Cell, Find, Indexed, Kind, Part, Rows, Table, damaged, entry_columns};

/// The newest messages of the room, one by one.
pub(super) const MATCHING_NEWEST: &str = concat!(
    "SELECT e.room AS room_key, ",
    entry_columns!(),
    " FROM (SELECT s.seq, s.words FROM search AS s WHERE s.room = $2 AND s.seq < $3 ORDER BY s.seq DESC LIMIT $6) AS w \
     JOIN entries AS e ON e.room = $2 AND e.seq = w.seq \
     WHERE w.words @@ CAST(CAST($1 AS text) AS tsquery) AND e.at_ms <= $4 ORDER BY w.seq DESC LIMIT $5"
);
/// The index of words alone: adding zero keeps the planner from walking the room.
pub(super) const MATCHING: &str = concat!(
    "WITH w AS MATERIALIZED (SELECT s.seq FROM search AS s \
     WHERE s.words @@ CAST(CAST($1 AS text) AS tsquery) AND s.room + 0 = $2 AND s.seq + 0 < $3) \
     SELECT e.room AS room_key, ",
    entry_columns!(),
    " FROM w JOIN entries AS e ON e.room = $2 AND e.seq = w.seq WHERE e.at_ms <= $4 ORDER BY w.seq DESC LIMIT $5"
);
const ROOM_KEYS: &str = "SELECT nextval('room_keys') AS key FROM generate_series(1, $1)";
const INDEX: &str = "INSERT INTO search (room, seq, words) \
    SELECT u.room, u.seq, array_to_tsvector(string_to_array(u.words, ' ')) \
    FROM unnest(CAST($1 AS bigint[]), CAST($2 AS bigint[]), CAST($3 AS text[])) AS u (room, seq, words) \
    ON CONFLICT (room, seq) DO UPDATE SET words = excluded.words";
const UNINDEX: &str = "DELETE FROM search AS t USING unnest(CAST($1 AS bigint[]), CAST($2 AS bigint[])) AS u (room, seq) \
    WHERE t.room = u.room AND t.seq = u.seq";
const UNINDEX_UP_TO: &str = "DELETE FROM search WHERE room = $1 AND seq <= $2";

/// Whoever gives positions holds this row until the end of its transaction.
pub(super) const HOLD_POSITIONS: &str = "SELECT s.last FROM outbox_state AS s WHERE s.one = 1 FOR UPDATE SKIP LOCKED";
/// Events that are given a position in one transaction.
pub(super) const POSITIONS_AT_ONCE: u64 = 5_000;
/// A statement of its own, so that it sees what was committed until the row was held. Ids of one room rise with its commits,
/// for whoever writes holds the room's row.
pub(super) const GIVE_POSITIONS: &str = "UPDATE outbox AS o SET position = s.last + f.nth FROM outbox_state AS s, \
    (SELECT b.id, row_number() OVER (ORDER BY b.id) AS nth FROM outbox AS b WHERE b.position IS NULL \
    ORDER BY b.id LIMIT 5000) AS f WHERE o.id = f.id AND s.one = 1";
const _: () = assert!(POSITIONS_AT_ONCE == 5000, "as it stands in the statement");
pub(super) const KEEP_LAST_POSITION: &str = "UPDATE outbox_state SET last = greatest(last, \
    (SELECT coalesce(max(o.position), 0) FROM outbox AS o)) WHERE one = 1";

/// A connection that writes, and the statements made for it: one each for a table, whatever the number of rows.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) inner: PgConnection,
    made: HashMap<(Verb, &'static str, usize), Arc<str>>,
    /// Of the batch.
    pub(super) statements: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Verb {
    Insert,
    Update,
    Delete,
}

impl From<PgConnection> for Connected {
    fn from(inner: PgConnection) -> Self {
        Self { inner, made: HashMap::new(), statements: 0 }
    }
}

impl Connected {
    /// A statement without values.
    pub(super) async fn simple(&mut self, sql: &'static str) -> Result<(), StoreError> {
        self.statements += 1;
        sqlx::query(sql).execute(&mut self.inner).await?;
        Ok(())
    }

    async fn write(&mut self, verb: Verb, table: &'static Table, rows: Rows<'_>) -> Result<(), StoreError> {
        let kinds: Vec<Kind> = match verb {
            Verb::Insert | Verb::Update => table.columns().map(|column| column.kind).collect(),
            Verb::Delete => table.keys.iter().map(|column| column.kind).collect(),
        };
        let made = self.made.entry((verb, table.name, kinds.len()));
        let sql = Arc::clone(made.or_insert_with(|| statement(verb, table).into()));
        let query = bind_columns(sqlx::query(AssertSqlSafe(sql)), kinds.into_iter(), &rows);
        self.statements += 1;
        query.execute(&mut self.inner).await?;
        Ok(())
    }
}

/// A statement for rows that come as one array for each column.
fn statement(verb: Verb, table: &Table) -> String {
    let name = table.name;
    let columns: Vec<_> = match verb {
        Verb::Insert | Verb::Update => table.columns().collect(),
        Verb::Delete => table.keys.iter().collect(),
    };
    let arrays = columns.iter().enumerate().map(|(at, column)| array(at, column.kind)).collect::<Vec<_>>().join(", ");
    let names = columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ");
    let same = table.keys.iter().map(|key| format!("t.{0} = u.{0}", key.name)).collect::<Vec<_>>().join(" AND ");
    match verb {
        Verb::Insert => format!("INSERT INTO {name} ({names}) SELECT {names} FROM unnest({arrays}) AS u ({names})"),
        Verb::Update => {
            let sets = table.values.iter().map(|value| format!("{0} = u.{0}", value.name));
            let sets = sets.collect::<Vec<_>>().join(", ");
            format!("UPDATE {name} AS t SET {sets} FROM unnest({arrays}) AS u ({names}) WHERE {same}")
        }
        Verb::Delete => format!("DELETE FROM {name} AS t USING unnest({arrays}) AS u ({names}) WHERE {same}"),
    }
}

fn array(at: usize, kind: Kind) -> String {
    let of = match kind {
        Kind::Number | Kind::Sparse => "bigint",
        Kind::Text => "text",
        Kind::Bytes => "bytea",
    };
    format!("CAST(${} AS {of}[])", at + 1)
}

pub(super) fn find_statement(find: &Find) -> String {
    let arrays = find.on.iter().enumerate().map(|(at, (_, kind))| array(at, *kind)).collect::<Vec<_>>().join(", ");
    let keys = (0..find.on.len()).map(|at| format!("k{at}")).collect::<Vec<_>>().join(", ");
    let mut sql = format!("SELECT {} FROM unnest({arrays}) AS j ({keys}) JOIN {} ON ", find.columns, find.from);
    for (at, (column, _)) in find.on.iter().enumerate() {
        let and = if at == 0 { "" } else { " AND " };
        write!(sql, "{and}{column} = j.k{at}").expect("writing to a String does not fail");
    }
    if !find.and.is_empty() {
        write!(sql, " AND {}", find.and).expect("writing to a String does not fail");
    }
    if find.locks {
        // Every node takes the locks of its rooms in one order, so none waits for another in a circle.
        let (first, _) = find.on[0];
        let of = first.split('.').next().expect("a column has its table's alias");
        write!(sql, " ORDER BY {first} FOR UPDATE OF {of}").expect("writing to a String does not fail");
    }
    sql
}

type Bound<'q> = Query<'q, Postgres, PgArguments>;

/// One array for each column.
pub(super) fn bind_columns<'q>(query: Bound<'q>, kinds: impl Iterator<Item = Kind>, rows: &Rows<'_>) -> Bound<'q> {
    kinds.enumerate().fold(query, |query, (at, kind)| {
        let column = rows.column(at);
        match kind {
            Kind::Number => query.bind(column.map(number).collect::<Vec<_>>()),
            Kind::Sparse => query.bind(column.map(|cell| number(cell).filter(|it| *it != 0)).collect::<Vec<_>>()),
            Kind::Text => query.bind(column.map(text).collect::<Vec<_>>()),
            Kind::Bytes => query.bind(column.map(bytes).collect::<Vec<_>>()),
        }
    })
}

pub(super) fn values<'q>(sql: &'static str, values: &[Cell<'_>]) -> Bound<'q> {
    values.iter().fold(sqlx::query(sql), |query, cell| match cell {
        Cell::Null | Cell::Number(_) => query.bind(number(cell)),
        Cell::Text(_) => query.bind(text(cell)),
        Cell::Bytes(_) => query.bind(bytes(cell)),
    })
}

fn number(cell: &Cell<'_>) -> Option<i64> {
    if let Cell::Number(number) = cell { Some(*number) } else { None }
}

/// PostgreSQL keeps no NUL. The engine lets none in; one that comes all the same must not fail the batch of others.
fn text(cell: &Cell<'_>) -> Option<String> {
    let Cell::Text(text) = cell else { return None };
    Some(if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text.as_ref().to_owned() })
}

fn bytes(cell: &Cell<'_>) -> Option<Vec<u8>> {
    if let Cell::Bytes(bytes) = cell { Some(bytes.to_vec()) } else { None }
}

/// The room's own word: no letter is in it.
fn room_word(room: i64) -> String {
    format!("¶{room}")
}

/// The query in the index's own language.
fn match_text(query: &analysis::Query, room: i64) -> String {
    let term = |term: &Term| match term {
        Term::Any(forms) => {
            format!("({})", forms.iter().map(|form| format!("'{form}'")).collect::<Vec<_>>().join(" | "))
        }
        Term::Prefix(begin) => format!("'{begin}':*"),
    };
    let terms = query.terms.iter().map(term).collect::<Vec<_>>().join(" & ");
    format!("{terms} & '{}'", room_word(room))
}

pub(super) fn matching_values(query: &analysis::Query, part: Part, limit: u32) -> [Cell<'static>; 5] {
    let words = match_text(query, part.room);
    [words.into(), part.room.into(), part.before.into(), part.at_ms_max.into(), limit.into()]
}

impl sql::Connection for Connected {
    type Row = PgRow;

    async fn find(&mut self, find: &'static Find, keys: Rows<'_>) -> Result<Vec<PgRow>, StoreError> {
        self.statements += 1;
        let query = sqlx::query(AssertSqlSafe(find_statement(find)));
        let kinds = find.on.iter().map(|(_, kind)| *kind);
        Ok(bind_columns(query, kinds, &keys).fetch_all(&mut self.inner).await?)
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
        self.statements += 1;
        values(sql, of).execute(&mut self.inner).await?;
        Ok(())
    }

    async fn room_keys(&mut self, count: usize) -> Result<Vec<i64>, StoreError> {
        self.statements += 1;
        let count = i64::try_from(count).expect("a batch fits in memory");
        Ok(sqlx::query_scalar(ROOM_KEYS).bind(count).fetch_all(&mut self.inner).await?)
    }

    async fn index(&mut self, messages: Vec<Indexed<'_>>) -> Result<(), StoreError> {
        let (mut rooms, mut seqs, mut words) = (Vec::new(), Vec::new(), Vec::new());
        for message in messages {
            let mut document: Vec<String> = message.words().into_iter().collect();
            document.push(room_word(message.room));
            rooms.push(message.room);
            seqs.push(message.seq.cast_signed());
            words.push(document.join(" "));
        }
        self.statements += 1;
        sqlx::query(INDEX).bind(rooms).bind(seqs).bind(words).execute(&mut self.inner).await?;
        Ok(())
    }

    async fn unindex(&mut self, messages: Vec<(i64, u64)>) -> Result<(), StoreError> {
        let (rooms, seqs): (Vec<i64>, Vec<i64>) =
            messages.into_iter().map(|(room, seq)| (room, seq.cast_signed())).unzip();
        self.statements += 1;
        sqlx::query(UNINDEX).bind(rooms).bind(seqs).execute(&mut self.inner).await?;
        Ok(())
    }

    async fn unindex_up_to(&mut self, room: i64, up_to: u64) -> Result<(), StoreError> {
        self.run(UNINDEX_UP_TO, &[room.into(), up_to.into()]).await
    }
}

impl sql::Row for PgRow {
    fn integer(&self, column: &str) -> Result<i64, StoreError> {
        let value = self.try_get_raw(column).map_err(damaged)?;
        if value.is_null() {
            return Ok(0);
        }
        match value.type_info().name() {
            "INT2" => get::<i16>(self, column).map(i64::from),
            "INT4" => get::<i32>(self, column).map(i64::from),
            _ => get::<i64>(self, column),
        }
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

fn get<'r, T: Decode<'r, Postgres> + Type<Postgres>>(row: &'r PgRow, column: &str) -> Result<T, StoreError> {
    row.try_get(column).map_err(damaged)
}
