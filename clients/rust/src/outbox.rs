//! Entries on their way: kept until the server acknowledged or definitely refused them, sent again as they were.

use std::collections::{BTreeMap, BTreeSet};

use crate::entry::Entry;

/// Entries sent and not yet answered on one link. Few enough that a lost link re-sends little.
pub(crate) const IN_FLIGHT_MAX: usize = 32;

/// Names an entry within its outbox; older ones are smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// `R` is whoever waits for the outcome.
#[derive(Debug)]
pub(crate) struct Outbox<R> {
    next: u64,
    pending: BTreeMap<Ticket, (Entry, R)>,
    /// The pending ones that are not in flight.
    queued: BTreeSet<Ticket>,
}

impl<R> Default for Outbox<R> {
    fn default() -> Self {
        Self { next: 0, pending: BTreeMap::new(), queued: BTreeSet::new() }
    }
}

impl<R> Outbox<R> {
    pub(crate) fn push(&mut self, entry: Entry, waiter: R) {
        let ticket = Ticket(self.next);
        self.next += 1;
        self.pending.insert(ticket, (entry, waiter));
        self.queued.insert(ticket);
    }

    /// The oldest entry to send now to a room that takes some, unless enough are in flight. It counts as in flight
    /// from here.
    pub(crate) fn send(&mut self, takes: impl Fn(&str) -> bool) -> Option<(Ticket, Entry)> {
        if self.pending.len() - self.queued.len() >= IN_FLIGHT_MAX {
            return None;
        }
        let entry_of = |ticket: &Ticket| self.pending.get(ticket).map(|(entry, _)| (*ticket, entry));
        let (ticket, entry) = self.queued.iter().filter_map(entry_of).find(|(_, entry)| takes(entry.room()))?;
        let entry = entry.clone();
        self.queued.remove(&ticket);
        Some((ticket, entry))
    }

    /// It was refused for now: it waits at its old place.
    pub(crate) fn again(&mut self, ticket: Ticket) {
        if self.pending.contains_key(&ticket) {
            self.queued.insert(ticket);
        }
    }

    /// The link is gone: everything unanswered is sent again on the next one, oldest first.
    pub(crate) fn again_all(&mut self) {
        self.queued = self.pending.keys().copied().collect();
    }

    /// It was answered for good.
    pub(crate) fn finish(&mut self, ticket: Ticket) -> Option<R> {
        self.queued.remove(&ticket);
        self.pending.remove(&ticket).map(|(_, waiter)| waiter)
    }

    /// The client is closed: nothing is sent any more.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = R> {
        self.queued.clear();
        std::mem::take(&mut self.pending).into_values().map(|(_, waiter)| waiter)
    }

    pub(crate) fn has_queued(&self) -> bool {
        !self.queued.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use veza_proto::v1::{DeleteMessage, EditMessage, Publish};

    use super::*;

    fn anywhere(_room: &str) -> bool {
        true
    }

    fn outbox(count: usize) -> Outbox<usize> {
        let mut outbox = Outbox::default();
        for at in 0..count {
            outbox.push(Publish { cmid: at.to_string(), ..Publish::default() }.into(), at);
        }
        outbox
    }

    fn cmids(outbox: &mut Outbox<usize>) -> Vec<String> {
        std::iter::from_fn(|| outbox.send(anywhere)).map(|(_, entry)| entry.cmid().to_owned()).collect()
    }

    #[test]
    fn in_flight_at_the_bound_and_one_past() {
        let mut outbox = outbox(IN_FLIGHT_MAX + 1);
        let (first, _) = outbox.send(anywhere).unwrap();
        assert_eq!(cmids(&mut outbox).len(), IN_FLIGHT_MAX - 1);
        assert!(outbox.has_queued());
        assert_eq!(outbox.finish(first), Some(0));
        assert_eq!(cmids(&mut outbox), [IN_FLIGHT_MAX.to_string()]);
        assert!(!outbox.has_queued());
    }

    #[test]
    fn a_lost_link_sends_the_unanswered_again_in_their_order() {
        let mut outbox = outbox(4);
        let (first, _) = outbox.send(anywhere).unwrap();
        assert_eq!(cmids(&mut outbox), ["1", "2", "3"]);
        outbox.finish(first);
        outbox.again_all();
        assert_eq!(cmids(&mut outbox), ["1", "2", "3"]);
    }

    #[test]
    fn changes_keep_their_order_with_the_publishes() {
        let mut outbox = outbox(1);
        outbox.push(EditMessage { cmid: "edit".into(), seq: 1, ..EditMessage::default() }.into(), 1);
        outbox.push(DeleteMessage { cmid: "delete".into(), seq: 1, ..DeleteMessage::default() }.into(), 2);
        assert_eq!(cmids(&mut outbox), ["0", "edit", "delete"]);
        outbox.again_all();
        assert_eq!(cmids(&mut outbox), ["0", "edit", "delete"], "and under the same ids on the next link");
    }

    #[test]
    fn a_room_that_takes_none_yet_holds_up_no_other() {
        let mut outbox = Outbox::default();
        for room in ["a", "b", "a"] {
            outbox.push(Publish { room: room.into(), ..Publish::default() }.into(), ());
        }
        let sent: Vec<_> = std::iter::from_fn(|| outbox.send(|room| room == "b")).collect();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].1.room(), "b");
        assert_eq!(std::iter::from_fn(|| outbox.send(anywhere)).count(), 2);
    }

    #[test]
    fn one_refused_for_now_keeps_its_place() {
        let mut outbox = outbox(3);
        let (first, _) = outbox.send(anywhere).unwrap();
        outbox.again(first);
        assert_eq!(cmids(&mut outbox), ["0", "1", "2"]);
        outbox.finish(first);
        outbox.again(first);
        assert_eq!(cmids(&mut outbox), [""; 0], "an answered one is not sent again");
    }
}
