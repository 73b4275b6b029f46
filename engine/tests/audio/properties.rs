//! What holds whatever the network does, over many seeds.

use veza_engine::Timestamp;
use veza_engine::audio::{Carrier, Decision};
use veza_proto::v1::{AudioProfile, QualityPin, QualityReason};

use crate::listening::{Figures, Listening};
use crate::network::{Chance, Weather};

const MUSIC: [u32; 6] = [128_000, 96_000, 64_000, 48_000, 32_000, 24_000];
const SEEDS: std::ops::Range<u64> = 0..40;

fn listening(weather: Weather, seed: u64) -> Listening {
    Listening::new(&MUSIC, AudioProfile::Music, Carrier::Datagrams, QualityPin::Auto, weather, seed)
}

/// The decisions that sent something else than the one before.
fn changes(listening: &Listening) -> Vec<(u64, Decision, Decision)> {
    let pairs = listening.decisions.iter().zip(&listening.decisions[1..]);
    pairs
        .filter(|(before, after)| before.1.shape != after.1.shape)
        .map(|(one, other)| (other.0, one.1, other.1))
        .collect()
}

#[test]
fn loss_without_queueing_never_lowers_the_rung() {
    for seed in SEEDS {
        let mut listening = listening(Weather { loss: seed * 4, ..Weather::default() }, seed);
        listening.run_until(60_000);
        let rungs = listening.decisions.iter().map(|(_, decision)| decision.shape.rung);
        assert_eq!(rungs.max(), Some(0), "seed {seed}: {} of 1,000 lost", seed * 4);
        let copies = listening.decisions.last().unwrap().1.shape.redundancy;
        match seed * 4 {
            0..=4 => assert_eq!(copies, 0, "seed {seed}"),
            80.. => assert_eq!(copies, 2, "seed {seed}"),
            _ => {}
        }
    }
}

#[test]
fn bursts_never_lower_the_rung() {
    for seed in SEEDS {
        let mut listening = listening(Weather { bursts: Some((100, 1 + seed % 4)), ..Weather::default() }, seed);
        listening.run_until(60_000);
        let rungs = listening.decisions.iter().map(|(_, decision)| decision.shape.rung);
        assert_eq!(rungs.max(), Some(0), "seed {seed}");
    }
}

#[test]
fn a_collapse_is_left_within_half_a_second_and_what_is_sent_passes_soon() {
    for seed in SEEDS {
        let rate = 40_000 + 1_000 * seed;
        let mut listening = listening(Weather { rate: 300_000, ..Weather::default() }, seed);
        // At any moment between two frames, two looks, two reports.
        let falls = 5_000 + 13 * seed;
        listening.run_until(falls);
        listening.network.weather.rate = rate;
        listening.run_until(falls + 1_000);
        let down = changes(&listening).first().map(|(ms, ..)| ms - falls).unwrap();
        assert!(down <= 500, "seed {seed}: {down} ms");
        listening.run_until(falls + 10_000);
        listening.figures = Figures::default();
        listening.run_until(falls + 40_000);
        let sent = listening.figures.bytes * 8 / 30;
        assert!(sent <= rate, "seed {seed}: {sent} of {rate} bits per second");
        assert!(sent >= rate / 2, "seed {seed}: {sent} of {rate} bits per second");
    }
}

#[test]
fn nothing_more_is_sent_within_three_seconds_of_a_congestion() {
    for seed in SEEDS {
        let mut listening = listening(Weather::default(), seed);
        let mut chance = Chance(seed);
        for second in (5..120).step_by(5) {
            listening.network.weather = Weather {
                rate: 30_000 + chance.below(250_000),
                queue_ms: 50 + chance.below(400),
                jitter_ms: chance.below(30),
                loss: chance.below(40),
                ..Weather::default()
            };
            listening.run_until(second * 1_000);
        }
        let mut congested: Option<u64> = None;
        for (ms, before, after) in changes(&listening) {
            let ups = [QualityReason::Probe, QualityReason::Recovery];
            let is_up = ups.contains(&after.reason) && after.shape.redundancy >= before.shape.redundancy;
            if let Some(congested) = congested.filter(|_| is_up) {
                assert!(ms - congested >= 3_000, "seed {seed}: congested at {congested}, up at {ms}");
            }
            if after.reason == QualityReason::Congestion && before.reason != QualityReason::Probe {
                congested = Some(ms);
            }
        }
    }
}

#[test]
fn what_the_network_takes_back_it_gets_back() {
    for seed in SEEDS {
        let mut listening = listening(Weather { rate: 60_000, ..Weather::default() }, seed);
        listening.run_until(20_000 + 17 * seed);
        listening.network.weather.rate = 300_000;
        listening.run_until(60_000);
        assert_eq!(listening.decisions.last().unwrap().1.shape.rung, 0, "seed {seed}");
    }
}

#[test]
fn by_stream_there_are_no_copies_and_packets_of_sixty_milliseconds() {
    for seed in SEEDS {
        let weather = Weather { rate: 40_000 + 5_000 * seed, window: 4_000, loss: 0, ..Weather::default() };
        let mut listening =
            Listening::new(&MUSIC, AudioProfile::Music, Carrier::Stream, QualityPin::Auto, weather, seed);
        listening.run_until(60_000);
        let shapes = listening.decisions.iter().map(|(_, decision)| decision.shape);
        assert!(shapes.clone().all(|shape| (shape.packet_frames, shape.redundancy) == (3, 0)), "seed {seed}");
    }
}

#[test]
fn a_pin_holds_whatever_the_network_does() {
    for seed in SEEDS {
        let weather = Weather { rate: 60_000 + 10_000 * seed, loss: seed, ..Weather::default() };
        for (pin, best) in [(QualityPin::Low, 5), (QualityPin::Medium, 2)] {
            let mut listening =
                Listening::new(&MUSIC, AudioProfile::Music, Carrier::Datagrams, QualityPin::Auto, weather, seed);
            listening.run_until(3_000);
            listening.controller.set_pin(pin, Timestamp::from_millis(3_000));
            listening.decisions.clear();
            listening.run_until(30_000);
            assert!(
                listening.decisions.iter().all(|(_, decision)| decision.shape.rung >= best),
                "seed {seed}, {pin:?}"
            );
        }
    }
}

#[test]
fn the_same_seed_is_the_same_story() {
    let weather = Weather { rate: 90_000, jitter_ms: 30, bursts: Some((50, 3)), ..Weather::default() };
    let played = |seed| {
        let mut listening = listening(weather, seed);
        listening.run_until(30_000);
        listening.decisions
    };
    assert_eq!(played(7), played(7));
    assert_ne!(played(7), played(8));
}
