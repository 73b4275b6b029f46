//! A session over QUIC streams, the same for WebTransport and plain QUIC: lanes are streams with a first byte.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use prost::Message;
use veza_proto::frame::{Decoder, encode_delimited};
use veza_proto::limits::{DATAGRAM_BYTES_MAX, FRAME_BYTES_MAX};
use veza_proto::v1::{ClientFrame, ServerFrame};
use veza_proto::{CloseCode, DatagramKind, LaneByte};

use super::{Inbound, Lane};
use crate::Transport;
use crate::error::Ended;

/// Bytes read from a stream at once.
const READ_BYTES: usize = 8 * 1024;

/// A QUIC connection, bare or under WebTransport. Cloning counts a reference.
#[derive(Clone)]
pub(crate) enum Carrier {
    Quic(quinn::Connection),
    WebTransport(wtransport::Connection),
}

pub(crate) struct StreamLink {
    carrier: Carrier,
    control: Stream,
    chat: Stream,
    datagrams: BoxStream<'static, Result<Bytes, Ended>>,
}

/// Asks the commands of the bulk lane: a stream each, opened by whoever asks.
#[derive(Clone)]
pub(crate) struct BulkOpener(Carrier);

impl StreamLink {
    /// Opens control and chat. A stream is seen by the peer with its first byte, so both are written at once.
    pub(crate) async fn open(carrier: Carrier) -> Result<Self, String> {
        let mut control = carrier.open(LaneByte::Control).await?;
        let mut chat = carrier.open(LaneByte::Chat).await?;
        for stream in [&mut control, &mut chat] {
            std::future::poll_fn(|cx| stream.poll_flush(cx)).await;
        }
        let datagrams = carrier.datagrams();
        Ok(Self { carrier, control, chat, datagrams })
    }

    pub(crate) fn transport(&self) -> Transport {
        match self.carrier {
            Carrier::Quic(_) => Transport::Quic,
            Carrier::WebTransport(_) => Transport::WebTransport,
        }
    }

    /// The control lane comes first: its `Closing` explains why the others end.
    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Inbound> {
        for stream in [&mut self.control, &mut self.chat] {
            if let Poll::Ready(inbound) = stream.poll_recv(cx) {
                return Poll::Ready(inbound);
            }
        }
        while let Poll::Ready(datagram) = self.datagrams.poll_next_unpin(cx) {
            let inbound = match datagram {
                Some(Ok(datagram)) => match read_datagram(datagram) {
                    Some(inbound) => inbound,
                    // A kind of a later server: not for this client.
                    None => continue,
                },
                Some(Err(ended)) => Inbound::Ended(ended),
                None => Inbound::Ended(Ended::lost("the connection is gone")),
            };
            return Poll::Ready(inbound);
        }
        Poll::Pending
    }

    pub(crate) fn start_send(&mut self, lane: Lane, frame: &ClientFrame) {
        let stream = match lane {
            Lane::Control => &mut self.control,
            Lane::Chat => &mut self.chat,
            Lane::Datagram if self.carrier.send_datagram(frame) => return,
            Lane::Datagram => &mut self.control,
        };
        stream.out.extend_from_slice(&encode_delimited(frame));
    }

    pub(crate) fn send_media(&self, packet: Bytes) {
        // One that is not taken is lost like one that the network loses.
        let _taken = self.carrier.send_bytes(packet);
    }

    pub(crate) fn buffered(&self) -> usize {
        self.control.out.len() + self.chat.out.len()
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let control = self.control.poll_flush(cx);
        let chat = self.chat.poll_flush(cx);
        if control.is_ready() && chat.is_ready() { Poll::Ready(()) } else { Poll::Pending }
    }

    pub(crate) fn bulk(&self) -> BulkOpener {
        BulkOpener(self.carrier.clone())
    }

    pub(crate) fn close(&self, code: CloseCode) {
        self.carrier.quic().close(u32::from(code.code()).into(), code.label().as_bytes());
    }
}

