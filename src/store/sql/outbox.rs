//! The outbox in SQL.

use futures_util::FutureExt;
use prost::Message as _;
use veza_engine::ledger::{Happened, KEPT_MS, OnceKey, What, kind_of};
use veza_proto::RoomId;
use veza_proto::gateway::v1::{Event, EventFilter};

use super::row::{self, Row, entry_columns};
use super::{Cell, Database, Statement, counted, damaged, within};
use crate::store::outbox::{CONSUMERS_MAX, ConsumerRow, Outbox, Registration, Removed, Span, Start, Told, stored};
use crate::store::{Answered, StoreError};

const APPEND: &str = "INSERT INTO outbox (at_ms, kind, room, whom, payload) \
    SELECT CAST($1 AS bigint), CAST($2 AS smallint), (SELECT r.key FROM rooms AS r WHERE r.id = $3), CAST($4 AS text), $5 \
    FROM outbox_state AS s WHERE s.one = 1 AND EXISTS (SELECT 1 FROM consumers AS c WHERE c.name > '')";
const HEARD: &str = "SELECT c.name FROM consumers AS c WHERE c.name > '' LIMIT 1";
const EVENTS: &str = concat!(
    "SELECT o.position, o.at_ms AS told_ms, o.kind, o.seq AS told_seq, o.whom, o.payload, r.id AS room, r.epoch, \
     e.author AS said_by, ",
    entry_columns!(),
    " FROM outbox AS o LEFT JOIN rooms AS r ON r.key = o.room \
     LEFT JOIN entries AS e ON e.room = o.room AND e.seq = o.seq \
     WHERE o.position > $1 ORDER BY o.position LIMIT $2"
);
const SPAN: &str = "SELECT s.expired, (SELECT coalesce(max(o.position), 0) FROM outbox AS o) AS head \
    FROM outbox_state AS s WHERE s.one = 1";
/// Times rise with positions but for what nodes differ, so the walk from the oldest ends at the first that is young.
const OLD: &str = "SELECT coalesce((SELECT o.position FROM outbox AS o WHERE o.position > $1 AND o.at_ms >= $2 \
    ORDER BY o.position LIMIT 1) - 1, (SELECT max(o.position) FROM outbox AS o), 0) AS old";
/// The last one stays: its position must not be given again.
const FORGET: &str = "DELETE FROM outbox WHERE position <= $1 \
    AND position < (SELECT max(o.position) FROM outbox AS o)";
const EXPIRED: &str = "UPDATE outbox_state SET expired = $1 WHERE one = 1 AND expired < $1";
const REGISTER: &str = "INSERT INTO consumers (name, filter, position, holder, created_ms, acknowledged_ms) \
    SELECT CAST($1 AS text), $2, CAST($3 AS bigint), CAST($4 AS bigint), CAST($5 AS bigint), 0 \
    FROM outbox_state AS s WHERE s.one = 1 \
    AND (EXISTS (SELECT 1 FROM consumers AS c WHERE c.name = $1) \
    OR (SELECT count(*) FROM consumers AS c WHERE c.name > '' AND NOT (c.name >= 'webhook:' AND c.name < 'webhook;')) \
    < $6) \
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder";
const REFILTER: &str = "UPDATE consumers SET filter = $2 WHERE name = $1";
const CONSUMER: &str = "SELECT c.name, c.filter, c.position, c.holder, c.created_ms, c.acknowledged_ms \
    FROM consumers AS c WHERE c.name = $1";
const CONSUMERS: &str = "SELECT c.name, c.filter, c.position, c.holder, c.created_ms, c.acknowledged_ms \
    FROM consumers AS c WHERE c.name > $1 AND NOT (c.name >= 'webhook:' AND c.name < 'webhook;') ORDER BY c.name LIMIT $2";
const ACKNOWLEDGE: &str = "UPDATE consumers SET position = $2, acknowledged_ms = $3 WHERE name = $1 AND position < $2";
const REMOVE: &str = "DELETE FROM consumers WHERE name = $1";
const CALL: &str = "SELECT k.digest, k.at_ms FROM calls AS k WHERE k.service = $1 AND k.name = $2";
const FORGET_CALL: &str = "DELETE FROM calls WHERE service = $1 AND name = $2";
const KEEP_CALL: &str = "INSERT INTO calls (service, name, digest, made, at_ms) VALUES ($1, $2, $3, NULL, $4)";
const WAITING: &str = "SELECT o.at_ms FROM outbox AS o WHERE o.position > $1 ORDER BY o.position LIMIT 1";

/// Every read, for the test of their plans.
#[cfg(test)]
pub(in crate::store) const ALL: [&str; 8] = [HEARD, EVENTS, SPAN, OLD, CONSUMER, CONSUMERS, CALL, WAITING];

