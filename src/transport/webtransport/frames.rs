//! The frames of an HTTP/3 stream (RFC 9114, section 7), read without holding more than their heads.
//!
//! wtransport-proto reads frames too, but takes an unknown one's payload for the next frame, and none above 4 KiB.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use quinn::{ReadError, RecvStream};
use wtransport_proto::bytes::BytesReader;
use wtransport_proto::error::ErrorCode;
use wtransport_proto::varint::VarInt;

/// Types of frames (RFC 9114, section 11.2.1).
pub(super) mod kind {
    pub(in super::super) const DATA: u64 = 0x00;
    pub(in super::super) const HEADERS: u64 = 0x01;
    pub(in super::super) const SETTINGS: u64 = 0x04;
    /// Not a frame: what follows is a session's stream (draft-ietf-webtrans-http3, section 4.3).
    pub(in super::super) const WEBTRANSPORT_STREAM: u64 = 0x41;
    const CANCEL_PUSH: u64 = 0x03;
    const PUSH_PROMISE: u64 = 0x05;
    const GOAWAY: u64 = 0x07;
    const MAX_PUSH_ID: u64 = 0x0d;

    /// Whether a client's request stream never has it.
    pub(in super::super) fn is_foreign_to_requests(kind: u64) -> bool {
        [SETTINGS, CANCEL_PUSH, PUSH_PROMISE, GOAWAY, MAX_PUSH_ID].contains(&kind) || is_of_http2(kind)
    }

    /// Whether a client's control stream never has it after the settings.
    pub(in super::super) fn is_foreign_to_control(kind: u64) -> bool {
        [DATA, HEADERS, SETTINGS, PUSH_PROMISE, WEBTRANSPORT_STREAM].contains(&kind) || is_of_http2(kind)
    }

    /// What HTTP/2 had and HTTP/3 forbids.
    fn is_of_http2(kind: u64) -> bool {
        [0x02, 0x06, 0x08, 0x09].contains(&kind)
    }
}

/// Read of a payload at a time, bytes.
const CHUNK_BYTES: usize = 4 * 1024;

/// A variable-length integer (RFC 9000, section 16) that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Varint {
    bytes: [u8; VarInt::MAX_SIZE],
    len: u8,
}

impl Varint {
    /// Reads to its end and not a byte further; `None` when the stream ends before its first byte.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, recv: &mut RecvStream) -> Poll<Result<Option<u64>, Broken>> {
        loop {
            if let Some(value) = self.whole() {
                return Poll::Ready(Ok(Some(value)));
            }
            let len = usize::from(self.len);
            let wanted = if len == 0 { 1 } else { VarInt::parse_size(self.bytes[0]) };
            match ready!(recv.poll_read(cx, &mut self.bytes[len..wanted])) {
                Ok(0) => return Poll::Ready(if len == 0 { Ok(None) } else { Err(Broken::Cut) }),
                Ok(read) => self.len += u8::try_from(read).expect("no more than was asked for"),
                Err(error) => return Broken::poll(&error).map(Err),
            }
        }
    }

    /// Takes one byte more; the value when that was the last.
    pub(super) fn push(&mut self, byte: u8) -> Option<u64> {
        self.bytes[usize::from(self.len)] = byte;
        self.len += 1;
        self.whole()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value, once it is complete; then the next one may begin.
    fn whole(&mut self) -> Option<u64> {
        let value = (&self.bytes[..usize::from(self.len)]).get_varint()?;
        self.len = 0;
        Some(value.into_inner())
    }
}

/// Frames of one stream.
#[derive(Debug)]
pub(super) struct Frames {
    recv: RecvStream,
    state: State,
    varint: Varint,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Kind,
    Length { kind: u64 },
    Payload { left: u64 },
}

/// What comes next in a stream of frames.
#[derive(Debug)]
pub(super) enum Step {
    /// A frame begins. For [`kind::WEBTRANSPORT_STREAM`] the length is the session's id, and the rest is no frame.
    Head { kind: u64, length: u64 },
    /// Some of its payload, and how much is still to come.
    Payload { bytes: Bytes, left: u64 },
    /// The stream ended between two frames.
    End,
}

/// Why a stream has no more frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// It ended within a frame.
    Cut,
    Reset,
}

impl Broken {
    /// Pending when the connection is lost, which its own end tells.
    pub(super) fn poll(error: &ReadError) -> Poll<Self> {
        match error {
            ReadError::ConnectionLost(_) => Poll::Pending,
            ReadError::Reset(_)
            | ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected => Poll::Ready(Broken::Reset),
        }
    }
}

impl Frames {
    pub(super) fn new(recv: RecvStream) -> Self {
        Self { recv, state: State::Kind, varint: Varint::default() }
    }

    /// What comes next. After the end or an error it must not be polled again.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, Broken>> {
        loop {
            match self.state {
                State::Kind | State::Payload { left: 0 } => {
                    self.state = State::Kind;
                    let Some(kind) = ready!(self.varint.poll(cx, &mut self.recv))? else {
                        return Poll::Ready(Ok(Step::End));
                    };
                    self.state = State::Length { kind };
                }
                State::Length { kind } => {
                    let Some(length) = ready!(self.varint.poll(cx, &mut self.recv))? else {
                        return Poll::Ready(Err(Broken::Cut));
                    };
                    self.state = State::Payload { left: length };
                    return Poll::Ready(Ok(Step::Head { kind, length }));
                }
                State::Payload { left } => {
                    let wanted = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
                    let read = { pin!(self.recv.read_chunk(wanted, true)).poll(cx) };
                    return match ready!(read) {
                        Ok(Some(chunk)) => {
                            let left = left - chunk.bytes.len() as u64;
                            self.state = State::Payload { left };
                            Poll::Ready(Ok(Step::Payload { bytes: chunk.bytes, left }))
                        }
                        Ok(None) => Poll::Ready(Err(Broken::Cut)),
                        Err(error) => Broken::poll(&error).map(Err),
                    };
                }
            }
        }
    }

    /// The stream, from where it was read to.
    pub(super) fn into_stream(self) -> RecvStream {
        self.recv
    }
}

/// How much a stream may still bring that nobody wants, bytes.
#[derive(Debug)]
pub(super) struct Allowance(pub(super) u64);

impl Allowance {
    /// # Errors
    /// `H3_EXCESSIVE_LOAD` when it is used up.
    pub(super) fn spend(&mut self, bytes: u64) -> Result<(), ErrorCode> {
        self.0 = self.0.checked_sub(bytes).ok_or(ErrorCode::ExcessiveLoad)?;
        Ok(())
    }

    /// Spends a frame with its head, so that empty ones are not for nothing.
    pub(super) fn spend_frame(&mut self, length: u64) -> Result<(), ErrorCode> {
        self.spend(length.saturating_add(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_those_of_rfc_9000() {
        // Appendix A.1.
        for (bytes, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ] {
            let mut varint = Varint::default();
            let (last, before) = bytes.split_last().unwrap();
            assert!(before.iter().all(|byte| varint.push(*byte).is_none()));
            assert_eq!(varint.push(*last), Some(value));
            assert!(varint.is_empty(), "the next one may begin");
        }
    }

    #[test]
    fn an_allowance_is_spent_to_its_end_and_no_further() {
        let mut allowance = Allowance(10);
        allowance.spend_frame(8).unwrap();
        assert_eq!(allowance.spend(1), Err(ErrorCode::ExcessiveLoad));
        assert_eq!(Allowance(10).spend_frame(u64::MAX), Err(ErrorCode::ExcessiveLoad));
    }
}