impl BulkOpener {
    /// Sends one command on a stream of its own and reads the one frame that answers it. Waits while the server allows
    /// no more streams.
    pub(crate) async fn ask(&self, frame: &ClientFrame) -> Result<ServerFrame, Ended> {
        let mut stream = self.0.open(LaneByte::Bulk).await.map_err(|_| self.0.ended())?;
        stream.out.extend_from_slice(&encode_delimited(frame));
        std::future::poll_fn(|cx| stream.poll_flush(cx)).await;
        // A stream that is finished already was reset by the server, and reading tells so.
        stream.send.quinn().finish().ok();
        let inbound = tokio::select! {
            inbound = std::future::poll_fn(|cx| stream.poll_recv(cx)) => inbound,
            error = self.0.quic().closed() => Inbound::Ended(quic_ended(error)),
        };
        match inbound {
            Inbound::Frame(frame) => Ok(frame),
            Inbound::Ended(ended) => Err(ended),
            Inbound::Alive | Inbound::Media(_) => Err(Ended::lost("the bulk stream ended without an answer")),
        }
    }
}

impl Carrier {
    async fn open(&self, lane: LaneByte) -> Result<Stream, String> {
        let (send, recv) = match self {
            Carrier::Quic(connection) => {
                let (send, recv) = connection.open_bi().await.map_err(|error| error.to_string())?;
                (SendHalf::Quic(send), RecvHalf::Quic(recv))
            }
            Carrier::WebTransport(connection) => {
                let opening = connection.open_bi().await.map_err(|error| error.to_string())?;
                let (send, recv) = opening.await.map_err(|error| error.to_string())?;
                (SendHalf::WebTransport(send), RecvHalf::WebTransport(recv))
            }
        };
        let out = BytesMut::from(&[lane as u8][..]);
        Ok(Stream { send, recv, decoder: Decoder::default(), out, finished: false })
    }

    fn datagrams(&self) -> BoxStream<'static, Result<Bytes, Ended>> {
        let next = |carrier: Carrier| async move {
            let datagram = match &carrier {
                Carrier::Quic(connection) => connection.read_datagram().await.map_err(quic_ended),
                Carrier::WebTransport(connection) => connection
                    .receive_datagram()
                    .await
                    .map(|datagram| datagram.payload())
                    .map_err(|error| webtransport_ended(error, connection)),
            };
            Some((datagram, carrier))
        };
        futures_util::stream::unfold(self.clone(), next).boxed()
    }

    /// Whether the datagram was taken; one that does not fit or is not allowed goes by stream.
    fn send_datagram(&self, frame: &ClientFrame) -> bool {
        let mut bytes = vec![DatagramKind::Frame as u8];
        frame.encode(&mut bytes).expect("a vector grows");
        if bytes.len() > DATAGRAM_BYTES_MAX {
            return false;
        }
        self.send_bytes(bytes.into())
    }

    fn send_bytes(&self, bytes: Bytes) -> bool {
        match self {
            Carrier::Quic(connection) => connection.send_datagram(bytes).is_ok(),
            Carrier::WebTransport(connection) => connection.send_datagram(bytes).is_ok(),
        }
    }

    fn quic(&self) -> &quinn::Connection {
        match self {
            Carrier::Quic(connection) => connection,
            Carrier::WebTransport(connection) => connection.quic_connection(),
        }
    }

    fn ended(&self) -> Ended {
        self.quic().close_reason().map_or_else(|| Ended::lost("the connection is gone"), quic_ended)
    }
}

fn quic_ended(error: quinn::ConnectionError) -> Ended {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => Ended::closed(close.error_code.into(), &close.reason),
        quinn::ConnectionError::VersionMismatch
        | quinn::ConnectionError::TransportError(_)
        | quinn::ConnectionError::ConnectionClosed(_)
        | quinn::ConnectionError::Reset
        | quinn::ConnectionError::TimedOut
        | quinn::ConnectionError::LocallyClosed
        | quinn::ConnectionError::CidsExhausted => Ended::lost(error.to_string()),
    }
}

