//! Cross-node fan-out. The database is the truth; the bus only makes it fast, so anything it loses is repaired from there.

use futures_util::future::BoxFuture;
use tokio::sync::broadcast;
use veza_proto::RoomId;

use crate::store::MessageRecord;

/// Carries what one node has committed to the others. Every implementation passes the suite in `bus/contract.rs`.
pub trait Bus: Send + Sync + 'static {
    /// Tells the other nodes; the own one hears it too and knows it by `node`. Loss is allowed.
    fn publish(&self, announcement: Announcement) -> BoxFuture<'_, Result<(), BusError>>;

    /// What is announced from now on. A receiver that lags must repair its rooms from the store.
    fn subscribe(&self) -> broadcast::Receiver<Announcement>;

    /// The sentence is for `/health/ready`.
    fn check(&self) -> BoxFuture<'_, Result<String, BusError>>;
}

#[derive(Debug, Clone)]
pub struct Announcement {
    /// Who says it.
    pub node: u64,
    pub event: Announced,
}

#[derive(Debug, Clone)]
pub enum Announced {
    /// Committed, in any order: the receiver puts it in the room's.
    Message(MessageRecord),
    /// A volatile event.
    Typing { room: RoomId, user: veza_proto::UserId, active: bool },
}

#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error("the bus does not answer: {0}")]
    Unavailable(String),
}
