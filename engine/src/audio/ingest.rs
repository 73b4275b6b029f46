//! A publisher's packets on their way in: put in order, repaired from copies, checked, given out frame by frame.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use veza_proto::media::{FRAME_MS, FRAME_SAMPLES, MediaPacket, RUNGS_MAX, opus_samples};

use super::Ladder;
use crate::Timestamp;

/// How long a later frame waits for an earlier one.
pub(super) const REORDER_MAX: Duration = Duration::from_millis(20);
/// Frames that may wait. One that is further ahead moves the stream on to it.
pub(super) const WAITING_MAX: u32 = 16;
/// How many frames a publisher may be ahead of the time that has passed: a second.
pub(super) const AHEAD_MAX: u32 = 50;

/// Puts one publisher's frames in order. Every frame comes out once, in the order of the indices; what never came leaves
/// a gap.
#[derive(Debug)]
pub struct Ingest {
    ladder: Ladder,
    /// When the first frame came, and its index.
    began: Option<(Timestamp, u32)>,
    /// Everything before was given out or given up.
    next: u32,
    waiting: BTreeMap<u32, Slot>,
    totals: Totals,
}

#[derive(Debug)]
struct Slot {
    came: Timestamp,
    level: u8,
    frames: [Option<Frame>; RUNGS_MAX],
}

type Frame = (Bytes, bool);

/// The frames of one index, on every rung that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    pub index: u32,
    pub level: u8,
    /// By rung: the payload, and whether it is a switch point.
    pub frames: [Option<(Bytes, bool)>; RUNGS_MAX],
}

/// Why a frame is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No rung that was announced.
    Rung,
    /// Not 20 ms of Opus.
    Duration,
    /// Further ahead than time allows.
    Ahead,
}

impl Refusal {
    /// For people.
    pub fn sentence(self) -> &'static str {
        match self {
            Refusal::Rung => "a frame is on a rung that was not announced",
            Refusal::Duration => "a frame is not 20 ms of Opus",
            Refusal::Ahead => "frames are numbered faster than time passes",
        }
    }
}

/// What has become of a publisher's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Indices that were given out.
    pub frames: u64,
    /// Indices that never came.
    pub lost: u64,
    /// Of those given out: by a copy.
    pub recovered: u64,
    /// Frames that came after their time.
    pub late: u64,
    pub refused: u64,
    pub refusal: Option<Refusal>,
}

impl Ingest {
    /// Takes frames from index `first` on.
    pub fn new(ladder: Ladder, first: u32) -> Self {
        Self { ladder, began: None, next: first, waiting: BTreeMap::new(), totals: Totals::default() }
    }

    /// The index behind everything that was given out.
    pub fn next(&self) -> u32 {
        self.next
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Takes a packet's frames.
    pub fn handle_packet(&mut self, packet: &MediaPacket, now: Timestamp) {
        for frame in &packet.frames {
            let index = packet.newest - u32::from(frame.age);
            if index < self.next {
                // Copies of what is known are what copies are for.
                if frame.age < packet.fresh {
                    self.totals.late += 1;
                }
                continue;
            }
            if let Err(refusal) = self.check(index, frame.rung, &frame.payload, now) {
                self.totals.refused += 1;
                self.totals.refusal = Some(refusal);
                continue;
            }
            self.began.get_or_insert((now, index));
            let slot = self.waiting.entry(index).or_insert_with(|| {
                self.totals.recovered += u64::from(frame.age >= packet.fresh);
                Slot { came: now, level: packet.level, frames: Default::default() }
            });
            if frame.age == 0 {
                slot.level = packet.level;
            }
            slot.frames[usize::from(frame.rung)].get_or_insert_with(|| (frame.payload.clone(), frame.switch_point));
        }
    }

    /// The next index, if it is complete, or has been waited for long enough.
    pub fn poll_ready(&mut self, now: Timestamp) -> Option<Ready> {
        let (&index, slot) = self.waiting.first_key_value()?;
        let complete = slot.frames.iter().flatten().count() == self.ladder.len();
        let in_order = index == self.next && complete;
        let crowded = self.waiting.last_key_value().is_some_and(|(last, _)| last - self.next >= WAITING_MAX);
        if !in_order && !crowded && now.since(self.waited_since()?) < REORDER_MAX {
            return None;
        }
        let slot = self.waiting.remove(&index)?;
        // Before the first frame nothing is missing.
        if self.totals.frames > 0 {
            self.totals.lost += u64::from(index - self.next);
        }
        self.totals.frames += 1;
        self.next = index + 1;
        Some(Ready { index, level: slot.level, frames: slot.frames })
    }

    /// When [`Ingest::poll_ready`] has something without anything coming in.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.waited_since().map(|since| since + REORDER_MAX)
    }

    /// Since when the first one waits: for one before it, or for its other rungs.
    fn waited_since(&self) -> Option<Timestamp> {
        self.waiting.values().map(|slot| slot.came).min()
    }

