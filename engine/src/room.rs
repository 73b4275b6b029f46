//! A room on this node: who listens, who is here, and the order in which committed messages reach them.
//!
//! The store is the sequencer: a publish becomes an append, and only what the store has committed is acknowledged and
//! delivered.

mod log;
mod presence;

use std::collections::{BTreeMap, VecDeque};

use veza_proto::v1::{Error, ErrorCode, Message, MessageDelivered, Published, Room as RoomInfo, TypingChanged, push};
use veza_proto::{Cmid, Encoded, RoomId, UserId};

use crate::Timestamp;
use crate::ask::{Answer, Joined, SessionKey, Ticket};
use crate::limits::FETCH_RETRY;
use crate::session::not_found;
use log::Log;
use presence::Presence;

/// What the store tells of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub id: RoomId,
    pub title: String,
    pub epoch: u64,
    pub head: u64,
    pub first_available: u64,
    pub members: u32,
    pub created_ms: u64,
}

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Store this durably; answer with [`Room::handle_appended`].
    Append {
        session: SessionKey,
        ticket: Ticket,
        author: UserId,
        cmid: Cmid,
        body: String,
    },
    Answer {
        session: SessionKey,
        ticket: Ticket,
        answer: Answer,
    },
    /// To every subscriber: a message of this room.
    Deliver {
        epoch: u64,
        seq: u64,
        frame: Encoded,
    },
    /// To every subscriber but one: worth nothing later.
    Volatile {
        frame: Encoded,
        except: SessionKey,
    },
    /// To every subscriber: who is here changed.
    Presence {
        frame: Encoded,
    },
    /// Tell the other nodes what was committed here.
    Announce(Message),
    /// Read messages after this number; answer with [`Room::handle_fetched`].
    Fetch {
        after: u64,
        limit: u32,
    },
}

/// What became of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    Stored(Message),
    /// The same cmid and content were stored before.
    Duplicate(Message),
    /// The same cmid was stored before with other content.
    Conflict,
    NoSuchRoom,
    Unavailable,
    StorageFull,
}

/// The room's state machine.
#[derive(Debug)]
pub struct Room {
    facts: Facts,
    log: Log,
    subscribers: BTreeMap<SessionKey, UserId>,
    presence: Presence,
    fetch: Fetch,
    outputs: VecDeque<Output>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fetch {
    Idle,
    Running,
    RetryAt(Timestamp),
}

impl Room {
    pub fn new(facts: Facts) -> Self {
        let log = Log::new(facts.epoch, facts.head);
        Self {
            facts,
            log,
            subscribers: BTreeMap::new(),
            presence: Presence::default(),
            fetch: Fetch::Idle,
            outputs: VecDeque::new(),
        }
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Nobody listens: the shell may forget the room.
    pub fn is_idle(&self) -> bool {
        self.subscribers.is_empty() && self.outputs.is_empty() && self.fetch != Fetch::Running
    }

    pub fn epoch(&self) -> u64 {
        self.log.epoch()
    }

    /// Subscribes a session, or answers anew where it was subscribed: what comes after the head it is told reaches it.
    pub fn handle_subscribe(&mut self, session: SessionKey, user: &UserId, ticket: Ticket, now: Timestamp) {
        if self.subscribers.insert(session, user.clone()).is_none() {
            self.presence.enter(user, now);
        }
        let (present, present_total) = self.presence.names();
        let joined = Joined {
            room: RoomInfo {
                id: self.facts.id.as_str().to_owned(),
                title: self.facts.title.clone(),
                epoch: self.log.epoch(),
                head: self.log.known(),
                members: self.facts.members,
                created_ms: self.facts.created_ms,
            },
            first_available: self.facts.first_available,
            present,
            present_total,
        };
        self.answer(session, ticket, Answer::Joined(Box::new(joined)));
    }

    pub fn handle_unsubscribe(&mut self, session: SessionKey, now: Timestamp) {
        if let Some(user) = self.subscribers.remove(&session) {
            self.presence.exit(&user, now);
        }
    }

    pub fn handle_publish(&mut self, session: SessionKey, ticket: Ticket, cmid: Cmid, body: String) {
        match self.subscribers.get(&session) {
            Some(author) => {
                self.outputs.push_back(Output::Append { session, ticket, author: author.clone(), cmid, body });
            }
            None => self.answer(session, ticket, Answer::Refused(not_found())),
        }
    }

    pub fn handle_typing(&mut self, session: SessionKey, active: bool) {
        let Some(user) = self.subscribers.get(&session) else { return };
        let typing = TypingChanged { room: self.facts.id.as_str().to_owned(), user: String::from(user), active };
        let frame = Encoded::push(push::Event::TypingChanged(typing));
        self.outputs.push_back(Output::Volatile { frame, except: session });
    }

    /// The answer to [`Output::Append`]: the acknowledgement first, then everybody's delivery.
    pub fn handle_appended(&mut self, session: SessionKey, ticket: Ticket, appended: Appended) {
        match appended {
            Appended::Stored(message) => {
                self.answer(session, ticket, Answer::Published(published(&message, false)));
                self.outputs.push_back(Output::Announce(message.clone()));
                self.handle_committed(message);
            }
            Appended::Duplicate(message) => {
                self.answer(session, ticket, Answer::Published(published(&message, true)));
                self.handle_committed(message);
            }
            Appended::Conflict => {
                let message = "this cmid was used before with another body";
                self.answer(session, ticket, Answer::Refused(Error::permanent(ErrorCode::CmidConflict, message)));
            }
            Appended::NoSuchRoom => self.answer(session, ticket, Answer::Refused(not_found())),
            Appended::Unavailable => self.answer(session, ticket, Answer::Refused(unavailable())),
            Appended::StorageFull => {
                let error = Error::temporary(ErrorCode::StorageFull, "the store is full: nothing was stored", 30_000);
                self.answer(session, ticket, Answer::Refused(error));
            }
        }
    }

    /// A message that the store holds, committed here or told by another node, in any order.
    pub fn handle_committed(&mut self, message: Message) {
        for message in self.log.place(message) {
            let (epoch, seq) = (message.epoch, message.seq);
            let frame = Encoded::push(push::Event::Message(MessageDelivered { message: Some(message) }));
            self.outputs.push_back(Output::Deliver { epoch, seq, frame });
        }
        if self.fetch == Fetch::Idle {
            self.fetch_missing();
        }
    }

    /// What the store told of the room just now. Its log may be ahead of what was delivered here: a commit whose result
    /// is on its way, or another node's. What has not come by itself after a while is fetched.
    pub fn handle_facts(&mut self, facts: &Facts, now: Timestamp) {
        self.facts.members = facts.members;
        self.facts.first_available = facts.first_available;
        self.log.know(facts.epoch, facts.head);
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
        [retry, self.presence.due()].into_iter().flatten().min()
    }

    pub fn handle_timeout(&mut self, now: Timestamp) {
        if let Fetch::RetryAt(at) = self.fetch
            && at <= now
        {
            self.fetch = Fetch::Idle;
            self.fetch_missing();
        }
        if self.presence.due().is_some_and(|due| due <= now)
            && let Some(changed) = self.presence.tell(self.facts.id.as_str())
        {
            let frame = Encoded::push(push::Event::PresenceChanged(changed));
            self.outputs.push_back(Output::Presence { frame });
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

fn published(message: &Message, duplicate: bool) -> Published {
    Published {
        room: message.room.clone(),
        cmid: message.cmid.clone(),
        epoch: message.epoch,
        seq: message.seq,
        at_ms: message.at_ms,
        duplicate,
    }
}
