//! A link over a QUIC connection, plain (`veza/1`) or carrying a WebTransport session.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::VarInt;
use tokio_util::sync::ReusableBoxFuture;
use veza_proto::limits::DATAGRAM_BYTES_MAX;
use veza_proto::v1::ClientFrame;
use veza_proto::{CloseCode, DatagramKind, Encoded, Lane, frame};

use super::lanes::{Heard, Lanes};
use super::media::{MediaSender, Prefix};
use super::meters::Meters;
use super::{DatagramSent, End, Inbound, Link, Peer};

/// How long a close waits for the client to have what was sent before.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Streams a client may open within a second (security.md).
const STREAMS_PER_SECOND_MAX: u32 = 200;
/// A close reason on the wire, bytes: WebSocket's bound, so that it reads the same everywhere.
pub(super) const REASON_BYTES_MAX: usize = 123;

/// What opens streams and brings datagrams: a QUIC connection, or the WebTransport session on one.
pub(super) trait Carrier: Send + 'static {
    fn connection(&self) -> &quinn::Connection;

    /// The next stream, datagram, or the end, after which it is not polled again.
    fn poll_arrival(&mut self, cx: &mut Context<'_>) -> Poll<Arrival>;

    /// A close code as the error code of one stream.
    fn stream_code(code: CloseCode) -> VarInt;

    /// What stands before its datagrams.
    fn prefix(&self) -> Prefix;

    /// Says the close in what this carrier has for it besides the connection's own; ready when the peer has it.
    fn poll_goodbye(&mut self, cx: &mut Context<'_>, code: CloseCode, reason: &str) -> Poll<()>;
}

pub(super) enum Arrival {
    Stream(quinn::SendStream, quinn::RecvStream),
    /// One-directional streams have no lane.
    Unidirectional(quinn::RecvStream),
    /// Without the carrier's own prefix.
    Datagram(Bytes),
    Ended(End),
}

/// A session's link over QUIC.
pub(super) struct QuicLink<C: Carrier> {
    peer: Peer,
    carrier: C,
    lanes: Lanes,
    closing: Option<Closing>,
    ended: bool,
    meters: Arc<Meters>,
}

struct Closing {
    deadline: Pin<Box<tokio::time::Sleep>>,
    /// Set when everything was handed to the connection.
    undelivered: Option<Vec<Pin<Box<dyn Future<Output = ()> + Send>>>>,
}

impl<C: Carrier> QuicLink<C> {
    pub(super) fn new(carrier: C, peer: Peer, meters: Arc<Meters>) -> Self {
        meters.accepted.increment(1);
        Self { peer, carrier, lanes: Lanes::new(C::stream_code), closing: None, ended: false, meters }
    }

    fn datagram(&self, bytes: Bytes) -> Inbound {
        self.meters.datagrams_in.increment(1);
        if bytes.first() == Some(&(DatagramKind::Media as u8)) && bytes.len() <= DATAGRAM_BYTES_MAX {
            return Inbound::Media { packet: bytes };
        }
        match read_datagram(&bytes) {
            Some(frame) => Inbound::Datagram { frame, bytes: bytes.len() },
            None => {
                self.meters.datagrams_malformed.increment(1);
                Inbound::BadDatagram { bytes: bytes.len() }
            }
        }
    }
}

impl<C: Carrier> Link for QuicLink<C> {
    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Inbound> {
        loop {
            match self.lanes.poll_recv(cx) {
                Poll::Ready(Heard::Frame { lane, frame, bytes }) => {
                    self.meters.received(lane, bytes);
                    return Poll::Ready(Inbound::Frame { lane, frame, bytes });
                }
                Poll::Ready(Heard::Bad { lane, error }) => return Poll::Ready(Inbound::Bad { lane, error }),
                Poll::Pending => {}
            }
            match ready!(self.carrier.poll_arrival(cx)) {
                Arrival::Stream(send, recv) => self.lanes.open(send, recv),
                Arrival::Unidirectional(mut recv) => {
                    // An error says that the client has ended it already.
                    let _ = recv.stop(C::stream_code(CloseCode::Malformed));
                }
                Arrival::Datagram(bytes) => return Poll::Ready(self.datagram(bytes)),
                Arrival::Ended(end) => {
                    self.ended = true;
                    return Poll::Ready(Inbound::Ended(end));
                }
            }
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>, lane: Lane) -> Poll<()> {
        if self.ended { Poll::Ready(()) } else { self.lanes.poll_ready(cx, lane) }
    }

    fn start_send(&mut self, lane: Lane, frame: &Encoded) {
        let bytes = frame.stream();
        self.meters.sent(lane, bytes.len());
        self.lanes.start_send(lane, bytes);
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ended { Poll::Ready(()) } else { self.lanes.poll_flush(cx) }
    }

    fn send_datagram(&mut self, frame: &Encoded) -> DatagramSent {
        let Some(bytes) = frame.datagram().map(|bytes| self.carrier.prefix().before(&bytes)) else {
            self.meters.datagrams_too_large.increment(1);
            return DatagramSent::TooLarge;
        };
        let connection = self.carrier.connection();
        // quinn would make room by dropping older datagrams, and not tell.
        if connection.datagram_send_buffer_space() < bytes.len() {
            self.meters.datagrams_full.increment(1);
            return DatagramSent::Dropped;
        }
        match connection.send_datagram(bytes) {
            Ok(()) => {
                self.meters.datagrams_out.increment(1);
                DatagramSent::Sent
            }
            Err(
                quinn::SendDatagramError::TooLarge
                | quinn::SendDatagramError::UnsupportedByPeer
                | quinn::SendDatagramError::Disabled,
            ) => {
                self.meters.datagrams_too_large.increment(1);
                DatagramSent::TooLarge
            }
            Err(quinn::SendDatagramError::ConnectionLost(_)) => DatagramSent::Dropped,
        }
    }

    fn media(&self) -> MediaSender {
        MediaSender::quic(self.carrier.connection().clone(), self.carrier.prefix())
    }

    fn ping(&mut self) {}

    fn poll_close(&mut self, cx: &mut Context<'_>, code: CloseCode, reason: &str) -> Poll<()> {
        if self.ended {
            return Poll::Ready(());
        }
        let closing = self.closing.get_or_insert_with(|| Closing {
            deadline: Box::pin(tokio::time::sleep(CLOSE_TIMEOUT)),
            undelivered: None,
        });
        if closing.deadline.as_mut().poll(cx).is_pending() {
            if closing.undelivered.is_none() {
                ready!(self.lanes.poll_flush(cx));
            }
            let undelivered = closing.undelivered.get_or_insert_with(|| self.lanes.finish());
            undelivered.retain_mut(|delivered| delivered.as_mut().poll(cx).is_pending());
            if !undelivered.is_empty() {
                return Poll::Pending;
            }
            // After the lanes, whose last frame says more.
            ready!(self.carrier.poll_goodbye(cx, code, truncated(reason)));
        }
        self.ended = true;
        self.carrier.connection().close(close_code(code), truncated(reason).as_bytes());
        Poll::Ready(())
    }
}

/// A plain QUIC connection of a native client.
pub(super) struct Plain {
    connection: quinn::Connection,
    /// Polled to the end, then set again in the same allocation.
    next: ReusableBoxFuture<'static, Arrival>,
    opened: Opened,
}

/// How many streams were opened within the current second.
struct Opened {
    since: Instant,
    count: u32,
}

impl Plain {
    pub(super) fn new(connection: quinn::Connection) -> Self {
        let next = ReusableBoxFuture::new(next(connection.clone()));
        Self { connection, next, opened: Opened { since: Instant::now(), count: 0 } }
    }
}

impl Carrier for Plain {
    fn connection(&self) -> &quinn::Connection {
        &self.connection
    }

    fn poll_arrival(&mut self, cx: &mut Context<'_>) -> Poll<Arrival> {
        let arrival = ready!(self.next.poll(cx));
        let stream = match arrival {
            Arrival::Stream(..) | Arrival::Unidirectional(_) => true,
            Arrival::Datagram(_) => false,
            Arrival::Ended(_) => return Poll::Ready(arrival),
        };
        if stream && self.opened.one_too_many(Instant::now()) {
            let why = "too many streams opened";
            self.connection.close(close_code(CloseCode::Abuse), why.as_bytes());
            return Poll::Ready(Arrival::Ended(End::Lost { why: why.to_owned() }));
        }
        self.next.set(next(self.connection.clone()));
        Poll::Ready(arrival)
    }

    fn stream_code(code: CloseCode) -> VarInt {
        close_code(code)
    }

    fn prefix(&self) -> Prefix {
        Prefix::None
    }

    fn poll_goodbye(&mut self, _cx: &mut Context<'_>, _code: CloseCode, _reason: &str) -> Poll<()> {
        Poll::Ready(())
    }
}

async fn next(connection: quinn::Connection) -> Arrival {
    let arrival = tokio::select! {
        stream = connection.accept_bi() => stream.map(|(send, recv)| Arrival::Stream(send, recv)),
        stream = connection.accept_uni() => stream.map(Arrival::Unidirectional),
        datagram = connection.read_datagram() => datagram.map(Arrival::Datagram),
    };
    arrival.unwrap_or_else(|error| Arrival::Ended(end(error)))
}

impl Opened {
    fn one_too_many(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) >= Duration::from_secs(1) {
            *self = Opened { since: now, count: 0 };
        }
        self.count += 1;
        self.count > STREAMS_PER_SECOND_MAX
    }
}

pub(super) fn close_code(code: CloseCode) -> VarInt {
    VarInt::from_u32(u32::from(code.code()))
}

fn end(error: quinn::ConnectionError) -> End {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => {
            End::Closed { code: u16::try_from(close.error_code.into_inner()).ok() }
        }
        other @ (quinn::ConnectionError::VersionMismatch
        | quinn::ConnectionError::TransportError(_)
        | quinn::ConnectionError::ConnectionClosed(_)
        | quinn::ConnectionError::Reset
        | quinn::ConnectionError::TimedOut
        | quinn::ConnectionError::LocallyClosed
        | quinn::ConnectionError::CidsExhausted) => End::Lost { why: other.to_string() },
    }
}

fn read_datagram(bytes: &[u8]) -> Option<ClientFrame> {
    if bytes.len() > DATAGRAM_BYTES_MAX {
        return None;
    }
    let (&kind, rest) = bytes.split_first()?;
    match DatagramKind::from_byte(kind)? {
        DatagramKind::Frame => frame::decode(rest).ok(),
        DatagramKind::Media => None,
    }
}

/// At most [`REASON_BYTES_MAX`] bytes, whole characters.
pub(super) fn truncated(reason: &str) -> &str {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}
