//! When a frame is sent, and under which index.

use std::time::Duration;

use tokio::time::Instant;
use veza_proto::media::FRAME_MS;

/// What is later than this is not sent in a rush: the time that has passed is left out, and the clock goes on.
const LATE_MAX: Duration = Duration::from_millis(200);

/// A clock of frames.
#[derive(Debug)]
pub(super) struct Pace {
    began: Instant,
    /// Frames since then, those that were left out too.
    frames: u32,
}

impl Pace {
    pub(super) fn new(began: Instant) -> Self {
        Self { began, frames: 0 }
    }

    /// The next frame: how many are before it, and when it is due. `skipped` are left out by the source.
    pub(super) fn next(&mut self, skipped: u32, now: Instant) -> (u32, Instant) {
        self.frames = self.frames.saturating_add(skipped);
        let late = now.saturating_duration_since(self.due());
        if late > LATE_MAX {
            let passed = late.as_millis() / u128::from(FRAME_MS);
            self.frames = self.frames.saturating_add(u32::try_from(passed).unwrap_or(u32::MAX));
        }
        let next = (self.frames, self.due());
        self.frames = self.frames.saturating_add(1);
        next
    }

    /// When everything before has had its time.
    pub(super) fn due(&self) -> Instant {
        self.began + Duration::from_millis(u64::from(self.frames) * u64::from(FRAME_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the pace says of frames that are ready at these milliseconds: index, and due when.
    fn paced(frames: &[(u32, u64)]) -> Vec<(u32, u128)> {
        let began = Instant::now();
        let mut pace = Pace::new(began);
        let next = |(skipped, ms): &(u32, u64)| {
            let (at, due) = pace.next(*skipped, began + Duration::from_millis(*ms));
            (at, (due - began).as_millis())
        };
        frames.iter().map(next).collect()
    }

    #[test]
    fn every_frame_has_its_twenty_milliseconds_however_early_it_is_ready() {
        assert_eq!(paced(&[(0, 0), (0, 0), (0, 1), (0, 45)]), [(0, 0), (1, 20), (2, 40), (3, 60)]);
    }

    #[test]
    fn what_the_source_leaves_out_takes_its_time() {
        assert_eq!(paced(&[(0, 0), (5, 0), (0, 0)]), [(0, 0), (6, 120), (7, 140)]);
    }

    #[test]
    fn lateness_at_its_bound_and_one_past() {
        assert_eq!(paced(&[(0, 0), (0, 220), (0, 221)]), [(0, 0), (1, 20), (2, 40)], "made up for");
        assert_eq!(paced(&[(0, 0), (0, 221), (0, 222)]), [(0, 0), (11, 220), (12, 240)], "left out");
        assert_eq!(paced(&[(0, 0), (0, 3_600_000)]), [(0, 0), (180_000, 3_600_000)], "a computer that slept");
    }
}
