use std::collections::HashMap;

use veza_proto::{Cmid, RoomId, UserId};

use super::super::{MessageRecord, RoomRecord, Write, Written};

/// What the database knew of the batch's rooms, members and messages, and what the batch makes of it.
#[derive(Default)]
pub(super) struct Plan<'a> {
    pub(super) rooms: HashMap<&'a str, Room>,
    pub(super) room_key_max: i64,
    pub(super) members: HashMap<(i64, &'a str), Membership>,
    pub(super) sent: HashMap<(i64, &'a str, &'a str), Sent<'a>>,
    pub(super) appended: Vec<Appended<'a>>,
}

pub(super) struct Room {
    pub(super) key: i64,
    pub(super) record: RoomRecord,
    pub(super) state: RoomState,
}

#[derive(PartialEq, Eq)]
pub(super) enum RoomState {
    Stored,
    Changed,
    New,
}

/// When a user joined a room, in the database and after the batch.
#[derive(Clone, Copy, Default)]
pub(super) struct Membership {
    pub(super) before: Option<u64>,
    pub(super) after: Option<u64>,
}

/// The message under a (room, author, cmid).
pub(super) enum Sent<'a> {
    Before(MessageRecord),
    Here { seq: u64, body: &'a str, at_ms: u64 },
}

pub(super) struct Appended<'a> {
    pub(super) room: i64,
    pub(super) epoch: u64,
    pub(super) seq: u64,
    pub(super) author: &'a UserId,
    pub(super) cmid: &'a Cmid,
    pub(super) at_ms: u64,
    pub(super) body: &'a str,
}

impl<'a> Plan<'a> {
    /// Decides one write; the answer holds once the plan is flushed and committed.
    pub(super) fn apply(&mut self, write: &'a Write) -> Written {
        match write {
            Write::CreateRoom { room, title, creator, at_ms } => self.create_room(room, title, creator, *at_ms),
            Write::AddMember { room, user, at_ms } => {
                let Some(found) = self.rooms.get_mut(room.as_str()) else { return Written::NoSuchRoom };
                let membership = self.members.entry((found.key, user.as_str())).or_default();
                let new = membership.after.is_none();
                if new {
                    membership.after = Some(*at_ms);
                    found.record.members += 1;
                    found.touch();
                }
                Written::MemberAdded { room: found.record.clone(), new }
            }
            Write::RemoveMember { room, user } => {
                let Some(found) = self.rooms.get_mut(room.as_str()) else { return Written::NoSuchRoom };
                let membership = self.members.entry((found.key, user.as_str())).or_default();
                let was_member = membership.after.take().is_some();
                if was_member {
                    found.record.members -= 1;
                    found.touch();
                }
                Written::MemberRemoved { was_member }
            }
            Write::Append { room, author, cmid, body, at_ms } => self.append(room, author, cmid, body, *at_ms),
        }
    }

    fn create_room(&mut self, room: &'a RoomId, title: &str, creator: &'a UserId, at_ms: u64) -> Written {
        if let Some(found) = self.rooms.get(room.as_str()) {
            return Written::RoomExists(found.record.clone());
        }
        self.room_key_max += 1;
        let key = self.room_key_max;
        let record = RoomRecord {
            id: room.clone(),
            title: title.to_owned(),
            epoch: at_ms.max(1),
            head: 0,
            first_available: 1,
            members: 1,
            created_ms: at_ms,
        };
        self.members.insert((key, creator.as_str()), Membership { before: None, after: Some(at_ms) });
        self.rooms.insert(room.as_str(), Room { key, record: record.clone(), state: RoomState::New });
        Written::RoomCreated(record)
    }

    fn append(&mut self, room: &'a RoomId, author: &'a UserId, cmid: &'a Cmid, body: &'a str, at_ms: u64) -> Written {
        let Some(found) = self.rooms.get_mut(room.as_str()) else { return Written::NoSuchRoom };
        let message = |seq, at_ms| MessageRecord {
            room: room.clone(),
            epoch: found.record.epoch,
            seq,
            author: author.clone(),
            cmid: cmid.clone(),
            body: body.to_owned(),
            at_ms,
        };
        let name = (found.key, author.as_str(), cmid.as_str());
        match self.sent.get(&name) {
            Some(Sent::Before(old)) if old.body == body => return Written::Duplicate(old.clone()),
            Some(Sent::Here { seq, body: old, at_ms }) if *old == body => {
                return Written::Duplicate(message(*seq, *at_ms));
            }
            Some(Sent::Before(_) | Sent::Here { .. }) => return Written::CmidConflict,
            None => {}
        }
        let seq = found.record.head + 1;
        let epoch = found.record.epoch;
        let appended = message(seq, at_ms);
        self.sent.insert(name, Sent::Here { seq, body, at_ms });
        self.appended.push(Appended { room: found.key, epoch, seq, author, cmid, at_ms, body });
        found.record.head = seq;
        found.touch();
        Written::Appended(appended)
    }
}

impl Room {
    fn touch(&mut self) {
        if self.state == RoomState::Stored {
            self.state = RoomState::Changed;
        }
    }
}
