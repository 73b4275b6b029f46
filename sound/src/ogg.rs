//! Ogg (RFC 3533): the packets of what arrives page by page.

use std::io::{self, Read};

use ogg::Packet;
use ogg::reading::{BasePacketReader, OggReadError, PageParser};

use crate::source::SourceError;

/// Logical streams that may begin before one of them is followed.
const LOGICAL_MAX: usize = 8;
/// A packet's bytes at most: comments may hold a picture.
const PACKET_BYTES_MAX: usize = 1 << 20;
const HEADER_BYTES: usize = 27;
const FLAG_FIRST: u8 = 2;

/// Reads pages and checks them: the capture pattern, version, checksum, order.
pub(crate) struct Pages<R> {
    reader: R,
    packets: BasePacketReader,
    logical: usize,
    /// Bytes of pages since a packet was complete.
    incomplete: usize,
}

impl<R: Read> Pages<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, packets: BasePacketReader::new(), logical: 0, incomplete: 0 }
    }

    /// The next packet; `None` at the end of a page behind which nothing comes.
    ///
    /// # Errors
    /// When a page is cut off or not as it must be.
    pub(crate) fn packet(&mut self) -> Result<Option<Packet>, SourceError> {
        loop {
            if let Some(packet) = self.packets.read_packet() {
                self.incomplete = 0;
                return Ok(Some(packet));
            }
            if !self.page()? {
                return Ok(None);
            }
        }
    }

    /// Nothing of the streams so far is followed any more: others may begin.
    pub(crate) fn forget(&mut self) {
        self.packets = BasePacketReader::new();
        self.logical = 0;
    }

    fn page(&mut self) -> Result<bool, SourceError> {
        let mut header = [0; HEADER_BYTES];
        let mut read = 0;
        while read < HEADER_BYTES {
            match self.reader.read(&mut header[read..]) {
                Ok(0) if read == 0 => return Ok(false),
                Ok(0) => return Err(SourceError::Truncated),
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !header.starts_with(b"OggS") {
            return Err(SourceError::Malformed("no Ogg page stands where one must begin"));
        }
        if header[5] & FLAG_FIRST != 0 {
            self.logical += 1;
            if self.logical > LOGICAL_MAX {
                return Err(SourceError::Malformed("too many logical streams begin in this Ogg stream"));
            }
        }
        let (mut page, segments) = PageParser::new(header).map_err(refused)?;
        let segments = self.exactly(segments)?;
        let bytes = page.parse_segments(segments);
        self.incomplete += bytes;
        if self.incomplete > PACKET_BYTES_MAX {
            return Err(SourceError::Malformed("an Ogg packet has more than 1 MiB"));
        }
        let page = page.parse_packet_data(self.exactly(bytes)?).map_err(refused)?;
        self.packets.push_page(page).map_err(refused)?;
        Ok(true)
    }

    fn exactly(&mut self, bytes: usize) -> Result<Vec<u8>, SourceError> {
        let mut buffer = vec![0; bytes];
        match self.reader.read_exact(&mut buffer) {
            Ok(()) => Ok(buffer),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(SourceError::Truncated),
            Err(error) => Err(error.into()),
        }
    }
}

fn refused(error: OggReadError) -> SourceError {
    match error {
        OggReadError::NoCapturePatternFound => SourceError::Malformed("no Ogg page stands where one must begin"),
        OggReadError::InvalidStreamStructVer(_) => SourceError::Malformed("an Ogg page is of a version not known"),
        OggReadError::HashMismatch(_, _) => SourceError::Malformed("an Ogg page's checksum does not match"),
        OggReadError::ReadError(error) => error.into(),
        OggReadError::InvalidData => SourceError::Malformed("Ogg pages do not follow one another"),
    }
}
