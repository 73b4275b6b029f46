//! Links: what carries a session. The transports accept them and know nothing of rooms.
//!
//! A [`Link`] is polled by the one task that runs its session. It moves frames between a session's lanes and what the
//! transport has: streams and datagrams on QUIC, one sequence of messages on WebSocket.

pub mod admission;
mod endpoint;
pub mod http;
mod http3;
mod keys;
mod lanes;
mod listen;
mod media;
mod meters;
mod origins;
mod quic;
mod steering;
pub(crate) mod tcp;
pub mod tls;
mod websocket;
mod webtransport;

#[cfg(test)]
mod loopback;

pub use listen::{Addresses, Door, Transports};
pub use media::{MediaSender, MediaSent, Path};

use std::net::SocketAddr;
use std::task::{Context, Poll};

use bytes::Bytes;
use veza_proto::frame::FrameError;
use veza_proto::v1::ClientFrame;
use veza_proto::{CloseCode, Encoded, Format, Lane};

pub use veza_proto::Transport;

/// One accepted connection of a client.
///
/// Sending never blocks: ask [`Link::poll_ready`], then [`Link::start_send`]. A link that has ended is always ready and
/// swallows what it is given; [`Link::poll_recv`] alone tells the end.
pub trait Link: Send {
    fn peer(&self) -> &Peer;

    /// What comes next from the peer. After [`Inbound::Ended`] it must not be polled again.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Inbound>;

    /// Whether the lane takes one more frame now. A lane that the peer has not opened is pending until it does.
    fn poll_ready(&mut self, cx: &mut Context<'_>, lane: Lane) -> Poll<()>;

    /// Starts sending a frame on a lane that is ready. On [`Lane::Bulk`] the stream ends after it. A bulk stream that
    /// brought a frame, good or bad, waits for exactly one.
    fn start_send(&mut self, lane: Lane, frame: &Encoded);

    /// Drives what was started; ready when the transport has taken all of it.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Sends without order or guarantee. Never waits.
    fn send_datagram(&mut self, frame: &Encoded) -> DatagramSent;

    /// The way of media packets to this client, for others than the session's task.
    fn media(&self) -> MediaSender;

    /// A heartbeat of the transport, where it needs one from us (WebSocket); it goes out with the next flush. Others
    /// do nothing.
    fn ping(&mut self);

    /// Lets what was started go out, then closes; at most a second.
    fn poll_close(&mut self, cx: &mut Context<'_>, code: CloseCode, reason: &str) -> Poll<()>;
}

/// What came from the peer.
#[derive(Debug)]
pub enum Inbound {
    /// A frame that decodes. `bytes` is its size on the wire.
    Frame { lane: Lane, frame: ClientFrame, bytes: usize },
    /// A frame by datagram.
    Datagram { frame: ClientFrame, bytes: usize },
    /// A media packet, unread.
    Media { packet: Bytes },
    /// Bytes that are no frame. When the error ends the stream the link has stopped it already: on QUIC that stream
    /// alone, on WebSocket the whole link, which closes itself with 1009 and ends.
    Bad { lane: Lane, error: FrameError },
    /// A datagram that is no frame, or larger than allowed.
    BadDatagram { bytes: usize },
    /// Any sign of life without content (a pong, a WebSocket ping).
    Alive,
    /// The peer closed, or the network lost it.
    Ended(End),
}

/// How a link ended, for logs and metrics.
#[derive(Debug, Clone)]
pub enum End {
    /// The peer closed, perhaps with a code.
    Closed { code: Option<u16> },
    /// Timeout, reset, protocol error of the transport.
    Lost { why: String },
}

/// What became of a datagram that was to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatagramSent {
    /// Handed to the transport, which may still lose it.
    Sent,
    /// It does not fit; send it by stream.
    TooLarge,
    /// The link has no room for volatile things now.
    Dropped,
}

/// Who is at the other end, as far as the transport knows.
#[derive(Debug, Clone)]
pub struct Peer {
    pub transport: Transport,
    pub remote: SocketAddr,
    pub format: Format,
    /// A token from the request's `Authorization: Bearer` header (native clients), for a hello without one.
    pub bearer: Option<String>,
}
