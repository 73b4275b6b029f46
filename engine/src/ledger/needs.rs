use std::collections::BTreeSet;

use veza_proto::v1::Role;
use veza_proto::{RoomId, UserId};

use super::Write;
use super::content::Content;
use super::once::CallKey;
use super::rows::{EntryKey, InviteKey, MemberKey, ReactionKey, SentKey};

/// What a batch has to know. Every row under these keys is to be loaded, where there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    pub rooms: BTreeSet<RoomId>,
    pub members: BTreeSet<MemberKey>,
    /// By author and cmid; their entries are to be loaded as well.
    pub sent: BTreeSet<SentKey>,
    /// Of the room's current epoch.
    pub entries: BTreeSet<EntryKey>,
    pub reactions: BTreeSet<ReactionKey>,
    /// All totals of the message.
    pub totals: BTreeSet<EntryKey>,
    /// All pins of the room.
    pub pins: BTreeSet<RoomId>,
    pub invites: BTreeSet<InviteKey>,
    /// Whoever owns the room.
    pub owners: BTreeSet<RoomId>,
    /// With the invitations that they made.
    pub calls: BTreeSet<CallKey>,
}

impl Needs {
    pub fn of(batch: &[Write]) -> Self {
        let mut needs = Self::default();
        for write in batch {
            needs.add(write);
        }
        needs
    }

    fn add(&mut self, write: &Write) {
        match write {
            Write::CreateRoom { room, creator, .. } => {
                self.rooms.insert(room.clone());
                if let Some(creator) = creator {
                    self.member(room, creator);
                }
            }
            Write::OpenDirect { room, opener, other, .. } => {
                self.rooms.insert(room.clone());
                self.member(room, opener);
                self.member(room, other);
            }
            Write::UpdateRoom { room, actor, .. } => self.by(room, actor.id()),
            Write::Join { room, user, invite, .. } => {
                self.by(room, user);
                self.invites.insert(InviteKey::User(room.clone(), user.clone()));
                self.invites.extend(invite.iter().map(|code| InviteKey::Code(code.clone())));
            }
            Write::Leave { room, user, .. } => {
                self.by(room, user);
                self.invites.insert(InviteKey::User(room.clone(), user.clone()));
            }
            Write::SetRole { room, actor, user, role, .. } => {
                self.by(room, actor.id());
                self.member(room, user);
                if *role == Role::Owner {
                    self.owners.insert(room.clone());
                }
            }
            Write::Moderate { room, actor, user, .. } => {
                self.by(room, actor.id());
                self.member(room, user);
                self.invites.insert(InviteKey::User(room.clone(), user.clone()));
            }
            Write::Invite { room, actor, key, .. } => {
                self.by(room, actor.id());
                self.invites.insert(key.clone());
                if let InviteKey::User(_, user) = key {
                    self.member(room, user);
                }
            }
            Write::RevokeInvite { room, actor, key, .. } => {
                self.by(room, actor.id());
                self.invites.insert(key.clone());
            }
            Write::Append { room, author, cmid, content, .. } => {
                self.by(room, author.id());
                self.sent.insert((room.clone(), author.id().clone(), cmid.clone()));
                self.content(room, author.id(), content);
            }
            Write::Mark { room, user, read_seq, .. } => {
                self.by(room, user);
                self.entries.insert((room.clone(), *read_seq));
            }
            Write::Expire { room, up_to, .. } => {
                self.rooms.insert(room.clone());
                self.entries.insert((room.clone(), *up_to));
            }
            Write::Audit { room, .. } => {
                self.rooms.insert(room.clone());
            }
            Write::Once { key, write, .. } => {
                self.calls.insert(key.id());
                self.add(write);
            }
        }
    }

    fn content(&mut self, room: &RoomId, author: &UserId, content: &Content) {
        let entry = |seq: u64| (room.clone(), seq);
        match content {
            Content::Text { thread, reply_to, .. } => {
                self.entries.extend([*thread, *reply_to].into_iter().filter(|seq| *seq != 0).map(entry));
            }
            Content::Edit { target, .. } | Content::Delete { target, .. } => {
                self.entries.insert(entry(*target));
            }
            Content::React { target, emoji, .. } => {
                self.entries.insert(entry(*target));
                self.totals.insert(entry(*target));
                self.reactions.insert((room.clone(), *target, emoji.clone(), author.clone()));
            }
            Content::Pin { target, .. } => {
                self.entries.insert(entry(*target));
                self.pins.insert(room.clone());
            }
        }
    }

    fn by(&mut self, room: &RoomId, user: &UserId) {
        self.rooms.insert(room.clone());
        self.member(room, user);
    }

    fn member(&mut self, room: &RoomId, user: &UserId) {
        self.members.insert((room.clone(), user.clone()));
    }
}
