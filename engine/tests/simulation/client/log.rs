//! The order of one room's entries as a client keeps it, by the rules of `docs/PROTOCOL.md`.

use std::collections::BTreeMap;

use veza_proto::v1::{Message, RoomJoined, verdict::Outcome};

/// Where a client stands in a room.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// 0 until the room was joined once.
    pub(super) epoch: u64,
    /// The last number applied, or that a verdict begins after.
    pub(super) last: u64,
    /// The highest number that is known to be there.
    pub(super) head: u64,
    /// A verdict has placed it on this link.
    pub(super) settled: bool,
    held: BTreeMap<u64, Held>,
}

/// An entry, and whether its arrival was written down.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) message: Message,
    pub(super) told: bool,
}

impl Log {
    /// The verdict: entries that were held for it come out.
    pub(super) fn settle(&mut self, joined: &RoomJoined) -> Vec<Held> {
        let (epoch, head) = joined.room.as_ref().map_or((0, 0), |room| (room.epoch, room.head));
        let outcome = joined.verdict.as_ref().and_then(|verdict| verdict.outcome.as_ref());
        let recovered = matches!(outcome, Some(Outcome::Recovered(_))) && epoch == self.epoch;
        if recovered {
            self.head = self.head.max(head);
        } else {
            (self.epoch, self.last, self.head) = (epoch, head, head);
        }
        self.settled = true;
        let last = self.last;
        self.held.retain(|seq, held| *seq > last && held.message.epoch == epoch);
        self.drain()
    }

    pub(super) fn unsettle(&mut self) {
        self.settled = false;
    }

    /// The subscription is gone: what no verdict has explained is of no use.
    pub(super) fn lose(&mut self) {
        self.settled = false;
        self.held.clear();
    }

    /// A delivery: what can be applied by now.
    pub(super) fn deliver(&mut self, message: Message, told: bool) -> Vec<Held> {
        let (epoch, seq) = (message.epoch, message.seq);
        if seq > self.last || !self.settled {
            let told = told || self.held.get(&seq).is_some_and(|held| held.told);
            self.held.insert(seq, Held { message, told });
        }
        if !self.settled || epoch != self.epoch {
            return Vec::new();
        }
        self.head = self.head.max(seq);
        self.drain()
    }

    /// Entries that were asked for. What they leave out is not kept any more.
    pub(super) fn repaired(&mut self, messages: Vec<Message>, head: u64) -> Vec<Held> {
        self.head = self.head.max(head);
        if let Some(first) = messages.first() {
            self.last = self.last.max(first.seq - 1);
        }
        let mut applied = Vec::new();
        for message in messages {
            applied.extend(self.deliver(message, true));
        }
        applied
    }

    /// What is to be asked for: after which number, and up to which (0 for all).
    pub(super) fn missing(&self) -> Option<(u64, u64)> {
        let up_to = self.held.keys().next().map_or(0, |first| first - 1);
        (self.settled && self.head > self.last).then_some((self.last, up_to))
    }

    fn drain(&mut self) -> Vec<Held> {
        let mut applied = Vec::new();
        while let Some(entry) = self.held.first_entry() {
            if *entry.key() > self.last + 1 {
                break;
            }
            let held = entry.remove();
            if held.message.seq == self.last + 1 {
                self.last = held.message.seq;
                applied.push(held);
            }
        }
        self.head = self.head.max(self.held.keys().next_back().copied().unwrap_or(0)).max(self.last);
        applied
    }
}
