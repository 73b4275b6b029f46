use std::ops::RangeInclusive;

use veza_proto::gateway::v1::Effects;

/// Bands of an equalizer.
const BANDS_MAX: usize = 5;

/// One of the effects, by its name in the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Gain,
    HighPass,
    Equalizer,
    Compressor,
    Limiter,
    NoiseSuppression,
    Loudness,
    Reverb,
    Delay,
    Pitch,
    Ducking,
}

impl Effect {
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "gain" => Effect::Gain,
            "high_pass" => Effect::HighPass,
            "equalizer" => Effect::Equalizer,
            "compressor" => Effect::Compressor,
            "limiter" => Effect::Limiter,
            "noise_suppression" => Effect::NoiseSuppression,
            "loudness" => Effect::Loudness,
            "reverb" => Effect::Reverb,
            "delay" => Effect::Delay,
            "pitch" => Effect::Pitch,
            "ducking" => Effect::Ducking,
            _ => return None,
        })
    }
}

/// Takes over the named effects, those that are absent included.
pub fn merge_effects(into: &mut Effects, from: &Effects, which: &[Effect]) {
    for effect in which {
        match effect {
            Effect::Gain => into.gain = from.gain,
            Effect::HighPass => into.high_pass = from.high_pass,
            Effect::Equalizer => into.equalizer.clone_from(&from.equalizer),
            Effect::Compressor => into.compressor = from.compressor,
            Effect::Limiter => into.limiter = from.limiter,
            Effect::NoiseSuppression => into.noise_suppression = from.noise_suppression,
            Effect::Loudness => into.loudness = from.loudness,
            Effect::Reverb => into.reverb = from.reverb,
            Effect::Delay => into.delay = from.delay,
            Effect::Pitch => into.pitch = from.pitch,
            Effect::Ducking => into.ducking = from.ducking,
        }
    }
}

/// Whether every value lies where it may.
///
/// # Errors
/// The field, and a sentence about it.
pub fn check_effects(effects: &Effects) -> Result<(), (String, String)> {
    let mut values: Vec<(String, f64, RangeInclusive<f64>)> = Vec::new();
    let mut value = |field: &str, value: f64, range: RangeInclusive<f64>| values.push((field.to_owned(), value, range));
    if let Some(gain) = &effects.gain {
        value("gain.db", gain.db, -60.0..=24.0);
        value("gain.pan", gain.pan, -1.0..=1.0);
    }
    if let Some(high_pass) = &effects.high_pass {
        value("high_pass.hz", high_pass.hz, 20.0..=1_000.0);
    }
    if let Some(equalizer) = &effects.equalizer {
        if equalizer.bands.len() > BANDS_MAX {
            return Err(("equalizer.bands".into(), format!("an equalizer has at most {BANDS_MAX} bands")));
        }
        for (at, band) in equalizer.bands.iter().enumerate() {
            value(&format!("equalizer.bands[{at}].hz"), band.hz, 20.0..=20_000.0);
            value(&format!("equalizer.bands[{at}].db"), band.db, -24.0..=24.0);
            value(&format!("equalizer.bands[{at}].q"), band.q, 0.1..=10.0);
        }
    }
    if let Some(compressor) = &effects.compressor {
        value("compressor.threshold_db", compressor.threshold_db, -60.0..=0.0);
        value("compressor.ratio", compressor.ratio, 1.0..=20.0);
        value("compressor.attack_ms", compressor.attack_ms, 0.1..=200.0);
        value("compressor.release_ms", compressor.release_ms, 5.0..=2_000.0);
        value("compressor.makeup_db", compressor.makeup_db, 0.0..=24.0);
    }
    if let Some(limiter) = &effects.limiter {
        value("limiter.ceiling_db", limiter.ceiling_db, -12.0..=0.0);
        value("limiter.release_ms", limiter.release_ms, 5.0..=2_000.0);
    }
    if let Some(suppression) = &effects.noise_suppression {
        value("noise_suppression.strength", suppression.strength, 0.0..=1.0);
    }
    if let Some(loudness) = &effects.loudness {
        value("loudness.target_lufs", loudness.target_lufs, -36.0..=-8.0);
    }
    if let Some(reverb) = &effects.reverb {
        value("reverb.size", reverb.size, 0.0..=1.0);
        value("reverb.damping", reverb.damping, 0.0..=1.0);
        value("reverb.wet", reverb.wet, 0.0..=1.0);
    }
    if let Some(delay) = &effects.delay {
        value("delay.time_ms", delay.time_ms, 1.0..=2_000.0);
        value("delay.feedback", delay.feedback, 0.0..=0.95);
        value("delay.wet", delay.wet, 0.0..=1.0);
    }
    if let Some(pitch) = &effects.pitch {
        value("pitch.semitones", pitch.semitones, -12.0..=12.0);
    }
    if let Some(ducking) = &effects.ducking {
        value("ducking.db", ducking.db, -60.0..=0.0);
        value("ducking.attack_ms", ducking.attack_ms, 1.0..=2_000.0);
        value("ducking.release_ms", ducking.release_ms, 1.0..=2_000.0);
    }
    // What is no number lies in no range.
    match values.into_iter().find(|(_, value, range)| !range.contains(value)) {
        Some((field, _, range)) => {
            let sentence = format!("{field} may be from {} to {}", range.start(), range.end());
            Err((field, sentence))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use veza_proto::gateway::v1::{Band, Delay, Equalizer, Gain, Pitch};

    #[test]
    fn values_at_their_limits_and_past_them() {
        let gain = |db| Effects { gain: Some(Gain { db, pan: 0.0 }), ..Effects::default() };
        for (db, fits) in [(-60.0, true), (24.0, true), (-60.1, false), (24.1, false), (f64::NAN, false)] {
            assert_eq!(check_effects(&gain(db)).is_ok(), fits, "{db}");
        }
        let delay =
            |feedback| Effects { delay: Some(Delay { time_ms: 1.0, feedback, wet: 1.0 }), ..Effects::default() };
        assert!(check_effects(&delay(0.95)).is_ok());
        assert_eq!(check_effects(&delay(0.96)).unwrap_err().0, "delay.feedback");
        let band = Band { hz: 20.0, db: 0.0, q: 1.0 };
        let bands = |n| Effects { equalizer: Some(Equalizer { bands: vec![band; n] }), ..Effects::default() };
        assert!(check_effects(&bands(BANDS_MAX)).is_ok());
        assert_eq!(check_effects(&bands(BANDS_MAX + 1)).unwrap_err().0, "equalizer.bands");
        assert!(check_effects(&Effects::default()).is_ok(), "none is untouched sound");
    }

    #[test]
    fn only_the_named_effects_are_taken_over_and_an_absent_one_turns_off() {
        let mut kept = Effects { gain: Some(Gain { db: 3.0, pan: 0.0 }), ..Effects::default() };
        let asked = Effects { pitch: Some(Pitch { semitones: 2.0 }), ..Effects::default() };
        merge_effects(&mut kept, &asked, &[Effect::Pitch]);
        assert!(kept.gain.is_some() && kept.pitch.is_some());
        merge_effects(&mut kept, &asked, &[Effect::Gain]);
        assert!(kept.gain.is_none() && kept.pitch.is_some());
        assert_eq!(Effect::parse("high_pass"), Some(Effect::HighPass));
        assert_eq!(Effect::parse("chorus"), None);
    }
}
