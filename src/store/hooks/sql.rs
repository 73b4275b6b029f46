use futures_util::FutureExt;
use prost::Message as _;
use veza_proto::gateway::v1::{Event, EventFilter, event};

use super::{
    Change, Course, DeadLetter, Former, Fresh, Hooks, Lease, Letter, Settlement, WEBHOOKS_MAX, WebhookRow,
    consumer_name,
};
use crate::config::Secret;
use crate::store::desk::{Used, claim, remember};
use crate::store::sql::{Cell, Database, Row, Statement, counted, damaged, entry_columns, event, span, within};
use crate::store::{Answered, StoreError};
use veza_engine::ledger::KEPT_MS;

/// A key that is used lets nothing be made.
const ADD: &str = "INSERT INTO webhooks (id, url, paused, created_ms, secret, old_secret, old_until_ms, revision, rewound, \
    holder, beat, letters, last_outcome, last_attempt_ms, failures, tries, first_try_ms, due_ms) \
    SELECT CAST($1 AS text), CAST($2 AS text), CAST($3 AS bigint), CAST($4 AS bigint), CAST($5 AS text), '', 0, 1, 0, \
    0, 0, 0, '', 0, 0, 0, 0, 0 FROM outbox_state AS s WHERE s.one = 1 \
    AND (SELECT count(*) FROM webhooks AS w WHERE w.id > '') < $6 \
    AND NOT EXISTS (SELECT 1 FROM record_calls AS k WHERE k.service = $7 AND k.name = $8 AND k.at_ms > $9)";
const LISTEN: &str = "INSERT INTO consumers (name, filter, position, holder, created_ms, acknowledged_ms) \
    VALUES ($1, $2, $3, 0, $4, 0)";

macro_rules! webhooks {
    ($which:literal) => {
        concat!(
            "SELECT w.id, w.url, c.filter, w.paused, w.created_ms, w.secret, w.old_secret, w.old_until_ms, w.revision, \
             w.rewound, w.holder, w.beat, c.position, w.last_outcome, w.last_attempt_ms, w.failures, w.tries, \
             w.first_try_ms, w.due_ms FROM webhooks AS w JOIN consumers AS c ON c.name = 'webhook:' || w.id WHERE ",
            $which
        )
    };
}
const WEBHOOK: &str = webhooks!("w.id = $1");
const WEBHOOKS: &str = webhooks!("w.id > $1 ORDER BY w.id LIMIT $2");

/// What stays is given as it is: empty texts, and -1 for a flag.
const CHANGE: &str = "UPDATE webhooks SET url = CASE WHEN $3 = '' THEN url ELSE $3 END, \
    paused = CASE WHEN $4 < 0 THEN paused ELSE $4 END, \
    old_secret = CASE WHEN $5 = '' THEN old_secret ELSE $6 END, \
    old_until_ms = CASE WHEN $5 = '' THEN old_until_ms ELSE $7 END, \
    secret = CASE WHEN $5 = '' THEN secret ELSE $5 END, \
    rewound = rewound + $8, revision = revision + 1, tries = 0, first_try_ms = 0, due_ms = 0 \
    WHERE id = $1 AND revision = $2";
const REFILTER: &str = "UPDATE consumers SET filter = $2 WHERE name = $1";
const REWIND: &str = "UPDATE consumers SET position = $2 WHERE name = $1 AND position > $2";
const MOVE: &str = "UPDATE consumers SET position = $2, acknowledged_ms = $3 WHERE name = $1 AND position < $2";
const REMOVE: [&str; 3] = [
    "DELETE FROM webhooks WHERE id = $1",
    "DELETE FROM dead_letters WHERE webhook = $1",
    "DELETE FROM consumers WHERE name = $1",
];

const TOUCH: &str = "UPDATE webhooks SET revision = revision + 1 WHERE id = $1 AND revision = $2";
const REQUEUE_ALL: &str = "UPDATE dead_letters SET requeued_ms = $2, tries = 0, due_ms = 0 WHERE webhook = $1";
const REQUEUE: &str =
    "UPDATE dead_letters SET requeued_ms = $2, tries = 0, due_ms = 0 WHERE webhook = $1 AND number = $3";

const TAKE: &str = "UPDATE webhooks SET holder = $2, beat = beat + 1 WHERE id = $1 AND holder = $3 AND beat = $4";
const RENEW: &str = "UPDATE webhooks SET beat = beat + 1 WHERE holder = $1";
const LEAVE: &str = "UPDATE webhooks SET holder = 0 WHERE holder = $1";

