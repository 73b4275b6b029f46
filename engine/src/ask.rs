use veza_proto::v1::{
    Error, HistoryPage, MemberFilter, Message, PresenceState, Published, Receipt, Room, UserStatus, reply,
};
use veza_proto::{Cmid, Format, Lane, RoomId, UserId};

use crate::Timestamp;
use crate::fit;
use crate::ledger::{Content, Write};

/// A session on this node, for as long as the process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(pub u64);

/// What a session asks of the rooms and the store. The [`Answer`] comes back with the ask's [`Ticket`].
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// Store this durably, in the asker's name.
    Write(Box<Write>),
    /// The room of two with this user.
    OpenDirect {
        user: UserId,
    },
    /// With `user`: for them alone; else by a code that is made for it.
    Invite {
        room: RoomId,
        user: Option<UserId>,
        uses_max: u32,
        seconds: u64,
    },
    /// Become a member durably, then subscribe.
    Join {
        room: RoomId,
        invite: Option<String>,
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
    Append {
        room: RoomId,
        cmid: Cmid,
        content: Content,
    },
    Mark {
        room: RoomId,
        delivered_seq: u64,
        read_seq: u64,
    },
    /// No answer.
    Typing {
        room: RoomId,
        active: bool,
    },
    /// No answer.
    Status {
        room: RoomId,
        status: Status,
    },
    /// A stretch of a room's log, at most `limit` entries.
    Read {
        room: RoomId,
        view: View,
        anchor: Anchor,
        limit: u32,
    },
    ListRooms {
        mine: bool,
        after: Option<String>,
        limit: u32,
    },
    ListMembers {
        room: RoomId,
        filter: MemberFilter,
        after: Option<UserId>,
        limit: u32,
    },
    /// Of a room, or those that name the asker.
    ListInvites {
        room: Option<RoomId>,
    },
    ListAudit {
        room: RoomId,
        before: u64,
        limit: u32,
    },
    ListRevisions {
        room: RoomId,
        seq: u64,
    },
    ListReactions {
        room: RoomId,
        seq: u64,
        emoji: String,
    },
    ListPins {
        room: RoomId,
        skip: u32,
    },
    ListUnread {
        after: Option<String>,
        limit: u32,
    },
    Search {
        /// `None`: every room of the asker.
        room: Option<RoomId>,
        query: String,
        author: Option<UserId>,
        /// In one room.
        before: u64,
        /// Over all rooms.
        cursor: Option<SearchCursor>,
        limit: u32,
    },
}

/// Which entries of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// All of them, without holes in their numbers.
    Everything,
    /// Messages outside of threads, and notes.
    Timeline,
    /// A thread's first message and its replies.
    Thread(u64),
}

/// Where a page is. All ascending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// The first ones after it.
    After(u64),
    /// The last ones before it.
    Before(u64),
    /// Half before it, half from it on.
    Around(u64),
}

/// What somebody says of themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    pub state: PresenceState,
    pub text: String,
}

/// A place in the order of a search over all rooms, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchCursor {
    pub at_ms: u64,
    pub room: RoomId,
    pub seq: u64,
}

impl SearchCursor {
    /// After this hit.
    pub fn write(last: &Message) -> String {
        format!("{}.{}.{}", last.at_ms, last.seq, last.room)
    }

    /// What [`SearchCursor::write`] wrote.
    pub fn read(text: &str) -> Option<Self> {
        let (at_ms, rest) = text.split_once('.')?;
        let (seq, room) = rest.split_once('.')?;
        Some(Self { at_ms: at_ms.parse().ok()?, seq: seq.parse().ok()?, room: RoomId::parse(room).ok()? })
    }
}

/// The answer to an [`Ask`].
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// As it is to be said; lists are cut to what fits in a frame.
    Reply(Box<reply::Result>),
    /// To [`Ask::Join`] and [`Ask::Subscribe`]: deliveries from `room.head + 1` on follow it.
    Joined(Box<Joined>),
    Unsubscribed,
    Left,
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
    pub statuses: Vec<UserStatus>,
    pub receipts: Vec<Receipt>,
}

/// A stretch of a room's log, ascending.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    pub room: RoomId,
    pub epoch: u64,
    pub messages: Vec<Message>,
    /// Whether the view has entries before the first and after the last of these.
    pub more_before: bool,
    pub more_after: bool,
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
    /// The number tells it from a later join of the room.
    Join {
        room: RoomId,
        number: u32,
    },
    /// A cursor of the hello.
    Resume {
        room: RoomId,
        number: u32,
    },
    /// The next page of a replay; the number tells it from an older replay of the room.
    Replay {
        room: RoomId,
        generation: u32,
    },
    History {
        room: RoomId,
        anchor: Anchor,
    },
    Repair {
        room: RoomId,
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
    /// Nobody waits for it.
    Forget,
    Search {
        everywhere: bool,
    },
}

