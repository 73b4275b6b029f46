use std::time::Duration;

use veza_proto::CloseCode;
use veza_proto::v1::{self, Message, PresenceChanged, ReceiptsChanged, Room, RoomEvicted, TypingChanged, Verdict};

use crate::Transport;
use crate::room::Hole;

/// What a [`crate::Client`] tells its owner.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    State(State),
    /// An entry of a room's log: a message, a change of one (`Message.change`) or a note. In order of its room, exactly
    /// once per room, epoch and sequence number. [`crate::room::Timeline`] makes what is to be shown out of them.
    Message(Message),
    /// Messages that will not follow; [`crate::Client::history`] may have them.
    Gap(Hole),
    /// What became of a joined room after the link was lost.
    Resumed {
        room: String,
        verdict: Verdict,
    },
    /// A joined room was not to be had again on a new link.
    Left {
        room: String,
        error: v1::Error,
    },
    /// Kicked, banned, or left from another device: nothing more of this room follows.
    Evicted(RoomEvicted),
    /// What the room is like now. One with a lower `revision` than was seen before is older.
    RoomChanged(Room),
    /// Who came, who went, and how people say they are.
    Presence(PresenceChanged),
    /// How far others have got.
    Receipts(ReceiptsChanged),
    Typing(TypingChanged),
}

/// How the client stands to its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Connecting,
    Connected {
        transport: Transport,
        user: String,
        /// The server accepted the resume token: it is the same session as before.
        resumed: bool,
    },
    /// The link is gone and the next attempt comes by itself.
    Reconnecting {
        after: Duration,
        why: String,
    },
    /// For good. Every later call answers [`crate::Error::Closed`].
    Closed {
        code: Option<CloseCode>,
        reason: String,
    },
}
