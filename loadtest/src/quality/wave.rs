//! WAV files of one channel, 16 bit.

use std::path::Path;

use crate::Failure;

/// The samples of a file of 48 kHz, within ±1.
pub(super) fn read(path: &Path) -> Result<Vec<f32>, Failure> {
    let shown = path.display().to_string();
    let bytes = std::fs::read(path).map_err(Failure::io(shown.clone()))?;
    samples(&bytes).ok_or_else(|| Failure::setup(format!("{shown}: not a WAV of 16 bit, 48 kHz, mono")))
}

fn samples(bytes: &[u8]) -> Option<Vec<f32>> {
    let mut rest = bytes.strip_prefix(b"RIFF")?.get(4..)?.strip_prefix(b"WAVE")?;
    let mut known = false;
    loop {
        let (name, after) = rest.split_first_chunk::<4>()?;
        let (length, after) = after.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        // A chunk that says more than there is goes to the end, as of a recording that was cut off.
        let body = after.get(..length).unwrap_or(after);
        match name {
            // PCM, one channel, 48 kHz, 16 bit.
            b"fmt " => {
                known = body.starts_with(&[1, 0, 1, 0, 0x80, 0xbb, 0, 0]) && body.get(14..16) == Some(&[16, 0]);
            }
            b"data" if known => {
                let values = body.as_chunks::<2>().0.iter().map(|pair| f32::from(i16::from_le_bytes(*pair)) / 32_768.0);
                return Some(values.collect());
            }
            b"data" => return None,
            _ => {}
        }
        rest = after.get(length + length % 2..)?;
    }
}

pub(super) fn write(path: &Path, rate: u32, samples: &[f32]) -> Result<(), Failure> {
    let length = u32::try_from(samples.len() * 2).map_err(|_| Failure::setup("too long for a WAV"))?;
    let mut bytes = Vec::with_capacity(44 + samples.len() * 2);
    bytes.extend(b"RIFF");
    bytes.extend((36 + length).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    bytes.extend(rate.to_le_bytes());
    bytes.extend((rate * 2).to_le_bytes());
    bytes.extend(b"\x02\0\x10\0data");
    bytes.extend(length.to_le_bytes());
    bytes.extend(samples.iter().flat_map(|sample| ((sample * 32_768.0).round() as i16).to_le_bytes()));
    std::fs::write(path, bytes).map_err(Failure::io(path.display().to_string()))
}

/// Half the filter's length, samples at 48 kHz.
const REACH: usize = 96;

/// 48 kHz to 16 kHz: a windowed sinc that is even, so that nothing moves in time.
pub(super) fn decimate(samples: &[f32]) -> Vec<f32> {
    use std::f32::consts::PI;
    // Below the new rate's 8 kHz, so that the slope ends there.
    let cut = 2.0 * 7_500.0 / 48_000.0;
    let taps: Vec<f32> = (0..=2 * REACH)
        .map(|at| {
            let from_middle = at as f32 - REACH as f32;
            let angle = PI * cut * from_middle;
            let sinc = if at == REACH { 1.0 } else { angle.sin() / angle };
            let window = 0.5 + 0.5 * (PI * from_middle / (REACH as f32 + 1.0)).cos();
            cut * sinc * window
        })
        .collect();
    let heard = |at: usize| {
        let of = taps.iter().enumerate();
        of.map(|(tap, weight)| {
            let sample = (at + tap).checked_sub(REACH).and_then(|from| samples.get(from));
            sample.unwrap_or(&0.0) * weight
        })
        .sum()
    };
    (0..samples.len()).step_by(3).map(heard).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hertz: f32, rate: f32, seconds: f32) -> Vec<f32> {
        (0..(rate * seconds) as usize)
            .map(|at| (at as f32 / rate * hertz * std::f32::consts::TAU).sin() * 0.5)
            .collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        write(&path, 48_000, &[0.0, 0.5, -1.0]).unwrap();
        assert_eq!(read(&path).unwrap(), [0.0, 0.5, -1.0]);
        write(&path, 16_000, &[0.0]).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("48 kHz"));
    }

    #[test]
    fn a_tone_stays_where_it_is_and_what_16_khz_cannot_hold_goes() {
        let (heard, wanted) = (decimate(&tone(1_000.0, 48_000.0, 0.1)), tone(1_000.0, 16_000.0, 0.1));
        assert_eq!(heard.len(), wanted.len());
        for at in REACH..heard.len() - REACH {
            assert!((heard[at] - wanted[at]).abs() < 0.005, "{at}: {} for {}", heard[at], wanted[at]);
        }
        let gone = decimate(&tone(9_000.0, 48_000.0, 0.1));
        assert!(gone[REACH..gone.len() - REACH].iter().all(|sample| sample.abs() < 0.005));
    }
}
