use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as WsCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use veza_proto::frame::{self, FrameError};
use veza_proto::limits::{DATAGRAM_BYTES_MAX, FRAME_BYTES_MAX};
use veza_proto::v1::ClientFrame;
use veza_proto::{CloseCode, DatagramKind, Encoded, Format, Lane};

use super::super::media::{MediaSender, Queue};
use super::super::meters::Meters;
use super::super::quic::truncated;
use super::super::{DatagramSent, End, Inbound, Link, Peer};

const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Written to the socket from here on.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;
/// Never held for one connection, beyond what the kernel has: several frames of the largest size.
const WRITE_BUFFER_BYTES_MAX: usize = 1024 * 1024;
/// Volatile frames wait behind at most this much; then they are dropped.
const VOLATILE_BEHIND_BYTES_MAX: usize = WRITE_BUFFER_BYTES;
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

const _: () = assert!(WRITE_BUFFER_BYTES_MAX > WRITE_BUFFER_BYTES + 4 * FRAME_BYTES_MAX);

/// What replaces the library's own limits (64 MiB messages, no bound of the write buffer).
pub(super) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX))
}

/// A session's link over WebSocket: all lanes in one sequence of messages.
pub(super) struct WebSocketLink<S> {
    peer: Peer,
    socket: WebSocketStream<S>,
    /// Bytes of frames given since everything was last written.
    unwritten: usize,
    /// The socket did not take all of it.
    blocked: bool,
    /// The code of the peer's close frame.
    closed: Option<u16>,
    leaving: Option<Leaving>,
    ended: bool,
    media: Arc<Queue>,
    meters: Arc<Meters>,
}

/// A close from our side: the frame goes out, and what the peer still sends is read away, because a socket closed with
/// unread bytes is reset and the peer may lose the close frame.
struct Leaving {
    deadline: Pin<Box<tokio::time::Sleep>>,
    frame: Option<CloseFrame>,
    step: Step,
    /// What is told when a fault of the peer was the reason.
    why: Option<String>,
}

enum Step {
    Frame,
    Flush,
    Shutdown,
    Drain,
}

