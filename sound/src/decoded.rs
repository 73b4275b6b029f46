//! Vorbis, MP3, FLAC and PCM by symphonia.

use std::io::{self, Read};

use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSourceStream, ReadOnlySource};
use symphonia::core::meta::{MetadataOptions, StandardTag};

use crate::framer::Framer;
use crate::source::{Piece, SourceError};
use crate::tags;

/// Packets one after the other that cannot be decoded, before the source is given up.
const BAD_MAX: u32 = 50;

pub(crate) struct Decoded {
    format: Box<dyn FormatReader>,
    track: u32,
    decoder: Box<dyn AudioDecoder>,
    samples: Vec<f32>,
    framer: Framer,
    bad: u32,
    playing: Option<String>,
    is_over: bool,
}

impl Decoded {
    pub(crate) fn open(reader: impl Read + Send + Sync + 'static) -> Result<Self, SourceError> {
        let stream = MediaSourceStream::new(Box::new(ReadOnlySource::new(reader)), Default::default());
        let (format, metadata) = (FormatOptions::default(), MetadataOptions::default());
        let format = symphonia::default::get_probe().probe(&Hint::new(), stream, format, metadata);
        let format = format.map_err(|error| {
            let unknown = matches!(error, Error::Unsupported(_) | Error::LimitError(_));
            if unknown { UNKNOWN } else { failed(error) }
        })?;
        let (track, decoder) = decoder(format.as_ref())?;
        let (samples, framer) = (Vec::new(), Framer::new());
        Ok(Self { format, track, decoder, samples, framer, bad: 0, playing: None, is_over: false })
    }

    pub(crate) fn next(&mut self) -> Result<Option<Piece>, SourceError> {
        loop {
            if let Some(playing) = self.news() {
                return Ok(Some(Piece::Playing(playing)));
            }
            if let Some(sound) = self.framer.frame() {
                return Ok(Some(Piece::Sound(sound)));
            }
            if self.is_over {
                return Ok(None);
            }
            let packet = match self.format.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => {
                    self.framer.finish()?;
                    self.is_over = true;
                    continue;
                }
                // The next link of a chain.
                Err(Error::ResetRequired) => {
                    (self.track, self.decoder) = decoder(self.format.as_ref())?;
                    continue;
                }
                Err(error) => return Err(failed(error)),
            };
            if packet.track_id != self.track {
                continue;
            }
            match self.decoder.decode(&packet) {
                Ok(sound) => {
                    self.bad = 0;
                    let (rate, channels) = (sound.spec().rate(), sound.spec().channels().count());
                    sound.copy_to_vec_interleaved(&mut self.samples);
                    self.framer.push(&self.samples, channels, rate)?;
                }
                Err(Error::ResetRequired) => self.decoder.reset(),
                Err(Error::DecodeError(_)) if self.bad < BAD_MAX => self.bad += 1,
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// What is played, when that is news.
    fn news(&mut self) -> Option<String> {
        let (mut artist, mut title) = (None, None);
        {
            let mut metadata = self.format.metadata();
            let revision = metadata.skip_to_latest()?;
            let tracks = revision.per_track.iter().flat_map(|track| &track.metadata.tags);
            for tag in revision.media.tags.iter().chain(tracks).filter_map(|tag| tag.std.as_ref()) {
                if let StandardTag::Artist(name) = tag {
                    artist.get_or_insert_with(|| name.to_string());
                } else if let StandardTag::TrackTitle(name) = tag {
                    title.get_or_insert_with(|| name.to_string());
                }
            }
        }
        let playing = tags::line(artist.as_deref(), title.as_deref());
        if playing == self.playing {
            return None;
        }
        self.playing.clone_from(&playing);
        playing
    }
}

const UNKNOWN: SourceError = SourceError::Unsupported("this is neither Ogg-Opus, Ogg-Vorbis, MP3, FLAC nor WAV");

fn decoder(format: &dyn FormatReader) -> Result<(u32, Box<dyn AudioDecoder>), SourceError> {
    let track = format.default_track(TrackType::Audio).ok_or(SourceError::Unsupported("there is no sound in it"))?;
    let parameters = track.codec_params.as_ref().and_then(|parameters| parameters.audio()).ok_or(UNKNOWN)?;
    let decoder = symphonia::default::get_codecs().make_audio_decoder(parameters, &AudioDecoderOptions::default());
    Ok((track.id, decoder.map_err(|_| UNKNOWN)?))
}

fn failed(error: Error) -> SourceError {
    match error {
        Error::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => SourceError::Truncated,
        Error::IoError(error) => SourceError::Read(error),
        Error::DecodeError(what) | Error::LimitError(what) => SourceError::Malformed(what),
        Error::Unsupported(what) => SourceError::Unsupported(what),
        Error::SeekError(_) | Error::ResetRequired => SourceError::Malformed("the decoder cannot go on"),
        _ => SourceError::Malformed("the decoder cannot go on"),
    }
}
