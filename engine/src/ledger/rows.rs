//! What the store holds. Times are milliseconds since 1970-01-01 UTC.

use std::borrow::Cow;

use veza_proto::v1::{self, Role, RoomKind};
use veza_proto::{Cmid, RoomId, UserId};

use super::authority::Settings;
use super::content::Detail;

/// Until somebody lifts it: the largest number that every JSON reader keeps (2⁵³ − 1).
pub const FOREVER: u64 = (1 << 53) - 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomRow {
    pub id: RoomId,
    pub title: String,
    pub topic: String,
    pub kind: RoomKind,
    pub settings: Settings,
    pub archived: bool,
    pub epoch: u64,
    /// The last sequence number, 0 for none.
    pub head: u64,
    /// The oldest sequence number that is still stored, 1 for all of them.
    pub first_available: u64,
    /// Messages ever said in this epoch: what [`EntryRow::messages`] counts up to.
    pub messages: u64,
    /// Of these, how many came before `first_available`.
    pub messages_expired: u64,
    pub members: u32,
    pub created_ms: u64,
    /// 0 for none.
    pub last_message_ms: u64,
    /// Counts changes of settings and members.
    pub revision: u64,
    /// The last number in the audit log.
    pub audit: u64,
    /// Of a direct room.
    pub direct: Option<(UserId, UserId)>,
}

/// What a room and a user have to do with each other. The row stays when the membership ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRow {
    /// `None` for somebody who is no member: banned, invited, or gone.
    pub joined: Option<Joined>,
    pub muted_until_ms: u64,
    pub banned_until_ms: u64,
    /// Of the mute or the ban.
    pub reason: String,
    pub delivered_seq: u64,
    pub read_seq: u64,
    /// [`EntryRow::messages`] at `read_seq`.
    pub read_messages: u64,
    /// When the user last said something, for slow mode.
    pub last_message_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    pub role: Role,
    pub at_ms: u64,
}

/// One entry of a room's log, with what has become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRow {
    pub room: RoomId,
    pub epoch: u64,
    pub seq: u64,
    pub author: UserId,
    /// `None` for a note of the system.
    pub cmid: Option<Cmid>,
    pub at_ms: u64,
    /// Of the content as it was said: a retry is known by it when the body is gone.
    pub digest: u64,
    /// Messages of the room up to and including this entry.
    pub messages: u64,
    /// The current body of a message, the new body of an edit, else empty.
    pub body: String,
    pub detail: Detail,
    /// Times a message was edited.
    pub edits: u32,
    /// 0 for never.
    pub edited_ms: u64,
    pub deleted: Option<Deleted>,
    pub pinned: bool,
    /// Reactions that stand on it; the store counts them by emoji.
    pub reacted: u32,
    pub replies: u32,
    pub last_reply_seq: u64,
    pub last_reply_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleted {
    /// The entry that did it.
    pub seq: u64,
    pub by: UserId,
    pub at_ms: u64,
}

/// The entry that set something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    pub seq: u64,
    pub at_ms: u64,
}

/// A body that an edit replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionRow {
    pub body: String,
    pub at_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InviteRow {
    pub room: RoomId,
    /// `None` for an invitation by code.
    pub user: Option<UserId>,
    pub creator: UserId,
    pub created_ms: u64,
    pub expires_ms: u64,
    /// 0 for any number.
    pub uses_max: u32,
    pub uses: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    pub at_ms: u64,
    pub actor: UserId,
    /// As `veza.v1.AuditEntry.action` lists them.
    pub action: Cow<'static, str>,
    pub user: Option<UserId>,
    /// 0 for none.
    pub seq: u64,
    pub reason: String,
    pub detail: String,
}

/// A code, or (room, user) written as one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum InviteKey {
    Code(String),
    User(RoomId, UserId),
}

pub type MemberKey = (RoomId, UserId);
pub type EntryKey = (RoomId, u64);
pub type SentKey = (RoomId, UserId, Cmid);
/// Room, message, emoji, user.
pub type ReactionKey = (RoomId, u64, String, UserId);
/// Room, message, emoji.
pub type TotalKey = (RoomId, u64, String);
/// Room, message, revision from 0.
pub type RevisionKey = (RoomId, u64, u32);
/// Room, message, user; "*" is everybody.
pub type MentionKey = (RoomId, u64, String);
pub type AuditKey = (RoomId, u64);

impl RoomRow {
    /// As everybody may see it; `me` is the asker's membership.
    pub fn to_wire(&self, me: Option<v1::Membership>) -> v1::Room {
        let direct = self.direct.iter().flat_map(|(one, other)| [String::from(one), String::from(other)]);
        v1::Room {
            id: String::from(&self.id),
            title: self.title.clone(),
            epoch: self.epoch,
            head: self.head,
            members: self.members,
            created_ms: self.created_ms,
            kind: self.kind.into(),
            topic: self.topic.clone(),
            settings: Some(self.settings.to_wire()),
            me,
            direct: direct.collect(),
            last_message_ms: self.last_message_ms,
            archived: self.archived,
            revision: self.revision,
        }
    }

    /// Whether it is told to people who are not in it.
    pub fn is_hidden(&self) -> bool {
        matches!(self.kind, RoomKind::Private | RoomKind::Direct)
    }

    /// Whether lists show it to people who are not in it.
    pub fn is_listed(&self) -> bool {
        self.settings.listed && !self.is_hidden()
    }

    /// Messages of others after the watermark.
    pub fn unread(&self, member: &MemberRow) -> u32 {
        let read = member.read_messages.max(self.messages_expired);
        u32::try_from(self.messages.saturating_sub(read)).unwrap_or(u32::MAX)
    }
}

impl MemberRow {
    /// Nothing was between them yet.
    pub fn stranger() -> Self {
        Self {
            joined: None,
            muted_until_ms: 0,
            banned_until_ms: 0,
            reason: String::new(),
            delivered_seq: 0,
            read_seq: 0,
            read_messages: 0,
            last_message_ms: 0,
        }
    }

    /// The role of a member.
    pub fn role(&self) -> Option<Role> {
        self.joined.map(|joined| joined.role)
    }

    pub fn is_banned(&self, now_ms: u64) -> bool {
        self.banned_until_ms > now_ms
    }

    /// As the member and moderators may see it; others are told [`MemberRow::to_strangers`].
    pub fn to_wire(&self, user: &UserId) -> v1::Membership {
        v1::Membership {
            muted_until_ms: self.muted_until_ms,
            banned_until_ms: self.banned_until_ms,
            reason: self.reason.clone(),
            ..self.to_strangers(user)
        }
    }

    /// Without sanctions and their reasons.
    pub fn to_strangers(&self, user: &UserId) -> v1::Membership {
        v1::Membership {
            user: String::from(user),
            role: self.role().unwrap_or(Role::Unspecified).into(),
            joined_ms: self.joined.map_or(0, |joined| joined.at_ms),
            delivered_seq: self.delivered_seq,
            read_seq: self.read_seq,
            ..v1::Membership::default()
        }
    }
}
