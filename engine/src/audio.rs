//! Live audio: what becomes of a publisher's frames, and what each listener is sent of them.

mod controller;
mod ingest;
mod listener;
mod offer;
mod ring;

use veza_proto::media::RUNGS_MAX;
use veza_proto::v1::{AudioProfile, Error, PublishedRung, QualityPin, ReceiverReport};

pub use controller::{Carrier, Controller, Decision, Link, REDUNDANCY_MAX, Steps, TICK};
pub use ingest::{Ingest, Ready, Refusal, Totals};
pub use listener::{GRID, Listener, Packet, Shape};
pub use offer::{Offer, Served, UNUSED_MAX};
pub use ring::Ring;

use crate::check::bad;

/// Rungs that a publisher may send: more are made by the server.
pub const PUBLISHED_RUNGS_MAX: usize = 4;
/// What a rung may take, bits per second.
pub const RUNG_BITS_MIN: u32 = 6_000;
pub const RUNG_BITS_MAX: u32 = 256_000;
/// Copies of frames of more than this are made of a lower rung.
const COPY_BITS_MAX: u32 = 48_000;

/// What a session asks about streams.
#[derive(Debug, Clone, PartialEq)]
pub enum AudioAsk {
    /// Streams that are live, those that were started last first.
    List {
        after: Option<(u64, String)>,
        limit: u32,
    },
    Create {
        stream: String,
        title: String,
        description: String,
        profile: AudioProfile,
    },
    Publish {
        stream: String,
        ladder: Ladder,
    },
    End {
        stream: String,
    },
    SetPlaying {
        stream: String,
        playing: String,
    },
    Listen {
        stream: String,
        pin: QualityPin,
    },
    Unlisten {
        stream: String,
    },
    SetQuality {
        stream: String,
        pin: QualityPin,
    },
    /// No answer.
    Report(ReceiverReport),
}

/// The rungs of a stream, best first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ladder {
    rungs: Vec<PublishedRung>,
    /// What copies of large frames are made of: the lowest rung that is always there.
    lowest: u32,
}

impl Ladder {
    /// # Errors
    /// What is wrong with them.
    pub fn parse(mut rungs: Vec<PublishedRung>) -> Result<Self, Error> {
        if !(1..=PUBLISHED_RUNGS_MAX).contains(&rungs.len()) {
            return Err(bad(format!("a publisher has 1 to {PUBLISHED_RUNGS_MAX} rungs, this has {}", rungs.len())));
        }
        for rung in &rungs {
            if rung.rung as usize >= RUNGS_MAX {
                return Err(bad(format!("a rung is numbered 0 to {}, not {}", RUNGS_MAX - 1, rung.rung)));
            }
            if !(RUNG_BITS_MIN..=RUNG_BITS_MAX).contains(&rung.bits_per_second) {
                let bits = rung.bits_per_second;
                return Err(bad(format!("a rung has {RUNG_BITS_MIN} to {RUNG_BITS_MAX} bits per second, not {bits}")));
            }
            if !(1..=2).contains(&rung.channels) {
                return Err(bad(format!("a rung has 1 or 2 channels, not {}", rung.channels)));
            }
        }
        rungs.sort_by_key(|rung| std::cmp::Reverse(rung.bits_per_second));
        let mut numbers: Vec<u32> = rungs.iter().map(|rung| rung.rung).collect();
        numbers.sort_unstable();
        numbers.dedup();
        if numbers.len() < rungs.len() {
            return Err(bad("two rungs have the same number"));
        }
        Ok(Self::of(rungs))
    }

    /// Of rungs that are there always, best first.
    fn of(rungs: Vec<PublishedRung>) -> Self {
        let lowest = rungs.last().map_or(0, |rung| rung.rung);
        Self { rungs, lowest }
    }

    /// The same with rungs that are there while somebody wants them.
    fn with_made(&self, made: &[PublishedRung]) -> Self {
        let mut rungs = [&self.rungs, made].concat();
        rungs.sort_by_key(|rung| std::cmp::Reverse(rung.bits_per_second));
        Self { rungs, lowest: self.lowest }
    }

    pub fn rungs(&self) -> &[PublishedRung] {
        &self.rungs
    }

    pub fn is_empty(&self) -> bool {
        self.rungs.is_empty()
    }

    pub fn has(&self, number: u8) -> bool {
        self.rungs.iter().any(|rung| rung.rung == u32::from(number))
    }

    pub fn len(&self) -> usize {
        self.rungs.len()
    }

    /// The bit rate of a rung; 0 for one that is not there.
    pub fn bits_of(&self, number: u8) -> u32 {
        self.rungs.iter().find(|rung| rung.rung == u32::from(number)).map_or(0, |rung| rung.bits_per_second)
    }

    /// The rung that copies of a rung's frames are made of: itself, or when its frames are large the lowest one that is
    /// always there, if that has fewer bits.
    pub fn copy_of(&self, number: u8) -> u8 {
        let lowest = u8::try_from(self.lowest).unwrap_or_default();
        let (bits, bits_of_lowest) = (self.bits_of(number), self.bits_of(lowest));
        if bits > COPY_BITS_MAX && bits_of_lowest < bits { lowest } else { number }
    }
}

/// A rung's number, which [`Ladder::parse`] has checked.
pub fn number(rung: &PublishedRung) -> u8 {
    u8::try_from(rung.rung).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rung(rung: u32, bits_per_second: u32, channels: u32) -> PublishedRung {
        PublishedRung { rung, bits_per_second, channels }
    }

    #[test]
    fn a_ladder_is_sorted_and_its_bounds_hold() {
        let ladder = Ladder::parse(vec![rung(1, 32_000, 1), rung(0, 96_000, 2)]).unwrap();
        assert_eq!(ladder.rungs().iter().map(|rung| rung.rung).collect::<Vec<_>>(), [0, 1]);
        assert_eq!((ladder.bits_of(1), ladder.bits_of(7), ladder.has(7)), (32_000, 0, false));
        let wrong = |rungs| Ladder::parse(rungs).is_err();
        assert!(wrong(Vec::new()));
        assert!(
            !wrong((0..4).map(|at| rung(at, 6_000, 1)).collect())
                && wrong((0..5).map(|at| rung(at, 6_000, 1)).collect())
        );
        assert!(!wrong(vec![rung(7, 256_000, 2)]) && wrong(vec![rung(8, 256_000, 2)]));
        assert!(wrong(vec![rung(0, 256_001, 2)]) && wrong(vec![rung(0, 5_999, 2)]));
        assert!(wrong(vec![rung(0, 6_000, 0)]) && wrong(vec![rung(0, 6_000, 3)]));
        assert!(wrong(vec![rung(0, 6_000, 1), rung(0, 9_000, 1)]));
    }
}