/// One event of a commit, as the table has it.
pub(super) fn cells<'a>(room: Cell<'a>, happened: &'a Happened) -> [Cell<'a>; 6] {
    let (seq, payload) = match &happened.what {
        What::Entry(seq) => (Some(*seq), Vec::new()),
        What::Told(kind) => (None, Event { kind: Some((**kind).clone()), ..Event::default() }.encode_to_vec()),
    };
    let kind = i64::from(i32::from(happened.what.kind()));
    let whom = happened.user.as_ref().map(|user| user.as_str());
    [happened.at_ms.into(), kind.into(), room, seq.into(), whom.into(), payload.into()]
}

/// Keeps events if anybody listens, among the statements of the transaction that makes them true.
pub(in crate::store) fn tell<D: Database>(events: &[Told]) -> Vec<Statement<'static>> {
    let statement = |Told { at_ms, room, user, kind }: &Told| -> Statement<'static> {
        let payload = Event { kind: Some(kind.clone()), ..Event::default() }.encode_to_vec();
        let kind = i64::from(i32::from(kind_of(kind)));
        // A text that is null must still be bound as one.
        let room = room.as_ref().map(String::from).unwrap_or_default();
        let whom = user.as_ref().map(String::from).unwrap_or_default();
        (APPEND, vec![(*at_ms).into(), kind.into(), room.into(), whom.into(), payload.into()])
    };
    let hold = D::HOLD_LISTENERS.filter(|_| !events.is_empty()).map(|sql| (sql, Vec::new()));
    hold.into_iter().chain(events.iter().map(statement)).collect()
}

impl<D: Database> Outbox for D {
    fn append<'a>(&'a self, events: &'a [Told]) -> Answered<'a, ()> {
        within(self.timeout(), async move {
            // Most of the time nobody listens, and then the writer need not be asked.
            if self.fetch(HEARD, &[]).await?.is_empty() {
                return Ok(());
            }
            self.change(tell::<D>(events)).await
        })
        .boxed()
    }

    fn arrange<'a>(&'a self) -> Answered<'a, bool> {
        within(self.timeout(), self.number_events()).boxed()
    }

    fn events<'a>(&'a self, after: u64, limit: u32) -> Answered<'a, Vec<Event>> {
        counted("events", self.timeout(), async move {
            self.fetch(EVENTS, &[after.into(), limit.into()]).await?.iter().map(event).collect()
        })
    }

    fn span<'a>(&'a self) -> Answered<'a, Span> {
        counted("events_span", self.timeout(), span(self))
    }

    fn forget<'a>(&'a self, before_ms: u64, rows_max: u64) -> Answered<'a, Span> {
        within(self.timeout(), async move {
            let now = span(self).await?;
            let found = self.fetch(OLD, &[now.expired.into(), before_ms.into()]).await?;
            let old = found.first().map(|row| row.natural("old")).transpose()?.unwrap_or(0);
            let up_to = old.max(now.head.saturating_sub(rows_max)).min(now.head.saturating_sub(1));
            if up_to > now.expired {
                self.change(vec![(FORGET, vec![up_to.into()]), (EXPIRED, vec![up_to.into()])]).await?;
            }
            span(self).await
        })
        .boxed()
    }

    fn register<'a>(&'a self, wanted: &'a Registration) -> Answered<'a, Option<ConsumerRow>> {
        within(self.timeout(), async move {
            let now = span(self).await?;
            let position = match wanted.start {
                Start::Now => now.head,
                Start::Earliest => now.expired,
                Start::After(position) => position.min(now.head),
            };
            let filter = wanted.filter.clone().unwrap_or_default().encode_to_vec();
            let name = || Cell::from(wanted.name.as_str());
            let values = vec![
                name(),
                filter.clone().into(),
                position.into(),
                Cell::Number(wanted.holder.cast_signed()),
                wanted.at_ms.into(),
                CONSUMERS_MAX.into(),
            ];
            let mut statements: Vec<Statement<'_>> = vec![(REGISTER, values)];
            if wanted.filter.is_some() {
                statements.push((REFILTER, vec![name(), filter.into()]));
            }
            self.change(statements).await?;
            self.outlive_commits().await?;
            consumer(self, &wanted.name).await
        })
        .boxed()
    }

    fn consumer<'a>(&'a self, name: &'a str) -> Answered<'a, Option<ConsumerRow>> {
        counted("consumer", self.timeout(), consumer(self, name))
    }

    fn consumers<'a>(&'a self, after: &'a str, limit: u32) -> Answered<'a, Vec<ConsumerRow>> {
        counted("consumers", self.timeout(), async move {
            self.fetch(CONSUMERS, &[after.into(), limit.into()]).await?.iter().map(consumer_row).collect()
        })
    }

    fn acknowledge<'a>(&'a self, name: &'a str, position: u64, at_ms: u64) -> Answered<'a, Option<u64>> {
        within(self.timeout(), async move {
            let position = position.min(span(self).await?.head);
            match consumer(self, name).await? {
                None => return Ok(None),
                Some(row) if row.position >= position => return Ok(Some(row.position)),
                Some(_) => {}
            }
            self.change(vec![(ACKNOWLEDGE, vec![name.into(), position.into(), at_ms.into()])]).await?;
            Ok(consumer(self, name).await?.map(|row| row.position))
        })
        .boxed()
    }

    fn remove<'a>(&'a self, name: &'a str, once: Option<&'a OnceKey>, at_ms: u64) -> Answered<'a, Removed> {
        within(self.timeout(), async move {
            if let Some(key) = once
                && let Some(digest) = used(self, key, at_ms).await?
            {
                return Ok(if digest == key.digest { Removed::Before } else { Removed::KeyReused });
            }
            if consumer(self, name).await?.is_none() {
                return Ok(Removed::NotThere);
            }
            let mut statements: Vec<Statement<'_>> = vec![(REMOVE, vec![name.into()])];
            statements.extend(once.iter().flat_map(|key| keep(key, at_ms)));
            self.change(statements).await?;
            Ok(Removed::Now)
        })
        .boxed()
    }

    fn waiting_since<'a>(&'a self, position: u64) -> Answered<'a, Option<u64>> {
        counted("events_waiting", self.timeout(), async move {
            self.fetch(WAITING, &[position.into()]).await?.first().map(|row| row.natural("at_ms")).transpose()
        })
    }
}

