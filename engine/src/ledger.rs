//! What a write does to what is stored: the decisions of the database, for every database.
//!
//! A store reads the rows that [`Needs`] names, applies its batch write by write, and carries out what has changed
//! ([`Table::changes`], [`Ledger::erased`], [`Ledger::expired`]) in one transaction. The answers hold once that has
//! committed. Numbers of a room's epoch are 1…n without holes; whoever is not allowed to do something is told so here,
//! whatever door the write came through.

mod actor;
mod append;
mod authority;
mod content;
mod events;
mod members;
mod needs;
mod once;
mod permission;
mod refusal;
mod rooms;
mod rows;
mod show;
mod table;
#[cfg(test)]
mod tests;

use veza_proto::v1::{Action, Role, RoomKind, Sanction};
use veza_proto::{Cmid, RoomId, UserId};

pub use actor::Actor;
pub use authority::{Settings, SettingsField};
pub use content::{Content, Detail, Kind};
pub use events::{Happened, What, kind_of};
pub use needs::Needs;
pub use once::{CallKey, CallRow, KEPT_MS, OnceKey};
pub use permission::Permission;
pub use refusal::{Refusal, not_found};
pub use rows::{
    AuditKey, AuditRow, Deleted, EntryKey, EntryRow, FOREVER, InviteKey, InviteRow, Joined, Marker, MemberKey,
    MemberRow, MentionKey, ReactionKey, RevisionKey, RevisionRow, RoomRow, SentKey, TotalKey,
};
pub use table::{Change, Table};

/// How the ids of direct rooms begin, and no others.
pub const DIRECT_PREFIX: &str = "dm.";

/// Something to be stored. `at_ms` is the server's clock when the write was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// The room's epoch is the moment of its creation (at least 1), so a room made anew after its database was lost is
    /// not taken for the old one by a client that resumes.
    CreateRoom {
        room: RoomId,
        title: String,
        topic: String,
        kind: RoomKind,
        settings: Settings,
        /// Becomes the owner. `None` for a room of the server itself, which has no member yet.
        creator: Option<UserId>,
        at_ms: u64,
    },
    /// The room of two, made when it is not there; both are members then.
    OpenDirect {
        room: RoomId,
        opener: UserId,
        other: UserId,
        at_ms: u64,
    },
    UpdateRoom {
        room: RoomId,
        actor: Actor,
        update: RoomUpdate,
        at_ms: u64,
    },
    Join {
        room: RoomId,
        user: UserId,
        /// A code.
        invite: Option<String>,
        /// What the user's token says.
        entitlements: Vec<String>,
        /// The service that lets the user in, whatever the kind; not past a ban.
        admitted_by: Option<UserId>,
        at_ms: u64,
    },
    Leave {
        room: RoomId,
        user: UserId,
        /// The service that lets the user go.
        ended_by: Option<UserId>,
        at_ms: u64,
    },
    SetRole {
        room: RoomId,
        actor: Actor,
        user: UserId,
        role: Role,
        at_ms: u64,
    },
    Moderate {
        room: RoomId,
        actor: Actor,
        user: UserId,
        sanction: Sanction,
        reason: String,
        /// 0: until it is lifted; of a kick: not at all.
        seconds: u64,
        at_ms: u64,
    },
    Invite {
        room: RoomId,
        actor: Actor,
        key: InviteKey,
        uses_max: u32,
        expires_ms: u64,
        at_ms: u64,
    },
    RevokeInvite {
        room: RoomId,
        actor: Actor,
        key: InviteKey,
        at_ms: u64,
    },
    Append {
        room: RoomId,
        author: Actor,
        cmid: Cmid,
        content: Content,
        at_ms: u64,
    },
    Mark {
        room: RoomId,
        user: UserId,
        delivered_seq: u64,
        read_seq: u64,
    },
    /// Retention: entries up to this one go away.
    Expire {
        room: RoomId,
        up_to: u64,
        at_ms: u64,
    },
    /// Something was done about the room that changes nothing in it; its audit log has it.
    Audit {
        room: RoomId,
        row: AuditRow,
    },
    /// What a service asks for under a key: it happens once.
    Once {
        key: OnceKey,
        write: Box<Write>,
        at_ms: u64,
    },
}

