//! The database: the truth and the sequencer. Nothing is acknowledged before [`Store::commit`] has returned.
//!
//! Times are milliseconds since 1970-01-01 UTC; sequence numbers of a room's epoch are 1…n without holes.

mod analysis;
pub mod desk;
mod error;
pub mod hooks;
mod memory;
pub mod outbox;
mod postgres;
pub mod records;
mod sql;
mod sqlite;
mod writer;

#[cfg(test)]
mod contract;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use veza_engine::ledger::{AuditRow, EntryRow, InviteKey, InviteRow, MemberRow, RevisionRow, RoomRow, Write, Written};
use veza_proto::v1::Reaction;
use veza_proto::{RoomId, UserId};

use self::desk::Desk;
use self::hooks::Hooks;
pub use self::memory::MemoryStore;
use self::outbox::Outbox;
pub use self::postgres::PostgresStore;
use self::records::Records;
pub use self::sqlite::SqliteStore;
pub use self::writer::{Busy, QUEUED_WRITES_MAX, WriteError, Writer, WriterHandle};

use crate::config;

/// Opens the database that `DATABASE_URL` names, brings its schema up to date, and checks that it is durable. An empty
/// URL means `veza.db` in `data_dir`; a relative path is relative to the working directory.
///
/// # Errors
/// [`OpenError`], whose display is a sentence for the operator. It never repeats the URL, which may hold a password.
pub async fn open(database: &config::Database, data_dir: &Path) -> Result<Opened, OpenError> {
    match Place::of(database, data_dir)? {
        Place::Postgres => Ok(Opened::of(PostgresStore::open(database).await?)),
        Place::Sqlite(path) => {
            let readers = database.pool_size.clamp(1, sqlite::READERS_MAX);
            Ok(Opened::of(SqliteStore::open(&path, readers, database.timeout).await?))
        }
    }
}

/// One database, as its users see it.
#[derive(Clone)]
pub struct Opened {
    pub store: Arc<dyn Store>,
    pub outbox: Arc<dyn Outbox>,
    pub records: Arc<dyn Records>,
    pub desk: Arc<dyn Desk>,
    pub hooks: Arc<dyn Hooks>,
}

impl Opened {
    fn of(database: impl Store + Outbox + Records + Desk + Hooks) -> Self {
        let database = Arc::new(database);
        Self {
            store: Arc::clone(&database) as Arc<dyn Store>,
            outbox: Arc::clone(&database) as Arc<dyn Outbox>,
            records: Arc::clone(&database) as Arc<dyn Records>,
            desk: Arc::clone(&database) as Arc<dyn Desk>,
            hooks: database,
        }
    }
}

/// Versions of the schema, 0 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    pub found: i64,
    /// This server's.
    pub wanted: i64,
}

/// Tells the schema's version and changes nothing.
///
/// # Errors
/// As [`open`].
pub async fn versions(database: &config::Database, data_dir: &Path) -> Result<Versions, OpenError> {
    match Place::of(database, data_dir)? {
        Place::Postgres => PostgresStore::versions(database, false).await,
        Place::Sqlite(path) => Ok(sqlite::copy::versions(&path).await?),
    }
}

/// Brings the schema up to date, as [`open`] does, and tells what was found.
///
/// # Errors
/// As [`open`].
pub async fn migrate(database: &config::Database, data_dir: &Path) -> Result<Versions, OpenError> {
    match Place::of(database, data_dir)? {
        Place::Postgres => PostgresStore::versions(database, true).await,
        Place::Sqlite(path) => Ok(sqlite::copy::migrate(&path).await?),
    }
}

/// Copies a SQLite database into a new file; a server may be using it.
///
/// # Errors
/// Also for PostgreSQL, which has tools of its own.
pub async fn backup(database: &config::Database, data_dir: &Path, to: &Path) -> Result<(), OpenError> {
    match Place::of(database, data_dir)? {
        Place::Postgres => Err(OpenError::Url("names PostgreSQL, which is copied with pg_dump".into())),
        Place::Sqlite(path) => Ok(sqlite::copy::backup(&path, to).await?),
    }
}

