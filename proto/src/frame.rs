//! Frames as bytes: protobuf behind a varint length on streams, protobuf or JSON alone in WebSocket messages and datagrams.

use bytes::{Buf, BytesMut};
use prost::Message;

use crate::Format;
use crate::limits::FRAME_BYTES_MAX;
use crate::v1::{ClientFrame, ServerFrame};

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length announced, or the message, is over the limit. Nothing of the frame was kept.
    #[error("a frame may have {max} bytes, this has {len}")]
    TooLarge { len: u64, max: usize },
    /// The length itself cannot be read. The stream has no frame boundary any more.
    #[error("a frame's length has more than five bytes")]
    BadLength,
    /// The bytes are not a frame; the next one can still be read.
    #[error("not a frame: {0}")]
    Malformed(String),
}

impl FrameError {
    /// Whether the stream has lost its frame boundaries, so that reading on makes no sense.
    pub fn ends_stream(&self) -> bool {
        match self {
            FrameError::TooLarge { .. } | FrameError::BadLength => true,
            FrameError::Malformed(_) => false,
        }
    }
}

/// Reads frames from a stream's bytes as they come in.
///
/// Memory is bounded by one frame: `FRAME_BYTES_MAX` and its length. An empty decoder holds no memory.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// Takes bytes read from the stream. Call [`Decoder::next`] until it gives nothing before the next push.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` until more bytes come.
    ///
    /// # Errors
    /// [`FrameError::ends_stream`] tells whether reading on makes sense.
    #[expect(clippy::should_implement_trait, reason = "an error ends it, so it is no iterator")]
    pub fn next<M: Message + Default>(&mut self) -> Result<Option<M>, FrameError> {
        let Some((len, prefix)) = read_varint(&self.buffer)? else { return Ok(None) };
        if len > FRAME_BYTES_MAX as u64 {
            return Err(FrameError::TooLarge { len, max: FRAME_BYTES_MAX });
        }
        let len = len as usize;
        if self.buffer.len() < prefix + len {
            return Ok(None);
        }
        self.buffer.advance(prefix);
        let frame = M::decode(&self.buffer[..len]).map_err(malformed);
        self.buffer.advance(len);
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        frame.map(Some)
    }

    /// Bytes that wait for the rest of their frame, or to be asked for.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Whether the stream may end here without cutting a frame.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// LEB128 as protobuf writes it: the value and how many bytes it took.
fn read_varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().enumerate().take(5) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() >= 5 {
        return Err(FrameError::BadLength);
    }
    Ok(None)
}

/// A frame for a stream: its varint length, then its bytes.
pub fn encode_delimited<M: Message>(frame: &M) -> Vec<u8> {
    frame.encode_length_delimited_to_vec()
}

/// A binary WebSocket message or the rest of a datagram.
pub fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, FrameError> {
    within_limit(bytes.len())?;
    M::decode(bytes).map_err(malformed)
}

/// A text WebSocket message of a client.
pub fn client_from_json(text: &str) -> Result<ClientFrame, FrameError> {
    within_limit(text.len())?;
    serde_json::from_str(text).map_err(|error| FrameError::Malformed(error.to_string()))
}

/// A text WebSocket message of the server.
pub fn server_from_json(text: &str) -> Result<ServerFrame, FrameError> {
    serde_json::from_str(text).map_err(|error| FrameError::Malformed(error.to_string()))
}

/// What has both encodings: every message of the schema.
pub trait Coded: prost::Message + serde::Serialize {}

impl<M: prost::Message + serde::Serialize> Coded for M {}

/// Bytes of a message's encoding.
pub fn encoded_len<M: Coded>(message: &M, format: Format) -> usize {
    match format {
        Format::Proto => message.encoded_len(),
        Format::Json => to_json(message).len(),
    }
}

/// The canonical JSON of a frame of either side.
pub fn to_json<M: serde::Serialize>(frame: &M) -> String {
    serde_json::to_string(frame).expect("a frame has only string keys and finite numbers")
}

fn within_limit(len: usize) -> Result<(), FrameError> {
    if len > FRAME_BYTES_MAX {
        return Err(FrameError::TooLarge { len: len as u64, max: FRAME_BYTES_MAX });
    }
    Ok(())
}

fn malformed(error: prost::DecodeError) -> FrameError {
    FrameError::Malformed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{Ping, Publish, client_frame::Command};

    fn ping(id: u32) -> ClientFrame {
        ClientFrame { id, command: Some(Command::Ping(Ping { client_time_ms: 7 })) }
    }

    #[test]
    fn frames_come_out_whole_however_they_come_in() {
        let bytes = [encode_delimited(&ping(1)), encode_delimited(&ping(300))].concat();
        let mut decoder = Decoder::default();
        let mut seen = Vec::new();
        for byte in bytes {
            decoder.push(&[byte]);
            while let Some(frame) = decoder.next::<ClientFrame>().unwrap() {
                seen.push(frame);
            }
        }
        assert_eq!(seen, [ping(1), ping(300)]);
        assert!(decoder.is_empty());
    }

    #[test]
    fn a_frame_at_the_limit_and_one_past() {
        let of_len = |len: usize| {
            let mut frame = ClientFrame {
                id: 1,
                command: Some(Command::Publish(Publish { body: "x".repeat(len), ..Publish::default() })),
            };
            let over = frame.encoded_len() - len;
            if let Some(Command::Publish(publish)) = &mut frame.command {
                publish.body.truncate(len - over);
            }
            frame
        };
        let fits = of_len(FRAME_BYTES_MAX);
        assert_eq!(fits.encoded_len(), FRAME_BYTES_MAX);
        let mut decoder = Decoder::default();
        decoder.push(&encode_delimited(&fits));
        assert_eq!(decoder.next::<ClientFrame>().unwrap(), Some(fits));

        let mut decoder = Decoder::default();
        decoder.push(&encode_delimited(&of_len(FRAME_BYTES_MAX + 1)));
        assert!(matches!(decoder.next::<ClientFrame>(), Err(FrameError::TooLarge { len: 65_537, .. })));
    }

    #[test]
    fn a_length_without_end_is_malformed() {
        let mut decoder = Decoder::default();
        decoder.push(&[0xff; 4]);
        assert_eq!(decoder.next::<ClientFrame>().unwrap(), None);
        decoder.push(&[0xff]);
        assert_eq!(decoder.next::<ClientFrame>(), Err(FrameError::BadLength));
    }

    #[test]
    fn json_is_the_canonical_one() {
        let text = r#"{"id":7,"ping":{"clientTimeMs":"7"}}"#;
        assert_eq!(client_from_json(text).unwrap(), ping(7));
        assert_eq!(to_json(&ping(7)), text);
        assert!(matches!(client_from_json("{"), Err(FrameError::Malformed(_))));
        assert!(client_from_json(r#"{"id":7,"ping":{"clientTimeMs":7}}"#).is_ok());
    }
}
