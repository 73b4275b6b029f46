//! What has happened and who listens: a durable outbox that every commit adds to while somebody listens, consumers with
//! their cursors. docs/design/outbox.md tells how it keeps its order.

mod memory;

use veza_engine::ledger::{EntryRow, OnceKey};
use veza_proto::gateway::v1::{Event, EventFilter, MessageStored, event};
use veza_proto::v1::{Message, Tombstone};
use veza_proto::{RoomId, UserId};

pub(super) use self::memory::{Outboxed, renewed};
use super::Answered;

/// Consumers that there may be; webhooks are not counted.
pub const CONSUMERS_MAX: u32 = 32;

/// The part of a database that is about events. Every implementation passes the suite in `store/contract/events.rs`.
pub trait Outbox: Send + Sync + 'static {
    /// Adds events that are no writes of rooms, in one durable step. Nothing is kept when nobody listens.
    ///
    /// # Errors
    /// [`super::StoreError`] when the database does not answer, here as below; trying again adds them again.
    fn append<'a>(&'a self, events: &'a [Told]) -> Answered<'a, ()>;

    /// Gives positions to what was committed, where the database does not by itself; `false` when there may be more.
    fn arrange<'a>(&'a self) -> Answered<'a, bool>;

    /// Events behind a position, in their order, at most `limit`: messages as they are now.
    fn events<'a>(&'a self, after: u64, limit: u32) -> Answered<'a, Vec<Event>>;

    /// Where the outbox begins and ends.
    fn span<'a>(&'a self) -> Answered<'a, Span>;

    /// Removes events from before a moment, and the oldest until at most `rows_max` are left; answers the new [`Span`].
    fn forget<'a>(&'a self, before_ms: u64, rows_max: u64) -> Answered<'a, Span>;

    /// Makes the consumer, or takes it over for `holder`: with a filter where one is given. `None` when there are as many
    /// as there may be. What is committed after the answer is kept for it.
    fn register<'a>(&'a self, consumer: &'a Registration) -> Answered<'a, Option<ConsumerRow>>;

    fn consumer<'a>(&'a self, name: &'a str) -> Answered<'a, Option<ConsumerRow>>;

    /// Without webhooks, in the order of their names, after `after`, at most `limit`.
    fn consumers<'a>(&'a self, after: &'a str, limit: u32) -> Answered<'a, Vec<ConsumerRow>>;

    /// Moves a consumer forward, never back. Answers where it stands, `None` when there is none.
    fn acknowledge<'a>(&'a self, name: &'a str, position: u64, at_ms: u64) -> Answered<'a, Option<u64>>;

    /// Forgets a consumer; under a key once.
    fn remove<'a>(&'a self, name: &'a str, once: Option<&'a OnceKey>, at_ms: u64) -> Answered<'a, Removed>;

    /// When the oldest event behind a position happened; `None` when there is none.
    fn waiting_since<'a>(&'a self, position: u64) -> Answered<'a, Option<u64>>;
}

/// An event that no write of a room makes.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    pub at_ms: u64,
    pub room: Option<RoomId>,
    pub user: Option<UserId>,
    pub kind: event::Kind,
}

/// Where the outbox begins and ends. Positions have holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Up to here events were removed, 0 for none.
    pub expired: u64,
    /// The last position, 0 for none.
    pub head: u64,
}

/// Where a consumer that is made begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Now,
    Earliest,
    After(u64),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    pub name: String,
    /// `None` leaves the one it has, or lets everything through.
    pub filter: Option<EventFilter>,
    pub start: Start,
    pub holder: u64,
    pub at_ms: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerRow {
    pub name: String,
    pub filter: EventFilter,
    /// Acknowledged up to here.
    pub position: u64,
    /// The stream that has it: another one takes it over by writing its own number.
    pub holder: u64,
    pub created_ms: u64,
    /// 0 for never.
    pub acknowledged_ms: u64,
}

/// What became of a wish to remove something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    Now,
    /// By an earlier call under the same key.
    Before,
    NotThere,
    /// The key was used for something else.
    KeyReused,
}

/// An entry of a room's log as an event tells it. `None`: it is gone with its room's retention.
pub(super) fn stored(room: &RoomId, epoch: u64, seq: u64, at_ms: u64, entry: Option<&EntryRow>) -> event::Kind {
    let gone = || Message {
        room: String::from(room),
        epoch,
        seq,
        at_ms,
        deleted: Some(Tombstone { by: String::new(), at_ms: 0 }),
        ..Message::default()
    };
    let message = entry.map_or_else(gone, |entry| entry.to_page(Vec::new()));
    event::Kind::Message(MessageStored { message: Some(message) })
}
