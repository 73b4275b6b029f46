//! What can reach a worker: commands of sessions, answers of the store.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};
use veza_engine::ledger::{Content, MemberRow, RoomRow};
use veza_engine::room::{Appended, Ended};
use veza_engine::{Answer, SessionKey, Status, Ticket};
use veza_proto::v1::Message;
use veza_proto::{Cmid, RoomId, UserId};

use crate::hub::Caller;
use crate::hub::mailbox::Mailbox;
use crate::store::Busy;
use crate::tasks::Tasks;

/// What a worker is told.
pub(in crate::hub) enum Command {
    Subscribe {
        caller: Caller,
        ticket: Ticket,
        /// From one moment of the store.
        row: Box<RoomRow>,
        member: Box<MemberRow>,
    },
    Unsubscribe {
        room: RoomId,
        session: SessionKey,
        answer: Option<(Arc<Mailbox>, Ticket, Answer)>,
    },
    Publish {
        caller: Caller,
        ticket: Ticket,
        room: RoomId,
        cmid: Cmid,
        content: Content,
        received: Instant,
        span: tracing::Span,
    },
    Status {
        room: RoomId,
        session: SessionKey,
        status: Status,
    },
    /// The store has these watermarks.
    Marked {
        room: RoomId,
        user: UserId,
        delivered_seq: u64,
        read_seq: u64,
    },
    /// A write changed the room, and these notes tell of it.
    Changed {
        row: Box<RoomRow>,
        notes: Vec<Message>,
    },
    /// Somebody's membership has ended.
    Ended {
        row: Box<RoomRow>,
        ended: Box<Ended>,
    },
    /// The store has the room like this.
    Row(Box<RoomRow>),
    /// A write of this room was not answered, so nobody knows whether it happened.
    Doubt {
        room: RoomId,
    },
    Typing {
        room: RoomId,
        session: SessionKey,
        active: bool,
    },
    TypingElsewhere {
        room: RoomId,
        user: UserId,
        active: bool,
    },
    /// Who is here?
    Here {
        room: RoomId,
        user: Option<UserId>,
        reply: oneshot::Sender<Here>,
    },
    /// Another node committed this.
    Announced {
        room: RoomId,
        message: Message,
    },
    /// Announcements were lost.
    Resync,
}

/// Who is in a room on this node.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::hub) struct Here {
    pub(in crate::hub) present: u32,
    /// Whether the user who was asked for is among them.
    pub(in crate::hub) user: bool,
}

/// What the store answered.
pub(super) enum Done {
    Appended {
        publish: Box<Publishing>,
        appended: Appended,
    },
    /// An entry that no session of this room waits for.
    Stored {
        room: RoomId,
        message: Message,
    },
    Fetched {
        room: RoomId,
        messages: Option<Vec<Message>>,
    },
    /// The room as the store has it, and which of those who were here are members no more.
    Looked {
        row: Box<RoomRow>,
        gone: Vec<UserId>,
    },
}

/// A publish that waits for its commit.
pub(super) struct Publishing {
    pub(super) room: RoomId,
    pub(super) session: SessionKey,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) ticket: Ticket,
    pub(super) cmid: Cmid,
    pub(super) received: Instant,
    pub(super) span: tracing::Span,
}

#[derive(Clone)]
pub(in crate::hub) struct WorkerHandle {
    pub(super) commands: mpsc::Sender<Command>,
    /// Subscriptions and their ends, in order, and what else must not be lost when `commands` is full; their number is
    /// bounded by the sessions'.
    pub(super) surely: mpsc::Sender<Command>,
    pub(super) results: mpsc::Sender<Done>,
    pub(super) tasks: Tasks,
}

impl WorkerHandle {
    /// # Errors
    /// The worker has more to do than it can.
    pub(in crate::hub) fn send(&self, command: Command) -> Result<(), Busy> {
        self.commands.try_send(command).map_err(|_full| Busy)
    }

    /// An entry was committed that no session waits for. In the order of the commits, as the writer calls this.
    pub(in crate::hub) fn stored(&self, room: RoomId, message: Message) {
        if self.results.try_send(Done::Stored { room, message }).is_err() {
            tracing::error!("a worker lost an entry that was committed; its room will read it from the store");
        }
    }

    /// Sends what must arrive; when the worker is behind, a task waits for it.
    pub(in crate::hub) fn send_surely(&self, command: Command) {
        if let Err(mpsc::error::TrySendError::Full(command)) = self.surely.try_send(command) {
            let surely = self.surely.clone();
            self.tasks.spawn("worker-backlog", async move {
                // A closed channel means that the worker has stopped, and with it everything it could be told.
                let _stopped = surely.send(command).await;
            });
        }
    }
}
