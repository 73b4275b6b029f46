//! Between the store's records, the engine's inputs and the protocol's messages.

use veza_engine::View;
use veza_engine::ledger::Written;
use veza_engine::room::{Appended, storage_full, unavailable};
use veza_proto::RoomId;
use veza_proto::v1::{Error, Message, RoomEvicted, Sanction, UnreadRoom};

use crate::store::{self, Entry, StoreError, UnreadRow, WriteError};

/// An entry as it is now.
pub(super) fn message(entry: Entry) -> Message {
    entry.row.to_page(entry.reactions)
}

pub(super) fn view(view: View) -> store::View {
    match view {
        View::Everything => store::View::Everything,
        View::Timeline => store::View::Timeline,
        View::Thread(root) => store::View::Thread(root),
    }
}

pub(super) fn unread(row: UnreadRow) -> UnreadRoom {
    UnreadRoom {
        room: String::from(&row.room),
        title: row.title,
        epoch: row.epoch,
        head: row.head,
        read_seq: row.read_seq,
        unread: row.unread,
        mentions: row.mentions,
        last_message_ms: row.last_message_ms,
    }
}

/// What became of an append.
pub(super) fn appended(room: &RoomId, written: Result<Written, WriteError>) -> Appended {
    match written {
        Ok(Written::Appended(row)) => Appended::Stored(row.to_live()),
        Ok(Written::Duplicate { epoch, seq, at_ms }) => Appended::Duplicate { epoch, seq, at_ms },
        Ok(Written::Refused(refusal)) => Appended::Refused(refusal),
        Ok(other) => unreachable!("{other:?} answers no append to {room}"),
        Err(WriteError::Store(StoreError::Full(_))) => Appended::StorageFull,
        Err(WriteError::Expired | WriteError::Stopped | WriteError::Store(_)) => Appended::Unavailable,
    }
}

pub(super) fn write_error(error: &WriteError) -> Error {
    match error {
        WriteError::Store(StoreError::Full(_)) => storage_full(),
        WriteError::Expired | WriteError::Stopped | WriteError::Store(_) => unavailable(),
    }
}

/// The label of an append's outcome in metrics.
pub(super) fn outcome(appended: &Appended) -> &'static str {
    match appended {
        Appended::Stored(_) => "stored",
        Appended::Duplicate { .. } => "duplicate",
        Appended::Refused(veza_engine::ledger::Refusal::CmidConflict) => "conflict",
        Appended::Refused(_) => "refused",
        Appended::Unavailable | Appended::StorageFull => "unavailable",
    }
}

/// The label of an eviction in metrics.
pub(super) fn sanction(evicted: &RoomEvicted) -> &'static str {
    match evicted.sanction() {
        Sanction::Kick => "kick",
        Sanction::Ban => "ban",
        Sanction::Unspecified | Sanction::Mute | Sanction::Unmute | Sanction::Unban => "left",
    }
}
