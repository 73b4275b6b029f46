//! Whether it clicks where a decoder goes from one rung to another.

use std::collections::BTreeMap;

use super::{COMPLEXITY, Chance, Coding, Decoder, FRAME_SAMPLES, OpusError, SWITCH_EVERY, encode, opus};
use crate::Failure;
use crate::report::Report;

pub(super) struct Ladder {
    name: &'static str,
    voice: bool,
    channels: usize,
    bits_per_second: &'static [u32],
}

pub(super) const MUSIC: Ladder = Ladder {
    name: "music",
    voice: false,
    channels: 2,
    bits_per_second: &[128_000, 96_000, 64_000, 48_000, 32_000, 24_000],
};
pub(super) const VOICE: Ladder =
    Ladder { name: "voice", voice: true, channels: 1, bits_per_second: &[32_000, 24_000, 16_000, 12_000] };

/// After the boundary, samples: 10 ms.
const WINDOW: usize = 480;
/// -80 dBFS: below it nobody hears anything.
const FLOOR: f32 = 1e-4;

/// How a switch is made.
struct Way {
    name: &'static str,
    /// The frames at which the ladder is left, within each ten.
    phase: usize,
    resets: bool,
}

const WAYS: [Way; 3] = [
    Way { name: "switch_point", phase: 0, resets: false },
    Way { name: "decoder_reset", phase: 0, resets: true },
    Way { name: "no_switch_point", phase: 5, resets: false },
];

struct Rung {
    frames: Vec<Vec<u8>>,
    heard: Vec<f32>,
}

pub(super) fn run(report: &mut Report, ladder: &Ladder, sound: &[f32], seeds: u64) -> Result<(), Failure> {
    let channels = ladder.channels;
    let rungs = ladder.bits_per_second.iter().map(|bits| {
        let coding = Coding { bits_per_second: *bits, channels, voice: ladder.voice, complexity: COMPLEXITY };
        let (frames, _) = encode(coding, sound)?;
        let whole = vec![0; frames.len()];
        let heard = decode(&whole, std::slice::from_ref(&frames), channels, false)?;
        Ok(Rung { frames, heard })
    });
    let rungs = rungs.collect::<Result<Vec<_>, OpusError>>().map_err(opus)?;
    let frames: Vec<_> = rungs.iter().map(|rung| rung.frames.clone()).collect();
    for way in &WAYS {
        let (mut both, mut target) = (Vec::new(), Vec::new());
        let mut pairs: BTreeMap<_, Vec<f32>> = BTreeMap::new();
        for seed in 0..seeds {
            let order = order(seed, way.phase, frames[0].len(), rungs.len());
            let heard = decode(&order, &frames, channels, way.resets).map_err(opus)?;
            for at in (1..order.len()).filter(|at| order[*at] != order[at - 1]) {
                let peak_of = |sound: &[f32]| peak(sound, at * FRAME_SAMPLES, channels).max(FLOOR);
                let (from, to) = (peak_of(&rungs[order[at - 1]].heard), peak_of(&rungs[order[at]].heard));
                let click = peak_of(&heard);
                both.push(click / from.max(to));
                pairs.entry((order[at - 1], order[at])).or_default().push(click / from.max(to));
                target.push(click / to);
            }
        }
        let name = format!("{}_{}", ladder.name, way.name);
        report.figure(format!("{name}_count"), both.len());
        quantiles(report, &format!("{name}_click"), both);
        quantiles(report, &format!("{name}_click_to_target"), target);
        if way.phase == 0 && !way.resets {
            for ((from, to), ratios) in pairs {
                let [from, to] = [from, to].map(|rung| ladder.bits_per_second[rung] / 1_000);
                quantiles(report, &format!("{name}_{from}k_to_{to}k_click"), ratios);
            }
        }
    }
    Ok(())
}

fn quantiles(report: &mut Report, name: &str, mut ratios: Vec<f32>) {
    ratios.sort_by(f32::total_cmp);
    let Some(last) = ratios.len().checked_sub(1) else { return };
    for (part, label) in [(0.5, "p50"), (0.95, "p95"), (1.0, "max")] {
        report.decimal(format!("{name}_{label}"), f64::from(ratios[(last as f64 * part).round() as usize]));
    }
}

/// The rung of each frame: another one at every tenth frame, `phase` after the switch point.
fn order(seed: u64, phase: usize, frames: usize, rungs: usize) -> Vec<usize> {
    let mut chance = Chance::new(seed);
    let mut rung = chance.below(rungs);
    (0..frames)
        .map(|at| {
            if at > 0 && at % SWITCH_EVERY == phase {
                rung = (rung + 1 + chance.below(rungs - 1)) % rungs;
            }
            rung
        })
        .collect()
}

