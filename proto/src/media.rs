//! Media packets: Opus frames of a stream, with copies of earlier ones, on their way to or from the server. By hand, because
//! there are fifty a second for every listener; `docs/MEDIA.md` draws them.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::lane::DatagramKind;
use crate::limits::DATAGRAM_BYTES_MAX;

/// What every frame lasts, milliseconds. Packets of 40 and 60 ms hold two and three.
pub const FRAME_MS: u32 = 20;
/// The same in samples of the 48 kHz clock.
pub const FRAME_SAMPLES: u32 = 960;
/// Rungs that a stream may have.
pub const RUNGS_MAX: usize = 8;
/// Frames of one packet.
pub const FRAMES_MAX: usize = 15;
/// How many frames older than the newest one of its packet a frame may be.
pub const AGE_MAX: u32 = 15;
/// Bytes before the first frame's tag.
pub const HEADER_BYTES: usize = 11;
/// The level of silence (RFC 6464).
pub const SILENCE: u8 = 127;

/// A packet of a stream, read or to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaPacket {
    /// Names the stream on one node.
    pub handle: u32,
    /// The index of the newest frame. Frames of a stream are counted, 20 ms each, the same on all rungs.
    pub newest: u32,
    /// How loud the newest frame is, in -dB below full scale, 0 to 127 (RFC 6464).
    pub level: u8,
    /// Frames up to this age are here for the first time, 1 to 3; older ones are copies.
    pub fresh: u8,
    pub frames: Vec<MediaFrame>,
}

/// One Opus frame of 20 ms on one rung.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaFrame {
    /// Its index is the packet's newest minus this, 0 to [`AGE_MAX`].
    pub age: u8,
    /// Below [`RUNGS_MAX`].
    pub rung: u8,
    /// Coded without prediction from the frames before: a decoder may come from another rung here.
    pub switch_point: bool,
    /// An Opus packet (RFC 6716) of 20 ms, or an encrypted one.
    pub payload: Bytes,
}

/// Why bytes are no media packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    #[error("not a media packet")]
    Kind,
    #[error("the media packet ends too early")]
    Short,
    #[error("a media packet has 1 to 15 frames, 1 to 3 of them fresh")]
    Counts,
    #[error("the media packet has more than {DATAGRAM_BYTES_MAX} bytes")]
    Long,
    #[error("a frame is from before the stream began")]
    Age,
}

impl MediaPacket {
    /// Reads a packet; the frames share its memory.
    ///
    /// # Errors
    /// [`MediaError`]: the whole packet is to be dropped.
    pub fn read(mut bytes: Bytes) -> Result<Self, MediaError> {
        if bytes.len() > DATAGRAM_BYTES_MAX {
            return Err(MediaError::Long);
        }
        if bytes.first() != Some(&(DatagramKind::Media as u8)) {
            return Err(MediaError::Kind);
        }
        if bytes.len() < HEADER_BYTES {
            return Err(MediaError::Short);
        }
        bytes.advance(1);
        let (handle, newest, level) = (bytes.get_u32(), bytes.get_u32(), bytes.get_u8());
        let counts = bytes.get_u8();
        let (fresh, count) = (counts >> 4, usize::from(counts & 0x0f));
        if count == 0 || !(1..=3).contains(&fresh) {
            return Err(MediaError::Counts);
        }
        let mut frames = Vec::with_capacity(count);
        for left in (0..count).rev() {
            let tag = bytes.try_get_u8().map_err(|_| MediaError::Short)?;
            let len = match left {
                0 => bytes.len(),
                _ => usize::from(bytes.try_get_u16().map_err(|_| MediaError::Short)?),
            };
            if len == 0 || len > bytes.len() {
                return Err(MediaError::Short);
            }
            let age = tag & 0x0f;
            if u32::from(age) > newest {
                return Err(MediaError::Age);
            }
            let (rung, switch_point) = ((tag >> 4) & 0x07, tag & 0x80 != 0);
            frames.push(MediaFrame { age, rung, switch_point, payload: bytes.split_to(len) });
        }
        Ok(Self { handle, newest, level: level & 0x7f, fresh, frames })
    }

    /// Bytes it takes on the wire.
    pub fn encoded_len(&self) -> usize {
        let payloads: usize = self.frames.iter().map(|frame| frame.payload.len()).sum();
        HEADER_BYTES + payloads + (3 * self.frames.len()).saturating_sub(2)
    }

    /// As a datagram behind WebTransport's session 0, like [`crate::Encoded::datagram`]: `[1..]` is the packet itself.
    ///
    /// # Errors
    /// When it is one that could not be read back.
    pub fn write(&self) -> Result<Bytes, MediaError> {
        let len = self.encoded_len();
        if len > DATAGRAM_BYTES_MAX {
            return Err(MediaError::Long);
        }
        let count = u8::try_from(self.frames.len()).unwrap_or(u8::MAX);
        if !(1..=FRAMES_MAX).contains(&usize::from(count)) || !(1..=3).contains(&self.fresh) {
            return Err(MediaError::Counts);
        }
        let mut bytes = BytesMut::with_capacity(len + 1);
        bytes.put_u8(0);
        bytes.put_u8(DatagramKind::Media as u8);
        bytes.put_u32(self.handle);
        bytes.put_u32(self.newest);
        bytes.put_u8(self.level.min(SILENCE));
        bytes.put_u8(self.fresh << 4 | count);
        for (at, frame) in self.frames.iter().enumerate() {
            if u32::from(frame.age) > AGE_MAX.min(self.newest) {
                return Err(MediaError::Age);
            }
            bytes.put_u8(u8::from(frame.switch_point) << 7 | (frame.rung & 0x07) << 4 | frame.age);
            if at + 1 < self.frames.len() {
                bytes.put_u16(u16::try_from(frame.payload.len()).map_err(|_| MediaError::Long)?);
            }
            bytes.put_slice(&frame.payload);
        }
        Ok(bytes.freeze())
    }
}

