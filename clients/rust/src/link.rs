//! Links: what carries a session, seen from the client.
//!
//! A link is polled by the one task that drives its connection. Frames go in whole and come out whole.

pub(crate) mod quic;
pub(crate) mod streams;
pub(crate) mod websocket;
pub(crate) mod webtransport;

use std::task::{Context, Poll};

use bytes::Bytes;
use veza_proto::v1::{ClientFrame, ServerFrame};
use veza_proto::{CloseCode, Format};

use crate::error::{ConnectError, Ended};
use crate::{Endpoints, Target, Transport};

/// The lane a frame takes. Commands of the bulk lane are asked by [`streams::BulkOpener`] where there are streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Control,
    Chat,
    /// Without order or guarantee where the link has datagrams, else as [`Lane::Control`].
    Datagram,
}

/// What comes from the server.
#[expect(clippy::large_enum_variant, reason = "nearly all are frames, and each is taken at once")]
#[derive(Debug)]
pub(crate) enum Inbound {
    Frame(ServerFrame),
    /// A media packet, unread.
    Media(Bytes),
    /// A sign of life without content.
    Alive,
    /// Nothing comes after this.
    Ended(Ended),
}

pub(crate) enum Link {
    Streams(Box<streams::StreamLink>),
    WebSocket(Box<websocket::WebSocketLink>),
}

impl Link {
    /// Connects and opens the lanes; says nothing yet, so that a link that loses a race has shown no credentials.
    pub(crate) async fn connect(
        endpoints: &Endpoints,
        target: &Target,
        transport: Transport,
        format: Format,
    ) -> Result<Self, ConnectError> {
        let address = match transport {
            Transport::WebTransport => &target.webtransport,
            Transport::Quic => &target.quic,
            Transport::WebSocket => &target.websocket,
        };
        let address = address.as_deref().ok_or_else(|| ConnectError::new(transport, "the server offers none"))?;
        let link = match transport {
            Transport::WebTransport => webtransport::connect(endpoints, address).await.map(Link::from),
            Transport::Quic => quic::connect(endpoints, address).await.map(Link::from),
            Transport::WebSocket => websocket::connect(endpoints, address, format).await.map(Link::from),
        };
        link.map_err(|why| ConnectError::new(transport, why))
    }

    pub(crate) fn transport(&self) -> Transport {
        match self {
            Link::Streams(link) => link.transport(),
            Link::WebSocket(_) => Transport::WebSocket,
        }
    }

    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Inbound> {
        match self {
            Link::Streams(link) => link.poll_recv(cx),
            Link::WebSocket(link) => link.poll_recv(cx),
        }
    }

    /// Queues a frame. Ask [`Link::buffered`] first: the queue itself has no bound.
    pub(crate) fn start_send(&mut self, lane: Lane, frame: &ClientFrame) {
        match self {
            Link::Streams(link) => link.start_send(lane, frame),
            Link::WebSocket(link) => link.start_send(frame),
        }
    }

    /// Sends a media packet: by datagram, which may be lost, or behind what waits on WebSocket.
    pub(crate) fn send_media(&mut self, packet: Bytes) {
        match self {
            Link::Streams(link) => link.send_media(packet),
            Link::WebSocket(link) => link.send_media(packet),
        }
    }

    /// Bytes that the transport has not taken yet.
    pub(crate) fn buffered(&self) -> usize {
        match self {
            Link::Streams(link) => link.buffered(),
            Link::WebSocket(link) => link.buffered(),
        }
    }

    /// Drives what was started; ready when the transport has all of it, or has ended.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Link::Streams(link) => link.poll_flush(cx),
            Link::WebSocket(link) => link.poll_flush(cx),
        }
    }

    pub(crate) fn bulk(&self) -> Option<streams::BulkOpener> {
        match self {
            Link::Streams(link) => Some(link.bulk()),
            Link::WebSocket(_) => None,
        }
    }

    /// Closes without waiting for what is buffered.
    pub(crate) async fn close(&mut self, code: CloseCode) {
        match self {
            Link::Streams(link) => link.close(code),
            Link::WebSocket(link) => link.close(code).await,
        }
    }
}

impl From<streams::StreamLink> for Link {
    fn from(link: streams::StreamLink) -> Self {
        Link::Streams(Box::new(link))
    }
}

impl From<websocket::WebSocketLink> for Link {
    fn from(link: websocket::WebSocketLink) -> Self {
        Link::WebSocket(Box::new(link))
    }
}
