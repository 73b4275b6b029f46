//! Webhooks: where events are delivered by HTTP, how that went, which node does it, and what could not be delivered. In the
//! outbox a webhook is a consumer like others, under a name that no caller can take. docs/design/webhooks.md tells why.

mod memory;
mod sql;

use veza_proto::gateway::v1::{Event, EventFilter};

#[cfg(test)]
pub(super) use self::sql::ALL as EVERY_LOOK;

pub(super) use self::memory::Hooked;
use super::Answered;
use super::desk::Used;
use crate::config::Secret;

/// Webhooks that there may be.
pub const WEBHOOKS_MAX: u32 = 32;

/// What a webhook's name as a consumer begins with. Callers cannot write a colon.
pub(super) const CONSUMER_PREFIX: &str = "webhook:";

pub(super) fn consumer_name(id: &str) -> String {
    format!("{CONSUMER_PREFIX}{id}")
}

/// The part of a database that is about webhooks. Every implementation passes the suite in `store/contract/hooks.rs`.
pub trait Hooks: Send + Sync + 'static {
    /// Makes a webhook that stands at the end of the outbox, and with it keeps the key that asked for it. What is committed
    /// after the answer is kept for it. `false`, and nothing is made, when there are as many as there may be or when the key
    /// is used.
    ///
    /// # Errors
    /// [`super::StoreError`] when the database does not answer, here as below.
    fn add_webhook<'a>(&'a self, fresh: &'a Fresh, used: Option<&'a Used>) -> Answered<'a, bool>;

    fn webhook<'a>(&'a self, id: &'a str) -> Answered<'a, Option<WebhookRow>>;

    /// In the order of their ids, after `after`, at most `limit`.
    fn webhooks<'a>(&'a self, after: &'a str, limit: u32) -> Answered<'a, Vec<WebhookRow>>;

    /// Changes what somebody has said about a webhook; what had failed is due at once. `false`, and nothing is changed, when
    /// its revision is another one by now: here as in [`Hooks::requeue`].
    fn change_webhook<'a>(
        &'a self,
        id: &'a str,
        revision: u64,
        change: &'a Change,
        used: Option<&'a Used>,
    ) -> Answered<'a, bool>;

    /// Forgets a webhook and its dead letters. `false` when there is none.
    fn remove_webhook<'a>(&'a self, id: &'a str, used: Option<&'a Used>) -> Answered<'a, bool>;

    /// Dead letters behind a number, in the order of their numbers, at most `limit`: messages as they are now.
    fn dead_letters<'a>(&'a self, id: &'a str, after: u64, limit: u32) -> Answered<'a, Vec<DeadLetter>>;

    fn dead_letter_count<'a>(&'a self, id: &'a str) -> Answered<'a, u32>;

    /// Has dead letters delivered again: one by its number, or all.
    fn requeue<'a>(
        &'a self,
        id: &'a str,
        revision: u64,
        number: Option<u64>,
        at_ms: u64,
        used: Option<&'a Used>,
    ) -> Answered<'a, bool>;

    /// The oldest dead letter that is to be delivered again.
    fn next_requeued<'a>(&'a self, id: &'a str) -> Answered<'a, Option<DeadLetter>>;

    /// Takes a webhook for `holder` from whoever has it, if that is still so.
    fn take_webhook<'a>(&'a self, id: &'a str, from: Lease, holder: u64) -> Answered<'a, bool>;

    /// Shows that `holder` lives: every lease it has gets another beat. Nothing is written where nobody else could look.
    fn renew_leases<'a>(&'a self, holder: u64) -> Answered<'a, ()>;

    /// Gives up everything that `holder` has.
    fn leave_webhooks<'a>(&'a self, holder: u64) -> Answered<'a, ()>;

    /// Keeps how far deliveries have come. `false`, and nothing is kept, unless the webhook is still held and nobody has
    /// changed it.
    fn settle<'a>(&'a self, settlement: &'a Settlement) -> Answered<'a, bool>;
}

/// A webhook that is to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Fresh {
    pub id: String,
    pub url: String,
    pub filter: EventFilter,
    pub paused: bool,
    pub secret: Secret,
    pub created_ms: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct WebhookRow {
    pub id: String,
    pub url: String,
    pub filter: EventFilter,
    pub paused: bool,
    pub created_ms: u64,
    pub secret: Secret,
    pub former: Option<Former>,
    /// Rises whenever somebody changes it.
    pub revision: u64,
    /// How often it was set back to an earlier position.
    pub rewound: u64,
    /// Delivered, put aside or left out by the filter up to here.
    pub position: u64,
    pub course: Course,
    pub lease: Lease,
}

/// The secret before the present one.
#[derive(Debug, Clone, PartialEq)]
pub struct Former {
    pub secret: Secret,
    /// Until then it signs too.
    pub until_ms: u64,
}

/// How deliveries go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Course {
    /// Empty before the first attempt.
    pub last_outcome: String,
    pub last_attempt_ms: u64,
    /// Attempts in a row that failed.
    pub failures: u32,
    /// How often the event behind the position was tried in vain, since when, and when that is done again; all 0 when it
    /// was not tried.
    pub tries: u32,
    pub first_try_ms: u64,
    pub due_ms: u64,
}

/// Who delivers: a node, 0 for none, and its last sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lease {
    pub holder: u64,
    pub beat: u64,
}

/// What somebody says about a webhook; what is `None` stays.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Change {
    pub url: Option<String>,
    pub filter: Option<EventFilter>,
    pub paused: Option<bool>,
    /// A new secret and the one it follows.
    pub secret: Option<(Secret, Former)>,
    /// Back to here; a position that was not reached yet changes nothing.
    pub rewind_to: Option<u64>,
}

/// An event that could not be delivered.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Of the webhook, rising.
    pub number: u64,
    /// What the delivery is called in each of its repetitions.
    pub delivery: String,
    pub event: Event,
    pub attempts: u32,
    pub first_attempt_ms: u64,
    pub last_attempt_ms: u64,
    pub outcome: String,
    /// Since when it is to be delivered again, how often that was tried in vain, and when it is next; all 0 while it rests.
    pub requeued_ms: u64,
    pub tries: u32,
    pub due_ms: u64,
}

/// How far deliveries have come.
#[derive(Debug, Clone, PartialEq)]
pub struct Settlement {
    pub webhook: String,
    pub holder: u64,
    pub revision: u64,
    pub position: u64,
    pub course: Course,
    /// Nobody is there any more: it is paused.
    pub pauses: bool,
    pub letter: Letter,
    pub at_ms: u64,
}

/// What becomes of a dead letter.
#[derive(Debug, Clone, PartialEq)]
pub enum Letter {
    /// There is none.
    None,
    /// It becomes one, and the oldest past so many go. Its number is given here.
    Aside { letter: DeadLetter, letters_max: u32 },
    /// It was delivered after all.
    Delivered(u64),
    /// It failed again.
    Failed(DeadLetter),
}
