//! The rooms that are loaded on a node, driven one input at a time.

use veza_engine::ledger::{MemberRow, RoomRow, Write, not_found};
use veza_engine::room::{Appended, Ended, Output, Room, unavailable};
use veza_engine::{Answer, SessionKey, Ticket};
use veza_proto::v1::{Message, RoomEvicted, TypingChanged, push};
use veza_proto::{Cmid, Encoded, RoomId, UserId};

use super::bus::{Announcement, announce};
use super::{Around, Letter, Node, Slot};
use crate::stage::{Event, MS, SECOND, Sabotage, Stage};
use crate::store::Reply;

/// A room that nobody listens to is forgotten after this.
const IDLE: u64 = 3 * SECOND;

impl Node {
    /// Lets a session into a room; `row` and `member` are from one moment of the database.
    pub(super) fn subscribe(
        &mut self,
        key: SessionKey,
        user: &UserId,
        ticket: Ticket,
        (row, member): (&RoomRow, &MemberRow),
        around: &mut Around<'_>,
    ) {
        if !self.sessions.contains_key(&key) {
            return;
        }
        let now = self.now(around.stage);
        let slot = self.rooms.entry(row.id.clone()).or_insert_with(|| Slot {
            room: Room::new(row.clone()),
            listeners: std::collections::BTreeMap::new(),
            appending: 0,
            looking: false,
            idle_since: None,
        });
        slot.idle_since = None;
        slot.listeners.insert(key, user.clone());
        slot.room.handle_row(row, now);
        slot.room.handle_subscribe(key, user, row, member, ticket, now);
        if !slot.room.has(key) {
            slot.listeners.remove(&key);
        }
        self.perform(&row.id, around);
    }

    pub(super) fn unsubscribe(&mut self, room: &RoomId, key: SessionKey, around: &mut Around<'_>) {
        let now = self.now(around.stage);
        if let Some(slot) = self.rooms.get_mut(room) {
            slot.room.handle_unsubscribe(key, now);
            slot.listeners.remove(&key);
            self.perform(room, around);
        }
    }

    /// Tells a room that is loaded here; of others the database knows.
    pub(super) fn tell(&mut self, id: &RoomId, around: &mut Around<'_>, what: impl FnOnce(&mut Room)) {
        if let Some(slot) = self.rooms.get_mut(id) {
            what(&mut slot.room);
            self.perform(id, around);
        }
    }

    pub(super) fn publish(
        &mut self,
        key: SessionKey,
        ticket: Ticket,
        id: &RoomId,
        append: impl FnOnce(&mut Room, Ticket),
        around: &mut Around<'_>,
    ) {
        match self.rooms.get_mut(id) {
            Some(slot) => {
                append(&mut slot.room, ticket);
                self.perform(id, around);
            }
            None => self.answer(key, ticket, Answer::Refused(not_found()), around.stage),
        }
    }

    pub(super) fn appended(
        &mut self,
        key: SessionKey,
        ticket: Ticket,
        id: &RoomId,
        cmid: &Cmid,
        appended: Appended,
        around: &mut Around<'_>,
    ) {
        let doubtful = appended == Appended::Unavailable;
        if let Some(slot) = self.rooms.get_mut(id) {
            slot.appending -= 1;
            slot.room.handle_appended(key, ticket, cmid, appended);
            self.perform(id, around);
        }
        if doubtful {
            self.doubt(id, around.stage);
        }
    }

    /// A write had no answer. It may have been carried out: rooms here and elsewhere look.
    pub(super) fn doubt(&mut self, id: &RoomId, stage: &mut Stage) {
        announce(self.life(), &Announcement::Doubt(id.clone()), stage);
        self.look(id, stage);
    }

    /// Asks the database how the room is and whether those who are here are members still.
    pub(super) fn look(&mut self, id: &RoomId, stage: &mut Stage) {
        let (life, room) = (self.life(), id.clone());
        if let Some(slot) = self.rooms.get_mut(id).filter(|slot| !slot.looking) {
            slot.looking = true;
            stage.soon(MS / 5, 5 * MS, Event::LookAtRow { life, room });
        }
    }

    pub(crate) fn look_at_row(&mut self, room: RoomId, around: &mut Around<'_>) {
        let (life, stage) = (self.life(), &mut *around.stage);
        if stage.now < around.store.down_until {
            stage.after(500 * MS, Event::LookAtRow { life, room });
            return;
        }
        let Some(row) = around.store.row(&room).cloned() else { return };
        let Some(slot) = self.rooms.get(&room) else { return };
        let (row, users) = (Box::new(row), slot.room.users().cloned().collect());
        let most = around.store.read_takes(stage);
        stage.soon(MS / 10, most, Event::LookAtMembers { life, row, users });
    }

    /// Who has gone after the row was read had been let in at its revision or before; who is let in later stays.
    pub(crate) fn look_at_members(&mut self, row: Box<RoomRow>, users: Vec<UserId>, around: &mut Around<'_>) {
        let (life, stage) = (self.life(), &mut *around.stage);
        if stage.now < around.store.down_until {
            stage.after(500 * MS, Event::LookAtRow { life, room: row.id.clone() });
            return;
        }
        let gone = users.into_iter().filter(|user| !around.store.is_member(&row.id, user)).collect();
        let most = around.store.read_takes(stage);
        stage.soon(MS / 10, most, Event::Looked { life, row, gone });
    }

