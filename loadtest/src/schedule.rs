//! An open loop: every item has its moment from the start, and a late one does not move the next.

use std::time::Duration;

/// Item `n` of a fixed rate is due `n / rate` after the start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    rate: f64,
}

impl Schedule {
    /// `rate` is items a second, more than 0.
    pub(crate) fn new(rate: f64) -> Self {
        assert!(rate > 0.0, "a rate is more than nothing");
        Self { rate }
    }

    /// When an item is meant to happen, after the start.
    pub(crate) fn intended(self, item: u64) -> Duration {
        Duration::from_secs_f64(item as f64 / self.rate)
    }

    /// How many items are due at this time after the start.
    pub(crate) fn due(self, elapsed: Duration) -> u64 {
        let due = (elapsed.as_secs_f64() * self.rate).floor() as u64 + 1;
        // What the division rounds is decided by the same sum that is measured against.
        if self.intended(due - 1) > elapsed { due - 1 } else { due }
    }

    /// Items of a run of that length.
    pub(crate) fn total(self, length: Duration) -> u64 {
        (length.as_secs_f64() * self.rate).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_due_at_their_moments() {
        let schedule = Schedule::new(1_000.0);
        assert_eq!(schedule.due(Duration::ZERO), 1);
        assert_eq!(schedule.due(Duration::from_micros(999)), 1);
        assert_eq!(schedule.due(Duration::from_millis(1)), 2);
        assert_eq!(schedule.due(Duration::from_secs(1)), 1_001);
        assert_eq!(schedule.total(Duration::from_secs(60)), 60_000);
        assert_eq!(schedule.intended(500), Duration::from_millis(500));
    }
}
