//! Opus (RFC 6716) by libopus: frames of 20 ms at 48 kHz, the unit of live audio.

use opusic_c::{Application, Bandwidth, Bitrate, Channels, ErrorCode, SampleRate, Signal};

/// Samples of a frame, per channel: 20 ms at 48 kHz.
pub const FRAME_SAMPLES: usize = 960;
/// What a frame takes at most, bytes (RFC 6716, section 3.2).
pub const FRAME_BYTES_MAX: usize = 1_275;

/// Speech of no more bits has them for the band up to 8 kHz, which words need; libopus by itself spends some above
/// (docs/audio-quality.md).
const WIDEBAND_BITS_MAX: u32 = 20_000;
/// Speech has no more bits: from 71 kb/s on libopus codes it by CELT alone, a family apart from SILK and hybrid, and a decoder
/// that comes from one to the other clicks.
const VOICE_BITS_MAX: u32 = 64_000;

/// libopus refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("libopus: {}", .0.message())]
pub struct OpusError(ErrorCode);

/// What is said to an encoder of a rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coding {
    pub bits_per_second: u32,
    /// 1 or 2.
    pub channels: usize,
    /// Whether it is speech: SILK and hybrid modes. Otherwise CELT alone, so that all rungs of a stream are of one family
    /// and a decoder goes from one to another without a reset.
    pub voice: bool,
    /// 0 (fast) to 10.
    pub complexity: u8,
}

impl Coding {
    fn bits(self) -> u32 {
        if self.voice { self.bits_per_second.min(VOICE_BITS_MAX) } else { self.bits_per_second }
    }

    /// What libopus adds above 12 kHz to speech is noise that goes on from the frame before, whichever rung that was of: where
    /// a decoder changes rungs it is another one, and heard as a click. Speech that needs more is sent as music.
    fn bandwidth_max(self) -> Bandwidth {
        match self {
            Self { voice: false, .. } => Bandwidth::Full,
            Self { bits_per_second: ..=WIDEBAND_BITS_MAX, .. } => Bandwidth::Wide,
            _ => Bandwidth::Superwide,
        }
    }
}

/// Makes frames of one rung.
pub struct Encoder {
    inner: opusic_c::Encoder,
    channels: usize,
    predicts: bool,
}

impl Encoder {
    /// # Errors
    /// When libopus takes none of it.
    pub fn new(coding: Coding) -> Result<Self, OpusError> {
        let application = if coding.voice { Application::Voip } else { Application::LowDelay };
        let channels = channels(coding.channels);
        let mut inner = opusic_c::Encoder::new(channels, SampleRate::Hz48000, application).map_err(OpusError)?;
        inner.set_bitrate(Bitrate::Value(coding.bits())).map_err(OpusError)?;
        inner.set_complexity(coding.complexity).map_err(OpusError)?;
        inner.set_signal(if coding.voice { Signal::Voice } else { Signal::Music }).map_err(OpusError)?;
        inner.set_max_bandwidth(coding.bandwidth_max()).map_err(OpusError)?;
        Ok(Self { inner, channels: channels as usize, predicts: true })
    }

    /// Samples by which what is decoded lags behind what was encoded, at 48 kHz.
    pub fn lookahead(&mut self) -> usize {
        self.inner.get_look_ahead().map_or(0, |samples| samples as usize)
    }

    /// Encodes `samples`, [`FRAME_SAMPLES`] × channels interleaved values within ±1, after what `frame` has. `fresh`: without
    /// prediction from earlier frames, so that a decoder may come here from another rung.
    ///
    /// # Errors
    /// When libopus refuses, of which `frame` shows nothing.
    pub fn encode(&mut self, samples: &[f32], fresh: bool, frame: &mut Vec<u8>) -> Result<usize, OpusError> {
        if samples.len() != FRAME_SAMPLES * self.channels {
            return Err(OpusError(ErrorCode::BadArg));
        }
        if self.predicts == fresh {
            self.inner.set_prediction_disabled(fresh).map_err(OpusError)?;
            self.predicts = !fresh;
        }
        frame.reserve(FRAME_BYTES_MAX);
        self.inner.encode_float_to_vec(samples, frame).map_err(OpusError)
    }
}

/// Makes sound of frames, of one rung or of several of a family one after the other.
pub struct Decoder {
    inner: opusic_c::Decoder,
    channels: usize,
}

impl Decoder {
    /// # Errors
    /// When libopus has no memory.
    pub fn new(channels_wanted: usize) -> Result<Self, OpusError> {
        let channels = channels(channels_wanted);
        let inner = opusic_c::Decoder::new(channels, SampleRate::Hz48000).map_err(OpusError)?;
        Ok(Self { inner, channels: channels as usize })
    }

    /// Decodes a frame into `samples`, [`FRAME_SAMPLES`] × channels interleaved values.
    ///
    /// # Errors
    /// When it is not a frame of 20 ms.
    pub fn decode(&mut self, frame: &[u8], samples: &mut [f32]) -> Result<(), OpusError> {
        if frame.is_empty() || samples.len() != FRAME_SAMPLES * self.channels {
            return Err(OpusError(ErrorCode::BadArg));
        }
        self.fill(frame, samples)
    }

