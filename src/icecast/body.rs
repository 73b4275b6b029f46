//! A request's body as it arrives: until the connection ends, of a length, or in chunks (RFC 9112, section 7.1).

use bytes::{Buf, Bytes, BytesMut};

use super::request::Framing;

/// A chunk's size line at most.
const LINE_BYTES_MAX: usize = 256;

/// Takes the framing off.
#[derive(Debug)]
pub(super) struct Body {
    left: Left,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Everything,
    Bytes(u64),
    /// Of this chunk, and its line end.
    Chunk(u64),
    ChunkEnd,
    ChunkLine,
    Nothing,
}

/// The body is not written as it was announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl Body {
    pub(super) fn new(framing: Framing) -> Self {
        let left = match framing {
            Framing::Open => Left::Everything,
            Framing::Length(bytes) => Left::Bytes(bytes),
            Framing::Chunked => Left::ChunkLine,
        };
        Self { left }
    }

    /// Nothing more belongs to it.
    pub(super) fn is_over(&self) -> bool {
        self.left == Left::Nothing
    }

    /// Whether the end of the connection is its end.
    pub(super) fn ends_anywhere(&self) -> bool {
        self.left == Left::Everything
    }

    /// The next bytes of it out of what has come; `None` when more must come first.
    pub(super) fn take(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, Malformed> {
        loop {
            match self.left {
                Left::Nothing => return Ok(None),
                _ if buffer.is_empty() => return Ok(None),
                Left::Everything => return Ok(Some(buffer.split().freeze())),
                Left::Bytes(left) => {
                    let (bytes, left) = split(buffer, left);
                    self.left = if left == 0 { Left::Nothing } else { Left::Bytes(left) };
                    return Ok(Some(bytes));
                }
                Left::Chunk(left) => {
                    let (bytes, left) = split(buffer, left);
                    self.left = if left == 0 { Left::ChunkEnd } else { Left::Chunk(left) };
                    return Ok(Some(bytes));
                }
                Left::ChunkEnd => {
                    if buffer.len() < 2 {
                        return Ok(None);
                    }
                    if buffer[..2] != *b"\r\n" {
                        return Err(Malformed);
                    }
                    buffer.advance(2);
                    self.left = Left::ChunkLine;
                }
                Left::ChunkLine => {
                    let Some(end) = buffer.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') else {
                        return if buffer.len() >= LINE_BYTES_MAX { Err(Malformed) } else { Ok(None) };
                    };
                    let line = buffer.split_to(end + 1);
                    let size = line[..].split(|byte| matches!(byte, b';' | b'\r' | b'\n')).next().unwrap_or_default();
                    let size = std::str::from_utf8(size).map_err(|_| Malformed)?;
                    let size = u64::from_str_radix(size.trim(), 16).map_err(|_| Malformed)?;
                    self.left = if size == 0 { Left::Nothing } else { Left::Chunk(size) };
                }
            }
        }
    }
}

fn split(buffer: &mut BytesMut, left: u64) -> (Bytes, u64) {
    let take = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
    (buffer.split_to(take).freeze(), left - take as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out when it arrives in pieces of this size.
    fn read(framing: Framing, bytes: &[u8], piece: usize) -> Result<(Vec<u8>, bool), Malformed> {
        let (mut body, mut buffer, mut out) = (Body::new(framing), BytesMut::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            buffer.extend_from_slice(piece);
            while let Some(bytes) = body.take(&mut buffer)? {
                out.extend(bytes);
            }
        }
        Ok((out, body.is_over()))
    }

    #[test]
    fn bodies_in_every_framing_and_pieces_of_every_size() {
        for piece in 1..20 {
            assert_eq!(read(Framing::Open, b"sound", piece), Ok((b"sound".to_vec(), false)));
            assert_eq!(read(Framing::Length(3), b"sound", piece), Ok((b"sou".to_vec(), true)));
            let chunks = b"3\r\nsou\r\n2;x=y\r\nnd\r\n0\r\n\r\n";
            assert_eq!(read(Framing::Chunked, chunks, piece), Ok((b"sound".to_vec(), true)));
            assert_eq!(read(Framing::Chunked, &chunks[..10], piece).map(|(_, over)| over), Ok(false));
        }
    }

    #[test]
    fn chunks_that_are_none() {
        for wrong in [&b"x\r\n"[..], b"\r\n", b"3\r\nsound\r\n", b"11111111111111111\r\n", &[b'1'; LINE_BYTES_MAX]] {
            assert_eq!(read(Framing::Chunked, wrong, 512), Err(Malformed), "{wrong:?}");
        }
        assert!(read(Framing::Chunked, &[b'1'; LINE_BYTES_MAX - 1], 512).is_ok());
    }
}
