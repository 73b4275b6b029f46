//! A source as a publisher sends it: every frame on every rung.

use std::collections::VecDeque;
use std::io::Read;

use crate::level::level;
use crate::opus::{Coding, Encoder, FRAME_BYTES_MAX};
use crate::source::{Piece, Source, SourceError};

/// Every so many frames a decoder may come from another rung.
pub const SWITCH_EVERY: u32 = 10;
/// Frames of a source that passes, by which its bit rate is measured: half a second.
const MEASURED: usize = 25;
/// What a rung may announce, bits per second.
const BITS_MIN: u32 = 6_000;
const BITS_MAX: u32 = 256_000;
const FRAMES_PER_SECOND: usize = 50;

/// A quality that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rung {
    pub number: u8,
    pub bits_per_second: u32,
    /// 1 or 2.
    pub channels: u8,
}

/// What is to be made of sound that has to be encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Best first.
    pub rungs: Vec<Rung>,
    pub voice: bool,
    /// 0 (fast) to 10.
    pub complexity: u8,
    /// Whether Opus frames of 20 ms may pass as they came, on one rung.
    pub passes: bool,
}

impl Wanted {
    /// 96 and 32 kb/s for music, 24 and 12 kb/s for voice.
    pub fn usual(voice: bool) -> Self {
        let rung = |number, bits_per_second, channels| Rung { number, bits_per_second, channels };
        let rungs = if voice {
            vec![rung(0, 24_000, 1), rung(1, 12_000, 1)]
        } else {
            vec![rung(0, 96_000, 2), rung(1, 32_000, 1)]
        };
        Self { rungs, voice, complexity: 5, passes: true }
    }
}

/// 20 ms on every rung.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Frames that are missing before it.
    pub skipped: u32,
    /// As [`level`] says it.
    pub level: u8,
    pub rungs: Vec<Coded>,
}

/// A frame on one rung.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coded {
    pub rung: u8,
    /// Coded without prediction from the frames before.
    pub fresh: bool,
    pub payload: Vec<u8>,
}

/// What comes of a source next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fed {
    Frame(Frame),
    Playing(String),
}

/// Gives out a source frame by frame.
pub struct Feed {
    source: Source,
    rungs: Vec<Rung>,
    encoders: Vec<(Rung, Encoder)>,
    voice: bool,
    complexity: u8,
    passes: bool,
    /// Frames so far, missing ones too.
    index: u32,
    skipped: u32,
    early: VecDeque<Fed>,
    /// What ended it while it was measured.
    ended: Option<Option<SourceError>>,
}

impl Feed {
    /// Reads until it is known what rungs there are.
    ///
    /// # Errors
    /// [`SourceError`] when it cannot be played.
    pub fn open(reader: impl Read + Send + Sync + 'static, wanted: Wanted) -> Result<Self, SourceError> {
        let Wanted { rungs, voice, complexity, passes } = wanted;
        let mut source = Source::open(reader)?;
        if !passes {
            source.decode_all();
        }
        let mut feed = Self {
            source,
            rungs,
            encoders: Vec::new(),
            voice,
            complexity,
            passes: false,
            index: 0,
            skipped: 0,
            early: VecDeque::new(),
            ended: None,
        };
        feed.begin()?;
        Ok(feed)
    }

    /// What is sent, best first.
    pub fn rungs(&self) -> &[Rung] {
        &self.rungs
    }

    /// Whether frames pass as they came.
    pub fn passes(&self) -> bool {
        self.passes
    }

    /// What comes next; `None` at the end.
    ///
    /// # Errors
    /// [`SourceError`]: nothing more comes.
    pub fn next_fed(&mut self) -> Result<Option<Fed>, SourceError> {
        if let Some(fed) = self.early.pop_front() {
            return Ok(Some(fed));
        }
        match self.ended.take() {
            Some(Some(error)) => {
                self.ended = Some(None);
                Err(error)
            }
            Some(None) => {
                self.ended = Some(None);
                Ok(None)
            }
            None => self.read(),
        }
    }

    /// The first piece of sound decides whether it passes.
    fn begin(&mut self) -> Result<(), SourceError> {
        loop {
            match self.source.next_piece()? {
                None => return Err(SourceError::Unsupported("there is no sound in it")),
                Some(Piece::Hole(_)) => {}
                Some(Piece::Playing(playing)) => self.early.push_back(Fed::Playing(playing)),
                Some(piece @ Piece::Sound(_)) => {
                    self.source.decode_all();
                    let frame = self.take(piece)?;
                    self.early.extend(frame);
                    return Ok(());
                }
                Some(piece @ Piece::Packet { .. }) => {
                    self.passes = true;
                    return self.measure(piece);
                }
            }
        }
    }

