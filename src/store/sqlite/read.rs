use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Decode, Row as _, Sqlite, Type};

use super::super::StoreError;
use super::super::analysis::{self, Term};
use super::super::sql::{self, Cell, Part, damaged, entry_columns};
use super::connection::SEQ_BITS;

/// The words' index gives one room's messages from the newest on, so it ends with the page.
pub(super) const MATCHING: &str = concat!(
    "SELECT e.room AS room_key, ",
    entry_columns!(),
    " FROM search CROSS JOIN entries AS e \
     WHERE search MATCH $1 AND search.rowid >= $2 << 40 AND search.rowid < ($2 << 40) + $3 \
     AND e.room = $2 AND e.seq = search.rowid & 1099511627775 AND e.at_ms <= $4 ORDER BY search.rowid DESC LIMIT $5"
);

const _: () = assert!(1099511627775 == (1_u64 << SEQ_BITS) - 1, "as it stands in the statement");

pub(super) fn values<'q>(sql: &'static str, values: &[Cell<'_>]) -> Query<'q, Sqlite, SqliteArguments> {
    values.iter().fold(sqlx::query(sql), |query, value| match value {
        Cell::Null => query.bind(None::<i64>),
        Cell::Number(number) => query.bind(*number),
        Cell::Text(text) => query.bind(text.as_ref()),
        Cell::Bytes(bytes) => query.bind(bytes.as_ref()),
    })
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
