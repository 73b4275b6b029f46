//! Sound of any rate, mono or stereo, cut into frames of 20 ms at 48 kHz.

use std::collections::VecDeque;

use audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Async, FixedAsync, Indexing, Resampler as _, SincInterpolationParameters, SincInterpolationType, WindowFunction,
};

use crate::opus::FRAME_SAMPLES;
use crate::source::SourceError;

/// Values of a frame: two channels, interleaved.
pub const FRAME_VALUES: usize = FRAME_SAMPLES * 2;
const RATE: u32 = 48_000;
/// Rates that are taken.
const RATE_MIN: u32 = 8_000;
const RATE_MAX: u32 = 192_000;
/// Samples that are resampled at a time.
const CHUNK: usize = 441;
/// Length of the filter, samples.
const FILTER: usize = 128;

/// Collects sound, and gives it out in stereo frames. Rate and channels may change with every push.
pub struct Framer {
    resampler: Option<Resampler>,
    ready: VecDeque<f32>,
}

struct Resampler {
    rate: u32,
    inner: Async<f32>,
    waiting: Vec<f32>,
    made: Vec<f32>,
}

impl Framer {
    pub fn new() -> Self {
        Self { resampler: None, ready: VecDeque::new() }
    }

    /// Takes interleaved samples within ±1.
    ///
    /// # Errors
    /// For rates outside of 8 to 192 kHz, and more than two channels.
    pub fn push(&mut self, samples: &[f32], channels: usize, rate: u32) -> Result<(), SourceError> {
        if !(RATE_MIN..=RATE_MAX).contains(&rate) {
            return Err(SourceError::Unsupported("sound is taken at 8 to 192 kHz"));
        }
        if self.resampler.as_ref().map_or(RATE, |resampler| resampler.rate) != rate {
            self.drain()?;
            self.resampler = if rate == RATE { None } else { Some(Resampler::new(rate)?) };
        }
        match (&mut self.resampler, channels) {
            (Some(resampler), 1) => resampler.waiting.extend(samples.iter().flat_map(|sample| [*sample; 2])),
            (Some(resampler), 2) => resampler.waiting.extend(samples),
            (None, 1) => self.ready.extend(samples.iter().flat_map(|sample| [*sample; 2])),
            (None, 2) => self.ready.extend(samples),
            _ => return Err(SourceError::Unsupported("sound with more than two channels is not taken")),
        }
        if let Some(resampler) = &mut self.resampler {
            while resampler.waiting.len() >= CHUNK * 2 {
                resampler.turn(CHUNK, &mut self.ready)?;
            }
        }
        Ok(())
    }

    /// A frame, once there is enough for one.
    pub fn frame(&mut self) -> Option<Vec<f32>> {
        (self.ready.len() >= FRAME_VALUES).then(|| self.ready.drain(..FRAME_VALUES).collect())
    }

    /// Fills up the last frame with silence.
    ///
    /// # Errors
    /// When the resampler fails.
    pub fn finish(&mut self) -> Result<(), SourceError> {
        self.drain()?;
        let over = self.ready.len() % FRAME_VALUES;
        if over > 0 {
            self.ready.extend(std::iter::repeat_n(0.0, FRAME_VALUES - over));
        }
        Ok(())
    }

    /// What waits to be resampled.
    fn drain(&mut self) -> Result<(), SourceError> {
        if let Some(resampler) = &mut self.resampler
            && !resampler.waiting.is_empty()
        {
            let samples = resampler.waiting.len() / 2;
            resampler.waiting.resize(CHUNK * 2, 0.0);
            resampler.turn(samples, &mut self.ready)?;
        }
        Ok(())
    }
}

impl Default for Framer {
    fn default() -> Self {
        Self::new()
    }
}

impl Resampler {
    fn new(rate: u32) -> Result<Self, SourceError> {
        let parameters = SincInterpolationParameters::new(FILTER, WindowFunction::BlackmanHarris2)
            .interpolation(SincInterpolationType::Cubic);
        let ratio = f64::from(RATE) / f64::from(rate);
        let inner = Async::new_sinc(ratio, 1.0, &parameters, CHUNK, 2, FixedAsync::Input)
            .map_err(|_| SourceError::Unsupported("this rate cannot be resampled"))?;
        let made = vec![0.0; inner.output_frames_max() * 2];
        Ok(Self { rate, inner, waiting: Vec::new(), made })
    }

    /// Resamples a chunk, of which `samples` are meant.
    fn turn(&mut self, samples: usize, ready: &mut VecDeque<f32>) -> Result<(), SourceError> {
        const FAILED: SourceError = SourceError::Unsupported("the sound cannot be resampled");
        let capacity = self.made.len() / 2;
        let from = InterleavedSlice::new(&self.waiting[..CHUNK * 2], 2, CHUNK).map_err(|_| FAILED)?;
        let mut to = InterleavedSlice::new_mut(&mut self.made, 2, capacity).map_err(|_| FAILED)?;
        let whole = Indexing::new();
        let indexing = if samples < CHUNK { whole.partial_len(samples) } else { whole };
        let turned = self.inner.process_into_buffer(&from, &mut to, Some(&indexing));
        let (_, made) = turned.map_err(|_| FAILED)?;
        self.waiting.drain(..CHUNK * 2);
        // Behind what is meant comes what the filter still holds of it, and then nothing.
        let meant = ((samples + FILTER / 2) * RATE as usize).div_ceil(self.rate as usize);
        let made = if samples < CHUNK { made.min(meant) } else { made };
        ready.extend(&self.made[..made * 2]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{frequency, tone};

    fn cut(framer: &mut Framer) -> Vec<f32> {
        std::iter::from_fn(|| framer.frame()).flatten().collect()
    }

    #[test]
    fn every_rate_sounds_as_high_as_before() {
        for rate in [8_000, 22_050, 44_100, 48_000, 96_000, 192_000] {
            for channels in [1, 2] {
                let mut framer = Framer::new();
                framer.push(&tone(997.0, rate, channels, 1.0), channels, rate).unwrap();
                framer.finish().unwrap();
                let heard = cut(&mut framer);
                let frames = heard.len() / FRAME_VALUES;
                assert!((50..=52).contains(&frames), "{rate} {channels}: {frames}");
                let off = frequency(&heard[9_600..86_400], 2) - 997.0;
                assert!(off.abs() < 2.0, "{rate} {channels}: {off}");
            }
        }
    }

    #[test]
    fn rate_and_channels_change_in_the_middle() {
        let mut framer = Framer::new();
        for (rate, channels) in [(44_100, 2), (48_000, 1), (22_050, 1), (44_100, 2)] {
            framer.push(&tone(440.0, rate, channels, 0.5), channels, rate).unwrap();
        }
        framer.finish().unwrap();
        let heard = cut(&mut framer);
        assert!((100..=103).contains(&(heard.len() / FRAME_VALUES)), "{}", heard.len());
        for second in heard.chunks_exact(48_000) {
            let off = frequency(&second[9_600..38_400], 2) - 440.0;
            assert!(off.abs() < 5.0, "{off}");
        }
    }

    #[test]
    fn rates_and_channels_at_their_bounds_and_one_past() {
        let mut framer = Framer::new();
        for (rate, channels, taken) in [
            (RATE_MIN, 1, true),
            (RATE_MIN - 1, 1, false),
            (RATE_MAX, 2, true),
            (RATE_MAX + 1, 2, false),
            (48_000, 3, false),
        ] {
            assert_eq!(framer.push(&[0.0; 6], channels, rate).is_ok(), taken, "{rate} {channels}");
        }
    }
}
