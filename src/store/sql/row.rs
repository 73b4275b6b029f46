//! Rows of the databases as what the ledger and the readers know.

use veza_engine::ledger::{
    AuditRow, CallKey, CallRow, Deleted, Detail, EntryRow, InviteKey, InviteRow, Joined, Marker, MemberRow,
    RevisionRow, RoomRow, Settings,
};
use veza_proto::v1::{Role, RoomKind};
use veza_proto::{Cmid, RoomId, UserId};

use super::StoreError;

/// One row that a database gave, by the names of its columns.
pub(in crate::store) trait Row: Send + Sized {
    /// NULL reads as 0.
    fn integer(&self, column: &str) -> Result<i64, StoreError>;
    fn text(&self, column: &str) -> Result<String, StoreError>;
    fn text_or_null(&self, column: &str) -> Result<Option<String>, StoreError>;
    fn bytes(&self, column: &str) -> Result<Vec<u8>, StoreError>;

    fn natural(&self, column: &str) -> Result<u64, StoreError> {
        u64::try_from(self.integer(column)?).map_err(damaged)
    }

    fn small(&self, column: &str) -> Result<u32, StoreError> {
        u32::try_from(self.integer(column)?).map_err(damaged)
    }

    fn flag(&self, column: &str) -> Result<bool, StoreError> {
        Ok(self.integer(column)? != 0)
    }

    fn room_id(&self, column: &str) -> Result<RoomId, StoreError> {
        RoomId::parse(&self.text(column)?).map_err(damaged)
    }

    fn user(&self, column: &str) -> Result<UserId, StoreError> {
        UserId::parse(&self.text(column)?).map_err(damaged)
    }

    fn user_or_null(&self, column: &str) -> Result<Option<UserId>, StoreError> {
        self.text_or_null(column)?.map(|text| UserId::parse(&text)).transpose().map_err(damaged)
    }
}

/// Columns of [`room`], of the table `rooms AS r`.
macro_rules! room_columns {
    () => {
        "r.key AS room_key, r.id AS room, r.title, r.topic, r.kind, r.settings, r.archived, r.epoch, \
    r.head, r.first_available, r.messages, r.messages_expired, r.members, r.created_ms, r.last_message_ms, r.revision, \
    r.audit, r.direct_one, r.direct_other"
    };
}

pub(super) fn room(row: &impl Row) -> Result<RoomRow, StoreError> {
    let direct = (row.user_or_null("direct_one")?, row.user_or_null("direct_other")?);
    Ok(RoomRow {
        id: row.room_id("room")?,
        title: row.text("title")?,
        topic: row.text("topic")?,
        kind: RoomKind::try_from(row.integer("kind")? as i32).map_err(damaged)?,
        settings: Settings::from_bytes(&row.bytes("settings")?).map_err(StoreError::Damaged)?,
        archived: row.flag("archived")?,
        epoch: row.natural("epoch")?,
        head: row.natural("head")?,
        first_available: row.natural("first_available")?,
        messages: row.natural("messages")?,
        messages_expired: row.natural("messages_expired")?,
        members: row.small("members")?,
        created_ms: row.natural("created_ms")?,
        last_message_ms: row.natural("last_message_ms")?,
        revision: row.natural("revision")?,
        audit: row.natural("audit")?,
        direct: direct.0.zip(direct.1),
    })
}

/// Columns of [`member`], of the table `members AS m`. Apart from those of a room, so that both stand in one row.
macro_rules! member_columns {
    () => {
        "m.member, m.role, m.joined_ms, m.muted_until_ms, m.banned_until_ms, m.reason, \
    m.delivered_seq, m.read_seq, m.read_messages, m.said_ms"
    };
}

pub(super) fn member(row: &impl Row) -> Result<MemberRow, StoreError> {
    let joined = match row.integer("role")? {
        0 => None,
        role => Some(Joined { role: Role::try_from(role as i32).map_err(damaged)?, at_ms: row.natural("joined_ms")? }),
    };
    Ok(MemberRow {
        joined,
        muted_until_ms: row.natural("muted_until_ms")?,
        banned_until_ms: row.natural("banned_until_ms")?,
        reason: row.text("reason")?,
        delivered_seq: row.natural("delivered_seq")?,
        read_seq: row.natural("read_seq")?,
        read_messages: row.natural("read_messages")?,
        last_message_ms: row.natural("said_ms")?,
    })
}

/// As [`member`], where there may be none.
pub(super) fn member_or_null(row: &impl Row) -> Result<Option<MemberRow>, StoreError> {
    Ok(if row.text_or_null("member")?.is_some() { Some(member(row)?) } else { None })
}

