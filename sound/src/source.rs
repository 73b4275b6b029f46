//! What comes of bytes that somebody sends or a file holds: frames, sound, titles.

use std::io::{self, Cursor, Read};

use crate::decoded::Decoded;
use crate::link::OpusLinks;

/// Bytes of an Ogg page's header with one segment, and the magic of Opus behind it.
const OPUS_AT: usize = 28;
const OPUS_MAGIC: &[u8] = b"OpusHead";

/// Why nothing more comes of a source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("it breaks off before its end")]
    Truncated,
    #[error("it is damaged: {0}")]
    Malformed(&'static str),
    #[error("it cannot be played: {0}")]
    Unsupported(&'static str),
    #[error(transparent)]
    Opus(#[from] crate::opus::OpusError),
}

/// Something of a source, in its order.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// A frame of Opus, 20 ms, as it came.
    Packet { frame: Vec<u8>, level: u8 },
    /// 20 ms of stereo at 48 kHz, [`crate::framer::FRAME_VALUES`] interleaved values.
    Sound(Vec<f32>),
    /// So many frames are missing here.
    Hole(u32),
    /// What is played from here on.
    Playing(String),
}

/// Ogg-Opus, Ogg-Vorbis, MP3, FLAC or WAV; what it is, it says itself.
pub struct Source(Kind);

enum Kind {
    Opus(Box<OpusLinks<Box<dyn Read + Send + Sync>>>),
    Other(Box<Decoded>),
}

impl Source {
    /// Reads as much as tells what it is.
    ///
    /// # Errors
    /// When it is none of them.
    pub fn open(mut reader: impl Read + Send + Sync + 'static) -> Result<Self, SourceError> {
        let mut first = Vec::new();
        reader.by_ref().take((OPUS_AT + OPUS_MAGIC.len()) as u64).read_to_end(&mut first)?;
        let is_opus = first.starts_with(b"OggS") && first.get(OPUS_AT..).is_some_and(|rest| rest == OPUS_MAGIC);
        let whole: Box<dyn Read + Send + Sync> = Box::new(Cursor::new(first).chain(reader));
        Ok(Self(if is_opus {
            Kind::Opus(Box::new(OpusLinks::new(whole)?))
        } else {
            Kind::Other(Box::new(Decoded::open(whole)?))
        }))
    }

    /// From here on everything comes as sound.
    pub fn decode_all(&mut self) {
        match &mut self.0 {
            Kind::Opus(links) => links.decode_all(),
            Kind::Other(_) => {}
        }
    }

    /// What comes next; `None` at the end.
    ///
    /// # Errors
    /// [`SourceError`]: nothing more comes.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, SourceError> {
        match &mut self.0 {
            Kind::Opus(links) => links.next(),
            Kind::Other(decoded) => decoded.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opus::{Coding, Decoder, Encoder, FRAME_SAMPLES};
    use crate::testing::{frequency, ogg_opus, opus, tone, wav};

    fn pieces(bytes: Vec<u8>) -> (Vec<Piece>, Option<SourceError>) {
        let mut pieces = Vec::new();
        let mut source = match Source::open(Cursor::new(bytes)) {
            Ok(source) => source,
            Err(error) => return (pieces, Some(error)),
        };
        loop {
            match source.next_piece() {
                Ok(Some(piece)) => pieces.push(piece),
                Ok(None) => return (pieces, None),
                Err(error) => return (pieces, Some(error)),
            }
        }
    }

    fn packets(pieces: &[Piece]) -> Vec<Vec<u8>> {
        let frame = |piece: &Piece| match piece {
            Piece::Packet { frame, .. } => Some(frame.clone()),
            Piece::Sound(_) | Piece::Hole(_) | Piece::Playing(_) => None,
        };
        pieces.iter().filter_map(frame).collect()
    }

    fn sound(pieces: &[Piece]) -> Vec<f32> {
        let sound = |piece: &Piece| match piece {
            Piece::Sound(sound) => Some(sound.clone()),
            Piece::Packet { .. } | Piece::Hole(_) | Piece::Playing(_) => None,
        };
        pieces.iter().filter_map(sound).flatten().collect()
    }

    /// Packets of 2.5 to 120 ms, by libopus.
    fn packets_of(samples: &[f32], length: usize) -> Vec<Vec<u8>> {
        use opusic_c::{Application, Channels, Encoder, SampleRate};
        let mut encoder = Encoder::new(Channels::Stereo, SampleRate::Hz48000, Application::LowDelay).unwrap();
        let encode = |samples: &[f32]| {
            let mut packet = Vec::with_capacity(4_000);
            encoder.encode_float_to_vec(samples, &mut packet).unwrap();
            packet
        };
        samples.chunks_exact(length * 2).map(encode).collect()
    }

    #[test]
    fn frames_of_twenty_milliseconds_pass_as_they_came() {
        let sent = opus(&tone(440.0, 48_000, 2, 1.0), 2);
        let (pieces, end) = pieces(ogg_opus(7, 2, &["ARTIST=A", "TITLE=T"], &sent, 5));
        assert!(end.is_none(), "{end:?}");
        assert_eq!(pieces[0], Piece::Playing("A – T".to_owned()));
        assert_eq!(packets(&pieces), sent);
        let levels =
            pieces.iter().filter_map(|piece| if let Piece::Packet { level, .. } = piece { Some(*level) } else { None });
        assert!(levels.skip(3).all(|level| (8..=10).contains(&level)), "half of full scale, a sine: -9 dB");
    }

    #[test]
    fn longer_packets_are_taken_apart_and_others_decoded() {
        let samples = tone(440.0, 48_000, 2, 1.2);
        for length in [1_920, 2_880, 5_760] {
            let sent = packets_of(&samples, length);
            let (pieces, end) = pieces(ogg_opus(7, 2, &[], &sent, 3));
            assert!(end.is_none(), "{end:?}");
            let frames = packets(&pieces);
            assert_eq!(frames.len(), 60, "{length}");
            let mut decoder = Decoder::new(2).unwrap();
            let mut heard = Vec::new();
            for frame in &frames {
                let mut sound = vec![0.0; FRAME_SAMPLES * 2];
                decoder.decode(frame, &mut sound).unwrap();
                heard.extend(sound);
            }
            assert!((frequency(&heard[9_600..], 2) - 440.0).abs() < 1.0);
        }
        for length in [120, 240, 480] {
            let sent = packets_of(&samples, length);
            let (pieces, end) = pieces(ogg_opus(7, 2, &[], &sent, 20));
            assert!(end.is_none(), "{end:?}");
            let heard = sound(&pieces);
            // Without what an encoder puts in front.
            assert_eq!(heard.len(), (57_600 - 312_usize).div_ceil(960) * 1_920, "{length}");
            assert!((frequency(&heard[9_600..100_000], 2) - 440.0).abs() < 1.0);
        }
    }

    #[test]
    fn links_of_a_chain_follow_one_another() {
        let (first, second) = (opus(&tone(440.0, 48_000, 2, 0.4), 2), opus(&tone(880.0, 48_000, 1, 0.4), 1));
        let chain = [ogg_opus(7, 2, &["TITLE=one"], &first, 5), ogg_opus(8, 1, &["TITLE=two"], &second, 5)].concat();
        let (pieces, end) = pieces(chain);
        assert!(end.is_none(), "{end:?}");
        assert_eq!(packets(&pieces), [first, second].concat());
        let playing: Vec<_> = pieces.iter().filter(|piece| matches!(piece, Piece::Playing(_))).collect();
        assert_eq!(playing, [&Piece::Playing("one".to_owned()), &Piece::Playing("two".to_owned())]);
        // One link more than may begin before one is followed is fine when each has ended: nothing is kept of them.
        let many: Vec<u8> = (0..20).flat_map(|serial| ogg_opus(serial, 1, &[], &opus(&[0.0; 960], 1), 1)).collect();
        assert!(self::pieces(many).1.is_none());
    }

    #[test]
    fn what_breaks_off_or_is_damaged_is_said() {
        let sent = opus(&tone(440.0, 48_000, 2, 1.0), 2);
        let whole = ogg_opus(7, 2, &[], &sent, 5);
        for cut in [whole.len() - 1, whole.len() / 2, 60] {
            let (_, end) = pieces(whole[..cut].to_vec());
            assert!(matches!(end, Some(SourceError::Truncated)), "{cut}: {end:?}");
        }
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        assert!(matches!(pieces(flipped).1, Some(SourceError::Malformed(_) | SourceError::Truncated)));
        let mut untitled = whole.clone();
        untitled[28 + 19 + 28..][..8].copy_from_slice(b"OpusTagz");
        assert!(matches!(pieces(untitled).1, Some(SourceError::Malformed(_))));
        for nothing in [&b""[..], b"Og", b"hello, this is no sound at all, however long it goes on"] {
            assert!(matches!(pieces(nothing.to_vec()).1, Some(SourceError::Unsupported(_) | SourceError::Truncated)));
        }
        let wide = ogg_opus(7, 6, &[], &sent, 5);
        assert!(matches!(pieces(wide).1, Some(SourceError::Unsupported(_))));
        let (heard, end) = pieces(ogg_opus(7, 2, &[], &[sent[0].clone(), Vec::new()], 1));
        assert!(matches!(end, Some(SourceError::Malformed("a packet is not Opus"))), "{end:?}");
        assert_eq!(heard.len(), 1);
    }

    #[test]
    fn a_hole_in_the_granule_positions_is_a_hole() {
        let sent = opus(&tone(440.0, 48_000, 2, 0.4), 2);
        let whole = ogg_opus(7, 2, &[], &sent, 1);
        // The pages of the third to the fifth packet never came.
        let starts: Vec<usize> =
            whole.windows(4).enumerate().filter(|(_, at)| *at == b"OggS").map(|(at, _)| at).collect();
        let holed = [&whole[..starts[4]], &whole[starts[7]..]].concat();
        let (pieces, end) = pieces(holed);
        assert!(end.is_none(), "{end:?}");
        assert_eq!((&pieces[2], packets(&pieces).len()), (&Piece::Hole(3), 17));
    }

    #[test]
    fn files_become_sound_at_their_own_pitch() {
        for (rate, channels) in [(44_100, 2), (48_000, 1), (22_050, 1)] {
            let (pieces, end) = pieces(wav(&tone(523.0, rate, channels, 1.0), channels as u16, rate));
            assert!(end.is_none(), "{end:?}");
            let heard = sound(&pieces);
            assert!((95_000..=102_000).contains(&heard.len()), "{rate}: {}", heard.len());
            assert!((frequency(&heard[9_600..86_400], 2) - 523.0).abs() < 2.0);
        }
        let (_, end) = pieces(wav(&tone(523.0, 48_000, 6, 0.1), 6, 48_000));
        assert!(matches!(end, Some(SourceError::Unsupported(_))), "{end:?}");
    }

    #[test]
    fn a_packet_that_no_media_packet_holds_is_decoded() {
        let coding = Coding { bits_per_second: 510_000, channels: 2, voice: false, complexity: 5 };
        let mut encoder = Encoder::new(coding).unwrap();
        let mut noise = 1_u32;
        let mut random = || {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            noise as f32 / u32::MAX as f32 - 0.5
        };
        let samples: Vec<f32> = std::iter::repeat_with(&mut random).take(FRAME_SAMPLES * 2).collect();
        let mut packet = Vec::new();
        encoder.encode(&samples, false, &mut packet).unwrap();
        assert!(packet.len() > 1_000, "{}", packet.len());
        let (pieces, end) = pieces(ogg_opus(7, 2, &[], &[packet.clone(), packet], 1));
        assert!(end.is_none() && packets(&pieces).is_empty() && !sound(&pieces).is_empty());
    }
}
