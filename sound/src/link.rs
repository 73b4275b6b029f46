//! Opus in Ogg (RFC 7845): one link of a chain after the other, as frames of 20 ms wherever that costs no encoding.

use std::collections::VecDeque;
use std::io::Read;

use ogg::Packet;
use opusic_c::{Channels, Decoder, SampleRate};

use crate::framer::{FRAME_VALUES, Framer};
use crate::level::level;
use crate::ogg::Pages;
use crate::opus::FRAME_SAMPLES;
use crate::packet::{self, PACKET_SAMPLES_MAX, Packing};
use crate::source::{Piece, SourceError};
use crate::tags;

/// A frame that passes as it is: a media packet holds it, with what stands around it.
pub(crate) const PASSED_BYTES_MAX: usize = 1_000;
/// Frames that a hole between pages may have, five seconds: what is longer is another clock.
const HOLE_MAX: u64 = 250;
/// A page without a granule position: no packet ends on it.
const NO_GRANULE: u64 = u64::MAX;

/// Reads Opus from Ogg.
pub(crate) struct OpusLinks<R> {
    pages: Pages<R>,
    link: Option<Link>,
    /// Packets of the page at hand: where they belong is known with its last.
    page: Vec<Vec<u8>>,
    /// Whether frames may pass as they are.
    passes: bool,
    framer: Framer,
    ready: VecDeque<Piece>,
    decoder: Decoder,
    decoded: Vec<f32>,
}

/// What is known of the link at hand.
struct Link {
    serial: u32,
    /// What its samples are to be multiplied with.
    gain: f32,
    tagged: bool,
    /// Samples at the beginning that are not to be played.
    skip: usize,
    /// Where the last page ended; before the first one nobody knows where the stream begins.
    granule: Option<u64>,
}

impl<R: Read> OpusLinks<R> {
    pub(crate) fn new(reader: R) -> Result<Self, SourceError> {
        let decoder = Decoder::new(Channels::Stereo, SampleRate::Hz48000)
            .map_err(|_| SourceError::Unsupported("libopus has no memory for a decoder"))?;
        Ok(Self {
            pages: Pages::new(reader),
            link: None,
            page: Vec::new(),
            passes: true,
            framer: Framer::new(),
            ready: VecDeque::new(),
            decoder,
            decoded: vec![0.0; PACKET_SAMPLES_MAX * 2],
        })
    }

    /// From here on everything is decoded.
    pub(crate) fn decode_all(&mut self) {
        self.passes = false;
    }