/// Columns of [`entry`], of the table `entries AS e`; the room's id and epoch are known to whoever asks.
macro_rules! entry_columns {
    () => {
        "e.seq, e.author, e.cmid, e.at_ms, e.digest, e.messages, e.body, e.detail, e.edits, \
    e.edited_ms, e.deleted_seq, e.deleted_by, e.deleted_ms, e.pinned, e.reacted, e.replies, e.last_reply_seq, \
    e.last_reply_ms"
    };
}

pub(super) fn entry(row: &impl Row, room: &RoomId, epoch: u64) -> Result<EntryRow, StoreError> {
    let deleted = match row.user_or_null("deleted_by")? {
        Some(by) => Some(Deleted { seq: row.natural("deleted_seq")?, by, at_ms: row.natural("deleted_ms")? }),
        None => None,
    };
    Ok(EntryRow {
        room: room.clone(),
        epoch,
        seq: row.natural("seq")?,
        author: row.user("author")?,
        cmid: row.text_or_null("cmid")?.map(|cmid| Cmid::parse(&cmid)).transpose().map_err(damaged)?,
        at_ms: row.natural("at_ms")?,
        digest: row.integer("digest")?.cast_unsigned(),
        messages: row.natural("messages")?,
        body: row.text("body")?,
        detail: Detail::from_bytes(&row.bytes("detail")?).map_err(damaged)?,
        edits: row.small("edits")?,
        edited_ms: row.natural("edited_ms")?,
        deleted,
        pinned: row.flag("pinned")?,
        reacted: row.small("reacted")?,
        replies: row.small("replies")?,
        last_reply_seq: row.natural("last_reply_seq")?,
        last_reply_ms: row.natural("last_reply_ms")?,
    })
}

pub(super) fn marker(row: &impl Row) -> Result<Marker, StoreError> {
    Ok(Marker { seq: row.natural("entry")?, at_ms: row.natural("at_ms")? })
}

/// Columns of [`invite`], of the table `invites AS i`.
macro_rules! invite_columns {
    () => {
        "i.name, i.room AS invite_room, i.invited, i.creator, i.created_ms, i.expires_ms, i.uses_max, i.uses"
    };
}

pub(super) fn invite(row: &impl Row) -> Result<(InviteKey, InviteRow), StoreError> {
    let invite = InviteRow {
        room: row.room_id("invite_room")?,
        user: row.user_or_null("invited")?,
        creator: row.user("creator")?,
        created_ms: row.natural("created_ms")?,
        expires_ms: row.natural("expires_ms")?,
        uses_max: row.small("uses_max")?,
        uses: row.small("uses")?,
    };
    let name = row.text("name")?;
    let key = match (&invite.user, name.strip_prefix("c:")) {
        (Some(user), None) => InviteKey::User(invite.room.clone(), user.clone()),
        (None, Some(code)) => InviteKey::Code(code.to_owned()),
        _ => return Err(StoreError::Damaged(format!("an invitation is named {name}"))),
    };
    Ok((key, invite))
}

/// The key as one text, in the order of the keys: no room's id holds a space.
pub(super) fn invite_name(key: &InviteKey) -> String {
    match key {
        InviteKey::Code(code) => format!("c:{code}"),
        InviteKey::User(room, user) => format!("u:{room} {user}"),
    }
}

/// What [`invite_name`] wrote.
fn invite_key(name: &str) -> Option<InviteKey> {
    if let Some(code) = name.strip_prefix("c:") {
        return Some(InviteKey::Code(code.to_owned()));
    }
    let (room, user) = name.strip_prefix("u:")?.split_once(' ')?;
    Some(InviteKey::User(RoomId::parse(room).ok()?, UserId::parse(user).ok()?))
}

pub(super) fn call(row: &impl Row) -> Result<(CallKey, CallRow), StoreError> {
    let made = match row.text_or_null("made")? {
        Some(name) => Some(invite_key(&name).ok_or_else(|| damaged("a key made an invitation that has no name"))?),
        None => None,
    };
    let digest = row.integer("digest")?.cast_unsigned();
    Ok(((row.text("service")?, row.text("name")?), CallRow { digest, made, at_ms: row.natural("at_ms")? }))
}

pub(super) fn revision(row: &impl Row) -> Result<RevisionRow, StoreError> {
    Ok(RevisionRow { body: row.text("body")?, at_ms: row.natural("at_ms")? })
}

pub(super) fn audit(row: &impl Row) -> Result<(u64, AuditRow), StoreError> {
    let found = AuditRow {
        at_ms: row.natural("at_ms")?,
        actor: row.user("actor")?,
        action: row.text("action")?.into(),
        user: row.user_or_null("whom")?,
        seq: row.natural("seq")?,
        reason: row.text("reason")?,
        detail: row.text("detail")?,
    };
    Ok((row.natural("number")?, found))
}

pub(in crate::store) fn damaged(error: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(error.to_string())
}

pub(in crate::store) use entry_columns;
pub(super) use {invite_columns, member_columns, room_columns};
