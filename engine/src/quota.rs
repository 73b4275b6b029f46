use std::time::Duration;

use crate::Timestamp;

/// A token bucket: `rate` per second with bursts of `burst`. It starts full.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    rate: u32,
    burst: u32,
    /// Thousandths of a token.
    level: u64,
    at: Timestamp,
}

impl TokenBucket {
    pub fn new(rate: u32, burst: u32, now: Timestamp) -> Self {
        Self { rate: rate.max(1), burst: burst.max(1), level: u64::from(burst.max(1)) * 1000, at: now }
    }

    /// Takes one token, or says how long until there is one.
    pub fn take(&mut self, now: Timestamp) -> Result<(), Duration> {
        let gained =
            u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX).saturating_mul(u64::from(self.rate));
        self.level = self.level.saturating_add(gained).min(u64::from(self.burst) * 1000);
        self.at = self.at.max(now);
        if self.level >= 1000 {
            self.level -= 1000;
            return Ok(());
        }
        Err(Duration::from_millis((1000 - self.level).div_ceil(u64::from(self.rate))))
    }
}

/// Counts events in fixed windows, to tell a mistake from a habit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Strikes {
    since: Timestamp,
    count: u32,
}

impl Strikes {
    /// Counts one more; whether it is the `max`th within the window that its first one opened.
    pub(crate) fn strike(&mut self, window: Duration, max: u32, now: Timestamp) -> bool {
        if self.count == 0 || now.since(self.since) >= window {
            self.since = now;
            self.count = 0;
        }
        self.count += 1;
        self.count >= max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn a_burst_then_the_rate() {
        let mut bucket = TokenBucket::new(20, 40, at(0));
        for _ in 0..40 {
            assert_eq!(bucket.take(at(0)), Ok(()));
        }
        assert_eq!(bucket.take(at(0)), Err(Duration::from_millis(50)));
        assert_eq!(bucket.take(at(49)), Err(Duration::from_millis(1)));
        assert_eq!(bucket.take(at(50)), Ok(()));
        assert!(bucket.take(at(50)).is_err());
        for _ in 0..40 {
            assert_eq!(bucket.take(at(10_000)), Ok(()), "rest fills it to the burst");
        }
        assert!(bucket.take(at(10_000)).is_err(), "and not beyond");
    }

    #[test]
    fn the_third_strike_within_the_window_counts() {
        let minute = Duration::from_secs(60);
        let mut strikes = Strikes::default();
        assert!(!strikes.strike(minute, 3, at(1)));
        assert!(!strikes.strike(minute, 3, at(59_000)));
        assert!(!strikes.strike(minute, 3, at(60_001)), "the first one is forgotten");
        assert!(!strikes.strike(minute, 3, at(60_002)));
        assert!(strikes.strike(minute, 3, at(60_003)));
    }
}
