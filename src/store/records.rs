//! What is remembered of tokens and devices: revocations and where users were seen. Apart from the rooms' writes, whose
//! order is everything; here each row speaks for itself.

mod memory;
mod sql;

#[cfg(test)]
mod contract;

use veza_proto::{DeviceId, UserId};

pub(super) use self::memory::Remembered;
use super::Answered;
use super::outbox::Told;

/// Devices of one user that are remembered; past it the one that was not seen for longest is forgotten.
pub const DEVICES_PER_USER_MAX: u32 = 100;

/// The part of a database that is about trust. Every implementation passes the suite in `store/records/contract.rs`.
pub trait Records: Send + Sync + 'static {
    /// Keeps a revocation durably, and tells it to who listens to events. One of the same subject is renewed: it never ends
    /// earlier nor covers less than before.
    ///
    /// # Errors
    /// [`super::StoreError`] when the database does not answer, here as below; trying again is safe.
    fn revoke<'a>(&'a self, revocation: &'a Revocation, told: &'a Told) -> Answered<'a, ()>;

    /// Revocations behind a number, in the order of their numbers, at most `limit`. Whoever has seen all up to one misses
    /// none by asking for those behind it, whichever node wrote them.
    fn revocations<'a>(&'a self, after: u64, limit: u32) -> Answered<'a, Vec<(u64, Revocation)>>;

    /// Forgets revocations whose tokens have ended by now.
    fn forget_revocations<'a>(&'a self, now_ms: u64) -> Answered<'a, ()>;

    /// Remembers that devices were seen, all of them in one durable step.
    fn see_devices<'a>(&'a self, seen: &'a [Sighting]) -> Answered<'a, ()>;

    /// A user's devices in the order of their ids, after `after`, at most `limit`.
    fn devices<'a>(&'a self, user: &'a UserId, after: Option<&'a DeviceId>, limit: u32)
    -> Answered<'a, Vec<DeviceRow>>;
}

/// Who or what is not believed any more.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// The token with this `jti`.
    Token(String),
    /// A user's tokens that name this device.
    Device(UserId, DeviceId),
    /// All of a user's tokens.
    User(UserId),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    pub subject: Subject,
    /// Tokens issued up to here are refused. A token by its id is refused whenever it was issued.
    pub revoked_ms: u64,
    /// All those tokens have ended by now.
    pub drop_at_ms: u64,
}

/// A device came by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    pub user: UserId,
    pub device: DeviceId,
    /// What its client says of itself; empty when it says nothing, which replaces nothing.
    pub client: String,
    pub at_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRow {
    pub device: DeviceId,
    pub client: String,
    pub first_seen_ms: u64,
    pub last_seen_ms: u64,
}
