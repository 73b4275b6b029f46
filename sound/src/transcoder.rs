//! Rungs that are made of another one: every frame is decoded once, and encoded for each rung that is wanted at the time.
//!
//! A frame keeps its index. What is in it lags behind the source by what decoder and encoder look ahead, 2.5 ms of music and
//! 6.5 ms of speech ([`crate::opus::Encoder::lookahead`]): so far a listener goes back, once, who comes from the source to a made rung.

use crate::feed::SWITCH_EVERY;
use crate::opus::{Coding, Decoder, Encoder, FRAME_BYTES_MAX, FRAME_SAMPLES, OpusError};

/// Missing frames that are concealed so that what follows sounds right; after more the decoder has nothing left to go on.
const CONCEALED_MAX: u32 = 5;
/// A rung's first frames are of a decoder and an encoder that have heard nothing: nobody comes to it before.
const WARM_UP: u32 = 3;

/// Makes rungs of one stream.
pub struct Transcoder {
    decoder: Decoder,
    channels: usize,
    /// The frame at hand: as it was decoded, and in one channel if a rung wants it so.
    samples: Vec<f32>,
    mono: Vec<f32>,
    next: Option<u32>,
    rungs: Vec<Rung>,
}

struct Rung {
    number: u8,
    encoder: Encoder,
    channels: usize,
    frames: u32,
}

/// A frame that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeFrame {
    pub rung: u8,
    pub payload: Vec<u8>,
    /// A decoder may come here from another rung.
    pub switch_point: bool,
}

impl Transcoder {
    /// Of a source of so many channels, 1 or 2.
    ///
    /// # Errors
    /// When libopus has no memory.
    pub fn new(channels: usize) -> Result<Self, OpusError> {
        let channels = channels.clamp(1, 2);
        Ok(Self {
            decoder: Decoder::new(channels)?,
            channels,
            samples: vec![0.0; FRAME_SAMPLES * channels],
            mono: vec![0.0; FRAME_SAMPLES],
            next: None,
            rungs: Vec::new(),
        })
    }

    /// Makes this rung from the next frame on. It has no more channels than the source.
    ///
    /// # Errors
    /// When libopus takes none of it.
    pub fn add(&mut self, number: u8, coding: Coding) -> Result<(), OpusError> {
        let channels = coding.channels.clamp(1, self.channels);
        let encoder = Encoder::new(Coding { channels, ..coding })?;
        self.remove(number);
        self.rungs.push(Rung { number, encoder, channels, frames: 0 });
        Ok(())
    }

    pub fn remove(&mut self, number: u8) {
        self.rungs.retain(|rung| rung.number != number);
    }

    /// Decodes the source's frame of this index, or conceals that it is missing. Frames are told in order; indices that are
    /// left out came on no rung.
    ///
    /// # Errors
    /// When it is no frame. It is concealed then.
    pub fn take(&mut self, index: u32, payload: Option<&[u8]>) -> Result<(), OpusError> {
        let missing = self.next.map_or(0, |next| index.saturating_sub(next));
        self.next = Some(index.saturating_add(1));
        for _ in 0..missing.min(CONCEALED_MAX) {
            self.decoder.conceal(&mut self.samples)?;
        }
        if missing > 0 {
            // Encoders go on from the sound right before, too, which is sent to nobody.
            self.encode(index.saturating_sub(1), |_, _, _| {})?;
        }
        let decoded = payload.map_or(Ok(()), |payload| self.decoder.decode(payload, &mut self.samples));
        if payload.is_none() || decoded.is_err() {
            self.decoder.conceal(&mut self.samples)?;
        }
        decoded
    }

    /// Encodes what was taken last for every rung, behind what `made` has.
    ///
    /// # Errors
    /// When libopus refuses.
    pub fn make(&mut self, made: &mut Vec<MadeFrame>) -> Result<(), OpusError> {
        let index = self.next.map_or(0, |next| next.saturating_sub(1));
        self.encode(index, |rung, payload, switch_point| made.push(MadeFrame { rung, payload, switch_point }))
    }

