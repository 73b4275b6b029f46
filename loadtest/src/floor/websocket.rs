//! The bare server of WebSocket, with and without TLS.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use veza_client::proto::SUBPROTOCOL_PROTO;
use veza_client::proto::v1::ClientFrame;

use super::{Serving, tls, welcome};
use crate::Failure;
use crate::site::Carrier;

pub(super) async fn start(transport: Carrier) -> Result<Serving, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Failure::io("a TCP socket"))?;
    let port = listener.local_addr().map_err(Failure::io("a TCP socket"))?.port();
    let acceptor = (transport == Carrier::Wss)
        .then(|| tls(b"http/1.1").map(|config| tokio_rustls::TlsAcceptor::from(Arc::new(config))))
        .transpose()?;
    let run = async move {
        let mut held = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((socket, _)) = accepted else { continue };
                    held.spawn(hold(socket, acceptor.clone()));
                }
                Some(_ended) = held.join_next() => {}
            }
        }
    };
    Ok(Serving { port, run: Box::pin(run) })
}

async fn hold(socket: TcpStream, acceptor: Option<tokio_rustls::TlsAcceptor>) {
    socket.set_nodelay(true).ok();
    match acceptor {
        None => speak(socket).await,
        Some(acceptor) => {
            let Ok(socket) = acceptor.accept(socket).await else { return };
            speak(socket).await;
        }
    }
}

async fn speak(socket: impl AsyncRead + AsyncWrite + Unpin) {
    let config = WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(1024 * 1024)
        .max_message_size(Some(64 * 1024))
        .max_frame_size(Some(64 * 1024));
    let opened = tokio_tungstenite::accept_hdr_async_with_config(socket, subprotocol, Some(config)).await;
    let Ok(mut socket) = opened else { return };
    while let Some(Ok(message)) = socket.next().await {
        let Message::Binary(bytes) = message else { continue };
        let Ok(hello) = ClientFrame::decode(bytes) else { return };
        if socket.send(Message::binary(welcome(hello.id).encode_to_vec())).await.is_err() {
            return;
        }
    }
}

#[expect(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
#[expect(clippy::unnecessary_wraps, reason = "the callback's type is tungstenite's")]
fn subprotocol(_request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL_PROTO));
    Ok(response)
}
