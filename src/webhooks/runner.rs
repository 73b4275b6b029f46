//! One webhook's deliveries: what happens, in its order, and between that what is to be delivered again. Nothing is passed
//! before it was taken or is durably put aside.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use veza_proto::gateway::v1::Event;

use super::address::Address;
use super::keeper::BEGIN_WITHIN;
use super::line::{Delivery, Line, Outcome};
use super::retry::{self, Next, Tried, WAIT_MS_MAX};
use super::sign::signatures;
use super::{DEAD_LETTERS_MAX, LABELS, PAGE, Shared};
use crate::config::Secret;
use crate::events::Filter;
use crate::store::StoreError;
use crate::store::hooks::{Course, DeadLetter, Letter, Settlement, WebhookRow};
use crate::telemetry::metrics as declared;

/// What was delivered is kept after so long at the latest; a crash repeats at most that.
const KEEP_WITHIN: Duration = Duration::from_millis(250);
/// The position moves over what the filter left out, when there is nothing else to do.
const MOVE_EVERY: Duration = Duration::from_secs(10);
/// What was read longer ago is read again: a message may be another one by now.
const PAGE_GOOD_FOR: Duration = Duration::from_secs(1);
/// After the database did not answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// What a stop leaves to a delivery that is under way.
const FINISH_WITHIN: Duration = Duration::from_secs(2);
/// Whoever changes a webhook all the time is waited for.
const SETTLES_MAX: u32 = 5;

pub(super) struct Runner {
    shared: Arc<Shared>,
    holder: u64,
    renewed: watch::Receiver<Instant>,
    /// The revision there is; `None` when this is not ours any more.
    told: watch::Receiver<Option<u64>>,
    /// What was changed through this node, which is known here before whoever changed it is answered.
    changes: watch::Receiver<u64>,
    pulse: watch::Receiver<u64>,
    stop: CancellationToken,
    label: &'static str,
    /// As it was loaded; its position is the one that is kept.
    row: WebhookRow,
    /// The revision that was seen last, which can be a later one.
    fence: u64,
    filter: Filter,
    address: Result<Address, String>,
    line: Line,
    /// Read and not dealt with.
    page: VecDeque<Event>,
    read_at: Instant,
    /// Everything up to here is dealt with.
    dealt: u64,
    /// Since when something was delivered that is not kept.
    unkept: Option<Instant>,
    kept_at: Instant,
    letters: Letters,
    is_letters_turn: bool,
}

/// Dead letters that are to be delivered again.
enum Letters {
    Unknown,
    None,
    Next(Box<DeadLetter>),
}

/// What the outbox has for a webhook next.
#[expect(clippy::large_enum_variant, reason = "nearly always it is an event")]
enum Head {
    Event(Event),
    Nothing,
    /// Up to here events are kept no more.
    Missed(u64),
}

type Turn = Result<ControlFlow<()>, StoreError>;
const GO_ON: Turn = Ok(ControlFlow::Continue(()));
const END: Turn = Ok(ControlFlow::Break(()));