    pub(crate) fn next(&mut self) -> Result<Option<Piece>, SourceError> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Ok(Some(piece));
            }
            match self.pages.packet()? {
                Some(packet) => self.take(packet)?,
                None if self.link.is_some() => return Err(SourceError::Truncated),
                None => {
                    self.framer.finish()?;
                    self.cut();
                    if self.ready.is_empty() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn take(&mut self, packet: Packet) -> Result<(), SourceError> {
        if packet.first_in_stream() {
            return self.begin(&packet);
        }
        let Some(link) = self.link.as_mut() else {
            return Err(SourceError::Unsupported("this Ogg stream holds no Opus"));
        };
        if packet.stream_serial() != link.serial {
            return Ok(());
        }
        if !link.tagged {
            link.tagged = true;
            let comments = packet.data.strip_prefix(b"OpusTags");
            let comments = comments.ok_or(SourceError::Malformed("no OpusTags follow the OpusHead"))?;
            self.ready.extend(tags::playing(comments).map(Piece::Playing));
            return Ok(());
        }
        let (granule, ends_page, ends_link) = (packet.absgp_page(), packet.last_in_page(), packet.last_in_stream());
        self.page.push(packet.data);
        if ends_page {
            self.page(granule, ends_link)?;
        }
        if ends_link {
            self.link = None;
            self.pages.forget();
        }
        Ok(())
    }

    /// The identification header (section 5.1).
    fn begin(&mut self, packet: &Packet) -> Result<(), SourceError> {
        let Some(head) = packet.data.strip_prefix(b"OpusHead") else { return Ok(()) };
        let &[version, channels, skip_low, skip_high, _, _, _, _, gain_low, gain_high, family, ..] = head else {
            return Err(SourceError::Malformed("the OpusHead is too short"));
        };
        if version & 0xf0 != 0 {
            return Err(SourceError::Unsupported("this version of Opus in Ogg is not known"));
        }
        if family != 0 || !(1..=2).contains(&channels) {
            return Err(SourceError::Unsupported("Opus with more than two channels is not taken"));
        }
        let gain = i16::from_le_bytes([gain_low, gain_high]);
        self.page.clear();
        self.decoder.reset().map_err(|_| SourceError::Malformed("the decoder cannot begin anew"))?;
        self.link = Some(Link {
            serial: packet.stream_serial(),
            gain: 10_f32.powf(f32::from(gain) / (20.0 * 256.0)),
            tagged: false,
            skip: usize::from(u16::from_le_bytes([skip_low, skip_high])),
            granule: None,
        });
        Ok(())
    }

    /// What a page brings, with what is missing before it or too much at its end.
    fn page(&mut self, granule: u64, ends: bool) -> Result<(), SourceError> {
        let packets = std::mem::take(&mut self.page);
        let mut samples = 0;
        for packet in &packets {
            samples += packet::samples(packet).ok_or(SourceError::Malformed("a packet is not Opus"))? as u64;
        }
        let mut surplus = 0;
        if granule != NO_GRANULE
            && let Some(link) = &mut self.link
        {
            if let Some(before) = link.granule {
                if granule < before {
                    return Err(SourceError::Malformed("granule positions go backwards"));
                }
                let hole = (granule - before).saturating_sub(samples) / FRAME_SAMPLES as u64;
                if (1..=HOLE_MAX).contains(&hole) {
                    self.ready.push_back(Piece::Hole(hole as u32));
                }
                surplus = if ends { (before + samples).saturating_sub(granule) } else { 0 };
            }
            link.granule = Some(granule);
        }
        let last = packets.len().saturating_sub(1);
        for (at, packet) in packets.iter().enumerate() {
            self.audio(packet, if at == last { surplus } else { 0 })?;
        }
        Ok(())
    }

    fn audio(&mut self, packet: &[u8], surplus: u64) -> Result<(), SourceError> {
        const BAD: SourceError = SourceError::Malformed("an Opus packet cannot be decoded");
        let Some(link) = &mut self.link else { return Ok(()) };
        let samples = self.decoder.decode_float_to_slice(packet, &mut self.decoded, false).map_err(|_| BAD)?;
        let decoded = &mut self.decoded[..samples * 2];
        if self.passes && link.gain == 1.0 {
            let frames = match packet::packing(packet).ok_or(BAD)? {
                Packing::Frame => vec![packet.to_vec()],
                Packing::Frames(frames) => frames,
                Packing::Other => Vec::new(),
            };
            if !frames.is_empty() && frames.iter().all(|frame| frame.len() <= PASSED_BYTES_MAX) {
                self.framer.finish()?;
                while let Some(sound) = self.framer.frame() {
                    self.ready.push_back(Piece::Sound(sound));
                }
                for (frame, sound) in frames.into_iter().zip(decoded.chunks(FRAME_VALUES)) {
                    if link.skip >= FRAME_SAMPLES {
                        link.skip -= FRAME_SAMPLES;
                    } else {
                        link.skip = 0;
                        self.ready.push_back(Piece::Packet { frame, level: level(sound) });
                    }
                }
                return Ok(());
            }
        }
        let skipped = link.skip.min(samples);
        link.skip -= skipped;
        let end = samples.saturating_sub(usize::try_from(surplus).unwrap_or(usize::MAX)).max(skipped);
        decoded.iter_mut().for_each(|value| *value *= link.gain);
        self.framer.push(&decoded[skipped * 2..end * 2], 2, 48_000)?;
        self.cut();
        Ok(())
    }

    fn cut(&mut self) {
        while let Some(sound) = self.framer.frame() {
            self.ready.push_back(Piece::Sound(sound));
        }
    }
}
