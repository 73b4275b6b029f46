//! A room on this node: who listens, who is here, and the order in which committed entries reach them.
//!
//! The store is the sequencer: a publish becomes an append, and only what the store has committed is acknowledged and
//! delivered.

mod evicted;
mod log;
mod presence;
mod receipts;

use std::collections::{BTreeMap, VecDeque};

use veza_proto::v1::{
    Error, ErrorCode, Message, MessageDelivered, Published, RoomChanged, RoomEvicted, TypingChanged, push,
};
use veza_proto::{Cmid, Encoded, UserId};

use crate::Timestamp;
use crate::ask::{Answer, Joined, SessionKey, Status, Ticket};
use crate::ledger::{Content, MemberRow, Refusal, RoomRow, not_found};
use crate::limits::{FETCH_RETRY, PRESENCE_GATHER};
use crate::retract::target_of;
use evicted::Evicted;
use log::Log;
use presence::Presence;
use receipts::Receipts;

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Store this durably; answer with [`Room::handle_appended`].
    Append {
        session: SessionKey,
        ticket: Ticket,
        author: UserId,
        cmid: Cmid,
        content: Content,
    },
    Answer {
        session: SessionKey,
        ticket: Ticket,
        answer: Answer,
    },
    /// To every subscriber: an entry of this room.
    Deliver(Delivered),
    /// To every subscriber but one: worth nothing later.
    Volatile {
        frame: Encoded,
        except: SessionKey,
    },
    /// To every subscriber: how the room is now. Who reads slowly may miss it.
    Notice {
        frame: Encoded,
    },
    /// To one subscriber, which is none any more.
    Evict {
        session: SessionKey,
        evicted: RoomEvicted,
    },
    /// Tell the other nodes what was committed here.
    Announce(Message),
    /// Read entries after this number; answer with [`Room::handle_fetched`].
    Fetch {
        after: u64,
        limit: u32,
    },
}

/// An entry on its way to the subscribers.
#[derive(Debug, Clone)]
pub struct Delivered {
    pub epoch: u64,
    pub seq: u64,
    pub frame: Encoded,
    /// It deletes this message: copies that have not been sent yet lose their content.
    pub retracts: Option<u64>,
}

/// What became of an append.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "it is made and taken apart at once, and mostly a message")]
pub enum Appended {
    Stored(Message),
    /// It was so already: the entry that had made it so.
    Duplicate {
        epoch: u64,
        seq: u64,
        at_ms: u64,
    },
    Refused(Refusal),
    Unavailable,
    StorageFull,
}

/// Why somebody is in a room no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub user: UserId,
    /// As its subscribers are told; the room is filled in.
    pub evicted: RoomEvicted,
    /// [`RoomRow::revision`] of the write that ended it: a subscription that was asked for before is void.
    pub revision: u64,
}

