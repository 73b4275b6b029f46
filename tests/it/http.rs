//! What a browser, a probe and an HTTP/3 client get over HTTP.

use std::sync::Arc;

use bytes::Buf;
use tokio::process::Command;

use crate::carrier::{Carrier, Stage};
use crate::server::Process;

/// `curl`, as an operator types it: the status and the body.
async fn curl(arguments: &[&str]) -> (u16, String) {
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "10", "-w", "\n%{http_code}"])
        .args(arguments)
        .output()
        .await
        .expect("curl is installed (apt-get install curl)");
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn health_names_its_checks() {
    let process = Process::start();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let (status, body) = curl(&[version, &format!("{}/health/live", process.url())]).await;
        assert_eq!(status, 200, "{body}");
        let (status, body) = curl(&[version, &format!("{}/health/ready", process.url())]).await;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["status"]), (200, &"ok".into()));
        for check in ["store", "bus", "migrations", "admission"] {
            assert_eq!(body["checks"][check]["ok"], true, "{check}: {body}");
        }
        assert!(body["checks"]["store"]["detail"].as_str().unwrap().contains("synchronous=FULL"), "{body}");
    }
    assert_eq!(curl(&[&format!("{}/lbz", process.url())]).await.0, 200);
    assert_eq!(curl(&[&format!("{}/nothing/here", process.url())]).await.0, 404);
}

#[tokio::test]
async fn the_page_is_part_of_the_binary_and_runs_no_inline_script() {
    let process = Process::start();
    for (path, content_type) in
        [("/", "text/html"), ("/app.js", "text/javascript"), ("/style.css", "text/css"), ("/icon.svg", "image/svg+xml")]
    {
        let (status, headers) = curl(&["-D", "-", "-o", "/dev/null", &format!("{}{path}", process.url())]).await;
        assert_eq!(status, 200);
        let headers = headers.to_lowercase();
        assert!(headers.contains(&format!("content-type: {content_type}")), "{headers}");
        let policy = headers.lines().find(|line| line.starts_with("content-security-policy")).unwrap();
        assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe-inline"), "{policy}");
    }
}

#[tokio::test]
async fn the_development_login_checks_the_name() {
    let process = Process::start();
    let login = async |body: &str| {
        let url = format!("{}/dev/login", process.url());
        curl(&["-H", "content-type: application/json", "-d", body, &url]).await
    };
    let (status, body) = login(r#"{"user":"alice"}"#).await;
    assert_eq!(status, 200, "{body}");
    for wrong in [r#"{"user":""}"#, r#"{"user":"a\nb"}"#, "{}", "not json"] {
        let (status, body) = login(wrong).await;
        assert!((400..=422).contains(&status), "{wrong}: {status} {body}");
        assert!(serde_json::from_str::<serde_json::Value>(&body).unwrap()["error"]["message"].is_string(), "{body}");
    }
}

/// An HTTP/3 client of its own: h3 over quinn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http3_answers_the_health_paths() {
    let stage = Stage::new(Process::start(), Carrier::Quic).await;
    let tls = stage.server.trust().unwrap().config(&[b"h3"], false).unwrap();
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = ([127, 0, 0, 1], stage.process.http).into();
    let config = quinn::ClientConfig::new(Arc::new(tls));
    let connection = endpoint.connect_with(config, address, "h3.localhost").unwrap().await.unwrap();
    let (mut driver, mut requests) = h3::client::new(h3_quinn::Connection::new(connection)).await.unwrap();
    let asking = async {
        for path in ["/health/live", "/health/ready"] {
            let request = http::Request::get(format!("https://h3.localhost{path}")).body(()).unwrap();
            let mut stream = requests.send_request(request).await.unwrap();
            stream.finish().await.unwrap();
            let response = stream.recv_response().await.unwrap();
            assert_eq!(response.status(), 200, "{path}");
            let mut body = Vec::new();
            while let Some(chunk) = stream.recv_data().await.unwrap() {
                body.extend_from_slice(chunk.chunk());
            }
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["status"], "ok");
        }
    };
    tokio::select! {
        () = asking => {}
        ended = driver.wait_idle() => panic!("{ended}"),
    }
}
