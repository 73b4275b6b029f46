use std::time::Duration;

use veza_proto::CloseCode;
use veza_proto::v1::{self, Message, PresenceChanged, TypingChanged, Verdict};

use crate::Transport;
use crate::room::Hole;

/// What a [`crate::Client`] tells its owner.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    State(State),
    /// In order of its room, exactly once per room, epoch and sequence number.
    Message(Message),
    /// Messages that will not follow; [`crate::Client::history`] may have them.
    Gap(Hole),
    /// What became of a joined room after the link was lost.
    Resumed {
        room: String,
        verdict: Verdict,
    },
    /// The server took the room away from this client.
    Left {
        room: String,
        error: v1::Error,
    },
    Presence(PresenceChanged),
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
