//! Between the store's records, the engine's facts and the protocol's messages.

use veza_engine::room::{Appended, Facts, unavailable};
use veza_proto::RoomId;
use veza_proto::v1::{Error, ErrorCode, Message, Room};

use crate::store::{MessageRecord, RoomRecord, StoreError, WriteError, Written};

pub(super) fn room(record: RoomRecord) -> Room {
    Room {
        id: String::from(&record.id),
        title: record.title,
        epoch: record.epoch,
        head: record.head,
        members: record.members,
        created_ms: record.created_ms,
    }
}

pub(super) fn facts(record: RoomRecord) -> Facts {
    Facts {
        id: record.id,
        title: record.title,
        epoch: record.epoch,
        head: record.head,
        first_available: record.first_available,
        members: record.members,
        created_ms: record.created_ms,
    }
}

pub(super) fn message(record: MessageRecord) -> Message {
    Message {
        room: String::from(&record.room),
        epoch: record.epoch,
        seq: record.seq,
        cmid: String::from(&record.cmid),
        author: String::from(&record.author),
        body: record.body,
        at_ms: record.at_ms,
    }
}

/// What became of an append.
pub(super) fn appended(room: &RoomId, written: Result<Written, WriteError>) -> Appended {
    match written {
        Ok(Written::Appended(record)) => Appended::Stored(message(record)),
        Ok(Written::Duplicate(record)) => Appended::Duplicate(message(record)),
        Ok(Written::CmidConflict) => Appended::Conflict,
        Ok(Written::NoSuchRoom) => Appended::NoSuchRoom,
        Ok(
            other @ (Written::RoomCreated(_)
            | Written::RoomExists(_)
            | Written::MemberAdded { .. }
            | Written::MemberRemoved { .. }),
        ) => {
            unreachable!("{other:?} answers no append to {room}")
        }
        Err(WriteError::Store(StoreError::Full(_))) => Appended::StorageFull,
        Err(WriteError::Expired | WriteError::Stopped | WriteError::Store(_)) => Appended::Unavailable,
    }
}

pub(super) fn write_error(error: &WriteError) -> Error {
    match error {
        WriteError::Store(StoreError::Full(_)) => {
            Error::temporary(ErrorCode::StorageFull, "the store is full: nothing was stored", 30_000)
        }
        WriteError::Expired | WriteError::Stopped | WriteError::Store(_) => unavailable(),
    }
}

/// The label of an append's outcome in metrics.
pub(super) fn outcome(appended: &Appended) -> &'static str {
    match appended {
        Appended::Stored(_) => "stored",
        Appended::Duplicate(_) => "duplicate",
        Appended::Conflict => "conflict",
        Appended::NoSuchRoom => "refused",
        Appended::Unavailable | Appended::StorageFull => "unavailable",
    }
}