    /// Looks at the first frames that pass for what they take.
    fn measure(&mut self, first: Piece) -> Result<(), SourceError> {
        let mut piece = Some(first);
        let (mut bytes, mut frames, mut channels) = (0, 0, 1);
        while let Some(found) = piece.take() {
            if let Piece::Packet { frame, .. } = &found {
                bytes += frame.len();
                frames += 1;
                channels = channels.max(if frame[0] & 4 != 0 { 2 } else { 1 });
            }
            // Sound among it, which has to be encoded, is nothing to measure by.
            let is_sound = matches!(found, Piece::Sound(_));
            let measured = frames >= MEASURED || is_sound;
            if measured || frames == 0 {
                self.rungs = vec![Rung { number: 0, bits_per_second: rate(bytes, frames), channels }];
            }
            let fed = self.take(found)?;
            self.early.extend(fed);
            if measured {
                return Ok(());
            }
            match self.source.next_piece() {
                Ok(next) => piece = next,
                Err(error) => {
                    self.ended = Some(Some(error));
                    break;
                }
            }
        }
        self.ended.get_or_insert(None);
        self.rungs = vec![Rung { number: 0, bits_per_second: rate(bytes, frames), channels }];
        Ok(())
    }

    fn read(&mut self) -> Result<Option<Fed>, SourceError> {
        loop {
            let Some(piece) = self.source.next_piece()? else { return Ok(None) };
            if let Some(fed) = self.take(piece)? {
                return Ok(Some(fed));
            }
        }
    }

    fn take(&mut self, piece: Piece) -> Result<Option<Fed>, SourceError> {
        let (level, rungs) = match piece {
            Piece::Playing(playing) => return Ok(Some(Fed::Playing(playing))),
            Piece::Hole(frames) => {
                self.skipped = self.skipped.saturating_add(frames);
                self.index = self.index.wrapping_add(frames);
                return Ok(None);
            }
            Piece::Packet { frame, level } => (level, vec![Coded { rung: 0, fresh: false, payload: frame }]),
            Piece::Sound(sound) => (level(&sound), self.encode(&sound)?),
        };
        self.index = self.index.wrapping_add(1);
        let skipped = std::mem::take(&mut self.skipped);
        Ok(Some(Fed::Frame(Frame { skipped, level, rungs })))
    }

    fn encode(&mut self, sound: &[f32]) -> Result<Vec<Coded>, SourceError> {
        if self.encoders.is_empty() {
            for rung in &self.rungs {
                let coding = Coding {
                    bits_per_second: rung.bits_per_second,
                    channels: rung.channels.into(),
                    voice: self.voice,
                    complexity: self.complexity,
                };
                self.encoders.push((*rung, Encoder::new(coding)?));
            }
        }
        let fresh = self.index.is_multiple_of(SWITCH_EVERY);
        let mut mono = Vec::new();
        let mut coded = Vec::with_capacity(self.encoders.len());
        for (rung, encoder) in &mut self.encoders {
            let mut payload = Vec::with_capacity(FRAME_BYTES_MAX);
            if rung.channels == 1 {
                if mono.is_empty() {
                    mono.extend(sound.chunks_exact(2).map(|pair| f32::midpoint(pair[0], pair[1])));
                }
                encoder.encode(&mono, fresh, &mut payload)?;
            } else {
                encoder.encode(sound, fresh, &mut payload)?;
            }
            coded.push(Coded { rung: rung.number, fresh, payload });
        }
        Ok(coded)
    }
}

