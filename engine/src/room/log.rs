//! The order of a room's messages on this node: what is committed is delivered once, in sequence, wherever it was committed.

use std::collections::BTreeMap;

use veza_proto::v1::Message;

use crate::limits::{FETCH_PAGE, HELD_MESSAGES_MAX};
use crate::retract::{blank, target_of, tells_of};

#[derive(Debug)]
pub(super) struct Log {
    epoch: u64,
    head: u64,
    /// Committed entries whose predecessors have not been seen here.
    held: BTreeMap<u64, Message>,
    /// The highest number known to exist.
    known: u64,
}

impl Log {
    pub(super) fn new(epoch: u64, head: u64) -> Self {
        Self { epoch, head, held: BTreeMap::new(), known: head }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The highest number the store is known to hold; at least the last one delivered here.
    pub(super) fn known(&self) -> u64 {
        self.known
    }

    /// Takes a committed entry and gives what can be delivered now, in sequence.
    pub(super) fn place(&mut self, message: Message) -> Vec<Message> {
        if message.epoch != self.epoch || message.seq <= self.head {
            return Vec::new();
        }
        self.known = self.known.max(message.seq);
        if message.seq > self.head + 1 {
            if self.held.len() < HELD_MESSAGES_MAX {
                self.held.insert(message.seq, message);
            }
            return Vec::new();
        }
        self.head = message.seq;
        let mut ready = vec![message];
        while let Some(next) = self.held.remove(&(self.head + 1)) {
            self.head = next.seq;
            ready.push(next);
        }
        self.take_back(&mut ready);
        ready
    }

    /// What waited for the ones before it may be deleted by now: its deletion is behind it, or still waits.
    fn take_back(&self, ready: &mut [Message]) {
        let deletions: Vec<Message> =
            ready.iter().chain(self.held.values()).filter(|message| target_of(message).is_some()).cloned().collect();
        for deletion in deletions {
            let target = target_of(&deletion);
            for message in ready.iter_mut().filter(|message| target.is_some_and(|target| tells_of(message, target))) {
                blank(message, &deletion);
            }
        }
    }

    /// The store holds everything up to this number.
    pub(super) fn know(&mut self, epoch: u64, head: u64) {
        if epoch == self.epoch {
            self.known = self.known.max(head);
        }
    }

    /// What has to be fetched from the store before anything else can be delivered: (after, limit).
    pub(super) fn missing(&self) -> Option<(u64, u32)> {
        if self.known <= self.head {
            return None;
        }
        let up_to = self.held.keys().next().map_or(self.known, |first| first - 1);
        let limit = (up_to - self.head).min(u64::from(FETCH_PAGE));
        Some((self.head, u32::try_from(limit).unwrap_or(FETCH_PAGE)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use veza_proto::v1::{Deletion, Edit, message::Change};

    fn message(seq: u64) -> Message {
        Message { epoch: 1, seq, ..Message::default() }
    }

    fn seqs(messages: &[Message]) -> Vec<u64> {
        messages.iter().map(|message| message.seq).collect()
    }

    #[test]
    fn any_order_comes_out_in_sequence_once() {
        let mut log = Log::new(1, 10);
        assert!(log.place(message(12)).is_empty());
        assert_eq!(log.missing(), Some((10, 1)));
        assert!(log.place(message(12)).is_empty());
        assert_eq!(seqs(&log.place(message(11))), [11, 12]);
        assert_eq!(log.missing(), None);
        assert!(log.place(message(11)).is_empty());
        assert!(log.place(Message { epoch: 2, seq: 13, ..Message::default() }).is_empty());
    }

    #[test]
    fn what_is_deleted_while_it_waits_comes_out_empty() {
        let said = |seq| Message { body: "secret".into(), ..message(seq) };
        let edit = |seq, target| Message {
            change: Some(Change::Edit(Edit { target, body: "secret".into(), ..Edit::default() })),
            ..message(seq)
        };
        let deletion = |seq, target| Message { change: Some(Change::Deletion(Deletion { target })), ..message(seq) };
        let mut log = Log::new(1, 0);
        for waiting in [said(2), edit(3, 2), deletion(4, 2), said(5), deletion(7, 5)] {
            assert!(log.place(waiting).is_empty());
        }
        let ready = log.place(said(1));
        assert_eq!(seqs(&ready), [1, 2, 3, 4, 5]);
        let shows: Vec<u64> =
            ready.iter().filter(|message| format!("{message:?}").contains("secret")).map(|m| m.seq).collect();
        assert_eq!(shows, [1]);
    }

    #[test]
    fn what_was_not_held_is_still_known_to_be_missing() {
        let mut log = Log::new(1, 0);
        let last = 2 + HELD_MESSAGES_MAX as u64;
        for seq in 2..=last {
            log.place(message(seq));
        }
        assert_eq!(log.held.len(), HELD_MESSAGES_MAX);
        let ready = log.place(message(1));
        assert_eq!(ready.last().map(|m| m.seq), Some(last - 1));
        assert_eq!(log.missing(), Some((last - 1, 1)));
    }
}