impl Write {
    /// The room it is about.
    pub fn room(&self) -> &RoomId {
        match self {
            Write::CreateRoom { room, .. }
            | Write::OpenDirect { room, .. }
            | Write::UpdateRoom { room, .. }
            | Write::Join { room, .. }
            | Write::Leave { room, .. }
            | Write::SetRole { room, .. }
            | Write::Moderate { room, .. }
            | Write::Invite { room, .. }
            | Write::RevokeInvite { room, .. }
            | Write::Append { room, .. }
            | Write::Mark { room, .. }
            | Write::Expire { room, .. }
            | Write::Audit { room, .. } => room,
            Write::Once { write, .. } => write.room(),
        }
    }
}

/// What is absent stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoomUpdate {
    pub title: Option<String>,
    pub topic: Option<String>,
    pub kind: Option<RoomKind>,
    pub settings: Option<Settings>,
    /// Which of the settings count; `None` for all of them.
    pub only: Option<Vec<SettingsField>>,
    pub archived: Option<bool>,
}

/// The answer to one [`Write`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a batch's answers live shortly, and most are entries")]
pub enum Written {
    /// Made, or updated with the notes that tell of it.
    Room {
        room: RoomRow,
        notes: Vec<EntryRow>,
    },
    /// There is a room of this id already. Of a direct room that is as good as making it.
    RoomExists(RoomRow),
    Joined {
        room: RoomRow,
        member: MemberRow,
    },
    Left {
        room: RoomRow,
    },
    /// A role or a sanction, and the note that tells of it.
    Member {
        room: RoomRow,
        user: UserId,
        member: MemberRow,
        note: Option<EntryRow>,
    },
    Invited(InviteKey, InviteRow),
    InviteRevoked,
    Appended(EntryRow),
    /// It was so already: the entry that had made it so.
    Duplicate {
        epoch: u64,
        seq: u64,
        at_ms: u64,
    },
    Marked {
        member: MemberRow,
    },
    Expired {
        room: RoomRow,
    },
    /// It was done before under this key: what it made, as that is now. Nothing is to be told.
    Repeated(Box<Written>),
    Refused(Refusal),
}

/// The rows at hand.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    pub rooms: Table<RoomId, RoomRow>,
    pub members: Table<MemberKey, MemberRow>,
    pub entries: Table<EntryKey, EntryRow>,
    /// Which entry a cmid made. Part of the entry, so it is never a change of its own.
    pub sent: Table<SentKey, u64>,
    /// Which entry set a reaction.
    pub reactions: Table<ReactionKey, Marker>,
    pub totals: Table<TotalKey, u32>,
    /// Which entry pinned a message.
    pub pins: Table<EntryKey, Marker>,
    pub revisions: Table<RevisionKey, RevisionRow>,
    pub mentions: Table<MentionKey, ()>,
    pub invites: Table<InviteKey, InviteRow>,
    pub audit: Table<AuditKey, AuditRow>,
    pub calls: Table<CallKey, CallRow>,
    calls_expired: u64,
    erased: Vec<EntryKey>,
    expired: Vec<EntryKey>,
    happened: Vec<Happened>,
}