const SETTLE: &str = "UPDATE webhooks SET last_outcome = $4, last_attempt_ms = $5, failures = $6, tries = $7, \
    first_try_ms = $8, due_ms = $9, paused = paused | $10, revision = revision + $10, letters = letters + $11 \
    WHERE id = $1 AND holder = $2 AND revision = $3";
const ASIDE: &str = "INSERT INTO dead_letters (webhook, number, delivery, position, at_ms, room, seq, whom, payload, \
    attempts, first_attempt_ms, last_attempt_ms, outcome, requeued_ms, tries, due_ms) \
    SELECT w.id, w.letters, CAST($2 AS text), CAST($3 AS bigint), CAST($4 AS bigint), \
    (SELECT r.key FROM rooms AS r WHERE r.id = $5), CAST($6 AS bigint), CAST($7 AS text), $8, CAST($9 AS bigint), \
    CAST($10 AS bigint), CAST($11 AS bigint), CAST($12 AS text), 0, 0, 0 FROM webhooks AS w WHERE w.id = $1";
const TRIM: &str = "DELETE FROM dead_letters WHERE webhook = $1 AND number <= (SELECT d.number FROM dead_letters AS d \
    WHERE d.webhook = $1 ORDER BY d.number DESC LIMIT 1 OFFSET $2)";
const LETTER_DELIVERED: &str = "DELETE FROM dead_letters WHERE webhook = $1 AND number = $2";
const LETTER_FAILED: &str = "UPDATE dead_letters SET attempts = $3, last_attempt_ms = $4, outcome = $5, requeued_ms = $6, \
    tries = $7, due_ms = $8 WHERE webhook = $1 AND number = $2";

macro_rules! letters {
    ($which:literal) => {
        concat!(
            "SELECT d.number, d.delivery, d.attempts, d.first_attempt_ms, d.last_attempt_ms, d.outcome, d.requeued_ms, \
             d.tries, d.due_ms, d.position, d.at_ms AS told_ms, d.seq AS told_seq, d.whom, d.payload, r.id AS room, \
             r.epoch, e.author AS said_by, ",
            entry_columns!(),
            " FROM dead_letters AS d LEFT JOIN rooms AS r ON r.key = d.room \
             LEFT JOIN entries AS e ON e.room = d.room AND e.seq = d.seq WHERE ",
            $which
        )
    };
}
const LETTERS: &str = letters!("d.webhook = $1 AND d.number > $2 ORDER BY d.number LIMIT $3");
const NEXT_LETTER: &str = letters!("d.webhook = $1 AND d.requeued_ms > 0 ORDER BY d.number LIMIT 1");
const LETTER_COUNT: &str = "SELECT count(*) AS letters FROM dead_letters AS d WHERE d.webhook = $1";

/// Every read, for the test of their plans.
#[cfg(test)]
pub(in crate::store) const ALL: [&str; 5] = [WEBHOOK, WEBHOOKS, LETTERS, NEXT_LETTER, LETTER_COUNT];

