//! Cross-node fan-out. The database is the truth; the bus only makes it fast, so anything it loses is repaired from there.

mod memory;

#[cfg(test)]
mod contract;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::broadcast;
use veza_engine::ledger::RoomRow;
use veza_engine::room::Ended;
use veza_proto::v1::Message;
use veza_proto::{RoomId, UserId};

pub use self::memory::{ANNOUNCEMENTS_MAX, MemoryBus};

use crate::config;

/// The bus that `REDIS_URL` asks for; in this version always the one inside the process.
pub fn open(redis: &config::Redis) -> Arc<dyn Bus> {
    if redis.url.is_some() {
        tracing::warn!("REDIS_URL is set; it takes effect in a later version, until then this node is alone");
    }
    Arc::new(MemoryBus::new())
}

/// Carries what one node has committed to the others. Every implementation passes the suite in `bus/contract.rs`.
pub trait Bus: Send + Sync + 'static {
    /// Tells the other nodes; the own one hears it too and knows it by `node`. Never waits: what cannot be sent now is
    /// lost, and repaired from the store.
    fn publish(&self, announcement: Announcement);

    /// What is announced from now on. A receiver that lags must repair its rooms from the store.
    fn subscribe(&self) -> broadcast::Receiver<Announcement>;

    /// The sentence is for `/health/ready`.
    fn check(&self) -> BoxFuture<'_, Result<String, BusError>>;
}

#[derive(Debug, Clone, PartialEq)]
pub struct Announcement {
    /// Who says it.
    pub node: u64,
    pub event: Announced,
}

#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly all announcements are messages")]
pub enum Announced {
    /// Committed, in any order: the receiver puts it in the room's.
    Message(Message),
    /// A room's settings or members have changed.
    Changed(Box<RoomRow>),
    /// Somebody's membership has ended.
    Ended { row: Box<RoomRow>, ended: Box<Ended> },
    /// A write of this room was not answered: whoever has it loaded asks the store.
    Doubt { room: RoomId },
    /// A volatile event.
    Typing { room: RoomId, user: UserId, active: bool },
}

#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error("the bus does not answer: {0}")]
    Unavailable(String),
}