impl Page {
    /// The page as a history reply, cut to a frame on the sides that are far from its anchor.
    pub(crate) fn into_history(mut self, anchor: Anchor, format: Format) -> HistoryPage {
        self.cut(anchor, format);
        HistoryPage {
            room: self.room.as_str().to_owned(),
            epoch: self.epoch,
            more_before: self.more_before,
            more_after: self.more_after,
            first_available: self.first_available,
            head: self.head,
            messages: self.messages,
        }
    }

    /// Leaves as many messages as fit in a frame, at least one, beginning with those that are nearest to the anchor.
    pub(crate) fn cut(&mut self, anchor: Anchor, format: Format) {
        let kept = fit::window(&self.messages, self.middle(anchor), format);
        self.keep(kept);
    }

    /// As many messages as have so many bytes in protobuf, at least one, beginning with those that are nearest to the
    /// anchor.
    pub fn cut_to(&mut self, anchor: Anchor, bytes_max: usize) {
        let kept = fit::window_of(&self.messages, self.middle(anchor), bytes_max, prost::Message::encoded_len);
        self.keep(kept);
    }

    fn middle(&self, anchor: Anchor) -> usize {
        match anchor {
            Anchor::After(_) => 0,
            Anchor::Before(_) => self.messages.len(),
            Anchor::Around(seq) => self.messages.partition_point(|message| message.seq < seq),
        }
    }

    fn keep(&mut self, kept: std::ops::Range<usize>) {
        let count = self.messages.len();
        self.more_before |= kept.start > 0;
        self.more_after |= kept.end < count;
        self.messages.truncate(kept.end);
        self.messages.drain(..kept.start);
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
            more_before: false,
            more_after: false,
            head: bodies.len() as u64,
            first_available: 1,
        }
    }

    const FIRST: Anchor = Anchor::After(0);

    #[test]
    fn a_page_is_cut_to_any_size_at_its_limit_and_one_past() {
        let bytes = prost::Message::encoded_len(&page(&[1_000]).messages[0]);
        let cut = |max: usize, anchor| {
            let mut page = page(&[1_000; 3]);
            page.cut_to(anchor, max);
            (page.messages.iter().map(|message| message.seq).collect::<Vec<_>>(), page.more_before, page.more_after)
        };
        assert_eq!(cut(bytes * 2, FIRST), (vec![1, 2], false, true));
        assert_eq!(cut(bytes * 2 - 1, FIRST), (vec![1], false, true));
        assert_eq!(cut(bytes * 2, Anchor::Before(u64::MAX)), (vec![2, 3], true, false));
        assert_eq!(cut(0, FIRST).0, [1], "never an empty page");
    }

    #[test]
    fn a_page_is_cut_to_a_frame_on_its_far_side() {
        let bodies = [20_000; 5];
        let forward = page(&bodies).into_history(FIRST, Format::Proto);
        assert_eq!(forward.messages.iter().map(|m| m.seq).collect::<Vec<_>>(), [1, 2]);
        assert!(!forward.more_before && forward.more_after);
        let backward = page(&bodies).into_history(Anchor::Before(9), Format::Proto);
        assert_eq!(backward.messages.iter().map(|m| m.seq).collect::<Vec<_>>(), [4, 5]);
        assert!(backward.more_before && !backward.more_after);
        let around = page(&bodies).into_history(Anchor::Around(3), Format::Proto);
        assert_eq!(around.messages.iter().map(|m| m.seq).collect::<Vec<_>>(), [2, 3]);
        assert!(around.more_before && around.more_after);
    }

    #[test]
    fn the_bound_at_its_limit_and_one_past_and_never_an_empty_page() {
        let overhead = prost::Message::encoded_len(&page(&[30_000]).messages[0]) - 30_000;
        let rest = veza_proto::limits::PAGE_BYTES_MAX - (30_000 + overhead);
        let exact = page(&[30_000, rest - overhead]).into_history(FIRST, Format::Proto);
        assert_eq!(exact.messages.len(), 2);
        let over = page(&[30_000, rest - overhead + 1]).into_history(FIRST, Format::Proto);
        assert_eq!(over.messages.len(), 1);
        assert_eq!(page(&[60_000, 1]).into_history(FIRST, Format::Json).messages.len(), 1);
    }
}