/// Makes a SQLite database from a copy, or takes over a PostgreSQL database that was restored by its own tools (`from` is
/// `None` then), and gives every room a new epoch. No server may be running.
///
/// # Errors
/// Also when there is a SQLite database already.
pub async fn restore(
    database: &config::Database,
    data_dir: &Path,
    from: Option<&Path>,
    now_ms: u64,
) -> Result<(), OpenError> {
    match (Place::of(database, data_dir)?, from) {
        (Place::Postgres, None) => PostgresStore::renew_epochs(database, now_ms).await,
        (Place::Sqlite(path), Some(from)) => Ok(sqlite::copy::restore(&path, from, now_ms).await?),
        (Place::Postgres, Some(_)) => {
            let why = "names PostgreSQL: restore it with pg_restore, then run this without a file";
            Err(OpenError::Url(why.into()))
        }
        (Place::Sqlite(_), None) => Err(OpenError::Url("names SQLite: say which file to restore from".into())),
    }
}

/// Where `DATABASE_URL` points.
enum Place {
    Sqlite(PathBuf),
    Postgres,
}

impl Place {
    fn of(database: &config::Database, data_dir: &Path) -> Result<Self, OpenError> {
        let url = database.url.expose();
        Ok(match url.split_once(':').map(|(scheme, _)| scheme) {
            None if url.is_empty() => Place::Sqlite(data_dir.join("veza.db")),
            Some("sqlite") => Place::Sqlite(sqlite::path_of(url)?),
            Some("postgres" | "postgresql") => Place::Postgres,
            None | Some(_) => {
                return Err(OpenError::Url("must be sqlite://path or postgresql://host/database".into()));
            }
        })
    }
}

/// What a store answers in time.
pub type Answered<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// One database. Every implementation passes the suite in `store/contract.rs`. What a write means is decided by
/// [`veza_engine::ledger`]: a store loads what it needs and keeps what has changed.
pub trait Store: Send + Sync + 'static {
    /// Applies the writes in order, in one durable transaction, and answers each. A write that is refused does not
    /// harm its neighbours.
    ///
    /// # Errors
    /// [`StoreError`]: the whole batch is undecided to the caller; retrying it is safe (writes are idempotent).
    fn commit<'a>(&'a self, batch: &'a [Write]) -> Answered<'a, Vec<Written>>;

    /// # Errors
    /// [`StoreError`] when the database does not answer, here as below.
    fn room<'a>(&'a self, room: &'a RoomId) -> Answered<'a, Option<RoomRow>>;

    /// The room and what the user is to it, from one moment.
    fn membership<'a>(
        &'a self,
        room: &'a RoomId,
        user: &'a UserId,
    ) -> Answered<'a, Option<(RoomRow, Option<MemberRow>)>>;

    /// Rooms in the order of their ids, after `after`, at most `limit`, each with what the viewer is to it.
    fn rooms<'a>(
        &'a self,
        viewer: &'a UserId,
        which: Rooms,
        after: Option<&'a str>,
        limit: u32,
    ) -> Answered<'a, Vec<(RoomRow, Option<MemberRow>)>>;

    /// Entries of the room's epoch in ascending order: with [`Anchor::After`] the first `limit` after it, with
    /// [`Anchor::Before`] the last `limit` before it. `viewer` is whose reactions are marked as one's own.
    fn entries<'a>(
        &'a self,
        room: &'a RoomId,
        epoch: u64,
        view: View,
        anchor: Anchor,
        limit: u32,
        viewer: Option<&'a UserId>,
    ) -> Answered<'a, Vec<Entry>>;

    /// Members in the order of their ids, after `after`, at most `limit`.
    fn members<'a>(
        &'a self,
        room: &'a RoomId,
        which: Members,
        after: Option<&'a str>,
        limit: u32,
    ) -> Answered<'a, Vec<(UserId, MemberRow)>>;

    /// What these users are to the room; who is nothing to it is left out.
    fn members_of<'a>(&'a self, room: &'a RoomId, users: &'a [UserId]) -> Answered<'a, Vec<(UserId, MemberRow)>>;

    /// Invitations that still hold, newest first, at most `limit`, each with its room's title.
    fn invites<'a>(
        &'a self,
        which: Invites<'a>,
        now_ms: u64,
        limit: u32,
    ) -> Answered<'a, Vec<(InviteKey, InviteRow, String)>>;

    /// The bodies that edits replaced, oldest first; the entry has the current one.
    fn revisions<'a>(&'a self, room: &'a RoomId, epoch: u64, seq: u64) -> Answered<'a, Vec<RevisionRow>>;

    /// Who has reacted to a message with an emoji, in the order of their ids, at most `limit`, and how many there are.
    fn reactors<'a>(
        &'a self,
        room: &'a RoomId,
        epoch: u64,
        seq: u64,
        emoji: &'a str,
        limit: u32,
    ) -> Answered<'a, (Vec<UserId>, u32)>;

    /// Pinned messages, latest pin first.
    fn pins<'a>(&'a self, room: &'a RoomId, viewer: &'a UserId) -> Answered<'a, Vec<Entry>>;

    /// The audit log before a number, newest first, at most `limit`.
    fn audit<'a>(&'a self, room: &'a RoomId, before: u64, limit: u32) -> Answered<'a, Vec<(u64, AuditRow)>>;

    /// What waits for the user in each of their rooms, in the order of their ids, after `after`, at most `limit`. Mentions
    /// are counted up to [`veza_proto::limits::MENTIONS_COUNTED_MAX`].
    fn unread<'a>(&'a self, user: &'a UserId, which: Unread<'a>, limit: u32) -> Answered<'a, Vec<UnreadRow>>;

    /// Messages that match, newest first, at most `limit`. Deleted ones match nothing; an edited one matches as it is now.
    fn search<'a>(&'a self, search: &'a Search, limit: u32) -> Answered<'a, Vec<Entry>>;

    /// Rooms that hold more than their retention allows, and up to which entry (inclusive) they may be cut now: at most
    /// `entries_max` entries of each, at most `limit` rooms.
    fn overdue<'a>(&'a self, now_ms: u64, entries_max: u32, limit: u32) -> Answered<'a, Vec<(RoomId, u64)>>;

    /// Whether the database answers and its durability is as promised; the sentence is for `/health/ready`.
    fn check<'a>(&'a self) -> Answered<'a, String>;

    /// Ends every connection after what is running.
    fn close<'a>(&'a self) -> BoxFuture<'a, ()>;
}

