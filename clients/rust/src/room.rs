//! A room's log as one client sees it: entries come out in order, each once, or a hole is named.
//!
//! No I/O and no clock: deliveries and verdicts go in, [`Step`]s come out, and [`RoomLog::missing`] says what to ask for.
//! Who shows messages puts the steps into a [`Timeline`], which applies edits and deletions to them.

use std::collections::BTreeMap;

use veza_proto::v1::{Delivery, GapReason, Message, Repair, Repaired, RoomCursor, RoomJoined, verdict};

mod timeline;

pub use timeline::{Effect, Timeline};

/// Messages held until the ones before them come. Later ones are let go and asked for again.
pub const HELD_MAX: usize = 512;

/// What to show next.
#[expect(clippy::large_enum_variant, reason = "nearly all are messages, and each is handed on at once")]
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Message(Message),
    Hole(Hole),
}

/// Messages that this client will not be given in order: the history may have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hole {
    pub room: String,
    pub epoch: u64,
    /// The first missing sequence number.
    pub from: u64,
    /// The last missing one; below `from` when nothing of this epoch is missing (the epoch itself is new).
    pub to: u64,
    /// `GAP_REASON_UNSPECIFIED` when the server could not repair them.
    pub reason: GapReason,
}

/// The order of one room's entries, of every kind: the changes of messages are counted as the messages are.
#[derive(Debug)]
pub struct RoomLog {
    room: String,
    delivery: Delivery,
    /// 0 until the room was joined once.
    epoch: u64,
    /// The last sequence number that came out, or that the verdict starts after.
    last: u64,
    /// The highest sequence number known to be in the log.
    head: u64,
    /// False from the loss of the link until the verdict: what comes meanwhile is held.
    settled: bool,
    /// By epoch and sequence number.
    held: BTreeMap<(u64, u64), Message>,
}

impl RoomLog {
    pub fn new(room: impl Into<String>, delivery: Delivery) -> Self {
        Self { room: room.into(), delivery, epoch: 0, last: 0, head: 0, settled: false, held: BTreeMap::new() }
    }

    /// Where this log stands, for a hello or a join. Epoch 0 before the first join: live delivery only.
    pub fn cursor(&self) -> RoomCursor {
        RoomCursor { room: self.room.clone(), epoch: self.epoch, last_seq: self.last, delivery: self.delivery.into() }
    }

    pub fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// Whether a verdict has placed this log on the current link.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// Whether the room was joined at least once.
    pub fn is_known(&self) -> bool {
        self.epoch != 0
    }

    /// The link is gone: the next verdict tells where deliveries go on.
    pub fn unsettle(&mut self) {
        self.settled = false;
    }

    /// The verdict of a join or a resume.
    pub fn settle(&mut self, joined: &RoomJoined) -> Vec<Step> {
        let room = joined.room.clone().unwrap_or_default();
        let mut steps = Vec::new();
        match joined.verdict.as_ref().and_then(|verdict| verdict.outcome.as_ref()) {
            Some(verdict::Outcome::Recovered(_)) if room.epoch == self.epoch => {}
            Some(verdict::Outcome::Gap(gap)) => {
                let from = if room.epoch == self.epoch { self.last + 1 } else { gap.first_available.max(1) };
                let hole =
                    Hole { room: self.room.clone(), epoch: room.epoch, from, to: room.head, reason: gap.reason() };
                steps.push(Step::Hole(hole));
                self.start_after(room.epoch, room.head);
            }
            // Live, or a verdict of a later server: deliveries start after the head.
            Some(verdict::Outcome::Recovered(_) | verdict::Outcome::Live(_)) | None => {
                self.start_after(room.epoch, room.head);
            }
        }
        self.settled = true;
        self.forget_held_before();
        self.drain(&mut steps);
        steps
    }

    /// A delivery, by stream or datagram.
    pub fn deliver(&mut self, message: Message) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.settled && message.epoch != self.epoch {
            // The log was replaced under us: only a new verdict can place it.
            self.settled = false;
        }
        if !self.settled {
            self.hold(message);
            return steps;
        }
        self.head = self.head.max(message.seq);
        if message.seq == self.last + 1 {
            self.last = message.seq;
            steps.push(Step::Message(message));
            self.drain(&mut steps);
        } else if message.seq > self.last {
            self.hold(message);
        }
        steps
    }

    /// The server tells how far the log goes.
    pub fn head(&mut self, epoch: u64, head: u64) {
        if epoch == self.epoch {
            self.head = self.head.max(head);
        }
    }

    /// The server dropped what came after `last_delivered`: at least one message.
    pub fn lagging(&mut self, epoch: u64, last_delivered: u64) {
        self.head(epoch, last_delivered + 1);
    }

    /// What to ask for, once it has been missing for a while.
    pub fn missing(&self) -> Option<Repair> {
        if !self.settled || self.head <= self.last {
            return None;
        }
        let up_to_seq = self.held.keys().next().map_or(0, |(_, seq)| seq - 1);
        Some(Repair { room: self.room.clone(), epoch: self.epoch, after_seq: self.last, up_to_seq })
    }

    /// The answer to [`RoomLog::missing`]. What it leaves out is not there any more.
    pub fn repaired(&mut self, asked: &Repair, page: Repaired) -> Vec<Step> {
        let mut steps = Vec::new();
        if page.epoch != self.epoch || !self.settled {
            self.settled = false;
            return steps;
        }
        self.head = self.head.max(page.head);
        let asked_to = if asked.up_to_seq == 0 { page.head } else { asked.up_to_seq };
        if page.messages.is_empty() {
            self.skip_to(asked_to, &mut steps);
            if page.head <= asked.after_seq && self.held.is_empty() {
                // The log does not reach the head that was told; asking again would not end.
                self.head = self.last;
            }
        }
        for message in page.messages {
            if message.seq <= self.last {
                continue;
            }
            self.skip_to(message.seq - 1, &mut steps);
            steps.extend(self.deliver(message));
        }
        self.drain(&mut steps);
        steps
    }

    fn start_after(&mut self, epoch: u64, head: u64) {
        (self.epoch, self.last, self.head) = (epoch, head, head);
    }

    fn forget_held_before(&mut self) {
        let (epoch, last) = (self.epoch, self.last);
        self.held.retain(|(of, seq), _| *of == epoch && *seq > last);
        if let Some((_, seq)) = self.held.keys().next_back() {
            self.head = self.head.max(*seq);
        }
    }

    fn hold(&mut self, message: Message) {
        self.held.insert((message.epoch, message.seq), message);
        if self.held.len() > HELD_MAX {
            self.held.pop_last();
        }
    }

    /// Lets out what follows without a hole.
    fn drain(&mut self, steps: &mut Vec<Step>) {
        while let Some(entry) = self.held.first_entry() {
            let (_, seq) = *entry.key();
            if seq > self.last + 1 {
                break;
            }
            let message = entry.remove();
            if seq == self.last + 1 {
                self.last = seq;
                steps.push(Step::Message(message));
            }
        }
    }

    fn skip_to(&mut self, seq: u64, steps: &mut Vec<Step>) {
        if seq > self.last {
            steps.push(Step::Hole(Hole {
                room: self.room.clone(),
                epoch: self.epoch,
                from: self.last + 1,
                to: seq,
                reason: GapReason::Unspecified,
            }));
            self.last = seq;
        }
    }
}

#[cfg(test)]
mod tests;