impl<D: Database> Hooks for D {
    fn add_webhook<'a>(&'a self, fresh: &'a Fresh, used: Option<&'a Used>) -> Answered<'a, bool> {
        within(self.timeout(), async move {
            let Fresh { id, url, filter, paused, secret, created_ms } = fresh;
            let head = span(self).await?.head;
            let (service, key) = used.map_or(("", ""), |used| (used.service.as_str(), used.key.as_str()));
            let values = vec![
                id.as_str().into(),
                url.as_str().into(),
                (*paused).into(),
                (*created_ms).into(),
                secret.expose().into(),
                WEBHOOKS_MAX.into(),
                service.into(),
                key.into(),
                created_ms.saturating_sub(KEPT_MS).into(),
            ];
            let listen =
                vec![consumer_name(id).into(), filter.encode_to_vec().into(), head.into(), (*created_ms).into()];
            let mut then: Vec<Statement<'_>> = vec![(LISTEN, listen)];
            then.extend(claim(used));
            let added = self.change_if((ADD, values), then).await?;
            if added {
                self.outlive_commits().await?;
            }
            Ok(added)
        })
        .boxed()
    }

    fn webhook<'a>(&'a self, id: &'a str) -> Answered<'a, Option<WebhookRow>> {
        counted("webhook", self.timeout(), async move {
            self.fetch(WEBHOOK, &[id.into()]).await?.first().map(webhook).transpose()
        })
    }

    fn webhooks<'a>(&'a self, after: &'a str, limit: u32) -> Answered<'a, Vec<WebhookRow>> {
        counted("webhooks", self.timeout(), async move {
            self.fetch(WEBHOOKS, &[after.into(), limit.into()]).await?.iter().map(webhook).collect()
        })
    }

    fn change_webhook<'a>(
        &'a self,
        id: &'a str,
        revision: u64,
        change: &'a Change,
        used: Option<&'a Used>,
    ) -> Answered<'a, bool> {
        let name = || Cell::from(consumer_name(id));
        let (secret, old, until_ms) = change
            .secret
            .as_ref()
            .map_or(("", "", 0), |(secret, former)| (secret.expose(), former.secret.expose(), former.until_ms));
        let values = vec![
            id.into(),
            revision.into(),
            change.url.as_deref().unwrap_or_default().into(),
            change.paused.map_or(-1, i64::from).into(),
            secret.into(),
            old.into(),
            until_ms.into(),
            change.rewind_to.is_some().into(),
        ];
        let filter = change.filter.as_ref().map(|filter| (REFILTER, vec![name(), filter.encode_to_vec().into()]));
        let rewind = change.rewind_to.map(|to| (REWIND, vec![name(), to.into()]));
        let then = filter.into_iter().chain(rewind).chain(remember(used)).collect();
        within(self.timeout(), self.change_if((CHANGE, values), then)).boxed()
    }

    fn remove_webhook<'a>(&'a self, id: &'a str, used: Option<&'a Used>) -> Answered<'a, bool> {
        let [webhook, letters, consumer] = REMOVE;
        let mut then: Vec<Statement<'a>> = vec![(letters, vec![id.into()]), (consumer, vec![consumer_name(id).into()])];
        then.extend(remember(used));
        within(self.timeout(), self.change_if((webhook, vec![id.into()]), then)).boxed()
    }

    fn dead_letters<'a>(&'a self, id: &'a str, after: u64, limit: u32) -> Answered<'a, Vec<DeadLetter>> {
        counted("dead_letters", self.timeout(), async move {
            self.fetch(LETTERS, &[id.into(), after.into(), limit.into()]).await?.iter().map(letter).collect()
        })
    }

    fn dead_letter_count<'a>(&'a self, id: &'a str) -> Answered<'a, u32> {
        counted("dead_letter_count", self.timeout(), async move {
            let found = self.fetch(LETTER_COUNT, &[id.into()]).await?;
            found.first().map_or(Ok(0), |row| row.small("letters"))
        })
    }

    fn requeue<'a>(
        &'a self,
        id: &'a str,
        revision: u64,
        number: Option<u64>,
        at_ms: u64,
        used: Option<&'a Used>,
    ) -> Answered<'a, bool> {
        let mut values = vec![Cell::from(id), at_ms.into()];
        values.extend(number.map(Cell::from));
        let mut then: Vec<Statement<'a>> = vec![(if number.is_some() { REQUEUE } else { REQUEUE_ALL }, values)];
        then.extend(remember(used));
        within(self.timeout(), self.change_if((TOUCH, vec![id.into(), revision.into()]), then)).boxed()
    }

    fn next_requeued<'a>(&'a self, id: &'a str) -> Answered<'a, Option<DeadLetter>> {
        counted("next_requeued", self.timeout(), async move {
            self.fetch(NEXT_LETTER, &[id.into()]).await?.first().map(letter).transpose()
        })
    }

    fn take_webhook<'a>(&'a self, id: &'a str, from: Lease, holder: u64) -> Answered<'a, bool> {
        let values = vec![id.into(), node(holder), node(from.holder), from.beat.into()];
        within(self.timeout(), self.change_if((TAKE, values), Vec::new())).boxed()
    }

    fn renew_leases<'a>(&'a self, holder: u64) -> Answered<'a, ()> {
        if !self.is_shared() {
            return std::future::ready(Ok(())).boxed();
        }
        within(self.timeout(), self.change(vec![(RENEW, vec![node(holder)])])).boxed()
    }

    fn leave_webhooks<'a>(&'a self, holder: u64) -> Answered<'a, ()> {
        within(self.timeout(), self.change(vec![(LEAVE, vec![node(holder)])])).boxed()
    }

    fn settle<'a>(&'a self, settlement: &'a Settlement) -> Answered<'a, bool> {
        let Settlement { webhook, holder, revision, position, course, pauses, letter, at_ms } = settlement;
        let values = vec![
            webhook.as_str().into(),
            node(*holder),
            (*revision).into(),
            course.last_outcome.as_str().into(),
            course.last_attempt_ms.into(),
            course.failures.into(),
            course.tries.into(),
            course.first_try_ms.into(),
            course.due_ms.into(),
            (*pauses).into(),
            matches!(letter, Letter::Aside { .. }).into(),
        ];
        let moved = vec![consumer_name(webhook).into(), (*position).into(), (*at_ms).into()];
        let mut then: Vec<Statement<'a>> = vec![(MOVE, moved)];
        match letter {
            Letter::None => {}
            Letter::Aside { letter, letters_max } => {
                then.push((ASIDE, aside(webhook, letter)));
                then.push((TRIM, vec![webhook.as_str().into(), (*letters_max).into()]));
            }
            Letter::Delivered(number) => then.push((LETTER_DELIVERED, vec![webhook.as_str().into(), (*number).into()])),
            Letter::Failed(letter) => then.push((LETTER_FAILED, failed(webhook, letter))),
        }
        within(self.timeout(), self.change_if((SETTLE, values), then)).boxed()
    }
}

