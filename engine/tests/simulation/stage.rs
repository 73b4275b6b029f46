//! Time, chance and what is to come: the only things that every part of a run shares.

use std::collections::BTreeMap;

use bytes::Bytes;
use veza_engine::ledger::{MemberRow, RoomRow, Written};
use veza_engine::{Answer, Ask, SessionKey, Ticket};
use veza_proto::v1::ClientFrame;
use veza_proto::{Lane, RoomId, UserId};

use crate::chance::Chance;
use crate::faults::Fault;
use crate::journal::Journal;
use crate::node::bus::Announcement;
use crate::store::Reply;

pub(crate) const MS: u64 = 1_000;
pub(crate) const SECOND: u64 = 1_000 * MS;

pub(crate) type ClientNo = usize;
pub(crate) type NodeNo = usize;
pub(crate) type LinkNo = u64;

/// A node between one start and the next crash: what was meant for an earlier life is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) node: NodeNo,
    pub(crate) count: u32,
}

/// What is wrong on purpose, to see that the judges notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// An append is acknowledged and delivered when it is handed to the store.
    AckBeforeCommit,
    /// Every attempt of a command makes an entry of its own.
    NoDedup,
    /// A deletion leaves the content where it was.
    NoTombstone,
    /// An append is delivered when it is handed to the store, and acknowledged when it has committed.
    FanOutBeforeCommit,
    /// The store takes the writes of a batch in another order than they came.
    Reordered,
    /// Somebody who was kicked goes on hearing the room.
    NoEviction,
    /// What a bus loses is not told.
    SilentBus,
}

/// Something that happens at its time.
#[derive(Debug)]
pub(crate) enum Event {
    /// A person does something.
    Act(ClientNo),
    Alarm(ClientNo, Alarm),
    Up {
        link: LinkNo,
        lane: Lane,
        frame: Box<ClientFrame>,
    },
    UpDatagram {
        link: LinkNo,
        frame: Box<ClientFrame>,
    },
    /// The transport's own answer to its ping.
    Pong {
        link: LinkNo,
    },
    Down {
        link: LinkNo,
        lane: Lane,
        frame: Bytes,
    },
    DownDatagram {
        link: LinkNo,
        frame: Bytes,
    },
    /// The server's end closed.
    Closed {
        link: LinkNo,
    },
    /// The client's end closed, or the server finds the link dead.
    Gone {
        link: LinkNo,
    },
    /// The session's task runs.
    Task {
        life: Life,
        session: SessionKey,
    },
    Deadline {
        life: Life,
        session: SessionKey,
    },
    Admitted {
        life: Life,
        session: SessionKey,
        token: String,
        resume: String,
    },
    Tick(Life),
    Commit(Life),
    Written {
        life: Life,
        reply: Box<Reply>,
        written: Option<Box<Written>>,
    },
    Read {
        life: Life,
        session: SessionKey,
        ticket: Box<Ticket>,
        ask: Box<Ask>,
    },
    Answered {
        life: Life,
        session: SessionKey,
        ticket: Box<Ticket>,
        answer: Box<Answer>,
    },
    /// A room asks how it stands, and then who of its users are members still.
    LookAtRow {
        life: Life,
        room: RoomId,
    },
    LookAtMembers {
        life: Life,
        row: Box<RoomRow>,
        users: Vec<UserId>,
    },
    Looked {
        life: Life,
        row: Box<RoomRow>,
        gone: Vec<UserId>,
    },
    /// What was read of a room for somebody who wants in.
    LetIn {
        life: Life,
        session: SessionKey,
        ticket: Box<Ticket>,
        place: Box<(RoomRow, MemberRow)>,
    },
    Fetch {
        life: Life,
        room: RoomId,
        after: u64,
        limit: u32,
    },
    Fetched {
        life: Life,
        room: RoomId,
        messages: Option<Vec<veza_proto::v1::Message>>,
    },
    Announced {
        life: Life,
        announcement: Box<Announcement>,
    },
    /// The bus has lost something on its way to this node.
    Resync(Life),
    Fault(Fault),
    Heal(Fault),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Alarm {
    Connect,
    /// The link has been silent for too long.
    Lost(LinkNo),
    Repair(String),
    Rejoin(String),
    Resend,
    /// Reads again what it has left unread.
    ReadsAgain(LinkNo),
}

#[derive(Debug)]
pub(crate) struct Stage {
    /// Microseconds since the run began.
    pub(crate) now: u64,
    events: BTreeMap<(u64, u64), Event>,
    serial: u64,
    pub(crate) chance: Chance,
    pub(crate) journal: Journal,
    pub(crate) sabotage: Option<Sabotage>,
    /// No more faults, and nobody begins anything.
    pub(crate) calm: bool,
}

impl Stage {
    pub(crate) fn new(seed: u64, sabotage: Option<Sabotage>) -> Self {
        Self {
            now: 0,
            events: BTreeMap::new(),
            serial: 0,
            chance: Chance::new(seed),
            journal: Journal::default(),
            sabotage,
            calm: false,
        }
    }

    pub(crate) fn at(&mut self, at: u64, event: Event) {
        self.serial += 1;
        self.events.insert((at.max(self.now), self.serial), event);
    }

    pub(crate) fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    /// After a while between two bounds.
    pub(crate) fn soon(&mut self, least: u64, most: u64, event: Event) {
        let delay = self.chance.between(least, most);
        self.after(delay, event);
    }

    pub(crate) fn next(&mut self) -> Option<Event> {
        let ((at, _), event) = self.events.pop_first()?;
        self.now = at;
        Some(event)
    }

    pub(crate) fn next_at(&self) -> Option<u64> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    pub(crate) fn sabotaged(&self, by: Sabotage) -> bool {
        self.sabotage == Some(by)
    }
}