impl Ledger {
    /// Decides one write.
    pub fn apply(&mut self, write: &Write) -> Written {
        let decided = match write {
            Write::CreateRoom { room, title, topic, kind, settings, creator, at_ms } => {
                Ok(self.create_room(room, title, topic, *kind, settings, creator.as_ref(), *at_ms))
            }
            Write::OpenDirect { room, opener, other, at_ms } => self.open_direct(room, opener, other, *at_ms),
            Write::UpdateRoom { room, actor, update, at_ms } => self.update_room(room, actor, update, *at_ms),
            Write::Join { room, user, invite, entitlements, admitted_by, at_ms } => match admitted_by {
                Some(service) => self.admit(room, user, service, *at_ms),
                None => self.join(room, user, invite.as_deref(), entitlements, *at_ms),
            },
            Write::Leave { room, user, ended_by, at_ms } => self.leave(room, user, ended_by.as_ref(), *at_ms),
            Write::SetRole { room, actor, user, role, at_ms } => self.set_role(room, actor, user, *role, *at_ms),
            Write::Moderate { room, actor, user, sanction, reason, seconds, at_ms } => {
                self.moderate(room, actor, user, *sanction, reason, *seconds, *at_ms)
            }
            Write::Invite { room, actor, key, uses_max, expires_ms, at_ms } => {
                self.invite(room, actor, key, *uses_max, *expires_ms, *at_ms)
            }
            Write::RevokeInvite { room, actor, key, at_ms } => self.revoke_invite(room, actor, key, *at_ms),
            Write::Append { room, author, cmid, content, at_ms } => self.append(room, author, cmid, content, *at_ms),
            Write::Mark { room, user, delivered_seq, read_seq } => self.mark(room, user, *delivered_seq, *read_seq),
            Write::Expire { room, up_to, at_ms } => self.expire(room, *up_to, *at_ms),
            Write::Audit { room, row } => self.record(room, row),
            Write::Once { key, write, at_ms } => Ok(self.once(key, write, *at_ms)),
        };
        decided.unwrap_or_else(Written::Refused)
    }

    /// Messages whose traces the store takes out by itself: bodies and details of edits that target them, revisions,
    /// reactions with their totals, mentions, the pin. After every other change.
    pub fn erased(&self) -> &[EntryKey] {
        &self.erased
    }

    /// Rooms with the number up to which (inclusive) everything is removed by the store. After every other change.
    pub fn expired(&self) -> &[EntryKey] {
        &self.expired
    }

    /// Keys used up to this moment are remembered no more, `None` when no key was used. After every other change.
    pub fn calls_expired(&self) -> Option<u64> {
        (self.calls_expired > 0).then_some(self.calls_expired)
    }

    /// The store has everything: for a ledger that is a store itself.
    pub fn settle(&mut self) {
        self.rooms.settle();
        self.members.settle();
        self.entries.settle();
        self.sent.settle();
        self.reactions.settle();
        self.totals.settle();
        self.pins.settle();
        self.revisions.settle();
        self.mentions.settle();
        self.invites.settle();
        self.audit.settle();
        self.calls.settle();
        let expired = std::mem::take(&mut self.calls_expired);
        self.calls.forget(|_, row| row.at_ms <= expired);
        self.erased.clear();
        self.expired.clear();
        self.happened.clear();
    }

    fn room_mut(&mut self, room: &RoomId) -> &mut RoomRow {
        self.rooms.edit(room).expect("the write has found this room")
    }

    fn record(&mut self, room: &RoomId, row: &AuditRow) -> Result<Written, Refusal> {
        if self.rooms.get(room).is_none() {
            return Err(Refusal::NoSuchRoom);
        }
        self.note_audit(room, row.clone());
        Ok(Written::Room { room: self.room_mut(room).clone(), notes: Vec::new() })
    }

    fn note_audit(&mut self, room: &RoomId, row: AuditRow) {
        let found = self.room_mut(room);
        found.audit += 1;
        let number = found.audit;
        self.audit.put((room.clone(), number), row);
    }
}

fn refused_sentence(action: Action) -> &'static str {
    match action {
        Action::Publish => "you may not write in this room",
        Action::React => "you may not react in this room",
        Action::Attach => "you may not attach files in this room",
        Action::Thread => "you may not write in threads of this room",
        Action::MentionAll => "you may not mention everybody in this room",
        Action::Pin => "you may not pin messages in this room",
        Action::Invite => "you may not invite to this room",
        Action::DeleteAny => "you may delete only your own messages",
        Action::Moderate => "only moderators of this room may do this",
        Action::Manage => "only administrators of this room may do this",
        Action::Unspecified => "you may not do this in this room",
    }
}
