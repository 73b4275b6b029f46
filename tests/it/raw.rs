//! A client that says what no good client says: bytes on a control stream or in WebSocket messages.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite};
use veza_client::proto::frame::{self, Decoder};
use veza_client::proto::v1::{ClientFrame, ServerFrame};
use veza_client::proto::{ALPN_QUIC, SUBPROTOCOL_JSON, SUBPROTOCOL_PROTO};

use crate::carrier::{Carrier, SOON, Stage};

/// One link, spoken by hand.
pub enum Raw {
    WebTransport {
        connection: wtransport::Connection,
        send: wtransport::SendStream,
        recv: wtransport::RecvStream,
        decoder: Decoder,
    },
    Quic {
        connection: quinn::Connection,
        send: quinn::SendStream,
        recv: quinn::RecvStream,
        decoder: Decoder,
        _endpoint: quinn::Endpoint,
    },
    WebSocket {
        socket: Box<WebSocketStream<TcpStream>>,
        json: bool,
    },
}

/// What came next.
#[derive(Debug)]
pub enum Heard {
    Frame(Box<ServerFrame>),
    /// The server stopped reading the stream, or ended it.
    StreamEnded,
    /// The link closed with this code; 0 without one.
    Closed(u64),
}

impl Raw {
    pub async fn open(stage: &Stage) -> Self {
        let tls = |alpn: &[u8]| stage.server.trust().unwrap().config(&[alpn], false).unwrap();
        match stage.carrier {
            Carrier::WebTransport => {
                let config =
                    wtransport::ClientConfig::builder().with_bind_default().with_custom_tls(tls(b"h3")).build();
                let url = stage.server.target().webtransport.unwrap();
                let connection = wtransport::Endpoint::client(config).unwrap().connect(url).await.unwrap();
                let (mut send, recv) = connection.open_bi().await.unwrap().await.unwrap();
                send.write_all(&[0]).await.unwrap();
                Raw::WebTransport { connection, send, recv, decoder: Decoder::default() }
            }
            Carrier::Quic => {
                let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls(ALPN_QUIC)).unwrap();
                let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
                let config = quinn::ClientConfig::new(std::sync::Arc::new(tls));
                let address = ([127, 0, 0, 1], stage.process.http).into();
                let connection = endpoint.connect_with(config, address, "localhost").unwrap().await.unwrap();
                let (mut send, recv) = connection.open_bi().await.unwrap();
                send.write_all(&[0]).await.unwrap();
                Raw::Quic { connection, send, recv, decoder: Decoder::default(), _endpoint: endpoint }
            }
            Carrier::WebSocketProto | Carrier::WebSocketJson => {
                let json = stage.carrier == Carrier::WebSocketJson;
                let protocol = if json { SUBPROTOCOL_JSON } else { SUBPROTOCOL_PROTO };
                let (socket, _) =
                    upgrade(stage.process.websocket, "/ws", &[("sec-websocket-protocol", protocol)]).await.unwrap();
                Raw::WebSocket { socket: Box::new(socket), json }
            }
        }
    }

    pub async fn say(&mut self, frame: &ClientFrame) {
        match self {
            Raw::WebSocket { json: true, .. } => self.text(frame::to_json(frame)).await,
            Raw::WebSocket { .. } => {
                let delimited = frame::encode_delimited(frame);
                let mut decoder = delimited.as_slice();
                let _length = prost_length(&mut decoder);
                let bytes = decoder.to_vec();
                self.message(Message::binary(bytes)).await;
            }
            Raw::WebTransport { .. } | Raw::Quic { .. } => self.bytes(&frame::encode_delimited(frame)).await,
        }
    }

    /// Bytes that are no frame: a whole one by its length where the transport has lengths.
    pub async fn junk(&mut self) {
        match self {
            Raw::WebSocket { json: true, .. } => self.text("{\"id\":".into()).await,
            Raw::WebSocket { .. } => self.message(Message::binary(vec![0xff; 3])).await,
            Raw::WebTransport { .. } | Raw::Quic { .. } => self.bytes(&[3, 0xff, 0xff, 0xff]).await,
        }
    }

    /// The beginning of a frame of one byte too many.
    pub async fn oversize(&mut self) {
        let size = veza_client::proto::limits::FRAME_BYTES_MAX + 1;
        match self {
            Raw::WebSocket { json: true, .. } => self.text(" ".repeat(size)).await,
            Raw::WebSocket { .. } => self.message(Message::binary(vec![0; size])).await,
            Raw::WebTransport { .. } | Raw::Quic { .. } => self.bytes(&[0x81, 0x80, 0x04]).await,
        }
    }

    /// A new control stream in the place of one that was stopped.
    pub async fn reopen(&mut self) {
        match self {
            Raw::WebTransport { connection, send, recv, decoder } => {
                (*send, *recv) = connection.open_bi().await.unwrap().await.unwrap();
                *decoder = Decoder::default();
                send.write_all(&[0]).await.unwrap();
            }
            Raw::Quic { connection, send, recv, decoder, .. } => {
                (*send, *recv) = connection.open_bi().await.unwrap();
                *decoder = Decoder::default();
                send.write_all(&[0]).await.unwrap();
            }
            Raw::WebSocket { .. } => {}
        }
    }

    pub async fn next(&mut self) -> Heard {
        tokio::time::timeout(SOON * 3, self.read()).await.expect("nothing was heard in time")
    }

    /// Reads until the link closes: the frames before, and the code.
    pub async fn rest(&mut self) -> (Vec<ServerFrame>, u64) {
        let mut frames = Vec::new();
        loop {
            match self.next().await {
                Heard::Frame(frame) => frames.push(*frame),
                Heard::StreamEnded => {
                    let code = tokio::time::timeout(SOON, self.closed()).await.expect("the link stayed open");
                    return (frames, code);
                }
                Heard::Closed(code) => return (frames, code),
            }
        }
    }

    async fn read(&mut self) -> Heard {
        let mut chunk = [0; 4096];
        loop {
            let read = match self {
                Raw::WebTransport { recv, decoder, .. } => {
                    if let Some(frame) = decoder.next().unwrap() {
                        return Heard::Frame(Box::new(frame));
                    }
                    recv.read(&mut chunk).await.ok().flatten()
                }
                Raw::Quic { recv, decoder, .. } => {
                    if let Some(frame) = decoder.next().unwrap() {
                        return Heard::Frame(Box::new(frame));
                    }
                    recv.read(&mut chunk).await.ok().flatten()
                }
                Raw::WebSocket { socket, .. } => match socket.next().await {
                    Some(Ok(Message::Text(text))) => {
                        return Heard::Frame(Box::new(frame::server_from_json(&text).unwrap()));
                    }
                    Some(Ok(Message::Binary(bytes))) => return Heard::Frame(Box::new(frame::decode(&bytes).unwrap())),
                    Some(Ok(Message::Close(close))) => {
                        return Heard::Closed(close.map_or(0, |close| u16::from(close.code).into()));
                    }
                    Some(Ok(_)) => continue,
                    Some(Err(_)) | None => return Heard::Closed(0),
                },
            };
            match (read, &mut *self) {
                (Some(read), Raw::WebTransport { decoder, .. } | Raw::Quic { decoder, .. }) => {
                    decoder.push(&chunk[..read]);
                }
                _ => return Heard::StreamEnded,
            }
        }
    }

    async fn closed(&mut self) -> u64 {
        match self {
            // By the session's capsule or by the connection, as the library tells it.
            Raw::WebTransport { connection, .. } => match connection.accept_uni().await {
                Err(wtransport::error::ConnectionError::ApplicationClosed(close)) => close.code().into_inner(),
                Ok(_) | Err(_) => 0,
            },
            Raw::Quic { connection, .. } => closed(connection).await,
            Raw::WebSocket { .. } => 0,
        }
    }

    async fn bytes(&mut self, bytes: &[u8]) {
        // The server may have closed already; what it said of it is what the test wants to see.
        match self {
            Raw::WebTransport { send, .. } => drop(send.write_all(bytes).await),
            Raw::Quic { send, .. } => drop(send.write_all(bytes).await),
            Raw::WebSocket { .. } => unreachable!("WebSocket has messages"),
        }
    }

    async fn text(&mut self, text: String) {
        self.message(Message::text(text)).await;
    }

    async fn message(&mut self, message: Message) {
        if let Raw::WebSocket { socket, .. } = self {
            drop(socket.send(message).await);
        }
    }
}

