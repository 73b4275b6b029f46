//! WebSocket over TCP or TLS, by tokio-tungstenite. All lanes share the one connection.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as WsCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use veza_proto::frame::{decode, server_from_json, to_json};
use veza_proto::limits::FRAME_BYTES_MAX;
use veza_proto::v1::{ClientFrame, ServerFrame};
use veza_proto::{CloseCode, DatagramKind, Format, SUBPROTOCOL_JSON, SUBPROTOCOL_PROTO};

use super::Inbound;
use crate::Endpoints;
use crate::error::Ended;
use crate::target::Authority;

/// JSON escapes may make a server's frame longer than its protobuf form; a client need not be stricter than its memory.
const MESSAGE_BYTES_MAX: usize = 8 * FRAME_BYTES_MAX;
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

trait Carrier: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Carrier for T {}

pub(crate) struct WebSocketLink {
    socket: WebSocketStream<Box<dyn Carrier>>,
    format: Format,
    queue: VecDeque<Message>,
    queued: usize,
    flush: bool,
}

pub(crate) async fn connect(endpoints: &Endpoints, url: &str, format: Format) -> Result<WebSocketLink, String> {
    let secure = url.starts_with("wss:");
    let authority = Authority::of(url, if secure { 443 } else { 80 })?;
    let tcp = TcpStream::connect(authority.resolve().await?).await.map_err(|error| error.to_string())?;
    tcp.set_nodelay(true).map_err(|error| error.to_string())?;
    let carrier: Box<dyn Carrier> = if secure {
        let name = ServerName::try_from(authority.host).map_err(|error| error.to_string())?;
        let tls = tokio_rustls::TlsConnector::from(endpoints.tls()).connect(name, tcp).await;
        Box::new(tls.map_err(|error| error.to_string())?)
    } else {
        Box::new(tcp)
    };
    let mut request = url.into_client_request().map_err(|error| error.to_string())?;
    let subprotocol = match format {
        Format::Proto => SUBPROTOCOL_PROTO,
        Format::Json => SUBPROTOCOL_JSON,
    };
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(subprotocol));
    let config = WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * FRAME_BYTES_MAX)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let (socket, _) = tokio_tungstenite::client_async_with_config(request, carrier, Some(config))
        .await
        .map_err(|error| error.to_string())?;
    Ok(WebSocketLink { socket, format, queue: VecDeque::new(), queued: 0, flush: false })
}

impl WebSocketLink {
    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Inbound> {
        let Poll::Ready(message) = self.socket.poll_next_unpin(cx) else { return Poll::Pending };
        let frame = match message {
            Some(Ok(Message::Binary(bytes))) if bytes.first() == Some(&(DatagramKind::Media as u8)) => {
                return Poll::Ready(Inbound::Media(bytes));
            }
            Some(Ok(Message::Binary(bytes))) => decode::<ServerFrame>(&bytes),
            Some(Ok(Message::Text(text))) => server_from_json(&text),
            Some(Ok(Message::Ping(_))) => {
                // tungstenite has queued the pong; it goes out with the next flush.
                self.flush = true;
                return Poll::Ready(Inbound::Alive);
            }
            Some(Ok(Message::Pong(_) | Message::Frame(_))) => return Poll::Ready(Inbound::Alive),
            Some(Ok(Message::Close(frame))) => return Poll::Ready(Inbound::Ended(closed(frame))),
            Some(Err(error)) => return Poll::Ready(Inbound::Ended(Ended::lost(error.to_string()))),
            None => return Poll::Ready(Inbound::Ended(Ended::lost("the connection is closed"))),
        };
        Poll::Ready(match frame {
            Ok(frame) => Inbound::Frame(frame),
            Err(error) => {
                tracing::debug!(%error, "a frame of the server is not readable");
                Inbound::Alive
            }
        })
    }

    pub(crate) fn start_send(&mut self, frame: &ClientFrame) {
        let message = match self.format {
            Format::Proto => Message::binary(frame.encode_to_vec()),
            Format::Json => Message::text(to_json(frame)),
        };
        self.queued += message.len();
        self.queue.push_back(message);
    }

    pub(crate) fn send_media(&mut self, packet: Bytes) {
        self.queued += packet.len();
        self.queue.push_back(Message::Binary(packet));
    }

    pub(crate) fn buffered(&self) -> usize {
        self.queued
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.queue.is_empty() {
            match self.socket.poll_ready_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return self.lost(&error),
            }
            let Some(message) = self.queue.pop_front() else { break };
            self.queued -= message.len();
            self.flush = true;
            if let Err(error) = self.socket.start_send_unpin(message) {
                return self.lost(&error);
            }
        }
        if !self.flush {
            return Poll::Ready(());
        }
        match self.socket.poll_flush_unpin(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => {
                self.flush = false;
                Poll::Ready(())
            }
            Poll::Ready(Err(error)) => self.lost(&error),
        }
    }

    /// Nothing can be written any more; reading tells how the link ended.
    fn lost(&mut self, error: &WsError) -> Poll<()> {
        tracing::debug!(%error, "websocket write failed");
        self.queue.clear();
        self.queued = 0;
        self.flush = false;
        Poll::Ready(())
    }

    pub(crate) async fn close(&mut self, code: CloseCode) {
        let frame = CloseFrame { code: WsCode::from(code.websocket()), reason: code.label().into() };
        // Best effort: the peer may be gone, and then there is nobody to tell.
        tokio::time::timeout(CLOSE_WITHIN, self.socket.close(Some(frame))).await.ok();
    }
}

fn closed(frame: Option<CloseFrame>) -> Ended {
    match frame {
        Some(frame) => Ended::closed(u16::from(frame.code).into(), frame.reason.as_bytes()),
        None => Ended::lost("the server closed without a code"),
    }
}
