//! When a source's frames go out: one every 20 ms by our clock, however they arrive.

use std::time::{Duration, Instant};

use veza_proto::media::FRAME_MS;

const FRAME: Duration = Duration::from_millis(FRAME_MS as u64);
/// How long the first frames wait, and those after a break: what arrives unevenly within it is not heard.
const CUSHION: Duration = Duration::from_millis(250);
/// A frame that is later than this has broken off.
const LATE_MAX: Duration = Duration::from_millis(60);

/// Numbers frames, and says when each is due.
#[derive(Debug)]
pub(super) struct Pace {
    /// When the frame of index `first` is due.
    began: Instant,
    first: u32,
    /// Frames from there, missing ones too.
    next: u32,
}

impl Pace {
    pub(super) fn new(first: u32, now: Instant) -> Self {
        Self { began: now + CUSHION, first, next: 0 }
    }

    /// The index of a frame that is there now, behind so many that are missing, and when it is due. After a break the
    /// indices go on where time is, so that what comes next is heard, later.
    pub(super) fn place(&mut self, skipped: u32, now: Instant) -> (u32, Instant) {
        self.next = self.next.saturating_add(skipped);
        let due = self.due(self.next);
        if now > due + LATE_MAX {
            let behind = now + CUSHION - due;
            self.next = self.next.saturating_add((behind.as_millis() / FRAME.as_millis()) as u32 + 1);
        }
        let placed = (self.first.saturating_add(self.next), self.due(self.next));
        self.next = self.next.saturating_add(1);
        placed
    }

    fn due(&self, frame: u32) -> Instant {
        self.began + FRAME * frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_due_every_twenty_milliseconds_however_they_come() {
        let start = Instant::now();
        let mut pace = Pace::new(100, start);
        for frame in 0..100 {
            assert_eq!(pace.place(0, start), (100 + frame, start + CUSHION + FRAME * frame));
        }
    }

    #[test]
    fn what_comes_late_at_the_bound_and_one_past() {
        let start = Instant::now();
        let mut pace = Pace::new(0, start);
        let at = start + CUSHION + LATE_MAX;
        assert_eq!(pace.place(0, at), (0, start + CUSHION), "late, and sent at once");
        let late = start + CUSHION + FRAME + LATE_MAX + Duration::from_millis(1);
        let (index, due) = pace.place(0, late);
        assert!(due >= late + CUSHION && due <= late + CUSHION + FRAME, "a break: the cushion is filled again");
        assert_eq!(due, start + CUSHION + FRAME * index, "the indices are where time is");
        assert_eq!(pace.place(0, late), (index + 1, due + FRAME));
    }

    #[test]
    fn missing_frames_leave_a_gap() {
        let start = Instant::now();
        let mut pace = Pace::new(5, start);
        assert_eq!(pace.place(3, start), (8, start + CUSHION + FRAME * 3));
    }
}
