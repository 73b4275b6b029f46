//! A naive room beside the real one: what was accepted, in the order of the commits, in plain vectors, and every question
//! answered by reading them from the start. Its rules are those of `chat.proto`, without any of the ledger's rows.

mod compare;
mod people;
mod says;

use std::collections::BTreeMap;

use veza_engine::ledger::{Refusal, Write, Written};
use veza_proto::v1::{Role, RoomKind, RoomSettings, SystemNote};

pub(crate) use says::Said;

/// Every room there is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reference {
    rooms: BTreeMap<String, Room>,
}

#[derive(Debug, Clone)]
struct Room {
    kind: RoomKind,
    title: String,
    topic: String,
    settings: RoomSettings,
    archived: bool,
    /// Everything that was accepted. The entry with number n stands at n − 1.
    log: Vec<Said>,
    /// Entries up to this number are not kept any more.
    expired: u64,
    people: BTreeMap<String, Person>,
    codes: BTreeMap<String, Code>,
}

/// Somebody who has or had to do with a room.
#[derive(Debug, Clone, Default, PartialEq)]
struct Person {
    /// Of a member.
    role: Option<Role>,
    muted_until: u64,
    banned_until: u64,
    delivered: u64,
    read: u64,
    last_text_ms: Option<u64>,
    /// Until when the invitation in this person's name holds.
    invited_until: Option<u64>,
}

#[derive(Debug, Clone)]
struct Code {
    uses_max: u32,
    uses: u32,
    expires_ms: u64,
    creator: String,
}

/// What should become of a write.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expected {
    /// It is the entry with this number now.
    Stored(u64),
    /// This entry had done it before.
    Again(u64),
    Done,
    /// There is one already.
    Exists,
    /// For any of these reasons.
    Refused(Vec<Why>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    NotFound,
    Forbidden,
    Invalid,
    Limit,
    Conflict,
    Gone,
    SlowMode,
    Muted,
    Banned,
}

impl Reference {
    /// Takes what the store has just decided: what should have become of it.
    pub(crate) fn apply(&mut self, write: &Write) -> Expected {
        match write {
            Write::CreateRoom { room, title, topic, kind, settings, creator, at_ms: _ } => {
                if self.rooms.contains_key(room.as_str()) {
                    return Expected::Exists;
                }
                let settings = settings.to_wire();
                if *kind == RoomKind::Direct || (*kind == RoomKind::Premium && settings.entitlement.is_empty()) {
                    return Expected::Refused(vec![Why::Invalid]);
                }
                let mut made = Room::new(*kind, title, settings);
                made.topic.clone_from(topic);
                if let Some(creator) = creator {
                    made.enter(creator.as_str(), Role::Owner);
                }
                self.rooms.insert(room.as_str().to_owned(), made);
                Expected::Done
            }
            Write::OpenDirect { room, opener, other, at_ms: _ } => {
                if self.rooms.contains_key(room.as_str()) {
                    return Expected::Exists;
                }
                let settings = veza_engine::ledger::Settings::of(RoomKind::Direct).to_wire();
                let mut made = Room::new(RoomKind::Direct, &format!("{opener}, {other}"), settings);
                for user in [opener, other] {
                    made.enter(user.as_str(), Role::Member);
                }
                self.rooms.insert(room.as_str().to_owned(), made);
                Expected::Done
            }
            Write::UpdateRoom { room, .. }
            | Write::Join { room, .. }
            | Write::Leave { room, .. }
            | Write::SetRole { room, .. }
            | Write::Moderate { room, .. }
            | Write::Invite { room, .. }
            | Write::RevokeInvite { room, .. }
            | Write::Append { room, .. }
            | Write::Mark { room, .. }
            | Write::Expire { room, .. } => match self.rooms.get_mut(room.as_str()) {
                Some(room) => room.apply(write).unwrap_or_else(Expected::Refused),
                None => Expected::Refused(vec![Why::NotFound]),
            },
            Write::Audit { .. } | Write::Once { .. } => {
                unreachable!("clients have neither reviews nor idempotency keys")
            }
        }
    }
}

impl Expected {
    /// Whether the store's answer is that.
    pub(crate) fn agrees(&self, written: &Written) -> bool {
        match (self, written) {
            (Expected::Stored(seq), Written::Appended(entry)) => entry.seq == *seq,
            (Expected::Again(seq), Written::Duplicate { seq: found, .. }) => found == seq,
            (Expected::Exists, Written::RoomExists(_)) => true,
            (
                Expected::Done,
                Written::Room { .. }
                | Written::Joined { .. }
                | Written::Left { .. }
                | Written::Member { .. }
                | Written::Invited(..)
                | Written::InviteRevoked
                | Written::Marked { .. }
                | Written::Expired { .. },
            ) => true,
            (Expected::Refused(reasons), Written::Refused(refusal)) => reasons.contains(&why(refusal)),
            (
                Expected::Stored(_) | Expected::Again(_) | Expected::Done | Expected::Exists | Expected::Refused(_),
                Written::Room { .. }
                | Written::RoomExists(_)
                | Written::Joined { .. }
                | Written::Left { .. }
                | Written::Member { .. }
                | Written::Invited(..)
                | Written::InviteRevoked
                | Written::Appended(_)
                | Written::Duplicate { .. }
                | Written::Marked { .. }
                | Written::Expired { .. }
                | Written::Repeated(_)
                | Written::Refused(_),
            ) => false,
        }
    }
}

fn why(refusal: &Refusal) -> Why {
    match refusal {
        Refusal::NoSuchRoom | Refusal::NotFound(_) => Why::NotFound,
        Refusal::Forbidden(_) => Why::Forbidden,
        Refusal::Invalid(_) => Why::Invalid,
        Refusal::Limit(_) => Why::Limit,
        Refusal::CmidConflict | Refusal::KeyReused => Why::Conflict,
        Refusal::Gone => Why::Gone,
        Refusal::SlowMode { .. } => Why::SlowMode,
        Refusal::Muted { .. } => Why::Muted,
        Refusal::Banned { .. } => Why::Banned,
    }
}

impl Room {
    fn new(kind: RoomKind, title: &str, settings: RoomSettings) -> Self {
        Self {
            kind: if kind == RoomKind::Unspecified { RoomKind::Public } else { kind },
            title: title.to_owned(),
            topic: String::new(),
            settings,
            archived: false,
            log: Vec::new(),
            expired: 0,
            people: BTreeMap::new(),
            codes: BTreeMap::new(),
        }
    }

    fn head(&self) -> u64 {
        self.log.len() as u64
    }

    fn note(&mut self, author: &str, note: SystemNote, at_ms: u64) {
        let (author, what) = (author.to_owned(), says::What::Note(note));
        let stored_ms = at_ms.max(self.last_text_ms());
        self.log.push(Said { author, cmid: None, at_ms: stored_ms, what });
    }
}
