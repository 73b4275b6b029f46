//! The database: the truth and the sequencer. Nothing is acknowledged before [`Store::commit`] has returned.
//!
//! Times are milliseconds since 1970-01-01 UTC; sequence numbers of a room's epoch are 1…n without holes.

mod memory;
mod sqlite;
mod writer;

#[cfg(test)]
mod contract;

use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use veza_proto::{Cmid, RoomId, UserId};

pub use self::memory::MemoryStore;
pub use self::sqlite::SqliteStore;
pub use self::writer::{Busy, QUEUED_WRITES_MAX, WriteError, Writer, WriterHandle};

use crate::config;

/// Opens the database that `DATABASE_URL` names, brings its schema up to date, and checks that it is durable. An empty
/// URL means `veza.db` in `data_dir`; a relative path is relative to the working directory.
///
/// # Errors
/// [`OpenError`], whose display is a sentence for the operator. It never repeats the URL, which may hold a password.
pub async fn open(database: &config::Database, data_dir: &Path) -> Result<Arc<dyn Store>, OpenError> {
    let url = database.url.expose();
    let path = match url.split_once(':').map(|(scheme, _)| scheme) {
        None if url.is_empty() => data_dir.join("veza.db"),
        Some("sqlite") => sqlite::path_of(url)?,
        Some("postgres" | "postgresql") => {
            let why = "this version stores in SQLite, PostgreSQL comes with the cluster; use sqlite://path";
            return Err(OpenError::Url(why.into()));
        }
        None | Some(_) => return Err(OpenError::Url("must be sqlite://path".into())),
    };
    let readers = database.pool_size.clamp(1, sqlite::READERS_MAX);
    Ok(Arc::new(SqliteStore::open(&path, readers, database.timeout).await?))
}

/// One database. Every implementation passes the suite in `store/contract.rs`.
pub trait Store: Send + Sync + 'static {
    /// Applies the writes in order, in one durable transaction, and answers each. A write that is refused does not
    /// harm its neighbours.
    ///
    /// # Errors
    /// [`StoreError`]: the whole batch is undecided to the caller; retrying it is safe (writes are idempotent).
    fn commit<'a>(&'a self, batch: &'a [Write]) -> BoxFuture<'a, Result<Vec<Written>, StoreError>>;

    /// # Errors
    /// [`StoreError`] when the database does not answer.
    fn room<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, Result<Option<RoomRecord>, StoreError>>;

    /// Rooms in the order of their ids, after `after`, at most `limit`.
    fn rooms<'a>(
        &'a self,
        member: Option<&'a UserId>,
        after: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<RoomRecord>, StoreError>>;

    fn is_member<'a>(&'a self, room: &'a RoomId, user: &'a UserId) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Messages of the room's epoch in ascending order: with [`Anchor::After`] the first `limit` after it, with
    /// [`Anchor::Before`] the last `limit` before it.
    fn messages<'a>(
        &'a self,
        room: &'a RoomId,
        epoch: u64,
        anchor: Anchor,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<MessageRecord>, StoreError>>;

    /// Whether the database answers and its durability is as promised; the sentence is for `/health/ready`.
    fn check<'a>(&'a self) -> BoxFuture<'a, Result<String, StoreError>>;

    /// Ends every connection after what is running.
    fn close<'a>(&'a self) -> BoxFuture<'a, ()>;
}

/// What one batch may hold. `at_ms` is the server's clock when the write was accepted for commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// The room's epoch is the moment of its creation (at least 1), so a room made anew after its database was lost
    /// is not taken for the old one by a client that resumes.
    CreateRoom {
        room: RoomId,
        title: String,
        creator: UserId,
        at_ms: u64,
    },
    AddMember {
        room: RoomId,
        user: UserId,
        at_ms: u64,
    },
    RemoveMember {
        room: RoomId,
        user: UserId,
    },
    Append {
        room: RoomId,
        author: UserId,
        cmid: Cmid,
        body: String,
        at_ms: u64,
    },
}

/// The answer to one [`Write`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// The room, and the creator as its first member.
    RoomCreated(RoomRecord),
    /// There is a room of this id already.
    RoomExists(RoomRecord),
    /// Now a member; `false` when it was one before.
    MemberAdded {
        room: RoomRecord,
        new: bool,
    },
    MemberRemoved {
        was_member: bool,
    },
    Appended(MessageRecord),
    /// (room, author, cmid) was stored before with the same body: the old message.
    Duplicate(MessageRecord),
    /// (room, author, cmid) was stored before with another body.
    CmidConflict,
    NoSuchRoom,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomRecord {
    pub id: RoomId,
    pub title: String,
    pub epoch: u64,
    /// The last sequence number, 0 for none.
    pub head: u64,
    /// The oldest sequence number that is still stored, 1 for all of them.
    pub first_available: u64,
    pub members: u32,
    pub created_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRecord {
    pub room: RoomId,
    pub epoch: u64,
    pub seq: u64,
    pub author: UserId,
    pub cmid: Cmid,
    pub body: String,
    pub at_ms: u64,
}

/// Where a page begins. Both exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    After(u64),
    Before(u64),
}

/// Why [`open`] gave no store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("DATABASE_URL {0}")]
    Url(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No answer, or not in time. Nothing is known of the write.
    #[error("the database does not answer: {0}")]
    Unavailable(String),
    /// The disk or the quota is full. Nothing was written.
    #[error("the database is full: {0}")]
    Full(String),
    /// What was read makes no sense, or the schema is another one.
    #[error("the database is damaged: {0}")]
    Damaged(String),
}