    pub(crate) fn looked(&mut self, row: &RoomRow, gone: Vec<UserId>, around: &mut Around<'_>) {
        let now = self.now(around.stage);
        if let Some(slot) = self.rooms.get_mut(&row.id) {
            slot.looking = false;
        }
        self.tell(&row.id, around, |room| {
            room.handle_row(row, now);
            for user in gone {
                let ended = Ended { user, evicted: RoomEvicted::default(), revision: row.revision + 1 };
                room.handle_ended(&ended, now);
            }
        });
    }

    pub(crate) fn fetched(&mut self, id: &RoomId, messages: Option<Vec<Message>>, around: &mut Around<'_>) {
        let now = self.now(around.stage);
        self.tell(id, around, |room| room.handle_fetched(messages, now));
    }

    /// Fires the rooms' deadlines and forgets those that nobody listens to.
    pub(crate) fn tick(&mut self, around: &mut Around<'_>) {
        let now = self.now(around.stage);
        for id in self.rooms.keys().cloned().collect::<Vec<_>>() {
            if self.rooms[&id].room.poll_timeout().is_some_and(|at| at <= now) {
                self.tell(&id, around, |room| room.handle_timeout(now));
            }
        }
        self.keep_retention(around);
        let at = around.stage.now;
        self.rooms.retain(|_, slot| {
            if !slot.room.is_idle() || slot.appending > 0 {
                slot.idle_since = None;
                return true;
            }
            at - *slot.idle_since.get_or_insert(at) < IDLE
        });
        around.stage.after(100 * MS, Event::Tick(self.life()));
    }

    /// Now and then removes what a room does not keep.
    fn keep_retention(&mut self, around: &mut Around<'_>) {
        if around.stage.calm || !around.stage.chance.per_mille(50) {
            return;
        }
        let (life, at_ms) = (self.life(), self.now(around.stage).as_millis());
        for (room, up_to) in around.store.overdue() {
            let reply = Reply::Room { room: room.clone() };
            // A full queue is left alone: the next look finds the same.
            let _taken = around.store.submit(life, Write::Expire { room, up_to, at_ms }, reply, around.stage);
        }
    }

    pub(super) fn typing_elsewhere(&mut self, id: &RoomId, user: &UserId, active: bool, stage: &mut Stage) {
        let Some(slot) = self.rooms.get(id) else { return };
        let typing = TypingChanged { room: String::from(id), user: String::from(user), active };
        let frame = Encoded::push(push::Event::TypingChanged(typing));
        for key in slot.listeners.keys().copied().collect::<Vec<_>>() {
            self.post(key, Letter::Volatile(frame.clone()), stage);
        }
    }

    /// Does what the room wants done.
    fn perform(&mut self, id: &RoomId, around: &mut Around<'_>) {
        loop {
            let Some(slot) = self.rooms.get_mut(id) else { return };
            let Some(output) = slot.room.poll_output() else { return };
            let listeners = |but: Option<SessionKey>| -> Vec<SessionKey> {
                slot.listeners.keys().copied().filter(|key| Some(*key) != but).collect()
            };
            match output {
                Output::Answer { session, ticket, answer } => self.answer(session, ticket, answer, around.stage),
                Output::Deliver(entry) => {
                    for key in listeners(None) {
                        self.post(key, Letter::Delivery(id.clone(), entry.clone()), around.stage);
                    }
                }
                Output::Volatile { frame, except } => {
                    for key in listeners(Some(except)) {
                        self.post(key, Letter::Volatile(frame.clone()), around.stage);
                    }
                }
                Output::Notice { frame } => {
                    for key in listeners(None) {
                        self.post(key, Letter::Notice(id.clone(), frame.clone()), around.stage);
                    }
                }
                Output::Evict { session, evicted } => {
                    if around.stage.sabotaged(Sabotage::NoEviction) {
                        continue;
                    }
                    slot.listeners.remove(&session);
                    self.post(session, Letter::Evicted(id.clone(), evicted), around.stage);
                }
                Output::Announce(message) => {
                    announce(self.life(), &Announcement::Entry(Box::new(message)), around.stage);
                }
                Output::Fetch { after, limit } => {
                    let (life, room) = (self.life(), id.clone());
                    around.stage.soon(MS / 5, 5 * MS, Event::Fetch { life, room, after, limit });
                }
                Output::Append { session, ticket, author, cmid, content } => {
                    let at_ms = self.now(around.stage).as_millis();
                    let author = author.into();
                    let write = Write::Append { room: id.clone(), author, cmid: cmid.clone(), content, at_ms };
                    let reply = Reply::Append { session, ticket: ticket.clone(), room: id.clone(), cmid };
                    let life = self.life();
                    if around.store.submit(life, write, reply, around.stage) {
                        self.rooms.get_mut(id).expect("it appends").appending += 1;
                    } else {
                        self.answer(session, ticket, Answer::Refused(unavailable()), around.stage);
                    }
                }
            }
        }
    }
}
