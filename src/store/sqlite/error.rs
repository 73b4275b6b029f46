use sqlx::error::DatabaseError;

use super::super::StoreError;

// Primary result codes, https://www.sqlite.org/rescode.html
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const NOT_A_DATABASE: u32 = 26;

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "another crate's enum, open to new variants")]
        match &error {
            sqlx::Error::Database(said) => match primary_code(said.as_ref()) {
                Some(FULL) => Self::Full(said.to_string()),
                Some(CORRUPT | NOT_A_DATABASE) => Self::Damaged(said.to_string()),
                _ => Self::Unavailable(said.to_string()),
            },
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) | sqlx::Error::Decode(_) => {
                Self::Damaged(error.to_string())
            }
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

/// The low byte of SQLite's extended result code.
fn primary_code(error: &dyn DatabaseError) -> Option<u32> {
    error.code()?.parse::<u32>().ok().map(|code| code & 0xff)
}
