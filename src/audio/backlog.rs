//! Packets that a listener's link does not take yet: few, young, and the oldest go first.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Older packets are of no use to anybody.
const AGE_MAX: Duration = Duration::from_millis(200);
/// More than arrive within [`AGE_MAX`].
const PACKETS_MAX: usize = 12;

#[derive(Debug, Default)]
pub(super) struct Backlog(VecDeque<(Bytes, Instant)>);

impl Backlog {
    /// Keeps a packet: how many older ones were dropped for it.
    pub(super) fn push(&mut self, packet: Bytes, now: Instant) -> u64 {
        self.0.push_back((packet, now));
        let before = self.0.len();
        while self.0.len() > PACKETS_MAX || self.age(now) > AGE_MAX {
            self.0.pop_front();
        }
        (before - self.0.len()) as u64
    }

    pub(super) fn front(&self) -> Option<&Bytes> {
        self.0.front().map(|(packet, _)| packet)
    }

    /// The first one was sent. An empty backlog holds no memory.
    pub(super) fn pop(&mut self) {
        self.0.pop_front();
        if self.0.is_empty() {
            self.0 = VecDeque::new();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How long the oldest one waits; zero when none does.
    pub(super) fn age(&self, now: Instant) -> Duration {
        self.0.front().map_or(Duration::ZERO, |(_, since)| now.duration_since(*since))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().map(|(packet, _)| packet.len() as u64).sum()
    }

    /// Drops everything: how many those were.
    pub(super) fn clear(&mut self) -> u64 {
        std::mem::take(&mut self.0).len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_and_length_at_their_bounds_and_one_past() {
        let start = Instant::now();
        let packet = |number: u8| Bytes::copy_from_slice(&[number]);
        let mut backlog = Backlog::default();
        backlog.push(packet(0), start);
        assert_eq!(backlog.push(packet(1), start + AGE_MAX), 0);
        assert_eq!(backlog.push(packet(2), start + AGE_MAX + Duration::from_millis(1)), 1);
        assert_eq!(backlog.front(), Some(&packet(1)), "the oldest goes first");
        backlog.clear();
        let dropped: u64 = (0..=PACKETS_MAX as u8).map(|number| backlog.push(packet(number), start)).sum();
        assert_eq!((dropped, backlog.bytes(), backlog.clear()), (1, PACKETS_MAX as u64, PACKETS_MAX as u64));
        assert!(backlog.is_empty() && backlog.age(start).is_zero());
    }
}
