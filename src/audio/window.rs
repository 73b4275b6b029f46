//! What a stream was like in its last ten seconds.

use std::time::Duration;

use veza_engine::Timestamp;
use veza_proto::media::SILENCE;

const SLOTS: usize = 10;
const SLOT: Duration = Duration::from_secs(1);
/// Delays are counted by classes of a quarter of an octave, from 1 µs to 65 ms and above.
const CLASSES: usize = 64;
const CLASSES_PER_OCTAVE: f64 = 4.0;
/// Nothing is quieter, dB full scale.
const SILENCE_DB: f64 = -(SILENCE as f64);

/// Counts of the second at hand and the nine before.
#[derive(Debug)]
pub(super) struct Window {
    slots: Box<[Slot; SLOTS]>,
    at: usize,
    since: Timestamp,
    began: Timestamp,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    frames: u32,
    lost: u32,
    bytes_in: u64,
    bytes_out: u64,
    /// Sum of the frames' power, relative to full scale.
    power: f64,
    /// The loudest frame's level, -dB full scale.
    loudest: u8,
    delays: [u32; CLASSES],
}

/// The last ten seconds of a stream, or as much as there is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seconds {
    /// The loudest frame, and all frames together; dB full scale.
    pub peak_db: f64,
    pub rms_db: f64,
    /// Of the publisher's frames, 0 to 1.
    pub ingest_loss: f64,
    /// From ingress to egress, milliseconds.
    pub added_ms_p50: f64,
    pub added_ms_p99: f64,
    pub ingest_bits_per_second: u64,
    pub egress_bits_per_second: u64,
}

impl Slot {
    const EMPTY: Self =
        Self { frames: 0, lost: 0, bytes_in: 0, bytes_out: 0, power: 0.0, loudest: u8::MAX, delays: [0; CLASSES] };
}

impl Window {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { slots: Box::new([Slot::EMPTY; SLOTS]), at: 0, since: now, began: now }
    }

    /// Time has passed: what is older than ten seconds is forgotten.
    pub(super) fn turn(&mut self, now: Timestamp) {
        if now.since(self.since) >= SLOT * SLOTS as u32 {
            self.slots.fill(Slot::EMPTY);
            (self.since, self.began) = (now, now);
        }
        while now.since(self.since) >= SLOT {
            self.since = self.since + SLOT;
            self.at = (self.at + 1) % SLOTS;
            self.slots[self.at] = Slot::EMPTY;
        }
    }

    /// A packet of this many bytes came, and what it made ready was sent after that long.
    pub(super) fn count_packet(&mut self, bytes: usize, took: Duration) {
        let slot = &mut self.slots[self.at];
        slot.bytes_in += bytes as u64;
        let class = (took.as_secs_f64() * 1e6).max(1.0).log2() * CLASSES_PER_OCTAVE;
        slot.delays[(class as usize).min(CLASSES - 1)] += 1;
    }

    /// So many of the publisher's frames never came.
    pub(super) fn count_lost(&mut self, frames: u64) {
        self.slots[self.at].lost += u32::try_from(frames).unwrap_or(u32::MAX);
    }

    /// A frame of this level went out, in as many bytes to all its listeners together.
    pub(super) fn count_frame(&mut self, level: u8, bytes_out: u64) {
        let slot = &mut self.slots[self.at];
        slot.frames += 1;
        slot.bytes_out += bytes_out;
        slot.power += 10_f64.powf(f64::from(level) / -10.0);
        slot.loudest = slot.loudest.min(level);
    }

    /// So many bytes more of a frame went out, on rungs that were made.
    pub(super) fn count_made(&mut self, bytes_out: u64) {
        self.slots[self.at].bytes_out += bytes_out;
    }

    /// The last ten seconds, or as much as there is.
    pub(super) fn read(&mut self, now: Timestamp) -> Seconds {
        self.turn(now);
        let sum = |of: fn(&Slot) -> u64| self.slots.iter().map(of).sum::<u64>();
        let (frames, lost) = (sum(|slot| slot.frames.into()), sum(|slot| slot.lost.into()));
        let power = self.slots.iter().map(|slot| slot.power).sum::<f64>() / frames.max(1) as f64;
        let loudest = self.slots.iter().map(|slot| slot.loudest).min().filter(|_| frames > 0);
        let whole = SLOT * (SLOTS as u32 - 1) + now.since(self.since);
        let millis = (now.since(self.began).min(whole).as_millis() as u64).max(SLOT.as_millis() as u64);
        let mut delays = [0_u64; CLASSES];
        for slot in self.slots.iter() {
            delays.iter_mut().zip(slot.delays).for_each(|(sum, count)| *sum += u64::from(count));
        }
        Seconds {
            peak_db: loudest.map_or(SILENCE_DB, |level| -f64::from(level)),
            rms_db: (10.0 * power.log10()).max(SILENCE_DB),
            ingest_loss: lost as f64 / (frames + lost).max(1) as f64,
            added_ms_p50: quantile(&delays, 50),
            added_ms_p99: quantile(&delays, 99),
            ingest_bits_per_second: sum(|slot| slot.bytes_in) * 8_000 / millis,
            egress_bits_per_second: sum(|slot| slot.bytes_out) * 8_000 / millis,
        }
    }
}