impl Runner {
    pub(super) fn new(
        shared: Arc<Shared>,
        holder: u64,
        row: WebhookRow,
        renewed: watch::Receiver<Instant>,
        told: watch::Receiver<Option<u64>>,
        stop: CancellationToken,
    ) -> Self {
        let now = Instant::now();
        Self {
            changes: shared.changes.subscribe(),
            pulse: shared.events.pulse(),
            label: LABELS.label(&row.id),
            fence: row.revision,
            filter: Filter::of(&row.filter),
            address: Address::parse(&row.url, &shared.rules),
            line: Line::default(),
            page: VecDeque::new(),
            read_at: now,
            dealt: row.position,
            unkept: None,
            kept_at: now,
            letters: Letters::Unknown,
            is_letters_turn: false,
            shared,
            holder,
            renewed,
            told,
            stop,
            row,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            match self.turn().await {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return,
                Err(error) => {
                    tracing::warn!(webhook = self.row.id, %error, "deliveries wait for the database");
                    if self.stop.run_until_cancelled(sleep(PATIENCE)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    async fn turn(&mut self) -> Turn {
        match self.told.has_changed() {
            Ok(false) if !self.is_outdated() => {}
            Ok(_) => return self.reload().await,
            Err(_nobody_keeps_it) => return END,
        }
        if self.stop.is_cancelled() {
            return self.leave().await;
        }
        if !self.row.paused && self.is_ours() {
            let now_ms = self.shared.now_ms();
            let letter = self.letter_due(now_ms).await?;
            let head = if self.row.course.due_ms <= now_ms { self.head().await? } else { Head::Nothing };
            // What happened after a change is delivered as that says, or not at all.
            if self.is_outdated() {
                return GO_ON;
            }
            match (head, letter) {
                (Head::Missed(expired), _) => return self.miss(expired).await,
                (Head::Event(event), letter) if letter.is_none() || !self.is_letters_turn => {
                    self.is_letters_turn = true;
                    return self.deliver(event).await;
                }
                (Head::Event(_) | Head::Nothing, Some(letter)) => {
                    self.is_letters_turn = false;
                    return self.deliver_again(letter).await;
                }
                (Head::Event(_) | Head::Nothing, None) => {}
            }
        }
        let is_behind = self.dealt > self.row.position && self.kept_at.elapsed() >= MOVE_EVERY;
        if self.unkept.is_some() || is_behind {
            return self.keep().await;
        }
        self.wait().await;
        GO_ON
    }

    /// Whether nobody else can be delivering.
    fn is_ours(&self) -> bool {
        self.renewed.borrow().elapsed() < BEGIN_WITHIN
    }

    fn is_outdated(&self) -> bool {
        self.changes.has_changed().unwrap_or(false)
    }

    /// Takes over what somebody has said about the webhook.
    async fn reload(&mut self) -> Turn {
        self.changes.borrow_and_update();
        let told = *self.told.borrow_and_update();
        let found = self.shared.hooks.webhook(&self.row.id).await.inspect_err(|_| self.told.mark_changed())?;
        let Some(mut row) = found.filter(|row| told.is_some() && row.lease.holder == self.holder) else { return END };
        if row.rewound != self.row.rewound {
            (self.dealt, self.unkept) = (row.position, None);
            self.page.clear();
        } else if self.unkept.is_some() {
            row.course = self.row.course.clone();
        }
        if row.revision != self.row.revision {
            // What was said anew is tried anew.
            (row.course.tries, row.course.first_try_ms, row.course.due_ms) = (0, 0, 0);
        }
        if row.url != self.row.url {
            self.line.close();
            self.address = Address::parse(&row.url, &self.shared.rules);
        }
        self.filter = Filter::of(&row.filter);
        self.fence = row.revision;
        self.letters = Letters::Unknown;
        self.row = row;
        GO_ON
    }

    async fn leave(&mut self) -> Turn {
        if self.dealt > self.row.position || self.unkept.is_some() {
            let _nobody_goes_on = self.keep().await?;
        }
        END
    }

    /// The next event that the webhook wants.
    async fn head(&mut self) -> Result<Head, StoreError> {
        if self.read_at.elapsed() >= PAGE_GOOD_FOR {
            self.page.clear();
        }
        while !self.stop.is_cancelled() {
            while let Some(event) = self.page.front() {
                if self.filter.wants(event) {
                    return Ok(Head::Event(event.clone()));
                }
                self.dealt = event.position;
                self.page.pop_front();
            }
            self.pulse.borrow_and_update();
            self.read_at = Instant::now();
            let page = self.shared.outbox.events(self.dealt, PAGE).await?;
            let expired = self.shared.outbox.span().await?.expired;
            if self.dealt < expired {
                return Ok(Head::Missed(expired));
            }
            if page.is_empty() {
                break;
            }
            self.page = page.into();
        }
        Ok(Head::Nothing)
    }

    /// What lies before what is kept cannot be delivered any more.
    async fn miss(&mut self, expired: u64) -> Turn {
        tracing::warn!(
            webhook = self.row.id,
            from = self.dealt,
            to = expired,
            "events were gone before their delivery"
        );
        declared::webhooks_missed_total(self.label).increment(1);
        let course = Course {
            last_outcome: format!("events up to position {expired} were kept no more"),
            tries: 0,
            first_try_ms: 0,
            due_ms: 0,
            ..self.row.course.clone()
        };
        self.dealt = expired;
        self.settle(expired, course, Letter::None, false).await
    }

    async fn letter_due(&mut self, now_ms: u64) -> Result<Option<DeadLetter>, StoreError> {
        if let Letters::Unknown = self.letters {
            let next = self.shared.hooks.next_requeued(&self.row.id).await?;
            self.letters = next.map_or(Letters::None, |letter| Letters::Next(Box::new(letter)));
        }
        match &self.letters {
            Letters::Next(letter) if letter.due_ms <= now_ms => Ok(Some((**letter).clone())),
            Letters::Unknown | Letters::None | Letters::Next(_) => Ok(None),
        }
    }

    async fn deliver(&mut self, event: Event) -> Turn {
        let begun_ms = self.shared.now_ms();
        let id = self.name(event.position);
        let Some(outcome) = self.attempt(&id, &event).await else { return self.leave().await };
        let mut course = self.after(&outcome, begun_ms);
        let (asked_ms, writable) = match &outcome {
            Outcome::Delivered(_) => {
                (course.tries, course.first_try_ms, course.due_ms) = (0, 0, 0);
                (self.row.course, self.dealt) = (course, event.position);
                self.page.pop_front();
                let unkept = *self.unkept.get_or_insert_with(Instant::now);
                return if unkept.elapsed() >= KEEP_WITHIN { self.keep().await } else { GO_ON };
            }
            Outcome::Gone => return self.pause(course).await,
            Outcome::Status { retry_after_ms, .. } => (*retry_after_ms, true),
            Outcome::Unwritable => (None, false),
            Outcome::Redirect(_) | Outcome::TooLate | Outcome::Address(_) | Outcome::Unreachable(_) => (None, true),
        };
        // It is read again for the next attempt.
        self.page.clear();
        course.tries += 1;
        if course.first_try_ms == 0 {
            course.first_try_ms = begun_ms;
        }
        let since_ms = course.first_try_ms;
        match self.next(course.tries, since_ms, asked_ms) {
            Next::AgainAt(at_ms) if writable => {
                course.due_ms = at_ms;
                self.settle(self.dealt, course, Letter::None, false).await
            }
            Next::AgainAt(_) | Next::Aside => self.put_aside(id, event, course).await,
        }
    }

    async fn put_aside(&mut self, delivery: String, event: Event, mut course: Course) -> Turn {
        let position = event.position;
        let letter = DeadLetter {
            number: 0,
            delivery,
            event,
            attempts: course.tries,
            first_attempt_ms: course.first_try_ms,
            last_attempt_ms: course.last_attempt_ms,
            outcome: course.last_outcome.clone(),
            requeued_ms: 0,
            tries: 0,
            due_ms: 0,
        };
        (course.tries, course.first_try_ms, course.due_ms) = (0, 0, 0);
        let found = self.shared.hooks.webhook(&self.row.id).await?;
        let is_full = found.is_some_and(|row| row.dead_letters >= DEAD_LETTERS_MAX);
        let letter = Letter::Aside { letter, letters_max: DEAD_LETTERS_MAX };
        let turn = self.settle(position, course, letter, false).await?;
        if self.row.position >= position {
            tracing::info!(webhook = self.row.id, position, "an event became a dead letter");
            self.dealt = position;
            declared::webhooks_dead_letters_total(self.label).increment(1);
            declared::webhooks_dead_letters_dropped_total(self.label).increment(is_full.into());
        }
        Ok(turn)
    }

    async fn deliver_again(&mut self, mut letter: DeadLetter) -> Turn {
        let begun_ms = self.shared.now_ms();
        let Some(outcome) = self.attempt(&letter.delivery.clone(), &letter.event.clone()).await else {
            return self.leave().await;
        };
        let course = self.after(&outcome, begun_ms);
        self.letters = Letters::Unknown;
        let asked_ms = match &outcome {
            Outcome::Delivered(_) => {
                return self.settle(self.dealt, course, Letter::Delivered(letter.number), false).await;
            }
            Outcome::Gone => return self.pause(course).await,
            Outcome::Status { retry_after_ms, .. } => *retry_after_ms,
            Outcome::Redirect(_)
            | Outcome::TooLate
            | Outcome::Address(_)
            | Outcome::Unreachable(_)
            | Outcome::Unwritable => None,
        };
        (letter.attempts, letter.tries) = (letter.attempts.saturating_add(1), letter.tries + 1);
        (letter.last_attempt_ms, letter.outcome) = (begun_ms, outcome.to_string());
        match self.next(letter.tries, letter.requeued_ms, asked_ms) {
            Next::AgainAt(at_ms) => letter.due_ms = at_ms,
            Next::Aside => (letter.requeued_ms, letter.tries, letter.due_ms) = (0, 0, 0),
        }
        self.settle(self.dealt, course, Letter::Failed(letter), false).await
    }

    async fn pause(&mut self, course: Course) -> Turn {
        tracing::info!(webhook = self.row.id, "a webhook is paused: its receiver says that it is gone");
        self.settle(self.dealt, course, Letter::None, true).await
    }

    /// What a delivery is called in each of its repetitions. One that is repeated on purpose is another one.
    fn name(&self, position: u64) -> String {
        let WebhookRow { id, rewound, .. } = &self.row;
        if *rewound == 0 { format!("{id}-{position}") } else { format!("{id}-{position}-{rewound}") }
    }

    /// How things are after an attempt.
    fn after(&self, outcome: &Outcome, begun_ms: u64) -> Course {
        let failures = if let Outcome::Delivered(_) = outcome { 0 } else { self.row.course.failures.saturating_add(1) };
        Course { last_outcome: outcome.to_string(), last_attempt_ms: begun_ms, failures, ..self.row.course.clone() }
    }

    fn next(&self, times: u32, since_ms: u64, asked_ms: Option<u64>) -> Next {
        let tried = Tried { times, since_ms, now_ms: self.shared.now_ms(), asked_ms };
        let give_up_after_ms = u64::try_from(self.shared.rules.give_up_after.as_millis()).unwrap_or(u64::MAX);
        retry::next(tried, give_up_after_ms, rand::random())
    }

    /// One attempt; `None` when the server has no time to wait for its end.
    async fn attempt(&mut self, id: &str, event: &Event) -> Option<Outcome> {
        let begun = Instant::now();
        let outcome = match (&self.address, serde_json::to_vec(event)) {
            (Err(why), _) => Outcome::Address(why.clone()),
            (Ok(_), Err(_)) => Outcome::Unwritable,
            (Ok(address), Ok(body)) => {
                let at_ms = self.shared.now_ms();
                let delivery = Delivery {
                    id: id.to_owned(),
                    at_seconds: at_ms / 1_000,
                    signatures: signatures(secrets(&self.row, at_ms), id, at_ms / 1_000, &body),
                    body: Bytes::from(body),
                };
                before_leaving(&self.stop, FINISH_WITHIN, self.line.post(address, &delivery)).await?
            }
        };
        declared::webhooks_attempts_total(self.label, outcome.label()).increment(1);
        declared::webhooks_attempt_seconds().record(begun.elapsed());
        Some(outcome)
    }

    /// Keeps what was delivered and left out.
    async fn keep(&mut self) -> Turn {
        self.settle(self.dealt, self.row.course.clone(), Letter::None, false).await
    }

    /// Keeps how far deliveries have come. Somebody may have changed the webhook meanwhile: what was done is done, unless it
    /// was set back.
    async fn settle(&mut self, position: u64, course: Course, letter: Letter, pauses: bool) -> Turn {
        let mut settlement = Settlement {
            webhook: self.row.id.clone(),
            holder: self.holder,
            revision: self.fence,
            position,
            course,
            pauses,
            letter,
            at_ms: self.shared.now_ms(),
        };
        for _attempt in 0..SETTLES_MAX {
            if self.shared.hooks.settle(&settlement).await? {
                (self.row.position, self.row.course) = (position, settlement.course);
                self.row.paused |= pauses;
                self.fence += u64::from(pauses);
                (self.unkept, self.kept_at) = (None, Instant::now());
                return GO_ON;
            }
            let found = self.shared.hooks.webhook(&self.row.id).await?;
            let Some(row) = found.filter(|row| row.lease.holder == self.holder) else { return END };
            if row.rewound != self.row.rewound || pauses {
                return self.reload().await;
            }
            self.fence = row.revision;
            settlement.revision = row.revision;
        }
        GO_ON
    }

    /// Until there may be something to do.
    async fn wait(&mut self) {
        let now_ms = self.shared.now_ms();
        let mut wait = if self.is_ours() { MOVE_EVERY } else { PATIENCE };
        let letter_due_ms = if let Letters::Next(letter) = &self.letters { letter.due_ms } else { 0 };
        for due_ms in [self.row.course.due_ms, letter_due_ms].into_iter().filter(|due_ms| *due_ms > now_ms) {
            // Whatever clocks did, nobody waits longer than that.
            wait = wait.min(Duration::from_millis((due_ms - now_ms).min(WAIT_MS_MAX)));
        }
        let listens = !self.row.paused && self.is_ours() && self.row.course.due_ms <= now_ms;
        tokio::select! {
            () = self.stop.cancelled() => {}
            told = self.told.changed() => if told.is_ok() { self.told.mark_changed() },
            changed = self.changes.changed() => if changed.is_ok() { self.changes.mark_changed() },
            _ = self.pulse.changed(), if listens => {}
            () = sleep(wait) => {}
        }
    }
}

/// Waits for the end of something; after a stop only so long.
async fn before_leaving<T>(stop: &CancellationToken, within: Duration, what: impl Future<Output = T>) -> Option<T> {
    let leaving = async {
        stop.cancelled().await;
        sleep(within).await;
    };
    tokio::select! {
        biased;
        done = what => Some(done),
        () = leaving => None,
    }
}

/// What signs: the secret, and for a while the one before.
fn secrets(row: &WebhookRow, now_ms: u64) -> impl Iterator<Item = &Secret> {
    let former = row.former.as_ref().filter(|former| now_ms < former.until_ms);
    std::iter::once(&row.secret).chain(former.map(|former| &former.secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_lets_finish_what_is_under_way_and_waits_for_nothing_that_is_not() {
        let stop = CancellationToken::new();
        let long = Duration::from_secs(3_600);
        assert_eq!(before_leaving(&stop, Duration::ZERO, async { 1 }).await, Some(1));
        let finishes = async {
            stop.cancelled().await;
            tokio::task::yield_now().await;
            2
        };
        let (finished, ()) = tokio::join!(before_leaving(&stop, long, finishes), async { stop.cancel() });
        assert_eq!(finished, Some(2));
        assert_eq!(before_leaving(&stop, Duration::ZERO, std::future::pending::<u8>()).await, None);
    }
}