/// All of `order` in one decoder.
fn decode(order: &[usize], rungs: &[Vec<Vec<u8>>], channels: usize, resets: bool) -> Result<Vec<f32>, OpusError> {
    let mut decoder = Decoder::new(channels)?;
    let length = FRAME_SAMPLES * channels;
    let mut heard = vec![0.0; order.len() * length];
    for (at, samples) in heard.chunks_exact_mut(length).enumerate() {
        if resets && at > 0 && order[at] != order[at - 1] {
            decoder.reset()?;
        }
        decoder.decode(&rungs[order[at]][at], samples)?;
    }
    Ok(heard)
}

/// The sharpest bend in the window from sample `start` of each channel: the second difference, in which a step stands out and
/// a tone does not.
fn peak(sound: &[f32], start: usize, channels: usize) -> f32 {
    let value = |at: usize, channel: usize| sound.get(at * channels + channel).copied().unwrap_or_default();
    let bend =
        |at: usize, channel: usize| (value(at, channel) - 2.0 * value(at - 1, channel) + value(at - 2, channel)).abs();
    let places = (start.max(2)..start + WINDOW).flat_map(|at| (0..channels).map(move |channel| (at, channel)));
    places.map(|(at, channel)| bend(at, channel)).fold(0.0, f32::max)
}

/// Chords that decay and bursts of noise, two channels, the same every time.
pub(super) fn music(seconds: usize) -> Vec<f32> {
    const BEAT: usize = 24_000;
    let chords = [[220.0, 277.2, 329.6], [196.0, 246.9, 293.7], [174.6, 220.0, 261.6], [164.8, 207.7, 246.9]];
    let mut noise = Chance::new(1);
    (0..seconds * 48_000)
        .flat_map(|at| {
            let (beat, within) = (at / BEAT, (at % BEAT) as f32 / 48_000.0);
            let rise = (within * 200.0).min(1.0);
            let note = |hertz: f32| {
                // The time within a beat, so that f32 stays exact.
                let angle = hertz * within * std::f32::consts::TAU;
                angle.sin() + 0.5 * (2.0 * angle).sin() + 0.25 * (5.0 * angle).sin()
            };
            let [low, middle, high] = chords[beat % chords.len()].map(note);
            let chord = rise * (-3.0 * within).exp() * 0.1;
            let burst = (noise.part() as f32 - 0.5) * 0.3 * (-40.0 * within).exp();
            [chord * (low + middle + 0.5 * high) + burst, chord * (low + 0.5 * middle + high) + burst]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_a_click_only_within_its_ten_milliseconds() {
        let tone = |at: usize| ((at as f32) * 200.0 * std::f32::consts::TAU / 48_000.0).sin() * 0.5;
        let smooth: Vec<f32> = (0..4_800).map(tone).collect();
        let stepped: Vec<f32> = (0..4_800).map(|at| tone(at) + if at < 1_439 { 0.0 } else { 0.05 }).collect();
        assert!(peak(&smooth, 960, 1) < 0.001);
        assert!(peak(&stepped, 960, 1) > 0.045, "at the window's last sample");
        assert!(peak(&stepped, 958, 1) < 0.001, "one past it");
        let right: Vec<f32> = stepped.iter().flat_map(|sample| [0.0, *sample]).collect();
        assert!(peak(&right, 960, 2) > 0.045, "in the second channel too");
    }

    #[test]
    fn orders_switch_at_every_switch_point_and_nowhere_else() {
        for phase in [0, 5] {
            let order = order(3, phase, 200, 4);
            for at in 1..200 {
                assert_eq!(order[at] != order[at - 1], at % SWITCH_EVERY == phase, "{at}");
            }
        }
    }

    #[test]
    fn one_rung_alone_never_clicks() {
        let mut report = Report::new("quality", None, serde_json::json!({}), "");
        let ladder = Ladder { bits_per_second: &[64_000, 64_000], ..MUSIC };
        run(&mut report, &ladder, &music(2), 2).unwrap();
        assert_eq!(report.get("music_switch_point_count"), Some(18.0));
        assert_eq!(report.get("music_switch_point_click_max"), Some(1.0));
        assert_eq!(report.get("music_switch_point_64k_to_64k_click_max"), Some(1.0));
        assert!(report.get("music_decoder_reset_click_max").unwrap() > 1.0, "where it is cut it clicks");
    }
}
