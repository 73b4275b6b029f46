//! How many rungs a core makes: the transcoder of the server, and libopus alone on the same sound in the same run.

use std::time::Duration;

use opusic_c::{Application, Bitrate, Channels, SampleRate, Signal};
use serde_json::json;
use veza_sound::opus::{Coding, Encoder, FRAME_BYTES_MAX, FRAME_SAMPLES};
use veza_sound::transcoder::Transcoder;

use crate::Failure;
use crate::report::{Report, say};

const FRAME: Duration = Duration::from_millis(20);
const FRAMES_PER_SECOND: usize = 50;
/// Every tenth frame is a switch point (docs/MEDIA.md).
const SWITCH_EVERY: usize = 10;
const COMPLEXITY: u8 = 5;
/// What is made of 96 kb/s in stereo: bits per second and channels.
const SOURCE_BITS: u32 = 96_000;
const RUNGS: [(u32, usize); 4] = [(64_000, 2), (48_000, 2), (32_000, 1), (24_000, 1)];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long the sound is, seconds. The kernel counts CPU time in ticks of some milliseconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How often each side has its turn.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    rounds: u64,
    /// Write the figures here as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<std::path::PathBuf>,
}

/// The side by side of the rounds, CPU time for each.
#[derive(Default)]
struct Times(Vec<Duration>);

pub(crate) fn run(args: Args) -> Result<Report, Failure> {
    let parameters = json!({ "seconds": args.seconds, "rounds": args.rounds });
    let mut report = Report::new("rungs", args.json, parameters, "");
    let frames = usize::try_from(args.seconds).unwrap_or(usize::MAX).saturating_mul(FRAMES_PER_SECOND);
    let sound = music(frames);
    let mono: Vec<f32> = sound.chunks_exact(2).map(|pair| (pair[0] + pair[1]) * 0.5).collect();
    let source = published(&sound)?;
    for (name, rungs) in [("one_rung", &RUNGS[2..3]), ("four_rungs", &RUNGS[..])] {
        say(name);
        let (mut ours, mut alone) = (Times::default(), Times::default());
        for round in 0..args.rounds {
            // In turns, and each as often first.
            if round % 2 == 0 {
                ours.0.push(made(&source, rungs)?);
                alone.0.push(bare(&source, &sound, &mono, rungs)?);
            } else {
                alone.0.push(bare(&source, &sound, &mono, rungs)?);
                ours.0.push(made(&source, rungs)?);
            }
        }
        let per_core =
            |times: &Times| FRAME.as_secs_f64() * (frames * rungs.len()) as f64 / times.median().as_secs_f64();
        report.decimal(format!("{name}_per_core"), per_core(&ours));
        report.decimal(format!("{name}_per_core_libopus"), per_core(&alone));
        report.decimal(format!("{name}_of_libopus"), per_core(&ours) / per_core(&alone));
    }
    Ok(report)
}

impl Times {
    fn median(&self) -> Duration {
        let mut times = self.0.clone();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default().max(Duration::from_nanos(1))
    }
}

/// What the server does for one stream.
fn made(source: &[Vec<u8>], rungs: &[(u32, usize)]) -> Result<Duration, Failure> {
    let mut transcoder = Transcoder::new(2).map_err(failed)?;
    for (rung, (bits_per_second, channels)) in (0..).zip(rungs.iter().copied()) {
        let coding = Coding { bits_per_second, channels, voice: false, complexity: COMPLEXITY };
        transcoder.add(rung, coding).map_err(failed)?;
    }
    let began = busy()?;
    for (index, payload) in (0..).zip(source) {
        let mut frames = Vec::new();
        transcoder.take(index, Some(payload)).map_err(failed)?;
        transcoder.make(&mut frames).map_err(failed)?;
        std::hint::black_box(frames);
    }
    Ok(busy()?.saturating_sub(began))
}

