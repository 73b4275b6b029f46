use veza_proto::limits::PAGE_BYTES_MAX;
use veza_proto::v1::{Error, HistoryPage, Message, Published, Room, RoomList};
use veza_proto::{Cmid, Format, Lane, RoomId};

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
        epoch: u64,
        after: u64,
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
    pub(crate) fn into_history(mut self, forward: bool, format: Format) -> HistoryPage {
        let (more_before, more_after) = match (self.messages.first(), self.messages.last()) {
            (Some(_), Some(_)) => {
                self.cut(forward, format);
                let first = self.messages.first().map_or(0, |message| message.seq);
                let last = self.messages.last().map_or(0, |message| message.seq);
                (first > self.first_available, last < self.head)
            }
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

    /// Leaves as many messages as fit in a frame, at least one: the first ones of a page that was read forward, the last
    /// ones of the other.
    pub(crate) fn cut(&mut self, forward: bool, format: Format) {
        let mut room = PAGE_BYTES_MAX;
        let mut fits = |message: &Message| {
            let bytes = match format {
                Format::Proto => prost::Message::encoded_len(message),
                Format::Json => veza_proto::frame::to_json(message).len(),
            };
            let fit = bytes <= room;
            room = room.saturating_sub(bytes);
            fit
        };
        let count = self.messages.len();
        if forward {
            let fitting = self.messages.iter().take_while(|message| fits(message)).count().max(1);
            self.messages.truncate(fitting);
        } else {
            let fitting = self.messages.iter().rev().take_while(|message| fits(message)).count().max(1);
            self.messages.drain(..count.saturating_sub(fitting));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(bodies: &[usize]) -> Page {
        let message = |(at, bytes): (usize, &usize)| Message {
            seq: at as u64 + 1,
            body: "x".repeat(*bytes),
            ..Message::default()
        };
        Page {
            room: RoomId::parse("lobby").unwrap(),
            epoch: 1,
            messages: bodies.iter().enumerate().map(message).collect(),
            head: bodies.len() as u64,
            first_available: 1,
        }
    }

    #[test]
    fn a_page_is_cut_to_a_frame_on_its_far_side() {
        let bodies = [20_000; 5];
        let forward = page(&bodies).into_history(true, Format::Proto);
        assert_eq!(forward.messages.iter().map(|m| m.seq).collect::<Vec<_>>(), [1, 2]);
        assert!(!forward.more_before && forward.more_after);
        let backward = page(&bodies).into_history(false, Format::Proto);
        assert_eq!(backward.messages.iter().map(|m| m.seq).collect::<Vec<_>>(), [4, 5]);
        assert!(backward.more_before && !backward.more_after);
    }

    #[test]
    fn the_bound_at_its_limit_and_one_past_and_never_an_empty_page() {
        let overhead = prost::Message::encoded_len(&page(&[30_000]).messages[0]) - 30_000;
        let rest = PAGE_BYTES_MAX - (30_000 + overhead);
        let exact = page(&[30_000, rest - overhead]).into_history(true, Format::Proto);
        assert_eq!(exact.messages.len(), 2);
        let over = page(&[30_000, rest - overhead + 1]).into_history(true, Format::Proto);
        assert_eq!(over.messages.len(), 1);
        assert_eq!(page(&[60_000, 1]).into_history(true, Format::Json).messages.len(), 1);
    }
}