    fn encode(&mut self, index: u32, mut each: impl FnMut(u8, Vec<u8>, bool)) -> Result<(), OpusError> {
        let on_grid = index.is_multiple_of(SWITCH_EVERY);
        if self.rungs.iter().any(|rung| rung.channels < self.channels) {
            mix(&self.samples, &mut self.mono);
        }
        for rung in &mut self.rungs {
            let samples = if rung.channels < self.channels { &self.mono } else { &self.samples };
            let mut payload = Vec::with_capacity(FRAME_BYTES_MAX);
            rung.encoder.encode(samples, on_grid, &mut payload)?;
            each(rung.number, payload, on_grid && rung.frames >= WARM_UP);
            rung.frames = rung.frames.saturating_add(1);
        }
        Ok(())
    }
}

/// Two channels in one.
fn mix(stereo: &[f32], mono: &mut [f32]) {
    for (sample, pair) in mono.iter_mut().zip(stereo.chunks_exact(2)) {
        *sample = (pair[0] + pair[1]) * 0.5;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::level;
    use crate::testing::{frequency, opus, tone};

    const HERTZ: f64 = 440.0;

    fn source(channels: usize, seconds: f64) -> Vec<Vec<u8>> {
        opus(&tone(HERTZ, 48_000, channels, seconds), channels)
    }

    fn coding(bits_per_second: u32, channels: usize) -> Coding {
        Coding { bits_per_second, channels, voice: false, complexity: 5 }
    }

    /// What each frame is made of it, on the rungs that there are.
    fn made(transcoder: &mut Transcoder, index: u32, payload: Option<&[u8]>) -> Vec<MadeFrame> {
        transcoder.take(index, payload).unwrap();
        let mut made = Vec::new();
        transcoder.make(&mut made).unwrap();
        made
    }

    /// One listener's decoder.
    struct Heard(Decoder, usize, Vec<f32>);

    impl Heard {
        fn new(channels: usize) -> Self {
            Self(Decoder::new(channels).unwrap(), channels, Vec::new())
        }

        fn hear(&mut self, payload: &[u8]) {
            let from = self.2.len();
            self.2.resize(from + FRAME_SAMPLES * self.1, 0.0);
            self.0.decode(payload, &mut self.2[from..]).unwrap();
        }

        fn miss(&mut self) {
            let from = self.2.len();
            self.2.resize(from + FRAME_SAMPLES * self.1, 0.0);
            self.0.conceal(&mut self.2[from..]).unwrap();
        }

        fn after(&self, frames: usize) -> &[f32] {
            &self.2[frames * FRAME_SAMPLES * self.1..]
        }

        /// The largest step from one sample to the next: a click is much larger than any of the tone's.
        fn steepest(&self, from: usize) -> f32 {
            let first: Vec<f32> = self.after(from).iter().step_by(self.1).copied().collect();
            first.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max)
        }
    }

    /// Of a tone at half of full scale.
    fn step_of_the_tone() -> f32 {
        (HERTZ * std::f64::consts::TAU / 48_000.0) as f32 * 0.5
    }

    #[test]
    fn a_tone_survives_on_every_rung_as_loud_as_it_was() {
        let mut transcoder = Transcoder::new(2).unwrap();
        for (rung, bits, channels) in [(1, 24_000, 1), (2, 32_000, 1), (3, 48_000, 2)] {
            transcoder.add(rung, coding(bits, channels)).unwrap();
        }
        let mut heard = [Heard::new(1), Heard::new(1), Heard::new(2)];
        let mut bytes = [0; 3];
        for (index, payload) in (1_000..).zip(source(2, 1.0)) {
            for (made, (heard, bytes)) in
                made(&mut transcoder, index, Some(&payload)).iter().zip(heard.iter_mut().zip(&mut bytes))
            {
                assert_eq!(made.switch_point, index % 10 == 0 && index >= 1_003, "{index}");
                heard.hear(&made.payload);
                *bytes += made.payload.len();
            }
        }
        for heard in heard {
            let late = heard.after(10);
            assert!((frequency(late, heard.1) - HERTZ).abs() < 2.0, "{}", frequency(late, heard.1));
            assert_eq!(level(late), 9, "half of full scale");
        }
        assert!(bytes[0] < bytes[1] && bytes[1] < bytes[2] && bytes[0] * 8 < 26_000, "{bytes:?}");
    }

    #[test]
    fn one_channel_stays_one() {
        let mut transcoder = Transcoder::new(1).unwrap();
        transcoder.add(1, coding(24_000, 2)).unwrap();
        let mut heard = Heard::new(1);
        for (index, payload) in (0..).zip(source(1, 0.5)) {
            let frame = made(&mut transcoder, index, Some(&payload)).remove(0);
            // The stereo bit of the table of contents (RFC 6716, section 3.1).
            assert_eq!(frame.payload[0] & 0x04, 0);
            heard.hear(&frame.payload);
        }
        assert!((frequency(heard.after(5), 1) - HERTZ).abs() < 2.0);
    }

    #[test]
    fn a_frame_that_is_missing_is_concealed() {
        let mut transcoder = Transcoder::new(2).unwrap();
        transcoder.add(1, coding(32_000, 1)).unwrap();
        let mut heard = Heard::new(1);
        for (index, payload) in (0..).zip(source(2, 1.0)) {
            // 20 is missing on this rung, 30 and 31 on all, and 40 is none.
            match index {
                20 => heard.hear(&made(&mut transcoder, index, None)[0].payload),
                30 | 31 => heard.miss(),
                40 => {
                    assert!(transcoder.take(index, Some(&[0xfd, 0])).is_err());
                    let mut made = Vec::new();
                    transcoder.make(&mut made).unwrap();
                    heard.hear(&made[0].payload);
                }
                _ => heard.hear(&made(&mut transcoder, index, Some(&payload))[0].payload),
            }
        }
        let quietest = heard.after(10).chunks(FRAME_SAMPLES).map(level).max();
        assert!(quietest.is_some_and(|quietest| quietest <= 15), "{quietest:?}");
        assert!(heard.steepest(10) < 4.0 * step_of_the_tone(), "{}", heard.steepest(10));
    }

    #[test]
    fn a_listener_comes_to_a_rung_in_the_middle_and_goes_back_without_a_click() {
        let mut transcoder = Transcoder::new(2).unwrap();
        transcoder.add(1, coding(48_000, 2)).unwrap();
        let mut heard = Heard::new(2);
        for (index, payload) in (0..).zip(source(2, 2.0)) {
            if index == 43 {
                transcoder.add(2, coding(32_000, 1)).unwrap();
            }
            if index == 80 {
                transcoder.remove(2);
            }
            let made = made(&mut transcoder, index, Some(&payload));
            let of = |rung| made.iter().find(|made| made.rung == rung);
            assert_eq!(of(2).is_some(), (43..80).contains(&index));
            assert!(!of(1).unwrap().switch_point || index % 10 == 0);
            match index {
                // From the source to one that is made, to the new one at its first switch point, and back.
                0..20 => heard.hear(&payload),
                50..70 => heard.hear(&of(2).unwrap().payload),
                20..50 | 70..90 => heard.hear(&of(1).unwrap().payload),
                _ => heard.hear(&payload),
            }
            assert!(index != 50 || of(2).unwrap().switch_point);
        }
        assert!((frequency(heard.after(92), 2) - HERTZ).abs() < 2.0);
        // The lag of a made rung is a bend in the tone, far from a click of the decoder.
        assert!(heard.steepest(5) < 4.0 * step_of_the_tone(), "{} of {}", heard.steepest(5), step_of_the_tone());
    }

    #[test]
    fn the_lag_is_what_is_said() {
        let mut music = Encoder::new(coding(32_000, 1)).unwrap();
        let mut voice = Encoder::new(Coding { voice: true, ..coding(16_000, 1) }).unwrap();
        assert_eq!((music.lookahead(), voice.lookahead()), (120, 312));
    }
}
