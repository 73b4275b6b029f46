//! How live audio sounds: speech when packets are lost, and the moment at which a decoder goes to another rung.

mod loss;
mod switches;
mod wave;

use std::path::{Path, PathBuf};

use serde_json::json;
use veza_impair::Chance;
use veza_sound::opus::{Coding, Decoder, Encoder, FRAME_SAMPLES, OpusError};

use crate::Failure;
use crate::report::{Report, say};

/// Every tenth frame is a switch point (docs/MEDIA.md).
const SWITCH_EVERY: usize = 10;
/// What the speech is repeated to, seconds: a few losses more or less then say little.
const SPEECH_SECONDS_MIN: usize = 30;
const COMPLEXITY: u8 = 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A folder of speech: WAV files, 16 bit, 48 kHz, mono.
    #[arg(long, value_name = "FOLDER", default_value = "/usr/share/sounds/alsa")]
    speech: PathBuf,
    /// Write what was heard here, 16 kHz, for `pesq_scores.py`.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Share of packets lost.
    #[arg(long, default_value_t = 0.1, value_parser = share)]
    loss: f64,
    /// Patterns of loss, and orders of switches.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    seeds: u64,
    /// Write the figures here as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> Result<Report, Failure> {
    let (speech, repeats) = speech(&args.speech)?;
    let parameters = json!({ "speech": args.speech, "loss": args.loss, "seeds": args.seeds });
    let mut report = Report::new("quality", args.json, parameters, "");
    report.figure("speech_repeated", repeats);
    report.decimal("speech_seconds", speech.len() as f64 / 48_000.0);
    say("speech under loss");
    loss::run(&mut report, &speech, args.loss, args.seeds, args.out.as_deref())?;
    say("switches of music");
    switches::run(&mut report, &switches::MUSIC, &switches::music(SPEECH_SECONDS_MIN), args.seeds)?;
    say("switches of speech");
    switches::run(&mut report, &switches::VOICE, &speech, args.seeds)?;
    Ok(report)
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "a share is a number from 0 to 1".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("a share is from 0 to 1".to_owned()) }
}

/// All speech of a folder one after the other, and how many times it was repeated.
fn speech(folder: &Path) -> Result<(Vec<f32>, usize), Failure> {
    let shown = folder.display().to_string();
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(Failure::io(shown.clone()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "wav"))
        // alsa-utils has pink noise beside its voices.
        .filter(|path| path.file_name().is_some_and(|name| name != "Noise.wav"))
        .collect();
    paths.sort();
    let mut once = Vec::new();
    for path in &paths {
        once.extend(wave::read(path)?);
    }
    if once.is_empty() {
        return Err(Failure::setup(format!("{shown} has no WAV of speech; alsa-utils brings some, or give --speech")));
    }
    let repeats = (SPEECH_SECONDS_MIN * 48_000).div_ceil(once.len());
    Ok((once.repeat(repeats), repeats))
}

/// The frames of a rung, whose switch points are coded without prediction, and the samples by which they lag.
fn encode(coding: Coding, sound: &[f32]) -> Result<(Vec<Vec<u8>>, usize), OpusError> {
    let mut encoder = Encoder::new(coding)?;
    let lag = encoder.lookahead();
    let frames = sound.chunks_exact(FRAME_SAMPLES * coding.channels).enumerate().map(|(at, samples)| {
        let mut frame = Vec::new();
        encoder.encode(samples, at % SWITCH_EVERY == 0, &mut frame).map(|_| frame)
    });
    Ok((frames.collect::<Result<_, _>>()?, lag))
}

fn opus(why: OpusError) -> Failure {
    Failure::setup(why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_at_its_bounds_and_past_them() {
        assert_eq!((share("0"), share("1")), (Ok(0.0), Ok(1.0)));
        assert!(["1.001", "-0.001", "NaN", "much"].iter().all(|text| share(text).is_err()));
    }

    #[test]
    fn a_folder_without_speech_is_named() {
        let folder = tempfile::tempdir().unwrap();
        wave::write(&folder.path().join("Noise.wav"), 48_000, &[0.5; 10]).unwrap();
        let why = speech(folder.path()).unwrap_err().to_string();
        assert!(why.contains("no WAV of speech") && why.contains("alsa-utils"), "{why}");
    }

    #[test]
    fn speech_is_repeated_to_thirty_seconds() {
        let folder = tempfile::tempdir().unwrap();
        wave::write(&folder.path().join("a.wav"), 48_000, &[0.5; 48_000 * 29]).unwrap();
        let (samples, repeats) = speech(folder.path()).unwrap();
        assert_eq!((samples.len(), repeats), (48_000 * 58, 2));
    }
}