    fn check(&self, index: u32, rung: u8, payload: &[u8], now: Timestamp) -> Result<(), Refusal> {
        if !self.ladder.has(rung) {
            return Err(Refusal::Rung);
        }
        if opus_samples(payload) != Some(FRAME_SAMPLES) {
            return Err(Refusal::Duration);
        }
        let (began, first) = self.began.unwrap_or((now, self.next));
        let passed = u32::try_from(now.since(began).as_millis()).unwrap_or(u32::MAX) / FRAME_MS;
        if index > first.saturating_add(passed).saturating_add(AHEAD_MAX) { Err(Refusal::Ahead) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use veza_proto::media::MediaFrame;
    use veza_proto::v1::PublishedRung;

    const FULL: &[u8] = &[0xfc, 1, 2, 3];

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(10_000 + ms)
    }

    fn ladder(rungs: u32) -> Ladder {
        let rung = |rung| PublishedRung { rung, bits_per_second: 96_000 - rung, channels: 2 };
        Ladder::parse((0..rungs).map(rung).collect()).unwrap()
    }

    fn packet(newest: u32, ages: &[u8]) -> MediaPacket {
        let frame =
            |age: &u8| MediaFrame { age: *age, rung: 0, switch_point: false, payload: Bytes::from_static(FULL) };
        MediaPacket { handle: 1, newest, level: 30, fresh: 1, frames: ages.iter().map(frame).collect() }
    }

    fn ready(ingest: &mut Ingest, ms: u64) -> Vec<u32> {
        std::iter::from_fn(|| ingest.poll_ready(at(ms))).map(|ready| ready.index).collect()
    }

    #[test]
    fn frames_in_order_come_out_at_once() {
        let mut ingest = Ingest::new(ladder(1), 100);
        for step in 0..5 {
            ingest.handle_packet(&packet(100 + step, &[0]), at(u64::from(step) * 20));
            assert_eq!(ready(&mut ingest, u64::from(step) * 20), [100 + step]);
        }
        assert_eq!(ingest.poll_timeout(), None);
    }

    #[test]
    fn what_overtakes_waits_twenty_milliseconds_and_no_longer() {
        let mut ingest = Ingest::new(ladder(1), 0);
        ingest.handle_packet(&packet(0, &[0]), at(0));
        assert_eq!(ready(&mut ingest, 0), [0]);
        ingest.handle_packet(&packet(2, &[0]), at(40));
        assert_eq!(ready(&mut ingest, 59), [0_u32; 0]);
        ingest.handle_packet(&packet(1, &[0]), at(59));
        assert_eq!(ready(&mut ingest, 59), [1, 2]);
        ingest.handle_packet(&packet(4, &[0]), at(80));
        assert_eq!(ingest.poll_timeout(), Some(at(100)));
        assert_eq!(ready(&mut ingest, 100), [4]);
        ingest.handle_packet(&packet(3, &[0]), at(101));
        assert_eq!(ready(&mut ingest, 101), [0_u32; 0]);
        let Totals { frames, lost, late, .. } = ingest.totals();
        assert_eq!((frames, lost, late), (4, 1, 1));
    }

    #[test]
    fn copies_repair_what_was_lost_without_waiting() {
        let mut ingest = Ingest::new(ladder(1), 0);
        ingest.handle_packet(&packet(0, &[0]), at(0));
        ingest.handle_packet(&packet(3, &[2, 1, 0]), at(60));
        assert_eq!(ready(&mut ingest, 60), [0, 1, 2, 3]);
        assert_eq!(ingest.totals(), Totals { frames: 4, recovered: 2, ..Totals::default() });
    }

    #[test]
    fn a_publisher_who_paused_goes_on_where_time_is() {
        let mut ingest = Ingest::new(ladder(1), 0);
        ingest.handle_packet(&packet(0, &[0]), at(0));
        assert_eq!(ready(&mut ingest, 0), [0]);
        ingest.handle_packet(&packet(500, &[0]), at(10_000));
        assert_eq!(ready(&mut ingest, 10_000), [500], "too far ahead to be waited for");
    }

    #[test]
    fn the_clock_at_its_bound_and_one_past() {
        let mut ingest = Ingest::new(ladder(1), 0);
        ingest.handle_packet(&packet(0, &[0]), at(0));
        ingest.handle_packet(&packet(AHEAD_MAX + 1, &[0]), at(19));
        assert_eq!(ingest.totals().refusal, Some(Refusal::Ahead));
        ingest.handle_packet(&packet(AHEAD_MAX + 1, &[0]), at(20));
        ingest.handle_packet(&packet(u32::MAX, &[0]), at(20));
        assert_eq!(ready(&mut ingest, 40), [0, AHEAD_MAX + 1]);
        assert_eq!(ingest.totals().refused, 2);
    }

    #[test]
    fn wrong_durations_and_foreign_rungs_are_refused() {
        let mut ingest = Ingest::new(ladder(1), 0);
        let mut wrong = packet(0, &[0]);
        wrong.frames[0].payload = Bytes::from_static(&[0xfd, 0]);
        ingest.handle_packet(&wrong, at(0));
        assert_eq!(ingest.totals().refusal, Some(Refusal::Duration));
        let mut foreign = packet(0, &[0]);
        foreign.frames[0].rung = 1;
        ingest.handle_packet(&foreign, at(0));
        assert_eq!(ingest.totals().refusal, Some(Refusal::Rung));
        assert_eq!(ready(&mut ingest, 100), [0_u32; 0]);
    }

    #[test]
    fn a_frame_waits_for_its_other_rungs_and_goes_without() {
        let mut ingest = Ingest::new(ladder(2), 0);
        let mut low = packet(0, &[0]);
        low.frames[0].rung = 1;
        ingest.handle_packet(&packet(0, &[0]), at(0));
        assert_eq!(ready(&mut ingest, 5), [0_u32; 0]);
        ingest.handle_packet(&low, at(5));
        assert_eq!(ready(&mut ingest, 5), [0]);
        ingest.handle_packet(&packet(1, &[0]), at(20));
        assert_eq!(ready(&mut ingest, 40), [1]);
    }
}
