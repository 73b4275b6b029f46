//! What the platform's backend steers that is no room: streams, and reviews of what was reported. Each is one record with
//! a revision; whoever changes it says which one they saw.

mod memory;
mod sql;

#[cfg(test)]
mod contract;

use veza_proto::gateway::v1::{
    Decision, Effects, Review, ReviewCategory, ReviewChanged, ReviewState, Stream, StreamCategory, StreamChanged, event,
};
use veza_proto::{RoomId, UserId};

pub(super) use self::memory::Kept;
pub(super) use self::sql::{claim, remember};
use super::Answered;
use super::outbox::Told;

/// The part of a database that keeps streams and reviews. Every implementation passes the suite in
/// `store/desk/contract.rs`.
pub trait Desk: Send + Sync + 'static {
    /// # Errors
    /// [`super::StoreError`] when the database does not answer, here as below.
    fn stream<'a>(&'a self, id: &'a str) -> Answered<'a, Option<StreamRow>>;

    /// Keeps a stream durably, and with it the key that asked for it; who listens to events is told. `false`, and nothing
    /// is kept, unless its revision follows the one that is there, or is the first of a new one.
    fn keep_stream<'a>(&'a self, row: &'a StreamRow, used: Option<&'a Used>, at_ms: u64) -> Answered<'a, bool>;

    /// Streams that are live, the one that was started last first, at most `limit`.
    fn live<'a>(&'a self, which: &'a Live, limit: u32) -> Answered<'a, Vec<StreamRow>>;

    fn review<'a>(&'a self, id: &'a str) -> Answered<'a, Option<ReviewRow>>;

    /// The review that this report has made.
    fn reported<'a>(&'a self, report: &'a str) -> Answered<'a, Option<ReviewRow>>;

    /// As [`Desk::keep_stream`]; also `false` for a new one when its report has made another. A decision that is not carried
    /// out yet is told when it is.
    fn keep_review<'a>(&'a self, row: &'a ReviewRow, used: Option<&'a Used>, at_ms: u64) -> Answered<'a, bool>;

    /// Reviews, oldest first, at most `limit`.
    fn reviews<'a>(&'a self, which: &'a Queue, limit: u32) -> Answered<'a, Vec<ReviewRow>>;

    /// What a service's key was used for, if that is remembered.
    fn used<'a>(&'a self, service: &'a str, key: &'a str) -> Answered<'a, Option<Used>>;
}

#[derive(Debug, Clone, PartialEq)]
pub struct StreamRow {
    pub stream: Stream,
    pub effects: Effects,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ReviewRow {
    pub review: Review,
    /// Who reported what, of which there is one review; empty where that does not matter.
    pub report: String,
    /// Decided, and not carried out yet.
    pub pending: Option<Decision>,
}

impl StreamRow {
    /// What is told of it.
    fn told(&self, at_ms: u64) -> Told {
        let Stream { room, owner, .. } = &self.stream;
        let kind = event::Kind::StreamChanged(StreamChanged { stream: Some(self.stream.clone()) });
        Told { at_ms, room: RoomId::parse(room).ok(), user: UserId::parse(owner).ok(), kind }
    }
}

impl ReviewRow {
    /// What is told of it; nothing while a decision waits to be carried out.
    fn told(&self, at_ms: u64) -> Option<Told> {
        let Review { room, user, .. } = &self.review;
        let kind = event::Kind::ReviewChanged(ReviewChanged { review: Some(self.review.clone()) });
        let told = Told { at_ms, room: RoomId::parse(room).ok(), user: UserId::parse(user).ok(), kind };
        self.pending.is_none().then_some(told)
    }
}

/// A service's key, and what it was used for. Remembered as long as those of rooms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    pub service: String,
    pub key: String,
    /// Of the whole request.
    pub digest: u64,
    /// The id of the record.
    pub made: String,
    pub at_ms: u64,
}

/// Which live streams are meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Live {
    pub category: Option<StreamCategory>,
    pub owner: Option<String>,
    /// Who looks: unlisted ones are shown to their owners. `None` sees all.
    pub viewer: Option<String>,
    /// The last one that was seen: when it was started, and its id.
    pub after: Option<(u64, String)>,
}

/// Which reviews are meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Queue {
    pub state: Option<ReviewState>,
    pub category: Option<ReviewCategory>,
    pub room: Option<String>,
    pub user: Option<String>,
    /// The last one that was seen: when it was filed, and its id.
    pub after: Option<(u64, String)>,
}
