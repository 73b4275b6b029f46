use veza_proto::v1::{Error, HistoryPage, Message, Published, Room, RoomList};
use veza_proto::{Cmid, Lane, RoomId};

use crate::Timestamp;

/// A session on this node, for as long as the process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(pub u64);

/// What a session asks of the rooms and the store. The [`Answer`] comes back with the ask's [`Ticket`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    CreateRoom {
        room: RoomId,
        title: String,
    },
    /// Become a member durably, then subscribe.
    Join {
        room: RoomId,
    },
    /// Subscribe where the user is a member already.
    Subscribe {
        room: RoomId,
    },
    Unsubscribe {
        room: RoomId,
    },
    Leave {
        room: RoomId,
    },
    ListRooms {
        mine: bool,
        after: Option<String>,
        limit: u32,
    },
    Publish {
        room: RoomId,
        cmid: Cmid,
        body: String,
    },
    /// No answer.
    Typing {
        room: RoomId,
        active: bool,
    },
    /// Messages with `after < seq` in ascending order, at most `limit`.
    ReadAfter {
        room: RoomId,
        after: u64,
        limit: u32,
    },
    /// The last `limit` messages with `seq < before`, in ascending order.
    ReadBefore {
        room: RoomId,
        before: u64,
        limit: u32,
    },
}

/// The answer to an [`Ask`].
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Created(Room),
    /// To [`Ask::Join`] and [`Ask::Subscribe`]: deliveries from `room.head + 1` on follow it.
    Joined(Box<Joined>),
    Unsubscribed,
    Left,
    Listed(RoomList),
    Published(Published),
    Page(Box<Page>),
    Refused(Error),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Joined {
    pub room: Room,
    pub first_available: u64,
    pub present: Vec<String>,
    pub present_total: u32,
}

/// A stretch of a room's log, ascending.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    pub room: RoomId,
    pub epoch: u64,
    pub messages: Vec<Message>,
    pub head: u64,
    pub first_available: u64,
}

/// Goes with an ask and comes back with its answer: where the reply is to be said, and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    pub(crate) lane: Lane,
    pub(crate) id: u32,
    pub(crate) purpose: Purpose,
    /// When the command came in.
    pub(crate) since: Timestamp,
}

impl Ticket {
    /// When the command came in, for measuring.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// A ticket of no session, for driving a room alone.
    pub fn for_tests(id: u32) -> Self {
        Self { lane: Lane::Control, id, purpose: Purpose::Command, since: Timestamp::default() }
    }
}

/// What an answer is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// The reply to a command.
    Command,
    Join {
        room: RoomId,
    },
    /// A cursor of the hello.
    Resume {
        room: RoomId,
    },
    /// The next page of a replay; the number tells it from an older replay of the room.
    Replay {
        room: RoomId,
        generation: u32,
    },
    History {
        room: RoomId,
        forward: bool,
    },
    Repair {
        room: RoomId,
        epoch: u64,
        up_to: u64,
    },
    Leave {
        room: RoomId,
    },
    Unsubscribe {
        room: RoomId,
    },
}

impl Page {
    /// The page as a history reply. `forward` tells which way it was read.
    pub(crate) fn into_history(self, forward: bool) -> HistoryPage {
        let (more_before, more_after) = match (self.messages.first(), self.messages.last()) {
            (Some(first), Some(last)) => (first.seq > self.first_available, last.seq < self.head),
            _ => (forward && self.head >= self.first_available, !forward && self.head >= self.first_available),
        };
        HistoryPage {
            room: self.room.as_str().to_owned(),
            epoch: self.epoch,
            more_before,
            more_after,
            first_available: self.first_available,
            head: self.head,
            messages: self.messages,
        }
    }
}
