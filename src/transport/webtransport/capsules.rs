//! The capsules on a session's CONNECT stream (RFC 9297, section 3.2), of which one matters: the close.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use wtransport_proto::bytes::BytesWriter;
use wtransport_proto::error::ErrorCode;
use wtransport_proto::frame::Frame;
use wtransport_proto::varint::VarInt;

use super::frames::{Allowance, Broken, Frames, Step, Varint, kind};

/// `CLOSE_WEBTRANSPORT_SESSION` (draft-ietf-webtrans-http3, section 6).
const CLOSE: u32 = 0x2843;
/// Its code, bytes; the reason follows.
const CODE_BYTES: u64 = 4;
const REASON_BYTES_MAX: u64 = 1024;
/// What a client may say on the CONNECT stream in a session's whole life, bytes.
const CONNECT_BYTES_MAX: u64 = 64 * 1024;

/// The client's half of a CONNECT stream after its request.
#[derive(Debug)]
pub(super) struct Capsules {
    frames: Frames,
    /// Whether the frame that is being read has capsules.
    data: bool,
    reader: Reader,
    allowance: Allowance,
}

impl Capsules {
    pub(super) fn new(frames: Frames) -> Self {
        Self { frames, data: false, reader: Reader::default(), allowance: Allowance(CONNECT_BYTES_MAX) }
    }

    /// Reads until the session ends: with a code, or without when the stream was reset.
    ///
    /// # Errors
    /// What the connection ends with.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<u32>, ErrorCode>> {
        loop {
            match ready!(self.frames.poll(cx)) {
                Ok(Step::Head { kind, length }) => {
                    if kind::is_foreign_to_requests(kind) {
                        return Poll::Ready(Err(ErrorCode::FrameUnexpected));
                    }
                    if kind == kind::WEBTRANSPORT_STREAM {
                        return Poll::Ready(Err(ErrorCode::Frame));
                    }
                    self.allowance.spend_frame(length)?;
                    self.data = kind == kind::DATA;
                }
                Ok(Step::Payload { bytes, .. }) if self.data => {
                    for byte in bytes {
                        if let Some(code) = self.reader.push(byte)? {
                            return Poll::Ready(Ok(Some(code)));
                        }
                    }
                }
                Ok(Step::Payload { .. }) => {}
                // An end without a capsule is one with code 0.
                Ok(Step::End) if self.reader.is_between() => return Poll::Ready(Ok(Some(0))),
                Ok(Step::End) => return Poll::Ready(Err(ErrorCode::Datagram)),
                Err(Broken::Cut) => return Poll::Ready(Err(ErrorCode::Frame)),
                Err(Broken::Reset) => return Poll::Ready(Ok(None)),
            }
        }
    }
}

/// Capsules byte by byte; frames may cut them anywhere.
#[derive(Debug)]
enum Reader {
    Kind(Varint),
    Length { kind: u64, length: Varint },
    Close { code: u32, read: u64, length: u64 },
    Skip { left: u64 },
}

impl Default for Reader {
    fn default() -> Self {
        Reader::Kind(Varint::default())
    }
}

impl Reader {
    /// The code, at the end of a close.
    fn push(&mut self, byte: u8) -> Result<Option<u32>, ErrorCode> {
        match self {
            Reader::Kind(varint) => {
                if let Some(kind) = varint.push(byte) {
                    *self = Reader::Length { kind, length: Varint::default() };
                }
            }
            Reader::Length { kind, length } => {
                let kind = *kind;
                let Some(length) = length.push(byte) else { return Ok(None) };
                *self = if kind == u64::from(CLOSE) {
                    if !(CODE_BYTES..=CODE_BYTES + REASON_BYTES_MAX).contains(&length) {
                        return Err(ErrorCode::Datagram);
                    }
                    Reader::Close { code: 0, read: 0, length }
                } else if length == 0 {
                    Reader::default()
                } else {
                    Reader::Skip { left: length }
                };
            }
            Reader::Close { code, read, length } => {
                if *read < CODE_BYTES {
                    *code = *code << 8 | u32::from(byte);
                }
                *read += 1;
                if read == length {
                    return Ok(Some(*code));
                }
            }
            Reader::Skip { left } => {
                *left -= 1;
                if *left == 0 {
                    *self = Reader::default();
                }
            }
        }
        Ok(None)
    }

    fn is_between(&self) -> bool {
        matches!(self, Reader::Kind(varint) if varint.is_empty())
    }
}

/// The close of a session, as it goes on the CONNECT stream. The reason is at most 1024 bytes.
pub(super) fn close(code: u16, reason: &str) -> Bytes {
    debug_assert!(reason.len() as u64 <= REASON_BYTES_MAX, "a longer reason is malformed");
    let length = u32::try_from(reason.len()).expect("a short text") + 4;
    let mut capsule = Vec::with_capacity(16 + reason.len());
    let mut frame = Vec::with_capacity(20 + reason.len());
    let written = capsule
        .put_varint(VarInt::from_u32(CLOSE))
        .and_then(|()| capsule.put_varint(VarInt::from_u32(length)))
        .and_then(|()| capsule.put_bytes(&u32::from(code).to_be_bytes()))
        .and_then(|()| capsule.put_bytes(reason.as_bytes()))
        .and_then(|()| Frame::new_data(capsule.into()).write(&mut frame));
    written.expect("a vector grows");
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<u32>, ErrorCode> {
        let mut reader = Reader::default();
        for byte in bytes {
            if let Some(code) = reader.push(*byte)? {
                return Ok(Some(code));
            }
        }
        Ok(None)
    }

    /// A close with this length: the head, the code and the reason.
    fn close_of(length: u16) -> Vec<u8> {
        let mut bytes = vec![0x68, 0x43];
        bytes.extend((length | 0x4000).to_be_bytes());
        bytes.extend(4401u32.to_be_bytes());
        bytes.resize(4 + usize::from(length).max(4), b'x');
        bytes
    }

    #[test]
    fn a_close_is_read_to_its_end_after_what_is_skipped() {
        let mut bytes = vec![0x80, 0x00, 0x78, 0xae, 0x00, 0x21, 0x03, 1, 2, 3];
        bytes.extend(close_of(4));
        assert_eq!(read(&bytes), Ok(Some(4401)));
        assert_eq!(read(&bytes[..bytes.len() - 1]), Ok(None));
    }

    #[test]
    fn a_reason_at_its_limit_and_one_past() {
        assert_eq!(read(&close_of(4 + 1024)), Ok(Some(4401)));
        assert_eq!(read(&close_of(4 + 1025)), Err(ErrorCode::Datagram));
        assert_eq!(read(&close_of(3)), Err(ErrorCode::Datagram));
    }

    #[test]
    fn what_we_send_is_what_we_read() {
        let frame = close(4401, "sign in again");
        assert_eq!((frame[0], usize::from(frame[1])), (0, frame.len() - 2), "one DATA frame");
        assert_eq!(read(&frame[2..]), Ok(Some(4401)));
        assert_eq!(read(&close(4012, &"x".repeat(1024))[3..]), Ok(Some(4012)));
    }
}
