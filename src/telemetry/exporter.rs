//! Metrics for Prometheus, on a listener of their own.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::metrics;
use crate::tasks::Tasks;

/// Upper bounds of every histogram's buckets, seconds: 100 µs to 10 s.
const BUCKETS: [f64; 17] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Scrapes at a time; one more waits in the listen queue.
const SCRAPES_MAX: usize = 16;
/// For a request's head, and for a whole connection.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
const CONNECTION_WITHIN: Duration = Duration::from_secs(30);
/// How often what histograms have collected is folded in, so that memory stays flat without scrapes.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Puts the recorder in place that every metric goes to. Calls after the first change nothing.
pub fn install() {
    handle();
}

/// Everything that has been recorded, in Prometheus' text format.
pub fn render() -> String {
    handle().render()
}

/// Listens on `address` (port 0: a free one) and answers `GET /metrics` until the tasks are shut down.
///
/// # Errors
/// When the address cannot be bound.
pub async fn start(tasks: &Tasks, address: SocketAddr) -> io::Result<SocketAddr> {
    install();
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let accepting = accept(tasks.clone(), listener);
    let stop = tasks.token();
    tasks.spawn("metrics_exporter", async move {
        stop.run_until_cancelled(accepting).await;
    });
    Ok(bound)
}

/// Folds in what the histograms have collected, until the tasks are shut down. Needed with or without a listener.
pub fn maintain(tasks: &Tasks) {
    let stop = tasks.token();
    tasks.spawn("metrics_upkeep", async move {
        while stop.run_until_cancelled(tokio::time::sleep(UPKEEP_EVERY)).await.is_some() {
            handle().run_upkeep();
        }
    });
}

fn handle() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let recorder = PrometheusBuilder::new().set_buckets(&BUCKETS).expect("there are buckets").build_recorder();
        let handle = recorder.handle();
        // Only somebody else's recorder could stand there already; then what is rendered stays empty.
        if ::metrics::set_global_recorder(recorder).is_err() {
            tracing::error!("another metrics recorder is installed already");
        }
        metrics::describe();
        handle
    })
}

async fn accept(tasks: Tasks, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(SCRAPES_MAX));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("this semaphore is never closed");
        match listener.accept().await {
            Ok((socket, _)) => {
                tasks.spawn("metrics_scrape", async move {
                    let _place = place;
                    serve(socket).await;
                });
            }
            Err(error) => {
                // Out of descriptors, mostly: trying again at once would only burn time.
                tracing::debug!(%error, "a scrape was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(socket: TcpStream) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(16 * 1024)
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), service_fn(answer));
    match tokio::time::timeout(CONNECTION_WITHIN, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a scrape was not answered"),
        Err(_elapsed) => tracing::debug!("a scrape took too long"),
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    if request.uri().path() != "/metrics" {
        return Ok(plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n".into()));
    }
    if request.method() != Method::GET {
        return Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into()));
    }
    Ok(plain(StatusCode::OK, render()))
}

fn plain(status: StatusCode, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_scrape_tells_what_was_recorded_with_help_and_buckets() {
        let tasks = Tasks::new();
        let address = start(&tasks, "127.0.0.1:0".parse().unwrap()).await.unwrap();
        assert_ne!(address.port(), 0);
        metrics::typing_total().increment(3);
        metrics::commit_seconds().record(0.0003);

        let text = ask(address, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.contains("# HELP veza_typing_total Typing events passed on."), "{text}");
        assert!(text.contains("# TYPE veza_commit_seconds histogram"), "{text}");
        let bucket = |le: &str| {
            let start = format!("veza_commit_seconds_bucket{{le=\"{le}\"}} ");
            text.lines()
                .find_map(|line| line.strip_prefix(&start)?.parse::<u64>().ok())
                .unwrap_or_else(|| panic!("{text}"))
        };
        assert_eq!((bucket("0.00025"), bucket("10") >= 1, bucket("0.0005") >= 1), (0, true, true));

        assert!(ask(address, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.starts_with("HTTP/1.1 404"));
        assert!(ask(address, "POST /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.starts_with("HTTP/1.1 405"));
        assert!(ask(address, "not http\r\n\r\n").await.starts_with("HTTP/1.1 400"));
        tasks.shutdown(Duration::from_secs(5)).await.unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "the listener ends with the tasks");
    }

    #[tokio::test]
    async fn a_head_at_the_size_limit_and_one_past() {
        let tasks = Tasks::new();
        let address = start(&tasks, "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let request = |pad: usize| format!("GET /metrics HTTP/1.1\r\nhost: x\r\npad: {}\r\n\r\n", "p".repeat(pad));
        let fitting = 16 * 1024 - request(0).len();
        assert!(ask(address, &request(fitting)).await.starts_with("HTTP/1.1 200"));
        assert!(ask(address, &request(fitting + 1)).await.starts_with("HTTP/1.1 431"));
        tasks.shutdown(Duration::from_secs(5)).await.unwrap();
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_an_error() {
        let tasks = Tasks::new();
        let address = start(&tasks, "127.0.0.1:0".parse().unwrap()).await.unwrap();
        assert_eq!(start(&tasks, address).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        tasks.shutdown(Duration::from_secs(5)).await.unwrap();
    }

    #[test]
    fn buckets_ascend() {
        assert!(BUCKETS.is_sorted_by(|a, b| a < b));
    }
}
