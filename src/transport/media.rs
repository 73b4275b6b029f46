//! Media packets on their way out: past the session's task, straight to its connection.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::{Transport, webtransport};

/// What waits inside the transport before it counts as full, bytes: two packets. The rest waits where it can be dropped.
const WITHIN_BYTES_MAX: usize = 2_200;
/// The same on WebSocket, packets: those that the kernel has taken come on top.
const WITHIN_PACKETS_MAX: usize = 2;

/// The way of media packets to one client, for whoever has them. Cheap to clone; it outlives the link and says so.
#[derive(Debug, Clone)]
pub struct MediaSender(Way);

#[derive(Debug, Clone)]
enum Way {
    Quic { connection: quinn::Connection, prefix: Prefix },
    Queue(Arc<Queue>),
}

/// What stands before a datagram's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prefix {
    None,
    /// WebTransport's session id on this connection.
    Session(u64),
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaSent {
    Sent,
    /// The transport still has earlier ones: keep it for a moment.
    Full,
    /// It will not be sent: it is too large for the path, or the client takes no datagrams.
    Impossible,
    /// The link is no more.
    Gone,
}

/// How the way is, as far as the transport knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Path {
    /// `None` where the transport does not tell.
    pub rtt: Option<Duration>,
    /// Totals of the connection, 0 where the transport does not tell.
    pub packets_sent: u64,
    pub packets_lost: u64,
    /// Where the client is; a change says that it is in another network.
    pub address: Option<SocketAddr>,
}

impl MediaSender {
    pub(super) fn quic(connection: quinn::Connection, prefix: Prefix) -> Self {
        Self(Way::Quic { connection, prefix })
    }

    pub(super) fn queue(queue: Arc<Queue>) -> Self {
        Self(Way::Queue(queue))
    }

    /// Sends a packet as [`veza_proto::media::MediaPacket::write`] made it. Never waits.
    pub fn send(&self, session_zero: &Bytes) -> MediaSent {
        match &self.0 {
            Way::Queue(queue) => queue.push(session_zero.slice(1..)),
            Way::Quic { connection, prefix } => {
                let within = super::endpoint::DATAGRAMS_OUT_BYTES - connection.datagram_send_buffer_space();
                if within > 0 && within + session_zero.len() > WITHIN_BYTES_MAX {
                    // A closed connection never empties.
                    return if connection.close_reason().is_some() { MediaSent::Gone } else { MediaSent::Full };
                }
                let sent = connection.send_datagram(prefix.before(session_zero));
                match sent {
                    Ok(()) => MediaSent::Sent,
                    Err(quinn::SendDatagramError::ConnectionLost(_)) => MediaSent::Gone,
                    Err(
                        quinn::SendDatagramError::TooLarge
                        | quinn::SendDatagramError::UnsupportedByPeer
                        | quinn::SendDatagramError::Disabled,
                    ) => MediaSent::Impossible,
                }
            }
        }
    }

    /// What it goes over.
    pub fn transport(&self) -> Transport {
        match &self.0 {
            Way::Queue(_) => Transport::WebSocket,
            Way::Quic { prefix: Prefix::None, .. } => Transport::Quic,
            Way::Quic { prefix: Prefix::Session(_), .. } => Transport::WebTransport,
        }
    }

    /// How the way is now.
    pub fn path(&self) -> Path {
        match &self.0 {
            Way::Queue(_) => Path::default(),
            Way::Quic { connection, .. } => {
                let path = connection.stats().path;
                Path {
                    rtt: Some(path.rtt),
                    packets_sent: path.sent_packets,
                    packets_lost: path.lost_packets,
                    address: Some(connection.remote_address()),
                }
            }
        }
    }
}

impl Prefix {
    /// The datagram with session 0 before it, as this connection sends it.
    pub(super) fn before(self, session_zero: &Bytes) -> Bytes {
        match self {
            Prefix::None => session_zero.slice(1..),
            // Zero is what every browser's first request makes it; only then nothing is copied.
            Prefix::Session(0) => session_zero.clone(),
            Prefix::Session(id) => webtransport::datagram_of(id, &session_zero[1..]),
        }
    }
}

/// Packets that wait for a WebSocket to take them.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    packets: VecDeque<Bytes>,
    link: Option<Waker>,
    closed: bool,
}

impl Queue {
    fn push(&self, packet: Bytes) -> MediaSent {
        let mut waiting = self.lock();
        if waiting.closed {
            return MediaSent::Gone;
        }
        if waiting.packets.len() >= WITHIN_PACKETS_MAX {
            return MediaSent::Full;
        }
        waiting.packets.push_back(packet);
        let link = waiting.link.take();
        drop(waiting);
        if let Some(link) = link {
            link.wake();
        }
        MediaSent::Sent
    }

    /// The next packet; without one the link is woken when one comes.
    pub(super) fn pop(&self, cx: &Context<'_>) -> Option<Bytes> {
        let mut waiting = self.lock();
        let packet = waiting.packets.pop_front();
        if packet.is_none() {
            waiting.link = Some(cx.waker().clone());
        }
        packet
    }

    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.packets = VecDeque::new();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_at_its_bound_and_one_past() {
        let queue = Arc::new(Queue::default());
        let sender = MediaSender::queue(Arc::clone(&queue));
        let packet = Bytes::from_static(&[0, 2, 7]);
        for _ in 0..WITHIN_PACKETS_MAX {
            assert_eq!(sender.send(&packet), MediaSent::Sent);
        }
        assert_eq!(sender.send(&packet), MediaSent::Full);
        assert_eq!(queue.pop(&Context::from_waker(Waker::noop())), Some(packet.slice(1..)));
        assert_eq!(sender.send(&packet), MediaSent::Sent);
        queue.close();
        assert_eq!(sender.send(&packet), MediaSent::Gone);
    }

    #[test]
    fn the_prefix_is_the_sessions() {
        let packet = Bytes::from_static(&[0, 2, 7]);
        assert_eq!(Prefix::None.before(&packet), packet[1..]);
        assert_eq!(Prefix::Session(0).before(&packet), packet);
        assert_eq!(Prefix::Session(4).before(&packet), [1, 2, 7][..]);
    }
}
