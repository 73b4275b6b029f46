//! The port itself: health, schema, deadlines, sizes, a stop.

use std::time::Duration;

use bytes::{BufMut, Bytes};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use veza_client::proto::gateway::v1::*;

use super::{Backend, refusal, send, stage};
use crate::server::{Process, Start};

const REQUEST_BYTES_MAX: usize = 1024 * 1024;

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_told_and_watched_until_the_server_drains() {
    let (stage, _backend) = stage().await;
    // Nobody needs a token to ask.
    let backend = Backend::with(&stage.process, None).await;
    let mut health = HealthClient::new(backend.channel.clone());
    let mut watched = health.watch(of("veza.gateway.v1.Rooms")).await.unwrap().into_inner();
    // The database is asked first.
    while watched.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    assert_eq!(health.check(of("")).await.unwrap().into_inner().status(), ServingStatus::Serving);
    assert_eq!(health.check(of("veza.gateway.v1.Nothing")).await.unwrap_err().code(), Code::NotFound);
    // With a session to send away the drain takes a while: calls are answered, and health says to go elsewhere.
    let _alice = stage.player("alice").await;
    stage.process.terminate();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_are_told_the_schema_unless_it_is_switched_off() {
    let ask = async |process: &Process| {
        let backend = Backend::with(process, None).await;
        let question = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut answers = ServerReflectionClient::new(backend.channel)
            .server_reflection_info(tokio_stream::once(question))
            .await?
            .into_inner();
        let answer = answers.message().await?.unwrap().message_response.unwrap();
        let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
        Ok::<Vec<String>, tonic::Status>(list.service.into_iter().map(|service| service.name).collect())
    };
    let services = ask(&Process::start()).await.unwrap();
    assert!(services.iter().any(|name| name == "veza.gateway.v1.Messages"), "{services:?}");
    let hidden = ask(&Start::new().variable("GRPC_REFLECTION", "false").run()).await;
    assert_eq!(hidden.unwrap_err().code(), Code::Unimplemented);
}

/// A call as bytes: what a library would do by itself is left to the server.
async fn raw(backend: &Backend, port: u16, path: &str, timeout: &str, message: &[u8]) -> (u32, String) {
    padded(backend, port, path, timeout, message, 1).await.unwrap()
}

/// As [`raw`], with a header of so many bytes; or the HTTP status that is none of gRPC.
async fn padded(
    backend: &Backend,
    port: u16,
    path: &str,
    timeout: &str,
    message: &[u8],
    padding: usize,
) -> Result<(u32, String), u16> {
    let stream = TokioIo::new(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut body = Vec::new();
    body.put_u8(0);
    body.put_u32(u32::try_from(message.len()).unwrap());
    body.extend(message);
    let bearer = backend.bearer.0.as_ref().unwrap().to_str().unwrap();
    let request = http::Request::post(format!("http://127.0.0.1:{port}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", timeout)
        .header("authorization", bearer)
        .header("x-padding", "x".repeat(padding))
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let status = |headers: &http::HeaderMap| {
        let text = |name: &str| Some(headers.get(name)?.to_str().unwrap().to_owned());
        Some((text("grpc-status")?.parse().unwrap(), text("grpc-message").unwrap_or_default()))
    };
    if answer.status() != 200 {
        return Err(answer.status().as_u16());
    }
    let in_headers = status(answer.headers());
    let told = match in_headers {
        Some(told) => told,
        None => status(answer.into_body().collect().await.unwrap().trailers().unwrap()).unwrap(),
    };
    connection.abort();
    Ok(told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_at_their_limit_and_one_past() {
    let (stage, backend) = stage().await;
    let get = GetRoomRequest { room: "lobby".into(), ..Default::default() }.encode_to_vec();
    let call = async |padding| {
        let path = "/veza.gateway.v1.Rooms/GetRoom";
        padded(&backend, stage.process.gateway, path, "10S", &get, padding).await
    };
    // Each header counts as its name, its value and 32 (RFC 9113, section 6.5.2).
    let (port, path) = (stage.process.gateway.to_string(), "/veza.gateway.v1.Rooms/GetRoom");
    let length = (get.len() + 5).to_string();
    let bearer = backend.bearer.0.as_ref().unwrap().len();
    let others = [
        (":method", 4),
        (":scheme", 4),
        (":authority", "127.0.0.1:".len() + port.len()),
        (":path", path.len()),
        ("content-type", "application/grpc".len()),
        ("te", "trailers".len()),
        ("grpc-timeout", 3),
        ("authorization", bearer),
        ("content-length", length.len()),
        ("x-padding", 0),
    ];
    let others: usize = others.iter().map(|(name, value)| name.len() + value + 32).sum();
    let largest = 16 * 1024 - 1 - others;
    assert_eq!(call(largest).await, Ok((Code::Ok as u32, String::new())));
    assert_eq!(call(largest + 1).await, Err(431));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_has_passed_ends_the_call() {
    let (stage, backend) = stage().await;
    let get = GetRoomRequest { room: "lobby".into(), ..Default::default() }.encode_to_vec();
    let path = "/veza.gateway.v1.Rooms/GetRoom";
    let port = stage.process.gateway;
    assert_eq!(raw(&backend, port, path, "10S", &get).await, (Code::Ok as u32, String::new()));
    let (code, message) = raw(&backend, port, path, "0m", &get).await;
    assert_eq!(code, Code::DeadlineExceeded as u32, "{message}");
    let (code, _) = raw(&backend, port, "/veza.gateway.v1.Rooms/Nothing", "10S", &get).await;
    assert_eq!(code, Code::Unimplemented as u32);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_at_the_largest_size_and_one_byte_more() {
    let (_stage, backend) = stage().await;
    backend.room("lounge", "alice", &[]).await;
    let of_size = |bytes: usize| {
        let mut request = send("lounge", "alice", "k1", "x");
        request.body = "x".repeat(bytes - 200);
        request.body.push_str(&"x".repeat(bytes - request.encoded_len()));
        assert_eq!(request.encoded_len(), bytes);
        request
    };
    let mut messages = backend.messages();
    // The largest request is read, and found to hold too large a message.
    let largest = messages.send(of_size(REQUEST_BYTES_MAX)).await;
    assert_eq!(refusal(largest), (Code::ResourceExhausted, "TOO_LARGE".into()));
    let larger = messages.send(of_size(REQUEST_BYTES_MAX + 1)).await;
    assert_eq!(refusal(larger), (Code::ResourceExhausted, "REQUEST_TOO_LARGE".into()));
    messages.send(send("lounge", "alice", "k1", "small")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_not_served_say_so() {
    let (_stage, backend) = stage().await;
    let mut moderation = backend.moderation();
    let report = moderation.verify_report(VerifyReportRequest::default()).await;
    assert_eq!(refusal(report), (Code::Unimplemented, "ENCRYPTION_MISSING".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_counted() {
    let (stage, backend) = stage().await;
    backend.room("lounge", "alice", &[]).await;
    let _refused = backend.rooms().get_room(GetRoomRequest { room: "nowhere".into(), ..Default::default() }).await;
    let deadline = tokio::time::Instant::now() + crate::carrier::SOON;
    loop {
        let text = crate::server::get(stage.process.metrics, "/metrics", "").body;
        let counted = |method: &str, code: &str| {
            text.lines().any(|line| {
                let labels = [format!("method=\"{method}\""), format!("code=\"{code}\"")];
                line.starts_with("veza_gateway_calls_total{") && labels.iter().all(|label| line.contains(label))
            })
        };
        if counted("CreateRoom", "ok") && counted("GetRoom", "not_found") {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
