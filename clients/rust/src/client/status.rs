//! What this user says of being here. The server keeps it no longer than a session, so it is said again on every link.

use tokio::time::Instant;
use veza_proto::v1::{PresenceState, SetPresence};

use super::StatusReply;
use crate::error::Error;

#[derive(Default)]
pub(super) struct Status {
    said: Option<SetPresence>,
    waiting: Vec<StatusReply>,
    /// The link has not been told.
    pending: bool,
    /// Asked, and not answered yet.
    asking: bool,
    /// Not before this.
    pub(super) due: Option<Instant>,
}

impl Status {
    /// The latest word replaces what was to be said before.
    pub(super) fn say(&mut self, presence: SetPresence, waiting: StatusReply) {
        self.said = Some(presence);
        self.waiting.push(waiting);
        (self.pending, self.due) = (true, None);
    }

    pub(super) fn begin_link(&mut self) {
        (self.pending, self.asking, self.due) = (self.said.is_some(), false, None);
    }

    /// What to say now; it counts as asked from here.
    pub(super) fn send(&mut self, now: Instant) -> Option<SetPresence> {
        if !self.pending || self.asking || self.due.is_some_and(|due| due > now) {
            return None;
        }
        (self.pending, self.asking, self.due) = (false, true, None);
        self.said.clone()
    }

    pub(super) fn again(&mut self, at: Instant) {
        (self.pending, self.asking, self.due) = (true, false, Some(at));
    }

    /// The answer for good. When something newer waits to be said, so do its callers.
    pub(super) fn answered(&mut self, answer: &Result<(), Error>) {
        self.asking = false;
        if self.pending {
            return;
        }
        // Whoever is simply online has nothing to say on the next link.
        let plain = |said: &SetPresence| {
            said.text.is_empty() && matches!(said.state(), PresenceState::Unspecified | PresenceState::Online)
        };
        if answer.is_err() || self.said.as_ref().is_some_and(plain) {
            self.said = None;
        }
        for waiting in self.waiting.drain(..) {
            waiting.send(answer.clone()).ok();
        }
    }

    pub(super) fn close(&mut self) {
        *self = Self::default();
    }
}
