//! The bare server of WebTransport and QUIC, with the transport settings of the real one.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost::bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;
use veza_client::proto::frame::{Decoder, encode_delimited};
use veza_client::proto::v1::ClientFrame;
use veza_client::proto::{ALPN_QUIC, DatagramKind, LaneByte};

use super::{Datagrams, Serving, tls, welcome};
use crate::Failure;
use crate::site::Carrier;

/// What the UDP socket may hold unread.
const SOCKET_BYTES: usize = 4 * 1024 * 1024;

pub(super) fn start(transport: Carrier, datagrams: Option<Datagrams>) -> Result<Serving, Failure> {
    let alpn = if transport == Carrier::Wt { b"h3" } else { ALPN_QUIC };
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Failure::io("a UDP socket"))?;
    // Best effort, as the real server does it: a burst of handshakes is more than the kernel's default holds.
    socket2::SockRef::from(&socket).set_recv_buffer_size(SOCKET_BYTES).ok();
    let runtime = Arc::new(quinn::TokioRuntime);
    let endpoint = quinn::Endpoint::new(quinn::EndpointConfig::default(), Some(config(alpn)?), socket, runtime)
        .map_err(Failure::io("a UDP socket"))?;
    let port = endpoint.local_addr().map_err(Failure::io("a UDP socket"))?.port();
    let listeners = Listeners::default();
    let run = async move {
        let mut held = JoinSet::new();
        if let Some(datagrams) = datagrams {
            held.spawn(send_to_all(Arc::clone(&listeners), datagrams));
        }
        loop {
            tokio::select! {
                incoming = endpoint.accept() => {
                    let Some(Ok(connecting)) = incoming.map(quinn::Incoming::accept) else { continue };
                    match transport {
                        Carrier::Wt => held.spawn(hold_webtransport(connecting)),
                        Carrier::Quic | Carrier::Ws | Carrier::Wss => held.spawn(hold_quic(connecting, Arc::clone(&listeners))),
                    };
                }
                Some(_ended) = held.join_next() => {}
            }
        }
    };
    Ok(Serving { port, run: Box::pin(run) })
}

/// The starting values of docs/design for a client's connection; keep them as the server has them.
fn config(alpn: &[u8]) -> Result<quinn::ServerConfig, Failure> {
    let tls = quinn::crypto::rustls::QuicServerConfig::try_from(tls(alpn)?)
        .map_err(|error| Failure::setup(error.to_string()))?;
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(8u32.into())
        .max_concurrent_uni_streams(8u32.into())
        .stream_receive_window((64 * 1024u32).into())
        .receive_window((256 * 1024u32).into())
        .send_window(256 * 1024)
        .datagram_send_buffer_size(8 * 1024)
        .datagram_receive_buffer_size(Some(32 * 1024))
        .max_idle_timeout(Some(quinn::IdleTimeout::try_from(Duration::from_secs(45)).expect("45 s fit")))
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .mtu_discovery_config(None);
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(Arc::new(transport)).max_incoming(4_096);
    Ok(config)
}

/// Native connections that are greeted.
type Listeners = Arc<Mutex<Vec<quinn::Connection>>>;

/// Every listener gets the same bytes at every tick, as quinn alone can do it.
async fn send_to_all(listeners: Listeners, datagrams: Datagrams) {
    let mut clock = tokio::time::interval(Duration::from_millis(datagrams.every_ms.into()));
    let mut bytes = vec![0; datagrams.bytes.into()];
    bytes[0] = DatagramKind::Media as u8;
    let bytes = Bytes::from(bytes);
    loop {
        clock.tick().await;
        let mut listeners = listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|connection| connection.send_datagram(bytes.clone()).is_ok());
    }
}

async fn hold_quic(connecting: quinn::Connecting, listeners: Listeners) {
    let Ok(connection) = connecting.await else { return };
    let (Ok(first), Ok(second)) = (connection.accept_bi().await, connection.accept_bi().await) else { return };
    let Some(_lanes) = greet(first, second).await else { return };
    listeners.lock().unwrap_or_else(PoisonError::into_inner).push(connection.clone());
    connection.closed().await;
}

async fn hold_webtransport(connecting: quinn::Connecting) {
    let incoming = wtransport::endpoint::IncomingSessionFuture::with_quic_connecting(connecting);
    let Ok(request) = incoming.await else { return };
    let Ok(connection) = request.accept().await else { return };
    let (Ok(first), Ok(second)) = (connection.accept_bi().await, connection.accept_bi().await) else { return };
    let Some(_lanes) = greet(first, second).await else { return };
    connection.closed().await;
}

/// Reads the lane bytes, answers the hello on the control lane, and gives both lanes back to be held.
async fn greet<S, R>(first: (S, R), second: (S, R)) -> Option<[(S, R); 2]>
where
    S: AsyncWrite + Unpin,
    R: AsyncRead + Unpin,
{
    let mut lanes = [first, second];
    let mut control = None;
    for (at, (_, recv)) in lanes.iter_mut().enumerate() {
        if LaneByte::from_byte(recv.read_u8().await.ok()?)? == LaneByte::Control {
            control = Some(at);
        }
    }
    let (send, recv) = &mut lanes[control?];
    let mut decoder = Decoder::default();
    let hello = loop {
        if let Some(frame) = decoder.next::<ClientFrame>().ok()? {
            break frame;
        }
        let mut buffer = [0; 1_024];
        match recv.read(&mut buffer).await.ok()? {
            0 => return None,
            len => decoder.push(&buffer[..len]),
        }
    };
    send.write_all(&encode_delimited(&welcome(hello.id))).await.ok()?;
    Some(lanes)
}
