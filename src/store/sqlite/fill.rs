//! What SQL cannot make for the messages of an older schema: the digest that tells a retry, and the words of the search.

use sqlx::Row as _;
use veza_engine::ledger::Content;

use super::super::StoreError;
use super::super::analysis;
use super::super::sql::{Connection as _, Indexed};
use super::connection::Connected;

/// Messages of one transaction: what is interrupted goes on there.
const STEP: u32 = 1_000;

const UNFILLED: &str = "SELECT u.room, u.seq, e.author, e.body FROM unfilled AS u \
    CROSS JOIN entries AS e WHERE e.room = u.room AND e.seq = u.seq ORDER BY u.room, u.seq LIMIT $1";

pub(super) async fn fill(writer: &mut Connected) -> Result<(), StoreError> {
    let mut filled = 0;
    loop {
        sqlx::query("BEGIN IMMEDIATE").execute(&mut writer.inner).await?;
        let rows = sqlx::query(UNFILLED).bind(STEP).fetch_all(&mut writer.inner).await?;
        let mut messages = Vec::with_capacity(rows.len());
        for row in &rows {
            let (room, seq): (i64, i64) = (row.try_get("room")?, row.try_get("seq")?);
            let (author, body): (String, String) = (row.try_get("author")?, row.try_get("body")?);
            let words = analysis::document(&body, &author);
            sqlx::query("UPDATE entries SET digest = $3 WHERE room = $1 AND seq = $2")
                .bind(room)
                .bind(seq)
                .bind(Content::text(body).digest().cast_signed())
                .execute(&mut writer.inner)
                .await?;
            sqlx::query("DELETE FROM unfilled WHERE room = $1 AND seq = $2")
                .bind(room)
                .bind(seq)
                .execute(&mut writer.inner)
                .await?;
            messages.push(Indexed { room, seq: seq.cast_unsigned(), replaces: false, words });
        }
        filled += messages.len();
        let done = messages.is_empty();
        writer.index(messages).await?;
        sqlx::query("COMMIT").execute(&mut writer.inner).await?;
        if done {
            break;
        }
    }
    if filled > 0 {
        tracing::info!(messages = filled, "older messages can be searched now");
    }
    Ok(())
}