async fn closed(connection: &quinn::Connection) -> u64 {
    match connection.closed().await {
        quinn::ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        _ => 0,
    }
}

fn prost_length(bytes: &mut &[u8]) -> usize {
    let mut length = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    length
}

/// A WebSocket upgrade with these headers: the socket, or the status that refused it.
pub async fn upgrade(
    port: u16,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<(WebSocketStream<TcpStream>, Option<String>), u16> {
    let mut request = format!("ws://127.0.0.1:{port}{path}").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    match client_async(request, stream).await {
        Ok((socket, response)) => {
            let chosen = response.headers().get("sec-websocket-protocol");
            Ok((socket, chosen.map(|value| value.to_str().unwrap().to_owned())))
        }
        Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

/// A WebSocket whose pings nobody answers: the TCP stream alone, after the upgrade.
pub async fn deaf_websocket(stage: &Stage, hello: &ClientFrame) -> TcpStream {
    let (mut socket, _) =
        upgrade(stage.process.websocket, "/ws", &[("sec-websocket-protocol", SUBPROTOCOL_JSON)]).await.unwrap();
    socket.send(Message::text(frame::to_json(hello))).await.unwrap();
    let _welcome = tokio::time::timeout(SOON, socket.next()).await.unwrap();
    socket.into_inner()
}

/// How long a silent client is left alone on WebSocket, with room for a busy machine.
pub const SILENCE: Duration = Duration::from_secs(50);