/// The same by libopus with nothing around it: what is encoded has been mixed before, and goes into the same memory.
fn bare(source: &[Vec<u8>], stereo: &[f32], mono: &[f32], rungs: &[(u32, usize)]) -> Result<Duration, Failure> {
    let mut decoder = opusic_c::Decoder::new(Channels::Stereo, SampleRate::Hz48000).map_err(refused)?;
    let encoder = |(bits, channels): &(u32, usize)| {
        let of = if *channels == 1 { Channels::Mono } else { Channels::Stereo };
        let mut encoder = opusic_c::Encoder::new(of, SampleRate::Hz48000, Application::LowDelay)?;
        encoder.set_bitrate(Bitrate::Value(*bits))?;
        encoder.set_complexity(COMPLEXITY)?;
        encoder.set_signal(Signal::Music)?;
        Ok((encoder, *channels))
    };
    let mut encoders: Vec<_> = rungs.iter().map(encoder).collect::<Result<_, _>>().map_err(refused)?;
    let (mut heard, mut frame) = (vec![0.0; FRAME_SAMPLES * 2], Vec::with_capacity(FRAME_BYTES_MAX));
    let began = busy()?;
    for (index, payload) in source.iter().enumerate() {
        decoder.decode_float_to_slice(payload, &mut heard[..], false).map_err(refused)?;
        let at = index * FRAME_SAMPLES;
        for (encoder, channels) in &mut encoders {
            if index % SWITCH_EVERY < 2 {
                encoder.set_prediction_disabled(index % SWITCH_EVERY == 0).map_err(refused)?;
            }
            let sound = if *channels == 1 { mono } else { stereo };
            frame.clear();
            let samples = &sound[at * *channels..(at + FRAME_SAMPLES) * *channels];
            encoder.encode_float_to_vec(samples, &mut frame).map_err(refused)?;
        }
        std::hint::black_box((&heard, &frame));
    }
    Ok(busy()?.saturating_sub(began))
}

fn published(sound: &[f32]) -> Result<Vec<Vec<u8>>, Failure> {
    let coding = Coding { bits_per_second: SOURCE_BITS, channels: 2, voice: false, complexity: COMPLEXITY };
    let mut encoder = Encoder::new(coding).map_err(failed)?;
    let encode = |(index, samples): (usize, &[f32])| {
        let mut frame = Vec::new();
        encoder.encode(samples, index.is_multiple_of(SWITCH_EVERY), &mut frame).map_err(failed)?;
        Ok(frame)
    };
    sound.chunks_exact(FRAME_SAMPLES * 2).enumerate().map(encode).collect()
}

/// Chords that change twice a second, a beat, and something of noise: stereo, interleaved.
fn music(frames: usize) -> Vec<f32> {
    let mut noise = 1_u32;
    let mut sample = |at: usize| {
        let seconds = at as f32 / 48_000.0;
        let root = [220.0, 247.0, 294.0, 330.0][(at / 24_000) % 4];
        let tone = |ratio: f32| (seconds * root * ratio * std::f32::consts::TAU).sin() * 0.1;
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let hiss = (noise >> 16) as f32 / 32_768.0 - 1.0;
        let beat = (-20.0 * (seconds * 4.0).fract()).exp() * hiss * 0.3;
        let both = tone(1.0) + tone(2.0) + beat;
        [both + tone(1.25) + hiss * 0.01, both + tone(1.5)]
    };
    (0..frames * FRAME_SAMPLES).flat_map(&mut sample).collect()
}

/// CPU time of this thread (the kernel's proc, `schedstat`): other programs on the machine do not count.
fn busy() -> Result<Duration, Failure> {
    const FILE: &str = "/proc/thread-self/schedstat";
    let text = std::fs::read_to_string(FILE).map_err(Failure::io(FILE))?;
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    nanos.map(Duration::from_nanos).ok_or_else(|| Failure::setup(format!("{FILE} does not begin with a number")))
}

fn failed(error: veza_sound::opus::OpusError) -> Failure {
    Failure::setup(error.to_string())
}

fn refused(error: opusic_c::ErrorCode) -> Failure {
    Failure::setup(error.message())
}
