//! A room that the client keeps: its log, who waits for it, and what is to be asked next.

use std::time::Duration;

use tokio::time::Instant;
use veza_proto::v1::Repair;

use super::JoinReply;
use crate::room::RoomLog;

/// A hole is repaired after this long: most datagrams that seem lost were only overtaken.
const REPAIR_GRACE: Duration = Duration::from_millis(50);

pub(super) struct Subscription {
    pub(super) log: RoomLog,
    /// Callers of join.
    pub(super) waiting: Vec<JoinReply>,
    /// The code to join with.
    pub(super) invite: String,
    /// A join or resume is under way on this link.
    pub(super) joining: bool,
    pub(super) repairing: bool,
    /// When to ask for what is missing, or to join again.
    pub(super) due: Option<Instant>,
}

impl Subscription {
    pub(super) fn new(log: RoomLog) -> Self {
        Self { log, waiting: Vec::new(), invite: String::new(), joining: false, repairing: false, due: None }
    }

    /// The same wish without what was known of the room.
    pub(super) fn anew(self) -> Self {
        let cursor = self.log.cursor();
        Self { log: RoomLog::new(cursor.room, self.log.delivery()), repairing: false, due: None, ..self }
    }

    /// A known room was named in the hello and is answered by a push; the others are joined.
    pub(super) fn begin_link(&mut self) {
        self.log.unsettle();
        (self.joining, self.repairing, self.due) = (self.log.is_known(), false, None);
    }

    pub(super) fn wants_join(&self, now: Instant) -> bool {
        !self.joining && (!self.log.is_settled() || !self.waiting.is_empty()) && self.due.is_none_or(|due| due <= now)
    }

    pub(super) fn wants_repair(&mut self, now: Instant) -> Option<Repair> {
        if self.repairing || self.due.is_none_or(|due| due > now) {
            return None;
        }
        self.due = None;
        self.log.missing()
    }

    /// Looks for a hole: its grace begins when it is seen, and anew with every message that came in order.
    pub(super) fn look(&mut self, progress: bool) {
        if self.log.missing().is_none() {
            self.due = None;
        } else if progress || self.due.is_none() {
            self.due = Some(Instant::now() + REPAIR_GRACE);
        }
    }
}
