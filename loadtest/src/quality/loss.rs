//! Speech of which packets are lost, with copies of earlier frames in later packets and without.

use std::path::Path;

use veza_client::proto::media::{MediaFrame, MediaPacket};

use super::{COMPLEXITY, Chance, Coding, Decoder, FRAME_SAMPLES, SWITCH_EVERY, encode, opus, wave};
use crate::Failure;
use crate::report::Report;

struct Variant {
    name: &'static str,
    bits_per_second: u32,
    copies: usize,
    conceals: bool,
}

const fn variant(name: &'static str, bits_per_second: u32, copies: usize) -> Variant {
    Variant { name, bits_per_second, copies, conceals: true }
}

const VARIANTS: [Variant; 8] = [
    Variant { name: "32k_silence", bits_per_second: 32_000, copies: 0, conceals: false },
    variant("32k_concealed", 32_000, 0),
    variant("16k_one_copy", 16_000, 1),
    variant("12k_two_copies", 12_000, 2),
    variant("10.6k_two_copies", 10_600, 2),
    // What more would bring.
    variant("24k_one_copy", 24_000, 1),
    variant("16k_two_copies", 16_000, 2),
    variant("24k_two_copies", 24_000, 2),
];

/// Figures of all variants; with a folder, what is heard of them and without loss.
pub(super) fn run(
    report: &mut Report,
    speech: &[f32],
    loss: f64,
    seeds: u64,
    out: Option<&Path>,
) -> Result<(), Failure> {
    // A frame of silence behind, so that the end comes out of the coder too.
    let mut padded = speech.to_vec();
    padded.resize(speech.len().next_multiple_of(FRAME_SAMPLES) + FRAME_SAMPLES, 0.0);
    if let Some(folder) = out {
        std::fs::create_dir_all(folder).map_err(Failure::io(folder.display().to_string()))?;
        wave::write(&folder.join("reference.wav"), 16_000, &wave::decimate(speech))?;
    }
    for variant in &VARIANTS {
        let coding =
            Coding { bits_per_second: variant.bits_per_second, channels: 1, voice: true, complexity: COMPLEXITY };
        let (frames, lag) = encode(coding, &padded).map_err(opus)?;
        let payload = payload_bytes(&frames, variant.copies);
        let seconds = frames.len() as f64 * 0.02;
        report.decimal(format!("{}_payload_kbps", variant.name), payload as f64 * 8.0 / seconds / 1_000.0);
        let mut missing = 0;
        for seed in 0..=seeds {
            // The last one loses nothing: what the coding itself takes away.
            let (lost, name) = match seed {
                last if last == seeds => (vec![false; frames.len()], "whole".to_owned()),
                _ => (pattern(seed, loss, frames.len()), seed.to_string()),
            };
            let there = sent(&frames, variant.copies, &lost)?;
            missing += there.iter().filter(|frame| frame.is_none()).count();
            if let Some(folder) = out {
                let heard = played(&there, variant.conceals)?;
                let aligned = &heard[lag..lag + speech.len()];
                let path = folder.join(format!("{}-{name}.wav", variant.name));
                wave::write(&path, 16_000, &wave::decimate(aligned))?;
            }
        }
        let of = frames.len() as f64 * seeds as f64;
        report.decimal(format!("{}_missing_percent", variant.name), missing as f64 / of * 100.0);
    }
    Ok(())
}

/// Which packets are lost.
fn pattern(seed: u64, loss: f64, packets: usize) -> Vec<bool> {
    let mut chance = Chance::new(seed);
    (0..packets).map(|_| chance.part() < loss).collect()
}

fn payload_bytes(frames: &[Vec<u8>], copies: usize) -> usize {
    frames.iter().map(|frame| frame.len() * (1 + copies)).sum()
}

/// What arrives of `frames`, by their index: a packet for each, with copies of the frames before it.
fn sent(frames: &[Vec<u8>], copies: usize, lost: &[bool]) -> Result<Vec<Option<Vec<u8>>>, Failure> {
    let mut there = vec![None; frames.len()];
    for (newest, _) in lost.iter().enumerate().filter(|(_, lost)| !**lost) {
        let held = (0..=copies.min(newest)).map(|age| MediaFrame {
            age: age as u8,
            rung: 0,
            switch_point: (newest - age) % SWITCH_EVERY == 0,
            payload: frames[newest - age].clone().into(),
        });
        let packet = MediaPacket { handle: 1, newest: newest as u32, level: 30, fresh: 1, frames: held.collect() };
        let broken = |why: veza_client::proto::media::MediaError| Failure::setup(why.to_string());
        // The byte before it is WebTransport's.
        let read = MediaPacket::read(packet.write().map_err(broken)?.slice(1..)).map_err(broken)?;
        for frame in read.frames {
            there[(read.newest - u32::from(frame.age)) as usize].get_or_insert(frame.payload.to_vec());
        }
    }
    Ok(there)
}

fn played(there: &[Option<Vec<u8>>], conceals: bool) -> Result<Vec<f32>, Failure> {
    let mut decoder = Decoder::new(1).map_err(opus)?;
    let mut heard = vec![0.0; there.len() * FRAME_SAMPLES];
    for (frame, samples) in there.iter().zip(heard.chunks_exact_mut(FRAME_SAMPLES)) {
        match frame {
            Some(frame) => decoder.decode(frame, samples).map_err(opus)?,
            None if conceals => decoder.conceal(samples).map_err(opus)?,
            None => {}
        }
    }
    Ok(heard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_of_loss_is_its_seeds_and_loses_what_was_asked() {
        let lost = pattern(7, 0.1, 100_000);
        assert_eq!(lost, pattern(7, 0.1, 100_000));
        assert_ne!(lost, pattern(8, 0.1, 100_000));
        let share = lost.iter().filter(|lost| **lost).count();
        assert!((9_500..10_500).contains(&share), "{share}");
    }

    #[test]
    fn a_copy_stands_in_for_a_lost_packet_and_two_for_two() {
        let frames: Vec<Vec<u8>> = (1..=6).map(|value| vec![value]).collect();
        let lost = [false, true, true, false, true, false];
        let missing = |copies| -> Vec<usize> {
            let there = sent(&frames, copies, &lost).unwrap();
            for (at, frame) in there.iter().enumerate() {
                assert!(frame.as_ref().is_none_or(|frame| *frame == frames[at]), "{at}");
            }
            (0..6).filter(|at| there[*at].is_none()).collect()
        };
        assert_eq!(missing(0), [1, 2, 4]);
        assert_eq!(missing(1), [1]);
        assert_eq!(missing(2), [0_usize; 0]);
    }

    #[test]
    fn what_is_played_lies_where_it_was_said() {
        let said: Vec<f32> = (0..FRAME_SAMPLES * 50)
            .map(|at| ((at as f32) * 300.0 * std::f32::consts::TAU / 48_000.0).sin() * 0.4 * ((at / 4_800) % 2) as f32)
            .collect();
        let coding = Coding { bits_per_second: 32_000, channels: 1, voice: true, complexity: 5 };
        let (frames, lag) = encode(coding, &said).unwrap();
        let heard = played(&sent(&frames, 0, &vec![false; frames.len()]).unwrap(), true).unwrap();
        let alike = |shift: usize| -> f32 { said.iter().zip(&heard[shift..]).map(|(said, heard)| said * heard).sum() };
        let best = (0..960).max_by(|left, right| alike(*left).total_cmp(&alike(*right))).unwrap();
        assert!(best.abs_diff(lag) <= 24, "{best} for {lag}");
    }
}