/// The upper edge of the class that so many percent are within, milliseconds; 0 of nothing.
fn quantile(delays: &[u64; CLASSES], percent: u64) -> f64 {
    let wanted = (delays.iter().sum::<u64>() * percent).div_ceil(100);
    if wanted == 0 {
        return 0.0;
    }
    let mut seen = 0;
    let class = delays.iter().position(|count| {
        seen += count;
        seen >= wanted
    });
    class.map_or(0.0, |class| ((class + 1) as f64 / CLASSES_PER_OCTAVE).exp2() / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_000_000);

    fn after(millis: u64) -> Timestamp {
        START + Duration::from_millis(millis)
    }

    fn filled(window: &mut Window, frames: std::ops::Range<u64>) {
        for at in frames {
            window.turn(after(at * 20));
            window.count_packet(300, Duration::from_micros(if at % 50 == 0 { 3_000 } else { 100 }));
            window.count_frame(if at % 2 == 0 { 20 } else { 40 }, 3_000);
            window.count_lost(u64::from(at % 10 == 0));
        }
    }

    #[test]
    fn ten_seconds_are_told_as_they_were() {
        let mut window = Window::new(START);
        filled(&mut window, 0..500);
        let seconds = window.read(after(9_999));
        assert_eq!(seconds.peak_db, -20.0);
        assert!((seconds.rms_db - -22.97).abs() < 0.01, "{seconds:?}");
        assert!((seconds.ingest_loss - 50.0 / 550.0).abs() < 1e-9);
        assert!((0.1..0.13).contains(&seconds.added_ms_p50) && (3.0..3.7).contains(&seconds.added_ms_p99));
        assert!((119_000..=121_000).contains(&seconds.ingest_bits_per_second), "{seconds:?}");
        assert_eq!(seconds.egress_bits_per_second / seconds.ingest_bits_per_second, 10);
    }

    #[test]
    fn what_is_older_is_forgotten() {
        let mut window = Window::new(START);
        filled(&mut window, 0..50);
        assert_eq!(window.read(after(9_999)).peak_db, -20.0);
        let over = window.read(after(10_000));
        assert_eq!((over.peak_db, over.rms_db, over.added_ms_p99), (SILENCE_DB, SILENCE_DB, 0.0));
        assert_eq!((over.ingest_loss, over.ingest_bits_per_second), (0.0, 0));
        // Long after, too.
        filled(&mut window, 3_000..3_050);
        assert_eq!(window.read(after(61_000)).peak_db, -20.0);
        assert_eq!(window.read(after(700_000)).peak_db, SILENCE_DB);
    }
}