/// An entry with the reactions that stand on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub row: EntryRow,
    pub reactions: Vec<Reaction>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rooms {
    /// Those the viewer is a member of.
    Mine,
    /// Those that are listed, and the viewer's.
    Visible,
    /// All there are: for services.
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    Everything,
    /// Messages outside of threads, and notes.
    Timeline,
    /// A thread's first message and its replies.
    Thread(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Members {
    All,
    /// Moderators and above.
    Staff,
    /// Members who are muted at this moment.
    Muted {
        now_ms: u64,
    },
    /// Those who are banned at this moment, no members.
    Banned {
        now_ms: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invites<'a> {
    /// All of a room.
    Of(&'a RoomId),
    /// Those that name this user.
    For(&'a UserId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread<'a> {
    /// Rooms after this id.
    After(Option<&'a str>),
    /// This one.
    In(&'a RoomId),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadRow {
    pub room: RoomId,
    pub title: String,
    pub epoch: u64,
    pub head: u64,
    pub read_seq: u64,
    pub unread: u32,
    pub mentions: u32,
    pub last_message_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// As the person wrote it; without a word in it nothing matches.
    pub query: String,
    pub scope: Scope,
    pub author: Option<UserId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// One room, before a sequence number; the viewer's reactions are marked as their own.
    Room { room: RoomId, before: u64, viewer: UserId },
    /// Every room of a member, before a place in the order (time, room, sequence number).
    Mine { member: UserId, before: Option<(u64, RoomId, u64)> },
}

/// Where a page begins. Both exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    After(u64),
    Before(u64),
}

impl UnreadRow {
    fn of(room: &RoomRow, member: &MemberRow, mentions: u32) -> Self {
        Self {
            room: room.id.clone(),
            title: room.title.clone(),
            epoch: room.epoch,
            head: room.head,
            read_seq: member.read_seq,
            unread: room.unread(member),
            mentions,
            last_message_ms: room.last_message_ms,
        }
    }
}

/// Up to which entry a room may be cut, `None` when it holds no more than its retention allows. `fresh` is the oldest
/// entry that is young enough.
fn overdue_up_to(room: &RoomRow, fresh: Option<u64>, entries_max: u32) -> Option<u64> {
    let settings = &room.settings;
    let too_old = if settings.retention_seconds == 0 { 0 } else { fresh.unwrap_or(room.head + 1) - 1 };
    let too_many =
        if settings.retention_entries == 0 { 0 } else { room.head.saturating_sub(settings.retention_entries) };
    let last = room.first_available.saturating_add(u64::from(entries_max)) - 1;
    let up_to = too_old.max(too_many).min(last);
    (up_to >= room.first_available).then_some(up_to)
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
    /// Another writer was there first. Nothing was written, and trying again finds what it has done.
    #[error("the database met another writer: {0}")]
    Conflict(String),
    /// The disk or the quota is full. Nothing was written.
    #[error("the database is full: {0}")]
    Full(String),
    /// What was read makes no sense, or the schema is another one.
    #[error("the database is damaged: {0}")]
    Damaged(String),
}