/// WebTransport tells its close in a capsule on the session's stream (RFC draft, section 6) or as the connection's code.
fn webtransport_ended(error: wtransport::error::ConnectionError, connection: &wtransport::Connection) -> Ended {
    use wtransport::error::ConnectionError;
    match error {
        ConnectionError::ApplicationClosed(close) => Ended::closed(close.code().into_inner(), close.reason()),
        ConnectionError::ConnectionClosed(_)
        | ConnectionError::LocallyClosed
        | ConnectionError::LocalH3Error(_)
        | ConnectionError::TimedOut
        | ConnectionError::QuicProto(_)
        | ConnectionError::CidsExhausted => connection
            .quic_connection()
            .close_reason()
            .map(quic_ended)
            .filter(|ended| ended.code.is_some())
            .unwrap_or_else(|| Ended::lost(error.to_string())),
    }
}

fn read_datagram(datagram: Bytes) -> Option<Inbound> {
    let (kind, payload) = datagram.split_first()?;
    match DatagramKind::from_byte(*kind)? {
        DatagramKind::Frame => veza_proto::frame::decode(payload).ok().map(Inbound::Frame),
        DatagramKind::Media => Some(Inbound::Media(datagram)),
    }
}

/// One bidirectional stream with frames in both directions.
struct Stream {
    send: SendHalf,
    recv: RecvHalf,
    decoder: Decoder,
    out: BytesMut,
    finished: bool,
}

impl Stream {
    /// The next frame; `Alive` once at the stream's orderly end, then pending: the connection's end is told by datagrams.
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Inbound> {
        loop {
            match self.decoder.next::<ServerFrame>() {
                Ok(Some(frame)) => return Poll::Ready(Inbound::Frame(frame)),
                Ok(None) => {}
                Err(error) if error.ends_stream() => {
                    return Poll::Ready(Inbound::Ended(Ended::lost(error.to_string())));
                }
                Err(error) => {
                    tracing::debug!(%error, "a frame of the server is not readable");
                    continue;
                }
            }
            if self.finished {
                return Poll::Pending;
            }
            let mut buffer = [0; READ_BYTES];
            match self.recv.quinn().poll_read(cx, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => {
                    self.finished = true;
                    return Poll::Ready(Inbound::Alive);
                }
                Poll::Ready(Ok(len)) => self.decoder.push(&buffer[..len]),
                Poll::Ready(Err(error)) => return self.failed(error),
            }
        }
    }

    fn failed(&mut self, error: quinn::ReadError) -> Poll<Inbound> {
        self.finished = true;
        let ended = match error {
            quinn::ReadError::ConnectionLost(error) => {
                let ended = quic_ended(error);
                if ended.code.is_none() && matches!(self.recv, RecvHalf::WebTransport(_)) {
                    // wtransport closes the connection itself after it read the session's close: it knows the code.
                    return Poll::Pending;
                }
                ended
            }
            quinn::ReadError::Reset(code) => Ended::lost(format!("the server reset a lane with {code}")),
            quinn::ReadError::ClosedStream
            | quinn::ReadError::IllegalOrderedRead
            | quinn::ReadError::ZeroRttRejected => Ended::lost(error.to_string()),
        };
        Poll::Ready(Inbound::Ended(ended))
    }

    /// Ready also when the stream has failed: what it could not take is told by reading.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.out.is_empty() {
            match Pin::new(self.send.quinn()).poll_write(cx, &self.out) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(len)) => self.out.advance(len),
                Poll::Ready(Err(_)) => self.out.clear(),
            }
        }
        if self.out.capacity() > FRAME_BYTES_MAX {
            self.out = BytesMut::new();
        }
        Poll::Ready(())
    }
}

/// The halves of a stream; below WebTransport's header both are quinn's.
enum SendHalf {
    Quic(quinn::SendStream),
    WebTransport(wtransport::SendStream),
}

enum RecvHalf {
    Quic(quinn::RecvStream),
    WebTransport(wtransport::RecvStream),
}

impl SendHalf {
    fn quinn(&mut self) -> &mut quinn::SendStream {
        match self {
            SendHalf::Quic(stream) => stream,
            SendHalf::WebTransport(stream) => stream.quic_stream_mut(),
        }
    }
}

impl RecvHalf {
    fn quinn(&mut self) -> &mut quinn::RecvStream {
        match self {
            RecvHalf::Quic(stream) => stream,
            RecvHalf::WebTransport(stream) => stream.quic_stream_mut(),
        }
    }
}
