//! The server's one clock: wall time at start plus monotonic time since, so it never goes back.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use veza_engine::Timestamp;

#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    wall: Duration,
}

impl Clock {
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), wall }
    }

    /// Now, milliseconds since 1970-01-01 UTC.
    pub fn now(&self) -> Timestamp {
        let since = self.wall + self.start.elapsed();
        Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// The runtime's moment of a timestamp, for sleeping until it.
    pub fn instant(&self, at: Timestamp) -> Instant {
        self.start + Duration::from_millis(at.as_millis()).saturating_sub(self.wall) + Duration::from_millis(1)
    }
}
