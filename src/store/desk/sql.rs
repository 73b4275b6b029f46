use futures_util::FutureExt;
use prost::Message;
use veza_engine::ledger::KEPT_MS;
use veza_engine::streams;
use veza_proto::gateway::v1::{Decision, Effects, Review, Stream, StreamState};

use super::{Desk, Live, Queue, ReviewRow, StreamRow, Used};
use crate::store::outbox::Told;
use crate::store::sql::{Cell, Database, Row, Statement, counted, damaged, tell, within};
use crate::store::{Answered, StoreError};

const STREAM: &str = "SELECT s.record, s.effects FROM streams AS s WHERE s.id = $1";
const NEW_STREAM: &str = "INSERT INTO streams (id, owner, category, listed, state, started_ms, revision, record, effects) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING";
/// SQLite counts parameters by where they stand first, so the id is set to what it is.
const NEXT_STREAM: &str = "UPDATE streams SET id = $1, owner = $2, category = $3, listed = $4, state = $5, \
    started_ms = $6, revision = $7, record = $8, effects = $9 WHERE id = $1 AND revision = $7 - 1";
const LIVE: &str = "SELECT s.record, s.effects FROM streams AS s WHERE s.state = 2 \
    AND ($1 = CAST(0 AS bigint) OR s.category = $1) AND ($2 = '' OR s.owner = $2) \
    AND (s.listed = 1 OR $3 = '' OR s.owner = $3) \
    AND (s.started_ms < $4 OR (s.started_ms = $4 AND s.id > $5)) ORDER BY s.started_ms DESC, s.id LIMIT $6";
const _: () = assert!(StreamState::Live as i32 == 2, "as it stands in the statement");

const REVIEW: &str = "SELECT r.record, r.report, r.pending FROM reviews AS r WHERE r.id = $1";
const REPORTED: &str = "SELECT r.record, r.report, r.pending FROM reviews AS r WHERE r.report = $1";
const NEW_REVIEW: &str = "INSERT INTO reviews (id, created_ms, state, category, room, account, report, revision, record, \
    pending) VALUES ($1, $2, $3, $4, $5, $6, nullif($7, ''), $8, $9, $10) ON CONFLICT DO NOTHING";
const NEXT_REVIEW: &str = "UPDATE reviews SET id = $1, created_ms = $2, state = $3, category = $4, room = $5, \
    account = $6, report = nullif($7, ''), revision = $8, record = $9, pending = $10 WHERE id = $1 AND revision = $8 - 1";
const REVIEWS: &str = "SELECT r.record, r.report, r.pending FROM reviews AS r WHERE \
    ($1 = CAST(0 AS bigint) OR r.state = $1) AND ($2 = CAST(0 AS bigint) OR r.category = $2) \
    AND ($3 = '' OR r.room = $3) AND ($4 = '' OR r.account = $4) \
    AND (r.created_ms > $5 OR (r.created_ms = $5 AND r.id > $6)) ORDER BY r.created_ms, r.id LIMIT $7";

const USED: &str = "SELECT c.service, c.name, c.digest, c.made, c.at_ms FROM record_calls AS c \
    WHERE c.service = $1 AND c.name = $2";
const USE: &str = "INSERT INTO record_calls (service, name, digest, made, at_ms) VALUES ($1, $2, $3, $4, $5) \
    ON CONFLICT (service, name) DO UPDATE SET digest = excluded.digest, made = excluded.made, at_ms = excluded.at_ms";
/// As [`USE`], of a key that nobody may be using.
const CLAIM: &str = "INSERT INTO record_calls (service, name, digest, made, at_ms) VALUES ($1, $2, $3, $4, $5)";
const FORGET: &str = "DELETE FROM record_calls WHERE at_ms <= $1";

impl<D: Database> Desk for D {
    fn stream<'a>(&'a self, id: &'a str) -> Answered<'a, Option<StreamRow>> {
        counted("stream", self.timeout(), async move {
            self.fetch(STREAM, &[id.into()]).await?.first().map(stream).transpose()
        })
    }

