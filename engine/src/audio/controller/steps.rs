//! What a listener may be sent, from the best to the thriftiest, and what each takes on the wire.

use std::sync::Arc;

use veza_proto::limits::DATAGRAM_BYTES_MAX;
use veza_proto::media::{FRAME_MS, HEADER_BYTES};
use veza_proto::v1::{AudioProfile, PublishedRung};

use super::Carrier;
use super::losses::PerMille;
use crate::audio::{Ladder, Shape, number};

/// Bytes of a packet around its media packet: IP, UDP, QUIC and its authentication. With the media packet's own header it
/// is what makes 25.6 kb/s at 20 ms.
const AROUND_BYTES: u32 = 53;
/// Of each frame's tag and length.
const FRAME_BYTES: u32 = 3;
/// Rungs of fewer bits are cut to only when longer packets have saved what they can.
const MUSIC_KNEE: u32 = 48_000;
const VOICE_KNEE: u32 = 24_000;
/// A step that saves less than this, per cent, is no step.
const SAVING_MIN: u32 = 10;

/// A stream's rungs in the packet times that make sense, best first. Made once for a stream and shared by its listeners.
#[derive(Debug, Clone)]
pub struct Steps {
    datagrams: Arc<[Step]>,
    stream: Arc<[Step]>,
}

/// One rung in packets of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) rung: u8,
    /// The place of the rung among the stream's, 0 for the best.
    pub(super) place: u8,
    pub(super) packet_frames: u8,
    bits: u32,
    copy_bits: u32,
}

impl Step {
    /// What it takes on the wire, bits per second.
    pub(super) fn wire(&self, redundancy: u8) -> u32 {
        let copies = u32::from(redundancy);
        let headers = (AROUND_BYTES + HEADER_BYTES as u32) * 8 * self.packets_per_minute() / 60;
        let tags = FRAME_BYTES * 8 * (1 + copies) * 1_000 / FRAME_MS;
        self.bits + copies * self.copy_bits + headers + tags
    }

    /// How well it sounds with so much loss, thousandths: half the bits are as bad as one frame in a hundred that is missing
    /// in the end, when a frame is missing only if all its packets are lost.
    fn score(&self, redundancy: u8, loss: PerMille) -> u64 {
        let bits = u64::from(self.bits.max(1));
        let octave = bits.ilog2();
        let quality = 1_000 * u64::from(octave) + (bits - (1 << octave)) * 1_000 / (1 << octave);
        let loss = u64::from(loss.min(1_000));
        let missing_ppm = (0..redundancy).fold(loss * 1_000, |missing, _| missing * loss / 1_000);
        // A thousandth is missing for 100 points; less than nothing is no score.
        (quality + 100_000).saturating_sub(missing_ppm / 10)
    }

    /// Whether its packets hold that many copies of every frame.
    pub(super) fn holds(&self, redundancy: u8) -> bool {
        let frames = u32::from(self.packet_frames);
        let payload = (self.bits + u32::from(redundancy) * self.copy_bits) / 8 * FRAME_MS * frames / 1_000;
        let tags = FRAME_BYTES * frames * (1 + u32::from(redundancy));
        payload + tags + HEADER_BYTES as u32 <= DATAGRAM_BYTES_MAX as u32
    }

    pub(super) fn shape(&self, redundancy: u8) -> Shape {
        Shape { rung: self.rung, packet_frames: self.packet_frames, redundancy }
    }

    pub(super) fn packets_per_minute(&self) -> u32 {
        60_000 / (FRAME_MS * u32::from(self.packet_frames))
    }
}

