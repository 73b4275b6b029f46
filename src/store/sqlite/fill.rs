//! What SQL cannot make for the messages of an older schema: the digest that tells a retry, and the words of the search.

use veza_engine::ledger::Content;

use super::super::StoreError;
use super::super::sql::{Indexed, Row as _};
use super::connection::Connected;

/// Messages of one transaction: what is interrupted goes on there.
const STEP: u32 = 1_000;

const UNFILLED: &str = "SELECT u.room, u.seq, e.author, e.body FROM unfilled AS u \
    CROSS JOIN entries AS e WHERE e.room = u.room AND e.seq = u.seq ORDER BY u.room, u.seq LIMIT $1";

const DIGEST: &str = "UPDATE entries SET digest = ?3 WHERE room = ?1 AND seq = ?2";
const FILLED: &str = "DELETE FROM unfilled WHERE room = ?1 AND seq = ?2";

pub(super) fn fill(writer: &Connected) -> Result<(), StoreError> {
    let mut filled = 0;
    loop {
        writer.execute("BEGIN IMMEDIATE", [])?;
        let rows = writer.fetch(UNFILLED, [STEP])?;
        for row in &rows {
            let (room, seq) = (row.integer("room")?, row.natural("seq")?);
            let (author, body) = (row.text("author")?, row.text("body")?);
            writer.put_in_index(&Indexed { room, seq, replaces: false, author: &author, body: &body })?;
            let digest = Content::text(body).digest().cast_signed();
            writer.execute(DIGEST, (room, seq.cast_signed(), digest))?;
            writer.execute(FILLED, (room, seq.cast_signed()))?;
        }
        filled += rows.len();
        writer.execute("COMMIT", [])?;
        if rows.is_empty() {
            break;
        }
    }
    if filled > 0 {
        tracing::info!(messages = filled, "older messages can be searched now");
    }
    Ok(())
}
