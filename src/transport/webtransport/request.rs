//! Requests: what a client asks for on a stream of its own, and our answer.

use std::borrow::Cow;
use std::task::{Context, Poll};

use http::StatusCode;
use quinn::SendStream;
use wtransport_proto::error::ErrorCode;
use wtransport_proto::frame::Frame;
use wtransport_proto::headers::Headers;

use super::frames::Frames;
use super::h3_code;

/// Names of the extended CONNECT's protocol: of the drafts browsers speak, and of the later ones.
const PROTOCOLS: [&str; 2] = ["webtransport", "webtransport-h3"];
/// Field lines of a request. Browsers send about twenty.
const FIELDS_MAX: usize = 256;

/// A request with its stream.
pub(super) struct Request {
    headers: Headers,
    pub(super) send: SendStream,
    pub(super) frames: Frames,
}

impl Request {
    /// Reads a header section (RFC 9204, section 4.5).
    ///
    /// # Errors
    /// What the connection ends with.
    pub(super) fn read(block: Vec<u8>, send: SendStream, frames: Frames) -> Result<Self, ErrorCode> {
        Ok(Self { headers: read_block(block)?, send, frames })
    }

    /// The id of its stream, and of the session it may become.
    pub(super) fn id(&self) -> u64 {
        quinn::VarInt::from(self.send.id()).into_inner()
    }

    /// Whether a session is asked for.
    ///
    /// # Errors
    /// The status that answers what else is asked for.
    pub(super) fn asks_for_session(&self) -> Result<(), StatusCode> {
        let pseudo = |name: &str| self.headers.get(name).ok_or(StatusCode::BAD_REQUEST);
        if pseudo(":method")? != "CONNECT" {
            return Err(StatusCode::NOT_FOUND);
        }
        let Some(protocol) = self.headers.get(":protocol") else { return Err(StatusCode::BAD_REQUEST) };
        if !PROTOCOLS.contains(&protocol) {
            return Err(StatusCode::NOT_IMPLEMENTED);
        }
        if pseudo(":scheme")? != "https" {
            return Err(StatusCode::BAD_REQUEST);
        }
        pseudo(":authority").and(pseudo(":path")).map(drop)
    }

    /// Without the query.
    pub(super) fn path(&self) -> Option<&str> {
        self.header(":path")?.split('?').next()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// Answers what becomes no session, with nothing but the status.
    pub(super) fn turn_away(self, cx: &mut Context<'_>, status: StatusCode) {
        turn_away(cx, self.send, self.frames, status);
    }
}

/// Answers with nothing but the status. A client that leaves no room for a few bytes is reset instead.
pub(super) fn turn_away(cx: &mut Context<'_>, mut send: SendStream, frames: Frames, status: StatusCode) {
    let answer = answer(status, []);
    // Errors say that the client has left the stream already.
    match std::pin::Pin::new(&mut send).poll_write(cx, &answer) {
        Poll::Ready(Ok(written)) if written == answer.len() => drop(send.finish()),
        Poll::Ready(Ok(_) | Err(_)) | Poll::Pending => drop(send.reset(h3_code(ErrorCode::RequestRejected))),
    }
    drop(frames.into_stream().stop(h3_code(ErrorCode::NoError)));
}

/// The HEADERS frame of an answer.
pub(super) fn answer<'a>(status: StatusCode, fields: impl IntoIterator<Item = (&'a str, String)>) -> Vec<u8> {
    let status = (":status", status.as_str().to_owned());
    let headers: Headers = std::iter::once(status).chain(fields).collect();
    let mut bytes = Vec::new();
    headers.generate_frame().write(&mut bytes).expect("a vector grows");
    bytes
}

fn read_block(block: Vec<u8>) -> Result<Headers, ErrorCode> {
    let fields = fields(&block).ok_or(ErrorCode::Decompression)?;
    if fields > FIELDS_MAX {
        return Err(ErrorCode::ExcessiveLoad);
    }
    Headers::with_frame(&Frame::new_headers(Cow::Owned(block)))
}

/// How many field lines there are; `None` when an integer or a string is not sound. wtransport-proto's decoder does not
/// look how far it shifts the digits of an integer, so it is given only what was walked through here.
fn fields(mut rest: &[u8]) -> Option<usize> {
    let rest = &mut rest;
    integer(rest, 8)?;
    integer(rest, 7)?;
    let mut fields = 0;
    while let Some(first) = rest.first() {
        fields += 1;
        match first.leading_zeros() {
            0 => drop(integer(rest, 6)?),
            1 => {
                integer(rest, 4)?;
                string(rest, 7)?;
            }
            2 => {
                string(rest, 3)?;
                string(rest, 7)?;
            }
            3 => drop(integer(rest, 4)?),
            _ => {
                integer(rest, 3)?;
                string(rest, 7)?;
            }
        }
    }
    Some(fields)
}

/// An integer with a prefix of so many bits (RFC 9204, section 4.1.1), up to 28 bits and the prefix.
fn integer(rest: &mut &[u8], prefix_bits: u32) -> Option<usize> {
    let mask = (1u32 << prefix_bits) - 1;
    let mut value = u32::from(*rest.split_off_first()?) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let byte = *rest.split_off_first()?;
            value += u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift > 21 {
                return None;
            }
        }
    }
    usize::try_from(value).ok()
}

fn string(rest: &mut &[u8], prefix_bits: u32) -> Option<()> {
    let length = integer(rest, prefix_bits)?;
    rest.split_off(..length).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_walked_as_it_is_decoded() {
        let headers: Headers =
            [(":method", "CONNECT"), ("x-new", "a value"), ("origin", "https://veza.example")].into_iter().collect();
        let frame = headers.generate_frame();
        assert_eq!(fields(frame.payload()), Some(3));
        assert_eq!(read_block(frame.payload().to_vec()).unwrap().get("x-new"), Some("a value"));
        for end in 0..frame.payload().len() {
            // Cut anywhere it is an error or has fewer fields, and never a panic.
            assert!(fields(&frame.payload()[..end]).is_none_or(|fields| fields < 3));
        }
    }

    #[test]
    fn integers_of_any_length_are_an_error_and_no_panic() {
        for first in [0xff, 0x5f, 0x27, 0x1f, 0x07] {
            let mut block = vec![0, 0, first];
            block.extend([0xff; 40]);
            block.push(0);
            assert_eq!(read_block(block).unwrap_err(), ErrorCode::Decompression);
        }
        assert_eq!(read_block(vec![0, 0, 0xff, 0xff, 0xff, 0xff, 0x7f]).unwrap_err(), ErrorCode::Decompression);
    }

    #[test]
    fn any_two_bytes_are_no_panic() {
        for first in 0..=255 {
            for second in 0..=255 {
                let _ = read_block(vec![0, 0, first, second]);
                let _ = read_block(vec![0, 0, first, second, 0x81, 0x7f, 0xc0]);
            }
        }
    }

    #[test]
    fn fields_at_their_limit_and_one_past() {
        let block = |fields: usize| [vec![0, 0], vec![0xd1; fields]].concat();
        assert!(read_block(block(FIELDS_MAX)).is_ok());
        assert_eq!(read_block(block(FIELDS_MAX + 1)).unwrap_err(), ErrorCode::ExcessiveLoad);
    }
}