/// Bits per second of so many bytes, in whole kilobits, upwards.
fn rate(bytes: usize, frames: usize) -> u32 {
    let bits = (bytes * 8 * FRAMES_PER_SECOND).div_ceil(frames.max(1));
    u32::try_from(bits).unwrap_or(u32::MAX).div_ceil(1_000).saturating_mul(1_000).clamp(BITS_MIN, BITS_MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::opus::{Decoder, FRAME_SAMPLES};
    use crate::testing::{frequency, ogg_opus, opus, tone, wav};

    fn frames(feed: &mut Feed) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(fed) = feed.next_fed().unwrap() {
            if let Fed::Frame(frame) = fed {
                frames.push(frame);
            }
        }
        frames
    }

    fn heard(frames: &[Frame], rung: usize) -> Vec<f32> {
        let mut decoder = Decoder::new(2).unwrap();
        let mut heard = Vec::new();
        for frame in frames {
            let mut sound = vec![0.0; FRAME_SAMPLES * 2];
            decoder.decode(&frame.rungs[rung].payload, &mut sound).unwrap();
            heard.extend(sound);
        }
        heard
    }

    #[test]
    fn sound_is_encoded_on_every_rung_with_switch_points() {
        for (voice, bits) in [(false, [96_000, 32_000]), (true, [24_000, 12_000])] {
            let file = wav(&tone(440.0, 44_100, 2, 1.0), 2, 44_100);
            let mut feed = Feed::open(Cursor::new(file), Wanted::usual(voice)).unwrap();
            assert_eq!(feed.rungs().iter().map(|rung| rung.bits_per_second).collect::<Vec<_>>(), bits);
            let frames = frames(&mut feed);
            assert!((50..=52).contains(&frames.len()) && !feed.passes());
            for (at, frame) in frames.iter().enumerate() {
                assert!(frame.rungs.iter().all(|coded| coded.fresh == at.is_multiple_of(10)));
            }
            for rung in [0, 1] {
                let off = frequency(&heard(&frames, rung)[9_600..90_000], 2) - 440.0;
                assert!(off.abs() < 2.0, "{voice} {rung}: {off}");
            }
        }
    }

    #[test]
    fn opus_passes_on_one_rung_that_is_measured() {
        let sent = opus(&tone(440.0, 48_000, 2, 1.0), 2);
        let file = ogg_opus(7, 2, &["TITLE=T"], &sent, 5);
        let mut feed = Feed::open(Cursor::new(file.clone()), Wanted::usual(false)).unwrap();
        let bytes: usize = sent[..MEASURED].iter().map(Vec::len).sum();
        let bits = (bytes * 8 * 2).div_ceil(1_000) as u32 * 1_000;
        assert_eq!(
            (feed.passes(), feed.rungs()),
            (true, &[Rung { number: 0, bits_per_second: bits, channels: 2 }][..])
        );
        assert_eq!(feed.next_fed().unwrap(), Some(Fed::Playing("T".to_owned())));
        let passed: Vec<_> = frames(&mut feed).into_iter().map(|frame| frame.rungs[0].payload.clone()).collect();
        assert_eq!(passed, sent);
        let wanted = Wanted { passes: false, ..Wanted::usual(false) };
        let mut feed = Feed::open(Cursor::new(file), wanted).unwrap();
        assert_eq!((feed.passes(), frames(&mut feed)[0].rungs.len()), (false, 2));
    }

    #[test]
    fn a_chain_that_changes_stays_on_its_rung() {
        // After Opus that passes comes Opus of 10 ms, which has to be encoded.
        let sent = opus(&tone(440.0, 48_000, 1, 0.6), 1);
        let short: Vec<Vec<u8>> = std::iter::repeat_n(vec![0xe8 | 4, 1, 2], 20).collect();
        let chain = [ogg_opus(7, 1, &[], &sent, 5), ogg_opus(8, 2, &[], &short, 5)].concat();
        let mut feed = Feed::open(Cursor::new(chain), Wanted::usual(false)).unwrap();
        let frames = frames(&mut feed);
        assert!(feed.passes() && (35..=40).contains(&frames.len()), "{}", frames.len());
        assert!(frames.iter().all(|frame| frame.rungs.len() == 1 && frame.rungs[0].rung == 0));
    }

    #[test]
    fn a_short_source_ends_as_it_ends() {
        let sent = opus(&tone(440.0, 48_000, 2, 0.1), 2);
        let file = ogg_opus(7, 2, &[], &sent, 5);
        let mut feed = Feed::open(Cursor::new(file.clone()), Wanted::usual(false)).unwrap();
        assert_eq!(frames(&mut feed).len(), 5);
        assert_eq!(feed.next_fed().unwrap(), None);
        let mut feed = Feed::open(Cursor::new(file[..file.len() - 1].to_vec()), Wanted::usual(false));
        let error = feed.as_mut().map(|feed| feed.next_fed().map(drop));
        assert!(matches!(error, Err(SourceError::Truncated) | Ok(Err(SourceError::Truncated))), "{:?}", error.err());
        assert!(Feed::open(Cursor::new(wav(&[], 2, 48_000)), Wanted::usual(false)).is_err());
    }
}
