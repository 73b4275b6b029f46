//! A bidirectional stream the client has opened, until its first frame says what it is.

use std::task::{Context, Poll, ready};

use quinn::{RecvStream, SendStream};
use wtransport_proto::error::ErrorCode;

use super::frames::{Allowance, Broken, Frames, Step, kind};
use crate::transport::http::HEADER_BYTES_MAX;

/// Unknown frames before the first known one, bytes.
const IGNORED_BYTES_MAX: u64 = 4 * 1024;

pub(super) struct Opened {
    pub(super) send: SendStream,
    pub(super) frames: Frames,
    /// Nothing has come yet.
    first: bool,
    headers: Option<Vec<u8>>,
    ignored: Allowance,
}

/// What a stream is.
pub(super) enum Kind {
    /// One of this session's, from the next byte on.
    Stream { session: u64 },
    /// A request with this header section.
    Request(Vec<u8>),
    /// A request with more header than is read.
    TooLarge,
    /// Nothing: it ended or was reset before.
    Gone,
}

impl Opened {
    pub(super) fn new(send: SendStream, recv: RecvStream) -> Self {
        Self { send, frames: Frames::new(recv), first: true, headers: None, ignored: Allowance(IGNORED_BYTES_MAX) }
    }

    /// Reads until it is known; not to be polled again then.
    ///
    /// # Errors
    /// What the connection ends with.
    pub(super) fn poll_kind(&mut self, cx: &mut Context<'_>) -> Poll<Result<Kind, ErrorCode>> {
        loop {
            match ready!(self.frames.poll(cx)) {
                Ok(Step::Head { kind, length }) => {
                    let first = std::mem::replace(&mut self.first, false);
                    if let Some(known) = self.begin(kind, length, first)? {
                        return Poll::Ready(Ok(known));
                    }
                }
                Ok(Step::Payload { bytes, left }) => {
                    let Some(headers) = &mut self.headers else { continue };
                    headers.extend_from_slice(&bytes);
                    if left == 0 {
                        return Poll::Ready(Ok(Kind::Request(std::mem::take(headers))));
                    }
                }
                Ok(Step::End) | Err(Broken::Reset) => return Poll::Ready(Ok(Kind::Gone)),
                Err(Broken::Cut) => return Poll::Ready(Err(ErrorCode::Frame)),
            }
        }
    }

    fn begin(&mut self, kind: u64, length: u64, first: bool) -> Result<Option<Kind>, ErrorCode> {
        match kind {
            kind::WEBTRANSPORT_STREAM if !first => Err(ErrorCode::Frame),
            // The id of a session is that of a bidirectional stream of the client.
            kind::WEBTRANSPORT_STREAM if !length.is_multiple_of(4) => Err(ErrorCode::Id),
            kind::WEBTRANSPORT_STREAM => Ok(Some(Kind::Stream { session: length })),
            kind::HEADERS if length > HEADER_BYTES_MAX as u64 => Ok(Some(Kind::TooLarge)),
            kind::HEADERS if length == 0 => Ok(Some(Kind::Request(Vec::new()))),
            kind::HEADERS => {
                self.headers = Some(Vec::new());
                Ok(None)
            }
            kind if kind::is_foreign_to_requests(kind) || kind == kind::DATA => Err(ErrorCode::FrameUnexpected),
            _ => self.ignored.spend_frame(length).map(|()| None),
        }
    }
}
