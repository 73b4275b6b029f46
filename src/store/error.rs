use sqlx::postgres::PgDatabaseError;

use super::StoreError;

// Primary result codes of SQLite, https://www.sqlite.org/rescode.html
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const NOT_A_DATABASE: i32 = 26;

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "another crate's enum, open to new variants")]
        match &error {
            sqlx::Error::Database(said) => match said.try_downcast_ref::<PgDatabaseError>() {
                Some(said) => of_postgres(said.code(), said.to_string()),
                None => of_sqlite(said.code().and_then(|code| code.parse().ok()), said.to_string()),
            },
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) | sqlx::Error::Decode(_) => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        of_sqlite(error.sqlite_error().map(|said| said.extended_code), error.to_string())
    }
}

fn of_sqlite(code: Option<i32>, said: String) -> StoreError {
    // The low byte of the extended result code.
    match code.map(|code| code & 0xff) {
        Some(FULL) => StoreError::Full(said),
        Some(CORRUPT | NOT_A_DATABASE) => StoreError::Damaged(said),
        Some(_) | None => StoreError::Unavailable(said),
    }
}

/// By the codes of PostgreSQL, https://www.postgresql.org/docs/current/errcodes-appendix.html
fn of_postgres(code: &str, said: String) -> StoreError {
    match code {
        // Serialization failure, deadlock, a row that another node has made meanwhile.
        "40001" | "40P01" | "23505" => StoreError::Conflict(said),
        "53100" => StoreError::Full(said),
        "XX001" | "XX002" => StoreError::Damaged(said),
        // A table or a column is not as it should be.
        code if code.starts_with("42") => StoreError::Damaged(said),
        _ => StoreError::Unavailable(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_postgres() {
        let of = |code| of_postgres(code, String::new());
        assert!(matches!(of("40P01"), StoreError::Conflict(_)));
        assert!(matches!(of("53100"), StoreError::Full(_)));
        assert!(matches!(of("42P01"), StoreError::Damaged(_)));
        for code in ["57014", "57P01", "08006", "55P03"] {
            assert!(matches!(of(code), StoreError::Unavailable(_)), "{code}");
        }
    }
}