/// What an Opus packet lasts, in samples at 48 kHz, by its first bytes (RFC 6716, section 3.1). `None` when it is none.
pub fn opus_samples(payload: &[u8]) -> Option<u32> {
    let toc = *payload.first()?;
    let frame = match toc >> 3 {
        config @ 0..=11 => [480, 960, 1920, 2880][usize::from(config & 3)],
        config @ 12..=15 => [480, 960][usize::from(config & 1)],
        config => [120, 240, 480, 960][usize::from(config & 3)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(payload.get(1)? & 0x3f),
    };
    let samples = frame * frames;
    // 120 ms, the longest there is.
    (1..=5_760).contains(&samples).then_some(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(age: u8, rung: u8, bytes: usize) -> MediaFrame {
        MediaFrame { age, rung, switch_point: age == 0, payload: Bytes::from(vec![age; bytes]) }
    }

    fn packet(frames: Vec<MediaFrame>) -> MediaPacket {
        MediaPacket { handle: 7, newest: 1_000, level: 42, fresh: 1, frames }
    }

    fn back(packet: &MediaPacket) -> Result<MediaPacket, MediaError> {
        MediaPacket::read(packet.write()?.slice(1..))
    }

    #[test]
    fn packets_read_back() {
        let packet = packet(vec![frame(2, 1, 30), frame(1, 1, 30), frame(0, 1, 31)]);
        assert_eq!(back(&packet), Ok(packet.clone()));
        assert_eq!(packet.write().unwrap().len(), packet.encoded_len() + 1);
    }

    #[test]
    fn bytes_stand_where_the_document_draws_them() {
        let packet = packet(vec![frame(1, 3, 2), frame(0, 3, 1)]);
        let wire = [0, 2, 0, 0, 0, 7, 0, 0, 3, 232, 42, 0x12, 0x31, 0, 2, 1, 1, 0xb0, 0];
        assert_eq!(packet.write().unwrap(), wire[..]);
    }

    #[test]
    fn bounds_at_their_limit_and_one_past() {
        let most = packet((0..15).map(|age| frame(age, 0, 5)).collect());
        assert!(back(&most).is_ok());
        assert_eq!(back(&packet((0..16).map(|age| frame(age, 0, 5)).collect())), Err(MediaError::Counts));
        assert_eq!(back(&packet(Vec::new())), Err(MediaError::Counts));
        let room = DATAGRAM_BYTES_MAX - HEADER_BYTES - 1;
        assert!(back(&packet(vec![frame(0, 0, room)])).is_ok());
        assert_eq!(back(&packet(vec![frame(0, 0, room + 1)])), Err(MediaError::Long));
        let oldest = MediaPacket { newest: 15, ..packet(vec![frame(15, 0, 5)]) };
        assert!(back(&oldest).is_ok());
        assert_eq!(back(&MediaPacket { newest: 14, ..oldest.clone() }), Err(MediaError::Age));
        assert_eq!(back(&MediaPacket { fresh: 4, ..oldest }), Err(MediaError::Counts));
    }

    #[test]
    fn a_packet_cut_anywhere_is_none() {
        let bytes = packet(vec![frame(1, 1, 3), frame(0, 1, 3)]).write().unwrap().slice(1..);
        // The last frame takes the rest, so that it can be cut down to one byte and no one can tell.
        for len in 0..bytes.len() - 2 {
            assert!(MediaPacket::read(bytes.slice(..len)).is_err(), "{len}");
        }
        assert_eq!(MediaPacket::read(Bytes::from_static(b"\x01")), Err(MediaError::Kind));
    }

    #[test]
    fn opus_tells_how_long_it_is() {
        // CELT full band 20 ms; SILK 20 ms; hybrid 10 ms; CELT 2.5 ms.
        assert_eq!([0xfc, 0x48, 0x60, 0xe0].map(|toc| opus_samples(&[toc])), [960, 960, 480, 120].map(Some));
        // Two frames of 20 ms, and a count of three.
        assert_eq!(opus_samples(&[0xfd]), Some(1_920));
        assert_eq!(opus_samples(&[0xff, 3]), Some(2_880));
        // 48 frames of 2.5 ms are 120 ms; one more is too long, none are nothing.
        assert_eq!([48, 49, 0].map(|count| opus_samples(&[0xe3, count])), [Some(5_760), None, None]);
        assert_eq!(opus_samples(&[]), None);
        assert_eq!(opus_samples(&[0xff]), None);
    }
}