pub(in crate::store) async fn span(database: &impl Database) -> Result<Span, StoreError> {
    let found = database.fetch(SPAN, &[]).await?;
    let row = found.first().ok_or_else(|| damaged("outbox_state has no row"))?;
    let expired = row.natural("expired")?;
    Ok(Span { expired, head: row.natural("head")?.max(expired) })
}

async fn consumer(database: &impl Database, name: &str) -> Result<Option<ConsumerRow>, StoreError> {
    database.fetch(CONSUMER, &[name.into()]).await?.first().map(consumer_row).transpose()
}

fn consumer_row(row: &impl Row) -> Result<ConsumerRow, StoreError> {
    Ok(ConsumerRow {
        name: row.text("name")?,
        filter: EventFilter::decode(row.bytes("filter")?.as_slice()).map_err(damaged)?,
        position: row.natural("position")?,
        holder: row.integer("holder")?.cast_unsigned(),
        created_ms: row.natural("created_ms")?,
        acknowledged_ms: row.natural("acknowledged_ms")?,
    })
}

/// What a service's key was used for within the last day: the digest.
async fn used(database: &impl Database, key: &OnceKey, at_ms: u64) -> Result<Option<u64>, StoreError> {
    let found = database.fetch(CALL, &[key.service.as_str().into(), key.key.as_str().into()]).await?;
    let Some(row) = found.first() else { return Ok(None) };
    let holds = row.natural("at_ms")?.saturating_add(KEPT_MS) > at_ms;
    Ok(holds.then_some(row.integer("digest")?.cast_unsigned()))
}

fn keep<'a>(key: &'a OnceKey, at_ms: u64) -> [Statement<'a>; 2] {
    let id = || [Cell::from(key.service.as_str()), key.key.as_str().into()];
    let kept = id().into_iter().chain([Cell::Number(key.digest.cast_signed()), at_ms.into()]);
    [(FORGET_CALL, id().into()), (KEEP_CALL, kept.collect())]
}

/// A row of the outbox, or of what is told like it: with the room and the entry that it is about.
pub(in crate::store) fn event(row: &impl Row) -> Result<Event, StoreError> {
    let room = row.text_or_null("room")?.map(|id| RoomId::parse(&id)).transpose().map_err(damaged)?;
    let (at_ms, seq) = (row.natural("told_ms")?, row.natural("told_seq")?);
    let kind = match &room {
        Some(room) if seq > 0 => {
            let epoch = row.natural("epoch")?;
            let there = row.text_or_null("said_by")?.is_some();
            let entry = there.then(|| row::entry(row, room, epoch)).transpose()?;
            Some(stored(room, epoch, seq, at_ms, entry.as_ref()))
        }
        Some(_) | None => Event::decode(row.bytes("payload")?.as_slice()).map_err(damaged)?.kind,
    };
    Ok(Event {
        position: row.natural("position")?,
        at_ms,
        room: room.as_ref().map(String::from).unwrap_or_default(),
        user: row.text_or_null("whom")?.unwrap_or_default(),
        kind,
    })
}
