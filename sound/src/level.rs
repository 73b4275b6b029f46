//! How loud sound is.

/// Silence, and everything below it.
const SILENCE: u8 = 127;

/// The level of samples within ±1, in −dB below full scale, 0 to 127 (RFC 6464).
pub fn level(samples: &[f32]) -> u8 {
    let power = samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len().max(1) as f32;
    if power <= 0.0 {
        return SILENCE;
    }
    (-10.0 * power.log10()).round().clamp(0.0, SILENCE.into()) as u8
}

#[cfg(test)]
mod tests {
    use super::level;

    #[test]
    fn levels_of_what_is_loud_and_what_is_not() {
        assert_eq!((level(&[1.0; 960]), level(&[0.1; 960]), level(&[0.0; 960]), level(&[])), (0, 20, 127, 127));
        assert_eq!((level(&[2.0; 4]), level(&[1e-12; 4])), (0, 127));
    }
}