/// Nodes are random numbers of all 64 bits.
fn node<'a>(holder: u64) -> Cell<'a> {
    Cell::Number(holder.cast_signed())
}

/// A letter as the table has it: a message by its number alone.
fn aside<'a>(webhook: &'a str, letter: &'a DeadLetter) -> Vec<Cell<'a>> {
    let Event { position, at_ms, room, user, kind } = &letter.event;
    let told = |kind: &event::Kind| Event { kind: Some(kind.clone()), ..Event::default() }.encode_to_vec();
    let (seq, payload) = match kind {
        Some(event::Kind::Message(stored)) => (stored.message.as_ref().map(|message| message.seq), Vec::new()),
        kind => (None, kind.as_ref().map(told).unwrap_or_default()),
    };
    vec![
        webhook.into(),
        letter.delivery.as_str().into(),
        (*position).into(),
        (*at_ms).into(),
        room.as_str().into(),
        seq.into(),
        user.as_str().into(),
        payload.into(),
        letter.attempts.into(),
        letter.first_attempt_ms.into(),
        letter.last_attempt_ms.into(),
        letter.outcome.as_str().into(),
    ]
}

fn failed<'a>(webhook: &'a str, letter: &'a DeadLetter) -> Vec<Cell<'a>> {
    vec![
        webhook.into(),
        letter.number.into(),
        letter.attempts.into(),
        letter.last_attempt_ms.into(),
        letter.outcome.as_str().into(),
        letter.requeued_ms.into(),
        letter.tries.into(),
        letter.due_ms.into(),
    ]
}

fn webhook(row: &impl Row) -> Result<WebhookRow, StoreError> {
    let secret = row.text("old_secret")?;
    let until_ms = row.natural("old_until_ms")?;
    let former = (!secret.is_empty()).then(|| Former { secret: Secret::new(secret), until_ms });
    Ok(WebhookRow {
        id: row.text("id")?,
        url: row.text("url")?,
        filter: EventFilter::decode(row.bytes("filter")?.as_slice()).map_err(damaged)?,
        paused: row.flag("paused")?,
        created_ms: row.natural("created_ms")?,
        secret: Secret::new(row.text("secret")?),
        former,
        revision: row.natural("revision")?,
        rewound: row.natural("rewound")?,
        position: row.natural("position")?,
        course: Course {
            last_outcome: row.text("last_outcome")?,
            last_attempt_ms: row.natural("last_attempt_ms")?,
            failures: row.small("failures")?,
            tries: row.small("tries")?,
            first_try_ms: row.natural("first_try_ms")?,
            due_ms: row.natural("due_ms")?,
        },
        lease: Lease { holder: row.integer("holder")?.cast_unsigned(), beat: row.natural("beat")? },
    })
}

fn letter(row: &impl Row) -> Result<DeadLetter, StoreError> {
    Ok(DeadLetter {
        number: row.natural("number")?,
        delivery: row.text("delivery")?,
        event: event(row)?,
        attempts: row.small("attempts")?,
        first_attempt_ms: row.natural("first_attempt_ms")?,
        last_attempt_ms: row.natural("last_attempt_ms")?,
        outcome: row.text("outcome")?,
        requeued_ms: row.natural("requeued_ms")?,
        tries: row.small("tries")?,
        due_ms: row.natural("due_ms")?,
    })
}
