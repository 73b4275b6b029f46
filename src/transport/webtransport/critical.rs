//! The client's streams without which HTTP/3 does not go on: control, and the two of QPACK.

use std::borrow::Cow;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use quinn::RecvStream;
use wtransport_proto::error::ErrorCode;
use wtransport_proto::frame::Frame;
use wtransport_proto::settings::Settings;

use super::frames::{Allowance, Broken, Frames, Step, kind};

/// A SETTINGS frame, bytes. Browsers send less than a hundred.
pub(super) const SETTINGS_BYTES_MAX: u64 = 4 * 1024;
/// What may follow the settings in a connection's whole life, bytes.
const IGNORED_BYTES_MAX: u64 = 64 * 1024;
/// Without a dynamic table QPACK has next to nothing to say, bytes.
const QPACK_BYTES_MAX: u64 = 16 * 1024;

/// The client's control stream (RFC 9114, section 6.2.1).
#[derive(Debug)]
pub(super) struct Control {
    frames: Frames,
    settings: Received,
    ignored: Allowance,
}

#[derive(Debug)]
enum Received {
    Nothing,
    Part(Vec<u8>),
    Whole,
}

impl Control {
    pub(super) fn new(recv: RecvStream) -> Self {
        Self { frames: Frames::new(recv), settings: Received::Nothing, ignored: Allowance(IGNORED_BYTES_MAX) }
    }

    /// Whether the settings are here.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.settings, Received::Whole)
    }

    /// Reads what there is; ready with what the connection ends with.
    pub(super) fn poll_fault(&mut self, cx: &mut Context<'_>) -> Poll<ErrorCode> {
        loop {
            let step = match ready!(self.frames.poll(cx)) {
                Ok(step) => step,
                Err(Broken::Cut | Broken::Reset) => return Poll::Ready(ErrorCode::ClosedCriticalStream),
            };
            if let Err(fault) = self.take(step) {
                return Poll::Ready(fault);
            }
        }
    }

    fn take(&mut self, step: Step) -> Result<(), ErrorCode> {
        match step {
            Step::End => Err(ErrorCode::ClosedCriticalStream),
            Step::Head { kind: kind::SETTINGS, length } => match self.settings {
                Received::Nothing if length > SETTINGS_BYTES_MAX => Err(ErrorCode::ExcessiveLoad),
                Received::Nothing => self.settle(Vec::new(), length),
                Received::Part(_) | Received::Whole => Err(ErrorCode::FrameUnexpected),
            },
            Step::Head { kind, length } => match self.settings {
                Received::Nothing => Err(ErrorCode::MissingSettings),
                Received::Part(_) | Received::Whole => {
                    if kind::is_foreign_to_control(kind) {
                        return Err(ErrorCode::FrameUnexpected);
                    }
                    self.ignored.spend_frame(length)
                }
            },
            Step::Payload { bytes, left } => match &mut self.settings {
                Received::Part(part) => {
                    let mut part = std::mem::take(part);
                    part.extend_from_slice(&bytes);
                    self.settle(part, left)
                }
                Received::Nothing | Received::Whole => Ok(()),
            },
        }
    }

    /// Nothing the client could set changes what we do; but it must be well said.
    fn settle(&mut self, payload: Vec<u8>, left: u64) -> Result<(), ErrorCode> {
        if left > 0 {
            self.settings = Received::Part(payload);
            return Ok(());
        }
        Settings::with_frame(&Frame::new_settings(Cow::Owned(payload)))?;
        self.settings = Received::Whole;
        Ok(())
    }
}

/// A stream of QPACK (RFC 9204, section 4.2), read away: without a dynamic table it says nothing that matters.
#[derive(Debug)]
pub(super) struct Qpack {
    recv: RecvStream,
    ignored: Allowance,
}

impl Qpack {
    pub(super) fn new(recv: RecvStream) -> Self {
        Self { recv, ignored: Allowance(QPACK_BYTES_MAX) }
    }

    /// Reads what there is; ready with what the connection ends with.
    pub(super) fn poll_fault(&mut self, cx: &mut Context<'_>) -> Poll<ErrorCode> {
        loop {
            let read = { pin!(self.recv.read_chunk(1024, true)).poll(cx) };
            match ready!(read) {
                Ok(Some(chunk)) => {
                    if let Err(fault) = self.ignored.spend(chunk.bytes.len() as u64) {
                        return Poll::Ready(fault);
                    }
                }
                Ok(None) => return Poll::Ready(ErrorCode::ClosedCriticalStream),
                Err(error) => return Broken::poll(&error).map(|_| ErrorCode::ClosedCriticalStream),
            }
        }
    }
}
