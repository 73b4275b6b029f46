//! The controller in a loop with a small network, as stories one can read: what the network is like from which
//! millisecond on, and what the listener is sent.
//!
//! A file under `traces/` holds lines `<ms> <what happens>`; the indented lines under each are what the controller decides:
//! when, the rung, the packet time, the copies, and why; then how much was sent, lost, and not there to be played.
//! `UPDATE_TRACES=1` writes what came out, to be read and committed.

#![expect(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "a story that cannot be read fails its test")]

mod following;
mod listening;
mod network;
mod player;
mod plot;
mod properties;

use std::fmt::Write;
use std::path::Path;

use veza_engine::Timestamp;
use veza_engine::audio::{Carrier, Decision};
use veza_proto::v1::{AudioProfile, QualityPin, QualityReason};

use listening::{Figures, Listening};
use network::Weather;
use player::Player;

const SEED: u64 = 1;

#[test]
fn traces() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/audio/traces");
    let mut traces: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    traces.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    traces.sort();
    assert!(!traces.is_empty());
    for path in traces {
        let expected = std::fs::read_to_string(&path).unwrap();
        let (played, _) = play(&expected, true, None);
        if std::env::var_os("UPDATE_TRACES").is_some() {
            std::fs::write(&path, &played).unwrap();
        } else if played != expected {
            let differs = played.lines().zip(expected.lines()).position(|(played, expected)| played != expected);
            panic!("{} differs from line {:?} on; it plays:\n{played}", path.display(), differs.map(|line| line + 1));
        }
    }
}

fn play(story: &str, follows: bool, mut player: Option<Player>) -> (String, Listening) {
    let (mut played, mut listening, mut bits): (_, Option<Listening>, Vec<u32>) = (String::new(), None, Vec::new());
    let mut told = None;
    for line in story.lines().filter(|line| !line.starts_with("        ")) {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        if line.starts_with('#') || words.is_empty() {
            writeln!(played, "{line}").unwrap();
            continue;
        }
        let ms: u64 = words.remove(0).parse().unwrap_or_else(|_| panic!("no time in {line:?}"));
        if let Some(listening) = listening.as_mut().filter(|listening| listening.now_ms < ms) {
            listening.run_until(ms);
            tell(listening, &bits, &mut told, &mut played);
        }
        writeln!(played, "{line}").unwrap();
        match (words.remove(0), &mut listening) {
            ("listen", _) => {
                bits =
                    words.iter().filter_map(|word| word.parse().ok()).map(|kilobits: u32| kilobits * 1_000).collect();
                let profile = if words.contains(&"voice") { AudioProfile::Voice } else { AudioProfile::Music };
                let carrier = if words.contains(&"stream") { Carrier::Stream } else { Carrier::Datagrams };
                let mut new = Listening::new(&bits, profile, carrier, pin(&words), Weather::default(), SEED);
                (new.follows, new.player) = (follows, player.take());
                listening = Some(new);
            }
            ("network", Some(listening)) => {
                words.iter().for_each(|word| change(&mut listening.network.weather, word));
            }
            ("pin", Some(listening)) => listening.controller.set_pin(pin(&words), Timestamp::from_millis(ms)),
            ("end", Some(_)) => {}
            (other, _) => panic!("what is {other}?"),
        }
    }
    (played, listening.unwrap())
}

/// The decisions and figures since it was told last.
fn tell(listening: &mut Listening, bits: &[u32], told: &mut Option<String>, played: &mut String) {
    for (ms, decision) in std::mem::take(&mut listening.decisions) {
        let words = said(&decision, bits);
        if told.as_ref() != Some(&words) || decision.flush {
            let flush = if decision.flush { ", flush" } else { "" };
            writeln!(played, "        {ms:>6} {words}{flush}").unwrap();
            *told = Some(words);
        }
    }
    let figures =
        std::mem::replace(&mut listening.figures, Figures { since_ms: listening.now_ms, ..Figures::default() });
    let seconds = (listening.now_ms - figures.since_ms).max(1);
    let queue = std::mem::take(&mut listening.network.queue_us_max) / 1_000;
    writeln!(
        played,
        "        {} kb/s sent, {}.{} % of the packets lost, {} of {} frames missing, {} underruns, queue up to {queue} ms",
        figures.bytes * 8 / seconds,
        figures.packets_lost * 100 / figures.packets.max(1),
        figures.packets_lost * 1_000 / figures.packets.max(1) % 10,
        figures.missing,
        figures.frames,
        figures.underruns,
    )
    .unwrap();
}

fn said(decision: &Decision, bits: &[u32]) -> String {
    let shape = decision.shape;
    let reason = format!("{:?}", decision.reason).to_lowercase();
    let (kilobits, millis) = (bits[usize::from(shape.rung)] / 1_000, u32::from(shape.packet_frames) * 20);
    match decision.reason {
        QualityReason::Probe => format!("{kilobits:>3} k in {millis} ms, {reason}"),
        _ => format!("{kilobits:>3} k in {millis} ms, {} copies, {reason}", shape.redundancy),
    }
}

fn pin(words: &[&str]) -> QualityPin {
    let pins = [("low", QualityPin::Low), ("medium", QualityPin::Medium), ("high", QualityPin::High)];
    pins.into_iter().find(|(name, _)| words.contains(name)).map_or(QualityPin::Auto, |(_, pin)| pin)
}

fn change(weather: &mut Weather, word: &str) {
    let (name, value) = word.split_once('=').unwrap_or_else(|| panic!("what is {word}?"));
    let number = |text: &str| -> u64 { text.parse().unwrap_or_else(|_| panic!("{word} is no number")) };
    match name {
        "kbps" => weather.rate = number(value) * 1_000,
        "queue" => weather.queue_ms = number(value),
        "delay" => weather.delay_ms = number(value),
        "jitter" => weather.jitter_ms = number(value),
        "loss" => weather.loss = number(value),
        "window" => weather.window = number(value),
        "bursts" => {
            let (loss, length) = value.split_once('x').unwrap();
            weather.bursts = Some((number(loss), number(length))).filter(|(loss, _)| *loss > 0);
        }
        _ => panic!("what is {word}?"),
    }
}
