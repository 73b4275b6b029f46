use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::frame::to_json;
use crate::lane::DatagramKind;
use crate::limits::DATAGRAM_BYTES_MAX;
use crate::v1::{Push, Reply, ServerFrame, push, reply, server_frame};

/// How a link writes frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    Proto,
    Json,
}

/// A server frame that is encoded once per form, however many links send it. Cloning counts a reference.
#[derive(Debug, Clone)]
pub struct Encoded(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    frame: ServerFrame,
    stream: OnceLock<Bytes>,
    json: OnceLock<Bytes>,
    datagram: OnceLock<Bytes>,
}

impl Encoded {
    pub fn new(frame: ServerFrame) -> Self {
        Self(Arc::new(Inner { frame, stream: OnceLock::new(), json: OnceLock::new(), datagram: OnceLock::new() }))
    }

    pub fn reply(id: u32, result: reply::Result) -> Self {
        Self::new(ServerFrame { frame: Some(server_frame::Frame::Reply(Reply { id, result: Some(result) })) })
    }

    pub fn push(event: push::Event) -> Self {
        Self::new(ServerFrame { frame: Some(server_frame::Frame::Push(Push { event: Some(event) })) })
    }

    pub fn frame(&self) -> &ServerFrame {
        &self.0.frame
    }

    /// Whether this delivers a room's message.
    pub fn is_message(&self) -> bool {
        let Some(server_frame::Frame::Push(push)) = &self.0.frame.frame else { return false };
        matches!(push.event, Some(push::Event::Message(_)))
    }

    /// Whether this tells an author that something was stored.
    pub fn is_acknowledgement(&self) -> bool {
        let Some(server_frame::Frame::Reply(reply)) = &self.0.frame.frame else { return false };
        matches!(reply.result, Some(reply::Result::Published(_)))
    }

    /// For a stream: varint length, then protobuf.
    pub fn stream(&self) -> Bytes {
        self.0.stream.get_or_init(|| self.0.frame.encode_length_delimited_to_vec().into()).clone()
    }

    /// For a binary WebSocket message: protobuf alone. Shares its memory with [`Encoded::stream`].
    pub fn message(&self) -> Bytes {
        let stream = self.stream();
        let body = self.0.frame.encoded_len();
        stream.slice(stream.len() - body..)
    }

    /// For a text WebSocket message: canonical JSON, UTF-8.
    pub fn json(&self) -> Bytes {
        self.0.json.get_or_init(|| to_json(&self.0.frame).into()).clone()
    }

    /// For a QUIC datagram: [`DatagramKind::Frame`], then protobuf. The byte before it is WebTransport's session 0
    /// (quarter stream id, RFC 9297), so one buffer serves both: `[1..]` is plain QUIC's. `None` when over
    /// [`DATAGRAM_BYTES_MAX`].
    pub fn datagram(&self) -> Option<Bytes> {
        let len = self.0.frame.encoded_len();
        if len + 1 > DATAGRAM_BYTES_MAX {
            return None;
        }
        let bytes = self.0.datagram.get_or_init(|| {
            let mut bytes = BytesMut::with_capacity(len + 2);
            bytes.put_u8(0);
            bytes.put_u8(DatagramKind::Frame as u8);
            self.0.frame.encode(&mut bytes).expect("the buffer has room for it");
            bytes.freeze()
        });
        Some(bytes.clone())
    }

    /// Bytes this frame takes on a link of that format.
    pub fn len(&self, format: Format) -> usize {
        match format {
            Format::Proto => self.stream().len(),
            Format::Json => self.json().len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::Pong;

    #[test]
    fn every_form_reads_back() {
        let encoded = Encoded::reply(3, reply::Result::Pong(Pong { client_time_ms: 1, server_time_ms: 2 }));
        let frame = encoded.frame().clone();
        assert_eq!(ServerFrame::decode_length_delimited(encoded.stream()).unwrap(), frame);
        assert_eq!(ServerFrame::decode(encoded.message()).unwrap(), frame);
        let datagram = encoded.datagram().unwrap();
        assert_eq!(datagram[..2], [0, DatagramKind::Frame as u8]);
        assert_eq!(ServerFrame::decode(&datagram[2..]).unwrap(), frame);
        assert_eq!(crate::frame::server_from_json(std::str::from_utf8(&encoded.json()).unwrap()).unwrap(), frame);
    }
}