/// The room's state machine.
#[derive(Debug)]
pub struct Room {
    row: RoomRow,
    log: Log,
    subscribers: BTreeMap<SessionKey, Subscriber>,
    presence: Presence,
    receipts: Receipts,
    evicted: Evicted,
    /// A newer revision than was told is known: it is told then.
    change_due: Option<Timestamp>,
    fetch: Fetch,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Subscriber {
    user: UserId,
    /// [`RoomRow::revision`] when the store said that the user is a member.
    revision: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fetch {
    Idle,
    Running,
    RetryAt(Timestamp),
}

impl Room {
    /// As the store has it.
    pub fn new(row: RoomRow) -> Self {
        let log = Log::new(row.epoch, row.head);
        Self {
            row,
            log,
            subscribers: BTreeMap::new(),
            presence: Presence::default(),
            receipts: Receipts::default(),
            evicted: Evicted::default(),
            change_due: None,
            fetch: Fetch::Idle,
            outputs: VecDeque::new(),
        }
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub fn epoch(&self) -> u64 {
        self.log.epoch()
    }

    /// Whether this session is let in.
    pub fn has(&self, session: SessionKey) -> bool {
        self.subscribers.contains_key(&session)
    }

    /// Nobody listens and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.subscribers.is_empty() && self.fetch == Fetch::Idle && self.presence.due().is_none()
    }

    /// Lets a session in. `row` and `member` are what the store told of them at one moment; when the membership has ended
    /// since, the answer is that of a stranger.
    pub fn handle_subscribe(
        &mut self,
        session: SessionKey,
        user: &UserId,
        row: &RoomRow,
        member: &MemberRow,
        ticket: Ticket,
        now: Timestamp,
    ) {
        if self.evicted.since(user, row.revision) {
            self.answer(session, ticket, Answer::Refused(not_found()));
            return;
        }
        let subscriber = Subscriber { user: user.clone(), revision: row.revision };
        if self.subscribers.insert(session, subscriber).is_none() {
            self.presence.enter(user, now);
        }
        self.receipts.know(user, member.delivered_seq, member.read_seq);
        let (present, present_total) = self.presence.names();
        let statuses = self.presence.statuses();
        let receipts = self.receipts.of(&present);
        let mut room = self.row.to_wire(Some(member.to_wire(user)));
        room.head = self.log.known();
        let first_available = self.row.first_available;
        let joined = Joined { room, first_available, present, present_total, statuses, receipts };
        self.answer(session, ticket, Answer::Joined(Box::new(joined)));
    }

    pub fn handle_unsubscribe(&mut self, session: SessionKey, now: Timestamp) {
        if let Some(subscriber) = self.subscribers.remove(&session) {
            self.exit(&subscriber.user, now);
        }
    }

    /// Those who are here, each once.
    pub fn users(&self) -> impl Iterator<Item = &UserId> {
        self.presence.users()
    }

    /// A membership has ended: every session of the user that came in before leaves, and none that was let in before it and
    /// is still on its way comes in.
    pub fn handle_ended(&mut self, ended: &Ended, now: Timestamp) {
        self.evicted.note(&ended.user, ended.revision, now);
        let out = |subscriber: &Subscriber| subscriber.user == ended.user && subscriber.revision < ended.revision;
        let sessions = self.subscribers.iter().filter(|(_, subscriber)| out(subscriber)).map(|(session, _)| *session);
        for session in sessions.collect::<Vec<_>>() {
            self.handle_unsubscribe(session, now);
            let evicted = RoomEvicted { room: self.row.id.as_str().to_owned(), ..ended.evicted.clone() };
            self.outputs.push_back(Output::Evict { session, evicted });
        }
    }

    pub fn handle_publish(&mut self, session: SessionKey, ticket: Ticket, cmid: Cmid, content: Content) {
        match self.subscribers.get(&session) {
            Some(subscriber) => {
                let author = subscriber.user.clone();
                self.outputs.push_back(Output::Append { session, ticket, author, cmid, content });
            }
            None => self.answer(session, ticket, Answer::Refused(not_found())),
        }
    }

    pub fn handle_typing(&mut self, session: SessionKey, active: bool) {
        let Some(Subscriber { user, .. }) = self.subscribers.get(&session) else { return };
        let typing = TypingChanged { room: self.row.id.as_str().to_owned(), user: String::from(user), active };
        let frame = Encoded::push(push::Event::TypingChanged(typing));
        self.outputs.push_back(Output::Volatile { frame, except: session });
    }

    /// A user says something of themselves; the latest of their sessions counts.
    pub fn handle_status(&mut self, session: SessionKey, status: Status, now: Timestamp) {
        if let Some(subscriber) = self.subscribers.get(&session) {
            self.presence.say(&subscriber.user, status, now);
        }
    }

    /// Watermarks that the store has.
    pub fn handle_marked(&mut self, user: &UserId, delivered_seq: u64, read_seq: u64, now: Timestamp) {
        if self.presence.is_here(user) {
            self.receipts.rise(user, delivered_seq, read_seq, now);
        }
    }

    /// The answer to [`Output::Append`]: the acknowledgement first, then everybody's delivery.
    pub fn handle_appended(&mut self, session: SessionKey, ticket: Ticket, cmid: &Cmid, appended: Appended) {
        let published = |epoch, seq, at_ms, duplicate| {
            let (room, cmid) = (String::from(&self.row.id), String::from(cmid));
            Answer::Published(Published { room, cmid, epoch, seq, at_ms, duplicate })
        };
        match appended {
            Appended::Stored(message) => {
                let answer = published(message.epoch, message.seq, message.at_ms, false);
                self.answer(session, ticket, answer);
                if message.change.is_none()
                    && let Some(author) = self.subscribers.get(&session)
                {
                    self.receipts.know(&author.user, message.seq, message.seq);
                }
                self.outputs.push_back(Output::Announce(message.clone()));
                self.handle_committed(message);
            }
            Appended::Duplicate { epoch, seq, at_ms } => {
                let answer = published(epoch, seq, at_ms, true);
                self.answer(session, ticket, answer);
                self.log.know(epoch, seq);
                self.fetch_if_idle();
            }
            Appended::Refused(refusal) => self.answer(session, ticket, Answer::Refused(refusal.to_error())),
            Appended::Unavailable => self.answer(session, ticket, Answer::Refused(unavailable())),
            Appended::StorageFull => self.answer(session, ticket, Answer::Refused(storage_full())),
        }
    }

    /// What a write made of the room, and the notes that tell of it. The room itself is told after a while, so that many
    /// who join at once are told once.
    pub fn handle_changed(&mut self, row: &RoomRow, notes: Vec<Message>, now: Timestamp) {
        for note in notes {
            self.outputs.push_back(Output::Announce(note.clone()));
            self.handle_committed(note);
        }
        self.handle_row(row, now);
    }

    /// An entry that the store holds, committed here or told by another node, in any order.
    pub fn handle_committed(&mut self, message: Message) {
        for message in self.log.place(message) {
            let (epoch, seq) = (message.epoch, message.seq);
            let retracts = target_of(&message);
            let frame = Encoded::push(push::Event::Message(MessageDelivered { message: Some(message) }));
            self.outputs.push_back(Output::Deliver(Delivered { epoch, seq, frame, retracts }));
        }
        self.fetch_if_idle();
    }

    /// What the store told of the room just now. Its log may be ahead of what was delivered here: a commit whose result
    /// is on its way, or another node's. What has not come by itself after a while is fetched.
    pub fn handle_row(&mut self, row: &RoomRow, now: Timestamp) {
        self.log.know(row.epoch, row.head);
        let first_available = self.row.first_available.max(row.first_available);
        if row.revision > self.row.revision && !self.subscribers.is_empty() {
            self.change_due.get_or_insert(now + PRESENCE_GATHER);
        }
        if row.revision >= self.row.revision {
            self.row = row.clone();
        }
        self.row.first_available = first_available;
        if self.fetch == Fetch::Idle && self.log.missing().is_some() {
            self.fetch = Fetch::RetryAt(now + FETCH_RETRY);
        }
    }

    /// The answer to [`Output::Fetch`]; `None` when the store did not answer.
    pub fn handle_fetched(&mut self, messages: Option<Vec<Message>>, now: Timestamp) {
        self.fetch = Fetch::Idle;
        match messages {
            Some(messages) if !messages.is_empty() => {
                self.fetch = Fetch::Running;
                for message in messages {
                    self.handle_committed(message);
                }
                self.fetch = Fetch::Idle;
                self.fetch_missing();
            }
            Some(_) | None => self.fetch = Fetch::RetryAt(now + FETCH_RETRY),
        }
    }

    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let retry = match self.fetch {
            Fetch::RetryAt(at) => Some(at),
            Fetch::Idle | Fetch::Running => None,
        };
        [retry, self.presence.due(), self.receipts.due(), self.change_due].into_iter().flatten().min()
    }

    pub fn handle_timeout(&mut self, now: Timestamp) {
        if let Fetch::RetryAt(at) = self.fetch
            && at <= now
        {
            self.fetch = Fetch::Idle;
            self.fetch_missing();
        }
        if self.presence.due().is_some_and(|due| due <= now)
            && let Some(changed) = self.presence.tell(self.row.id.as_str())
        {
            let frame = Encoded::push(push::Event::PresenceChanged(changed));
            self.outputs.push_back(Output::Notice { frame });
        }
        if self.change_due.is_some_and(|due| due <= now) {
            self.change_due = None;
            let mut room = self.row.to_wire(None);
            room.head = self.log.known();
            let frame = Encoded::push(push::Event::RoomChanged(RoomChanged { room: Some(room) }));
            self.outputs.push_back(Output::Notice { frame });
        }
        if self.receipts.due().is_some_and(|due| due <= now)
            && let Some(changed) = self.receipts.tell(self.row.id.as_str())
        {
            let frame = Encoded::push(push::Event::ReceiptsChanged(changed));
            self.outputs.push_back(Output::Notice { frame });
        }
    }

    fn exit(&mut self, user: &UserId, now: Timestamp) {
        self.presence.exit(user, now);
        if !self.presence.is_here(user) {
            self.receipts.forget(user);
        }
    }

    fn fetch_if_idle(&mut self) {
        if self.fetch == Fetch::Idle {
            self.fetch_missing();
        }
    }

    fn fetch_missing(&mut self) {
        if let Some((after, limit)) = self.log.missing() {
            self.fetch = Fetch::Running;
            self.outputs.push_back(Output::Fetch { after, limit });
        }
    }

    fn answer(&mut self, session: SessionKey, ticket: Ticket, answer: Answer) {
        self.outputs.push_back(Output::Answer { session, ticket, answer });
    }
}

/// Nothing was acknowledged, and the same command may succeed later. Whether a write was stored all the same is not known;
/// asking again with the same cmid finds out.
pub fn unavailable() -> Error {
    Error::temporary(ErrorCode::Unavailable, "the store does not answer: ask again, with the same cmid", 1_000)
}

/// Nothing was stored.
pub fn storage_full() -> Error {
    Error::temporary(ErrorCode::StorageFull, "the store is full: nothing was stored", 30_000)
}