impl<S> WebSocketLink<S> {
    pub(super) fn new(socket: WebSocketStream<S>, peer: Peer, meters: Arc<Meters>) -> Self {
        meters.accepted.increment(1);
        Self {
            peer,
            socket,
            unwritten: 0,
            blocked: false,
            closed: None,
            leaving: None,
            ended: false,
            media: Arc::default(),
            meters,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> WebSocketLink<S> {
    fn heard(&self, decoded: Result<ClientFrame, FrameError>, bytes: usize) -> Inbound {
        match decoded {
            Ok(frame) => {
                let lane = Lane::of(&frame);
                self.meters.received(lane, bytes);
                Inbound::Frame { lane, frame, bytes }
            }
            Err(error) => Inbound::Bad { lane: Lane::Control, error },
        }
    }

    fn wrong_kind(kind: &str) -> FrameError {
        FrameError::Malformed(format!("a {kind} message, which this subprotocol does not have"))
    }

    fn send(&mut self, message: Message) {
        self.unwritten += message.len();
        match Pin::new(&mut self.socket).start_send(message) {
            Ok(()) => {}
            Err(Error::WriteBufferFull(message)) => {
                // Nobody makes such frames. One that is not sent must not go unnoticed.
                tracing::error!(bytes = message.len(), "a frame is larger than the write buffer may become");
                self.leave(WsCode::Error, "a frame was too large", Some("frame too large to send".to_owned()));
            }
            // The connection is gone, which the next read tells too.
            Err(_) => self.blocked = true,
        }
    }

    /// Takes a media packet, if one waits and the socket has taken everything: they must not wait where nobody can drop
    /// them.
    fn take_media(&mut self, cx: &Context<'_>) -> bool {
        let Some(packet) = self.media.pop(cx) else { return false };
        self.meters.datagrams_out.increment(1);
        self.send(Message::Binary(packet));
        true
    }

    /// After an error of the socket.
    fn failed(&mut self, error: Error) -> Option<Inbound> {
        match error {
            Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
                self.leave(WsCode::Size, "the message is too large", Some("message too large".to_owned()));
                let error = FrameError::TooLarge { len: size as u64, max: max_size };
                Some(Inbound::Bad { lane: Lane::Control, error })
            }
            Error::Utf8(why) => {
                self.leave(WsCode::Invalid, "the text is not UTF-8", Some(why));
                None
            }
            Error::Protocol(why) => {
                self.leave(WsCode::Protocol, "not WebSocket", Some(why.to_string()));
                None
            }
            other @ (Error::ConnectionClosed
            | Error::AlreadyClosed
            | Error::Io(_)
            | Error::Tls(_)
            | Error::Capacity(CapacityError::TooManyHeaders)
            | Error::WriteBufferFull(_)
            | Error::AttackAttempt
            | Error::Url(_)
            | Error::Http(_)
            | Error::HttpFormat(_)) => {
                self.ended = true;
                Some(Inbound::Ended(End::Lost { why: other.to_string() }))
            }
        }
    }

    fn leave(&mut self, code: WsCode, reason: &str, why: Option<String>) {
        self.leaving.get_or_insert_with(|| Leaving {
            deadline: Box::pin(tokio::time::sleep(CLOSE_TIMEOUT)),
            frame: Some(CloseFrame { code, reason: truncated(reason).into() }),
            step: Step::Frame,
            why,
        });
    }

    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(leaving) = &mut self.leaving else { return Poll::Ready(()) };
        if leaving.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut socket = Pin::new(&mut self.socket);
        loop {
            match leaving.step {
                Step::Frame => {
                    let ready = ready!(socket.as_mut().poll_ready(cx));
                    let sent = ready.and_then(|()| socket.as_mut().start_send(Message::Close(leaving.frame.take())));
                    leaving.step = if sent.is_ok() { Step::Flush } else { Step::Shutdown };
                }
                Step::Flush => {
                    // An error only means that the peer will not get it.
                    let _ = ready!(socket.as_mut().poll_flush(cx));
                    leaving.step = Step::Shutdown;
                }
                Step::Shutdown => {
                    let _ = ready!(Pin::new(socket.as_mut().get_mut().get_mut()).poll_shutdown(cx));
                    leaving.step = Step::Drain;
                }
                Step::Drain => {
                    let mut scratch = [0; 2048];
                    let mut scratch = ReadBuf::new(&mut scratch);
                    let read = ready!(Pin::new(socket.as_mut().get_mut().get_mut()).poll_read(cx, &mut scratch));
                    if read.is_err() || scratch.filled().is_empty() {
                        return Poll::Ready(());
                    }
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Link for WebSocketLink<S> {
    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Inbound> {
        loop {
            if self.leaving.is_some() {
                ready!(self.poll_leave(cx));
                self.ended = true;
                let why = self.leaving.take().and_then(|leaving| leaving.why);
                let why = why.unwrap_or_else(|| "closed".to_owned());
                return Poll::Ready(Inbound::Ended(End::Lost { why }));
            }
            let message = match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(message)) => message,
                Some(Err(error)) => match self.failed(error) {
                    Some(inbound) => return Poll::Ready(inbound),
                    None => continue,
                },
                None => {
                    self.ended = true;
                    return Poll::Ready(Inbound::Ended(End::Closed { code: self.closed }));
                }
            };
            let bytes = message.len();
            return Poll::Ready(match (message, self.peer.format) {
                (Message::Binary(packet), _) if is_media(&packet) => Inbound::Media { packet },
                (Message::Text(text), Format::Json) => self.heard(frame::client_from_json(&text), bytes),
                (Message::Binary(body), Format::Proto) => self.heard(frame::decode(&body), bytes),
                (Message::Text(_), Format::Proto) => self.heard(Err(Self::wrong_kind("text")), bytes),
                (Message::Binary(_), Format::Json) => self.heard(Err(Self::wrong_kind("binary")), bytes),
                (Message::Ping(_) | Message::Pong(_) | Message::Frame(_), _) => Inbound::Alive,
                (Message::Close(close), _) => {
                    // The next read sends our answer to it and then says that this was all.
                    self.closed = Some(close.map_or(1005, |close| close.code.into()));
                    continue;
                }
            });
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>, _lane: Lane) -> Poll<()> {
        if self.ended || self.leaving.is_some() {
            return Poll::Ready(());
        }
        let ready = Pin::new(&mut self.socket).poll_ready(cx);
        self.blocked = ready.is_pending();
        // An error says that the connection is gone; the next read tells.
        ready.map(|_| ())
    }

    fn start_send(&mut self, lane: Lane, frame: &Encoded) {
        if self.ended || self.leaving.is_some() {
            return;
        }
        let message = message(self.peer.format, frame);
        self.meters.sent(lane, message.len());
        self.send(message);
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ended || self.leaving.is_some() {
            return Poll::Ready(());
        }
        loop {
            let flushed = Pin::new(&mut self.socket).poll_flush(cx);
            self.blocked = flushed.is_pending();
            // An error says that the connection is gone; the next read tells.
            let _gone = ready!(flushed);
            self.unwritten = 0;
            if !self.take_media(cx) {
                return Poll::Ready(());
            }
        }
    }

    fn send_datagram(&mut self, frame: &Encoded) -> DatagramSent {
        if self.ended || self.leaving.is_some() || self.blocked || self.unwritten > VOLATILE_BEHIND_BYTES_MAX {
            self.meters.datagrams_full.increment(1);
            return DatagramSent::Dropped;
        }
        self.meters.datagrams_out.increment(1);
        self.send(message(self.peer.format, frame));
        DatagramSent::Sent
    }

    fn media(&self) -> MediaSender {
        MediaSender::queue(Arc::clone(&self.media))
    }

    /// Goes out with the next flush.
    fn ping(&mut self) {
        if !self.ended && self.leaving.is_none() && !self.blocked {
            self.send(Message::Ping(Bytes::new()));
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>, code: CloseCode, reason: &str) -> Poll<()> {
        if self.ended {
            return Poll::Ready(());
        }
        self.leave(WsCode::from(code.websocket()), reason, None);
        ready!(self.poll_leave(cx));
        self.ended = true;
        Poll::Ready(())
    }
}

/// A media packet's first byte begins no protobuf frame.
fn is_media(message: &[u8]) -> bool {
    message.first() == Some(&(DatagramKind::Media as u8)) && message.len() <= DATAGRAM_BYTES_MAX
}

impl<S> Drop for WebSocketLink<S> {
    fn drop(&mut self) {
        self.media.close();
    }
}

fn message(format: Format, frame: &Encoded) -> Message {
    match format {
        Format::Proto => Message::Binary(frame.message()),
        Format::Json => {
            Message::Text(Utf8Bytes::try_from(frame.json()).expect("JSON is made from strings, which are UTF-8"))
        }
    }
}
