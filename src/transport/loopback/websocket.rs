//! WebSocket: both formats, refusals, limits, closes.

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};
use tokio_tungstenite::tungstenite::{self, Message};
use veza_proto::frame::{server_from_json, to_json};
use veza_proto::limits::{DATAGRAM_BYTES_MAX, FRAME_BYTES_MAX};

use super::*;
use crate::config::TlsFiles;
use crate::transport::admission::Pause;

type Socket<S = TcpStream> = WebSocketStream<S>;

/// Connects with these headers; the subprotocol the server chose comes along.
async fn connect(house: &House, headers: &[(&str, &str)]) -> Result<(Socket, Option<String>), tungstenite::Error> {
    let stream = TcpStream::connect(house.addresses.websocket).await?;
    connect_over(house, stream, "/ws", headers).await
}

async fn connect_over<S: AsyncRead + AsyncWrite + Unpin>(
    house: &House,
    stream: S,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<(Socket<S>, Option<String>), tungstenite::Error> {
    let mut request = format!("ws://{}{path}", house.addresses.websocket).into_client_request()?;
    for (name, value) in headers {
        let name: ::http::HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let (socket, response) = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await?;
    let protocol = response.headers().get("sec-websocket-protocol").map(|value| value.to_str().unwrap().to_owned());
    Ok((socket, protocol))
}

const PROTO: (&str, &str) = ("sec-websocket-protocol", "veza.v1.proto");
const JSON: (&str, &str) = ("sec-websocket-protocol", "veza.v1.json");

fn binary(frame: &ClientFrame) -> Message {
    let encoded = encode_delimited(frame);
    let prefix = encoded.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    Message::binary(encoded[prefix..].to_vec())
}

async fn next<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut Socket<S>) -> Message {
    let next = tokio::time::timeout(Duration::from_secs(5), socket.next()).await;
    next.expect("a message within 5 s").expect("not the end").unwrap()
}

/// The close frame's code and reason, after which nothing comes.
async fn closed<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut Socket<S>) -> (u16, String) {
    loop {
        if let Message::Close(Some(close)) = next(socket).await {
            return (close.code.into(), close.reason.to_string());
        }
    }
}