impl Steps {
    /// `None` without rungs: then there is nothing to decide.
    pub fn new(ladder: &Ladder, profile: AudioProfile) -> Option<Self> {
        let rungs = ladder.rungs();
        let knee = match profile {
            AudioProfile::Music | AudioProfile::Unspecified => MUSIC_KNEE,
            AudioProfile::Voice => VOICE_KNEE,
        };
        let last = rungs.last()?;
        // The last one that is good: before it is given up packets become longer.
        let good = rungs.iter().rev().find(|rung| rung.bits_per_second >= knee).unwrap_or(last);
        let mut datagrams: Vec<Step> = Vec::new();
        let mut stream: Vec<Step> = Vec::new();
        for (place, rung) in (0..).zip(rungs) {
            let copy_bits = ladder.bits_of(ladder.copy_of(number(rung)));
            let step = |packet_frames| Step {
                rung: number(rung),
                place,
                packet_frames,
                bits: rung.bits_per_second,
                copy_bits,
            };
            stream.push(step(3));
            let longest = if rung.bits_per_second > good.bits_per_second { 1 } else { 3 };
            for step in (1..=longest).map(step) {
                let saves = datagrams.last().is_none_or(|above| saves(&step, above));
                let is_last = rung == last && step.packet_frames == longest;
                if saves || is_last {
                    datagrams.push(step);
                }
            }
        }
        Some(Self { datagrams: datagrams.into(), stream: stream.into() })
    }

    /// Of rungs that are always there, best first.
    pub fn of_rungs(rungs: &[PublishedRung], profile: AudioProfile) -> Option<Self> {
        Self::new(&Ladder::of(rungs.to_vec()), profile)
    }

    pub(super) fn of(&self, carrier: Carrier) -> &[Step] {
        match carrier {
            Carrier::Datagrams => &self.datagrams,
            Carrier::Stream => &self.stream,
        }
    }
}

/// The place among steps, and the copies.
pub(super) type Choice = (usize, u8);

/// What sounds best with so much loss, of what takes less than `budget`, from the step `from` down and with at most that
/// many copies.
pub(super) fn best(steps: &[Step], from: usize, copies: u8, budget: u32, loss: PerMille) -> Option<Choice> {
    let all = (from..steps.len()).flat_map(|at| (0..=copies).map(move |copies| (at, copies)));
    let fit =
        all.filter(|(at, copies)| steps[*at].wire(*copies) < budget && (*copies == 0 || steps[*at].holds(*copies)));
    fit.max_by_key(|(at, copies)| (steps[*at].score(*copies, loss), std::cmp::Reverse(*at)))
}

fn saves(step: &Step, above: &Step) -> bool {
    step.wire(0) * 100 <= above.wire(0) * (100 - SAVING_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(bits: &[u32], profile: AudioProfile) -> Steps {
        let rung = |(rung, bits): (u32, &u32)| PublishedRung { rung, bits_per_second: *bits, channels: 2 };
        Steps::of_rungs(&(0..).zip(bits).map(rung).collect::<Vec<_>>(), profile).unwrap()
    }

    /// Kilobits of the rung, milliseconds of the packet, kilobits on the wire.
    fn told(steps: &Steps, carrier: Carrier) -> Vec<(u32, u32, u32)> {
        let told = |step: &Step| (step.bits / 1000, u32::from(step.packet_frames) * FRAME_MS, step.wire(0) / 1000);
        steps.of(carrier).iter().map(told).collect()
    }

    #[test]
    fn music_keeps_short_packets_down_to_the_knee() {
        let steps = steps(&[128_000, 64_000, 48_000, 32_000], AudioProfile::Music);
        let expected = [(128, 20, 154), (64, 20, 90), (48, 20, 74), (48, 40, 62), (32, 40, 46), (32, 60, 41)];
        assert_eq!(told(&steps, Carrier::Datagrams), expected);
        assert_eq!(told(&steps, Carrier::Stream), [(128, 60, 137), (64, 60, 73), (48, 60, 57), (32, 60, 41)]);
    }

    #[test]
    fn a_gap_below_the_knee_is_bridged_by_longer_packets() {
        let music = steps(&[96_000, 32_000], AudioProfile::Music);
        assert_eq!(
            told(&music, Carrier::Datagrams),
            [(96, 20, 122), (96, 40, 110), (32, 20, 58), (32, 40, 46), (32, 60, 41)]
        );
    }
}