    fn keep_stream<'a>(&'a self, row: &'a StreamRow, used: Option<&'a Used>, at_ms: u64) -> Answered<'a, bool> {
        let StreamRow { stream, effects } = row;
        let values = vec![
            stream.id.as_str().into(),
            stream.owner.as_str().into(),
            i64::from(stream.category).into(),
            streams::is_listed(stream.visibility()).into(),
            i64::from(stream.state).into(),
            stream.started_ms.into(),
            stream.revision.into(),
            stream.encode_to_vec().into(),
            effects.encode_to_vec().into(),
        ];
        let sql = if stream.revision == 1 { NEW_STREAM } else { NEXT_STREAM };
        let then = remember(used).into_iter().chain(tell::<D>(&[row.told(at_ms)])).collect();
        within(self.timeout(), self.change_if((sql, values), then)).boxed()
    }

    fn live<'a>(&'a self, which: &'a Live, limit: u32) -> Answered<'a, Vec<StreamRow>> {
        counted("live", self.timeout(), async move {
            let (started_ms, id) = which.after.as_ref().map_or((u64::MAX, ""), |(at_ms, id)| (*at_ms, id.as_str()));
            let values = [
                i64::from(which.category.map_or(0, i32::from)).into(),
                which.owner.as_deref().unwrap_or_default().into(),
                which.viewer.as_deref().unwrap_or_default().into(),
                started_ms.into(),
                id.into(),
                limit.into(),
            ];
            self.fetch(LIVE, &values).await?.iter().map(stream).collect()
        })
    }

    fn review<'a>(&'a self, id: &'a str) -> Answered<'a, Option<ReviewRow>> {
        counted("review", self.timeout(), async move {
            self.fetch(REVIEW, &[id.into()]).await?.first().map(review).transpose()
        })
    }

    fn reported<'a>(&'a self, report: &'a str) -> Answered<'a, Option<ReviewRow>> {
        counted("reported", self.timeout(), async move {
            self.fetch(REPORTED, &[report.into()]).await?.first().map(review).transpose()
        })
    }

    fn keep_review<'a>(&'a self, row: &'a ReviewRow, used: Option<&'a Used>, at_ms: u64) -> Answered<'a, bool> {
        let ReviewRow { review, report, pending } = row;
        let values = vec![
            review.id.as_str().into(),
            review.created_ms.into(),
            i64::from(review.state).into(),
            i64::from(review.category).into(),
            review.room.as_str().into(),
            review.user.as_str().into(),
            report.as_str().into(),
            review.revision.into(),
            review.encode_to_vec().into(),
            pending.as_ref().map(Message::encode_to_vec).unwrap_or_default().into(),
        ];
        let sql = if review.revision == 1 { NEW_REVIEW } else { NEXT_REVIEW };
        let told: Vec<Told> = row.told(at_ms).into_iter().collect();
        let then = remember(used).into_iter().chain(tell::<D>(&told)).collect();
        within(self.timeout(), self.change_if((sql, values), then)).boxed()
    }

    fn reviews<'a>(&'a self, which: &'a Queue, limit: u32) -> Answered<'a, Vec<ReviewRow>> {
        counted("reviews", self.timeout(), async move {
            let (at_ms, id) = which.after.as_ref().map_or((0, ""), |(at_ms, id)| (*at_ms, id.as_str()));
            let values = [
                i64::from(which.state.map_or(0, i32::from)).into(),
                i64::from(which.category.map_or(0, i32::from)).into(),
                which.room.as_deref().unwrap_or_default().into(),
                which.user.as_deref().unwrap_or_default().into(),
                at_ms.into(),
                id.into(),
                limit.into(),
            ];
            self.fetch(REVIEWS, &values).await?.iter().map(review).collect()
        })
    }

    fn used<'a>(&'a self, service: &'a str, key: &'a str) -> Answered<'a, Option<Used>> {
        counted("used", self.timeout(), async move {
            let rows = self.fetch(USED, &[service.into(), key.into()]).await?;
            rows.first().map(used_row).transpose()
        })
    }
}

/// What keeps a key.
pub(in crate::store) fn remember(used: Option<&Used>) -> Vec<Statement<'_>> {
    keep(USE, used)
}

/// As [`remember`]; the database refuses what another node has kept meanwhile.
pub(in crate::store) fn claim(used: Option<&Used>) -> Vec<Statement<'_>> {
    keep(CLAIM, used)
}

fn keep<'a>(sql: &'static str, used: Option<&'a Used>) -> Vec<Statement<'a>> {
    let Some(Used { service, key, digest, made, at_ms }) = used else { return Vec::new() };
    let values: Vec<Cell<'_>> = vec![
        service.as_str().into(),
        key.as_str().into(),
        digest.cast_signed().into(),
        made.as_str().into(),
        (*at_ms).into(),
    ];
    vec![(FORGET, vec![at_ms.saturating_sub(KEPT_MS).into()]), (sql, values)]
}

fn stream(row: &impl Row) -> Result<StreamRow, StoreError> {
    let stream = Stream::decode(row.bytes("record")?.as_slice()).map_err(damaged)?;
    Ok(StreamRow { stream, effects: Effects::decode(row.bytes("effects")?.as_slice()).map_err(damaged)? })
}

fn review(row: &impl Row) -> Result<ReviewRow, StoreError> {
    let pending = row.bytes("pending")?;
    let pending = if pending.is_empty() { None } else { Some(Decision::decode(pending.as_slice()).map_err(damaged)?) };
    let review = Review::decode(row.bytes("record")?.as_slice()).map_err(damaged)?;
    Ok(ReviewRow { review, report: row.text_or_null("report")?.unwrap_or_default(), pending })
}

fn used_row(row: &impl Row) -> Result<Used, StoreError> {
    Ok(Used {
        service: row.text("service")?,
        key: row.text("name")?,
        digest: row.integer("digest")?.cast_unsigned(),
        made: row.text("made")?,
        at_ms: row.natural("at_ms")?,
    })
}