fn status(error: tungstenite::Error) -> ::http::Response<Option<Vec<u8>>> {
    let tungstenite::Error::Http(response) = error else { panic!("{error}") };
    *response
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protobuf_echoes() {
    let mut house = house().await;
    let (mut socket, protocol) = connect(&house, &[PROTO]).await.unwrap();
    assert_eq!(protocol.as_deref(), Some("veza.v1.proto"));
    for frame in [ping(1), history(2)] {
        socket.send(binary(&frame)).await.unwrap();
        let Message::Binary(answer) = next(&mut socket).await else { panic!("not binary") };
        assert_eq!(replied(&veza_proto::frame::decode(&answer).unwrap()), frame.id);
    }
    assert!(house.heard("History").await.contains("lane: Bulk(0)"));
    socket.send(Message::text("{}")).await.unwrap();
    house.heard("a text message").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_echoes_and_is_what_a_client_without_a_subprotocol_gets() {
    let mut house = house().await;
    for (headers, expected) in [(&[JSON][..], Some("veza.v1.json")), (&[], None)] {
        let (mut socket, protocol) = connect(&house, headers).await.unwrap();
        assert_eq!(protocol.as_deref(), expected);
        socket.send(Message::text(to_json(&ping(1)))).await.unwrap();
        let Message::Text(answer) = next(&mut socket).await else { panic!("not text") };
        assert_eq!(replied(&server_from_json(&answer).unwrap()), 1);
        socket.send(binary(&ping(2))).await.unwrap();
        house.heard("a binary message").await;
        socket.send(Message::text("{")).await.unwrap();
        house.heard("Malformed").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protobuf_is_preferred_and_unknown_subprotocols_are_refused() {
    let house = house().await;
    let offer = |list: &'static str| [("sec-websocket-protocol", list)];
    let (_socket, protocol) = connect(&house, &offer("veza.v1.json, veza.v1.proto")).await.unwrap();
    assert_eq!(protocol.as_deref(), Some("veza.v1.proto"));
    let (_socket, protocol) = connect(&house, &offer("chat, veza.v1.json")).await.unwrap();
    assert_eq!(protocol.as_deref(), Some("veza.v1.json"));
    let refused = status(connect(&house, &offer("chat, superchat")).await.err().unwrap());
    assert_eq!(refused.status(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_pongs_and_the_bearer_token() {
    let mut house = house().await;
    let (mut socket, _) = connect(&house, &[PROTO, ("authorization", "Bearer abc")]).await.unwrap();
    assert!(house.heard("WebSocket").await.contains("bearer: Some(\"abc\")"));
    socket.send(Message::Ping(Bytes::from_static(b"x"))).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::Pong(Bytes::from_static(b"x")));
    house.heard("Alive").await;
    socket.send(Message::Pong(Bytes::new())).await.unwrap();
    house.heard("Alive").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_before_the_upgrade() {
    let house = house().await;
    let stream = TcpStream::connect(house.addresses.websocket).await.unwrap();
    let refused = status(connect_over(&house, stream, "/elsewhere", &[]).await.err().unwrap());
    assert_eq!(refused.status(), 404);
    for origin in ["null", "https://evil.example", "https://veza.example.evil"] {
        let refused = status(connect(&house, &[("origin", origin)]).await.err().unwrap());
        assert_eq!(refused.status(), 403, "{origin}");
    }
    connect(&house, &[("origin", "https://veza.example")]).await.unwrap();
    let refused = status(connect(&house, &[("sec-websocket-version", "8")]).await.err().unwrap());
    assert_eq!(refused.status(), 426);
    assert_eq!(refused.headers()["sec-websocket-version"], "13");
    let refused = status(connect(&house, &[("sec-websocket-key", "short")]).await.err().unwrap());
    assert_eq!(refused.status(), 400);

    assert!(raw(&house, "GET /ws HTTP/1.1\r\nHost: x\r\n\r\n").await.starts_with("HTTP/1.1 426"));
    assert!(raw(&house, "nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400"));
}

/// Writes a request as it is and reads until the end.
async fn raw(house: &House, request: &str) -> String {
    let mut stream = TcpStream::connect(house.addresses.websocket).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    // A reset after the answer is as good an end.
    let _ = read.expect("the server ends the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_up_to_the_limit_and_past_it() {
    let house = house().await;
    let upgrade = |padding: usize| {
        format!(
            "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Padding: {}\r\n\r\n",
            "x".repeat(padding)
        )
    };
    let mut stream = TcpStream::connect(house.addresses.websocket).await.unwrap();
    stream.write_all(upgrade(14 * 1024).as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    assert!(raw(&house, &upgrade(17 * 1024)).await.starts_with("HTTP/1.1 431"));
    let begun = std::time::Instant::now();
    raw_ignoring_reset(&house, &upgrade(1024 * 1024)).await;
    assert!(begun.elapsed() < Duration::from_secs(8));
}

async fn raw_ignoring_reset(house: &House, request: &str) {
    let mut stream = TcpStream::connect(house.addresses.websocket).await.unwrap();
    let _ = stream.write_all(request.as_bytes()).await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_is_closed() {
    let house = house().await;
    let mut silent = TcpStream::connect(house.addresses.websocket).await.unwrap();
    silent.write_all(b"GET /ws HTTP/1.1\r\nHost:").await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(8), silent.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok(), "headers have five seconds");
    assert_eq!(house.admissions.admitted(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_house_says_when_to_come_back() {
    let house = house_with(|config| config.performance.max_connections = 1).await;
    let (_held, _) = connect(&house, &[]).await.unwrap();
    let refused = status(connect(&house, &[]).await.err().unwrap());
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "5");

    let house = house_with(|config| config.limits.connections_per_address = 1).await;
    let (_held, _) = connect(&house, &[]).await.unwrap();
    assert_eq!(status(connect(&house, &[]).await.err().unwrap()).status(), 429);
    house.admissions.pause(Pause::Draining);
    assert_eq!(status(connect(&house, &[]).await.err().unwrap()).status(), 503);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_at_the_limit_passes_and_one_past_closes_with_1009() {
    let mut house = house().await;
    let json = |len: usize| {
        let text = to_json(&ping(1));
        format!("{text}{}", " ".repeat(len - text.len()))
    };
    let (mut socket, _) = connect(&house, &[JSON]).await.unwrap();
    socket.send(Message::text(json(FRAME_BYTES_MAX))).await.unwrap();
    next(&mut socket).await;
    // Ten times: what is still unread when we close must not destroy the close frame.
    for _ in 0..10 {
        if socket.send(Message::text(json(FRAME_BYTES_MAX + 1))).await.is_err() {
            break;
        }
    }
    assert_eq!(closed(&mut socket).await.0, 1009);
    house.heard("TooLarge").await;
    house.heard("Ended").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_many_fragments_is_bounded_like_any_other() {
    let house = house().await;
    let (mut socket, _) = connect(&house, &[JSON]).await.unwrap();
    let fragment = |first: bool, last: bool| {
        let opcode = OpCode::Data(if first { Data::Text } else { Data::Continue });
        let header = FrameHeader { is_final: last, opcode, ..FrameHeader::default() };
        Message::Frame(Frame::from_payload(header, Bytes::from_static(b" ")))
    };
    for at in 0..FRAME_BYTES_MAX + 10 {
        if socket.feed(fragment(at == 0, false)).await.is_err() {
            break;
        }
    }
    let _ = socket.flush().await;
    assert_eq!(closed(&mut socket).await.0, 1009);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_websocket_closes_with_1002() {
    let mut house = house().await;
    let (mut socket, _) = connect(&house, &[JSON]).await.unwrap();
    // Reserved bits that nobody agreed on.
    socket.get_mut().write_all(&[0xf1, 0x80, 0, 0, 0, 0]).await.unwrap();
    assert_eq!(closed(&mut socket).await.0, 1002);
    house.heard("Ended(Lost").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_peer_sees_the_close_code_and_we_see_the_peers() {
    let mut house = house().await;
    let (mut socket, _) = connect(&house, &[PROTO]).await.unwrap();
    socket.send(binary(&bye())).await.unwrap();
    assert_eq!(closed(&mut socket).await, (1012, "the node goes away".to_owned()));

    let (mut socket, _) = connect(&house, &[PROTO]).await.unwrap();
    let close = tungstenite::protocol::CloseFrame { code: 4321.into(), reason: "".into() };
    socket.close(Some(close)).await.unwrap();
    assert!(house.heard("Ended").await.contains("Closed { code: Some(4321) }"));
    while socket.next().await.is_some() {}

    let (socket, _) = connect(&house, &[PROTO]).await.unwrap();
    drop(socket);
    house.heard("Ended(Lost").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_with_files_and_a_deadline_for_the_handshake() {
    let files = tempfile::tempdir().unwrap();
    let paths = TlsFiles { cert: files.path().join("server.crt"), key: files.path().join("server.key") };
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = (SystemTime::now() - Duration::from_secs(60)).into();
    params.not_after = (SystemTime::now() + Duration::from_secs(3600)).into();
    std::fs::write(&paths.cert, params.self_signed(&key).unwrap().pem()).unwrap();
    crate::transport::keys::write_private(&paths.key, key.serialize_pem().as_bytes()).unwrap();

    let house = house_with(|config| config.tls.files = Some(paths)).await;
    assert!(house.addresses.websocket_tls);
    let mut silent = TcpStream::connect(house.addresses.websocket).await.unwrap();

    let connector = tokio_rustls::TlsConnector::from(Arc::new(house.tls_client(&[])));
    let stream = TcpStream::connect(house.addresses.websocket).await.unwrap();
    let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let (mut socket, _) = connect_over(&house, stream, "/ws", &[PROTO]).await.unwrap();
    socket.send(binary(&ping(1))).await.unwrap();
    next(&mut socket).await;
    socket.send(binary(&bye())).await.unwrap();
    assert_eq!(closed(&mut socket).await.0, 1012);

    let ended = tokio::time::timeout(Duration::from_secs(8), silent.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok(), "a TLS handshake has five seconds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media_packets_are_binary_messages_on_both_subprotocols() {
    let house = house().await;
    for protocol in [PROTO, JSON] {
        let (mut socket, _) = connect(&house, &[protocol]).await.unwrap();
        for len in [1, DATAGRAM_BYTES_MAX] {
            let packet = Message::binary(vec![2; len]);
            socket.send(packet.clone()).await.unwrap();
            assert_eq!(next(&mut socket).await, packet);
        }
        // One more byte is no media packet, and no frame either.
        socket.send(Message::binary(vec![2; DATAGRAM_BYTES_MAX + 1])).await.unwrap();
        assert!(!next(&mut socket).await.is_empty());
    }
}
