//! HTTP/1.1, HTTP/2 and HTTP/3 give the same answers.

use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::*;

struct Answer {
    status: u16,
    headers: ::http::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

async fn http1(house: &House, request: ::http::Request<Full<Bytes>>) -> Answer {
    let stream = TokioIo::new(TcpStream::connect(house.addresses.http).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    Tasks::new().spawn("client", async move { drop(connection.await) });
    answer(sender.send_request(request).await.unwrap()).await
}

async fn http2(house: &House, request: ::http::Request<Full<Bytes>>) -> Answer {
    let stream = TokioIo::new(TcpStream::connect(house.addresses.http).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    Tasks::new().spawn("client", async move { drop(connection.await) });
    answer(sender.send_request(request).await.unwrap()).await
}

async fn answer(response: ::http::Response<hyper::body::Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

fn get(path: &str) -> ::http::Request<Full<Bytes>> {
    ::http::Request::get(format!("http://veza.test:1234{path}"))
        .header("host", "veza.test:1234")
        .body(Full::default())
        .unwrap()
}

fn post(path: &str, body: impl Into<Bytes>) -> ::http::Request<Full<Bytes>> {
    ::http::Request::post(path)
        .header("host", "x")
        .header("content-type", "application/json")
        .body(Full::new(body.into()))
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_page_and_description() {
    let house = house().await;
    let live = http1(&house, get("/health/live")).await;
    assert_eq!((live.status, live.json()["status"].as_str()), (200, Some("live")));
    let ready = http1(&house, get("/health/ready")).await;
    assert_eq!((ready.status, ready.json()["checks"]["store"].as_str()), (503, Some("down")));
    assert_eq!(http1(&house, get("/lbz")).await.status, 200);

    let page = http1(&house, get("/")).await;
    assert_eq!(page.body, b"<p>");
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe-inline"));
    assert_eq!(page.headers["cross-origin-opener-policy"], "same-origin");
    assert_eq!(page.headers["cross-origin-embedder-policy"], "require-corp");
    assert_eq!(page.headers["x-content-type-options"], "nosniff");

    let description = http1(&house, get("/veza.json")).await.json();
    assert_eq!(description["host"], "veza.test");
    assert_eq!(description["port"], house.addresses.http.port(), "UDP has the same number");
    let description = http2(&house, get("/veza.json")).await.json();
    assert_eq!(description["host"], "veza.test");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_login_and_how_errors_look() {
    let house = house().await;
    assert_eq!(http1(&house, post("/dev/login", r#"{"user":"alice"}"#)).await.json()["user"], "alice");
    for (request, status, code) in [
        (post("/dev/login", r#"{"user":""}"#), 400, "invalid_argument"),
        (post("/dev/login", "{"), 400, "invalid_argument"),
        (post("/dev/login", r#"{"user":"mallory"}"#), 429, "rate_limited"),
        (post("/dev/login", vec![b' '; 16 * 1024 + 1]), 413, "too_large"),
        (get("/dev/login"), 405, "method_not_allowed"),
        (get("/nothing"), 404, "not_found"),
    ] {
        let answer = http1(&house, request).await;
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (status, Some(code)));
    }
    let mut largest = br#"{"user":"alice"}"#.to_vec();
    largest.resize(16 * 1024, b' ');
    assert_eq!(http1(&house, post("/dev/login", largest)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_headers_are_refused_and_silence_is_ended() {
    let house = house().await;
    let with = |bytes: usize| {
        let mut request = get("/health/live");
        request.headers_mut().insert("x-padding", "x".repeat(bytes).parse().unwrap());
        request
    };
    assert_eq!(http1(&house, with(15 * 1024)).await.status, 200);
    assert_eq!(http1(&house, with(17 * 1024)).await.status, 431);
    assert_eq!(http2(&house, with(15 * 1024)).await.status, 200);
    assert_eq!(http2(&house, with(17 * 1024)).await.status, 431);

    let mut silent = TcpStream::connect(house.addresses.http).await.unwrap();
    silent.write_all(b"GET / HTTP/1.1\r\nX:").await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(8), silent.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_requests_that_are_reset_leaves_the_neighbours() {
    let house = house().await;
    let stream = TokioIo::new(TcpStream::connect(house.addresses.http).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    Tasks::new().spawn("storm", async move { drop(connection.await) });
    let storm = async {
        for _ in 0..5_000 {
            if sender.ready().await.is_err() {
                return;
            }
            let asked = sender.send_request(get("/health/ready"));
            // Dropped before its answer, a request is reset.
            let _ = tokio::time::timeout(Duration::from_micros(10), asked).await;
        }
    };
    let neighbour = async {
        for _ in 0..20 {
            let begun = std::time::Instant::now();
            assert_eq!(http1(&house, get("/health/live")).await.status, 200);
            assert!(begun.elapsed() < Duration::from_secs(8));
        }
    };
    tokio::join!(storm, neighbour);
    assert_eq!(http2(&house, get("/health/live")).await.status, 200);
}

/// Asks over HTTP/3 as a client that wants plain HTTP.
async fn http3(house: &House, request: ::http::Request<Full<Bytes>>) -> Answer {
    let endpoint = house.quic_endpoint(b"h3");
    let mut tls = house.tls_client(&[b"h3"]);
    tls.dangerous().set_certificate_verifier(Arc::new(super::doors::Note::default()));
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connection = endpoint.connect_with(config, house.addresses.webtransport, "h3.localhost").unwrap();
    let connection = h3_quinn::Connection::new(connection.await.unwrap());
    let (mut driver, mut sender) = h3::client::new(connection).await.unwrap();
    Tasks::new().spawn("client", async move {
        std::future::poll_fn(|cx| driver.poll_close(cx)).await;
    });
    let (parts, body) = request.into_parts();
    let mut stream = sender.send_request(::http::Request::from_parts(parts, ())).await.unwrap();
    let body = body.collect().await.unwrap().to_bytes();
    // A body is not wanted and may be stopped (RFC 9114, section 4.1.1); the answer comes all the same.
    if !body.is_empty() {
        let _ = stream.send_data(body).await;
    }
    let _ = stream.finish().await;
    let (parts, ()) = stream.recv_response().await.unwrap().into_parts();
    let mut body = Vec::new();
    while let Some(mut chunk) = stream.recv_data().await.unwrap() {
        tokio::io::AsyncWriteExt::write_all_buf(&mut body, &mut chunk).await.unwrap();
    }
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http3_answers_health_and_page_and_takes_no_body() {
    let house = house().await;
    let live = http3(&house, get("/health/live")).await;
    assert_eq!((live.status, live.json()["status"].as_str()), (200, Some("live")));
    assert_eq!(http3(&house, get("/health/ready")).await.status, 503);
    let page = http3(&house, get("/")).await;
    assert_eq!(page.body, b"<p>");
    assert!(page.headers.contains_key("content-security-policy"));
    assert_eq!(http3(&house, get("/veza.json")).await.json()["host"], "veza.test");
    assert_eq!(http3(&house, get("/nothing")).await.json()["error"]["code"], "not_found");
    let mut request = post("/dev/login", r#"{"user":"alice"}"#);
    request.headers_mut().remove("host");
    *request.uri_mut() = "https://h3.localhost/dev/login".parse().unwrap();
    assert_eq!(http3(&house, request).await.status, 413);
}