    /// What libopus plays where a frame is missing.
    ///
    /// # Errors
    /// When `samples` is not of a frame's length.
    pub fn conceal(&mut self, samples: &mut [f32]) -> Result<(), OpusError> {
        if samples.len() != FRAME_SAMPLES * self.channels {
            return Err(OpusError(ErrorCode::BadArg));
        }
        self.fill(&[], samples)
    }

    /// Forgets what came before.
    ///
    /// # Errors
    /// When libopus refuses.
    pub fn reset(&mut self) -> Result<(), OpusError> {
        self.inner.reset().map_err(OpusError)
    }

    fn fill(&mut self, frame: &[u8], samples: &mut [f32]) -> Result<(), OpusError> {
        match self.inner.decode_float_to_slice(frame, samples, false).map_err(OpusError)? {
            FRAME_SAMPLES => Ok(()),
            _ => Err(OpusError(ErrorCode::InvalidPacket)),
        }
    }
}

fn channels(wanted: usize) -> Channels {
    if wanted == 1 { Channels::Mono } else { Channels::Stereo }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(frames: usize, channels: usize) -> Vec<f32> {
        let sample = |at: usize| ((at as f32) * 440.0 * std::f32::consts::TAU / 48_000.0).sin() * 0.5;
        (0..frames * FRAME_SAMPLES).flat_map(|at| std::iter::repeat_n(sample(at), channels)).collect()
    }

    fn power(samples: &[f32]) -> f32 {
        samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len() as f32
    }

    #[test]
    fn what_is_encoded_sounds_as_it_did() {
        for (channels, voice, bits_per_second) in [(2, false, 96_000), (1, false, 24_000), (1, true, 24_000)] {
            let coding = Coding { bits_per_second, channels, voice, complexity: 5 };
            let (mut encoder, mut decoder) = (Encoder::new(coding).unwrap(), Decoder::new(channels).unwrap());
            let mut heard = vec![0.0; FRAME_SAMPLES * channels];
            for (at, samples) in tone(20, channels).chunks(FRAME_SAMPLES * channels).enumerate() {
                let mut frame = Vec::new();
                let length = encoder.encode(samples, at % 10 == 0, &mut frame).unwrap();
                assert_eq!(frame.len(), length);
                decoder.decode(&frame, &mut heard).unwrap();
            }
            assert!((power(&heard) / power(&tone(1, 1)) - 1.0).abs() < 0.2, "{coding:?}: {}", power(&heard));
            decoder.conceal(&mut heard).unwrap();
            assert!(power(&heard) > 0.01, "what is missing is not silence");
        }
    }

    /// By the table of contents (RFC 6716, section 3.1).
    #[derive(Debug, PartialEq)]
    enum Kind {
        SilkWide,
        HybridSuperwide,
        Celt,
        Other,
    }

    /// What libopus makes of noise, which has all the band that it may take.
    fn kind(coding: Coding) -> Kind {
        let mut chance = 1_u32;
        let mut encoder = Encoder::new(coding).unwrap();
        let mut frame = Vec::new();
        for _ in 0..10 {
            let noise = std::iter::repeat_with(|| {
                chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (chance >> 8) as f32 / (1 << 24) as f32 * 0.5 - 0.25
            });
            let samples: Vec<f32> = noise.take(FRAME_SAMPLES * coding.channels).collect();
            frame.clear();
            encoder.encode(&samples, false, &mut frame).unwrap();
        }
        match frame[0] >> 3 {
            8..12 => Kind::SilkWide,
            12..14 => Kind::HybridSuperwide,
            16.. => Kind::Celt,
            _ => Kind::Other,
        }
    }

    #[test]
    fn speech_at_the_bound_of_wideband_and_one_past() {
        for (bits_per_second, wanted) in
            [(WIDEBAND_BITS_MAX, Kind::SilkWide), (WIDEBAND_BITS_MAX + 1, Kind::HybridSuperwide)]
        {
            let coding = Coding { bits_per_second, channels: 1, voice: true, complexity: 5 };
            assert_eq!(kind(coding), wanted, "{bits_per_second}");
        }
    }

    #[test]
    fn speech_never_becomes_celt_however_many_bits_a_rung_announces() {
        for channels in [1, 2] {
            for complexity in [0, 5, 10] {
                for bits_per_second in [VOICE_BITS_MAX, VOICE_BITS_MAX + 1, 256_000] {
                    let coding = Coding { bits_per_second, channels, voice: true, complexity };
                    assert_eq!(kind(coding), Kind::HybridSuperwide, "{coding:?}");
                    assert_eq!(kind(Coding { voice: false, ..coding }), Kind::Celt, "{coding:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let coding = Coding { bits_per_second: 32_000, channels: 1, voice: false, complexity: 5 };
        let mut encoder = Encoder::new(coding).unwrap();
        let mut frame = Vec::new();
        assert!(encoder.encode(&[0.0; FRAME_SAMPLES - 1], false, &mut frame).is_err() && frame.is_empty());
        let mut decoder = Decoder::new(1).unwrap();
        let mut samples = [0.0; FRAME_SAMPLES];
        assert!(decoder.decode(&[], &mut samples).is_err());
        // Two frames of 20 ms in one packet: 40 ms.
        assert!(decoder.decode(&[0xf9, 0, 0], &mut samples).is_err());
        assert!(decoder.decode(&[0xf8], &mut samples[1..]).is_err());
    }
}
