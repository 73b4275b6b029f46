//! Plain HTTP on `PORT`: health, where to connect, the development login, and the page.
//!
//! One router answers HTTP/1.1, HTTP/2 and, through `http3.rs`, HTTP/3. What it says comes from a [`Site`].

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use futures_util::future::BoxFuture;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::Addresses;
use super::admission::Admissions;

/// A request's headers, bytes; more is answered with 431.
pub(super) const HEADER_BYTES_MAX: usize = 16 * 1024;
/// From the first byte to the end of the headers.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const BODY_BYTES_MAX: usize = 16 * 1024;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection ends after this long, whatever goes on over it; nothing here takes long.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(120);
/// For the answer that is on its way when a connection is to end.
const LAST_ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections to this listener at once, in all and from one address. They are no sessions and count apart.
const CONNECTIONS_MAX: usize = 1024;
const CONNECTIONS_PER_ADDRESS_MAX: usize = 128;
const STREAMS_MAX: u32 = 32;

const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; connect-src 'self' https: wss: ws:; \
    img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What is answered; the transports know only where to ask.
pub trait Site: Send + Sync + 'static {
    /// `GET /health/live`: whether the process works, whatever it depends on.
    fn live(&self) -> Health;
    /// `GET /health/ready`: whether sessions can be served, with every check by its name.
    fn ready(&self) -> BoxFuture<'_, Health>;
    /// `GET /lbz`: whether balancers should send new clients here.
    fn balancer(&self) -> Health;
    /// `GET /veza.json`: where and how to connect. `host` is the request's own host without a port.
    fn describe(&self, host: Option<&str>, addresses: &Addresses) -> serde_json::Value;
    /// `GET /.well-known/jwks.json`: the public keys of the tokens that are issued here, as a JWK set.
    fn keys(&self) -> serde_json::Value;
    /// `POST /dev/login`: a token for a user, in development only.
    fn login(&self, user: String, from: IpAddr) -> BoxFuture<'_, Result<serde_json::Value, LoginRefused>>;
}

/// A health answer: 200 or 503, and a body for people and probes.
#[derive(Debug, Clone)]
pub struct Health {
    pub ok: bool,
    pub body: serde_json::Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginRefused {
    /// There is no such login here.
    Absent,
    /// The sentence says what is wrong with the name.
    Invalid(String),
    /// Too many attempts.
    RateLimited { retry_after_s: u32 },
}

/// A file of the page, embedded in the binary. The file `/index.html` answers `/` too.
#[derive(Debug, Clone, Copy)]
pub struct PageFile {
    /// With its leading slash.
    pub path: &'static str,
    pub content_type: &'static str,
    pub bytes: &'static [u8],
}

#[derive(Clone)]
struct Answers {
    site: Arc<dyn Site>,
    addresses: Addresses,
}

/// The router that every HTTP version asks.
pub(super) fn router(site: Arc<dyn Site>, addresses: Addresses, page: &'static [PageFile]) -> Router {
    let mut router = Router::new()
        .route("/health/live", get(|State(it): State<Answers>| async move { health(it.site.live()) }))
        .route("/health/ready", get(|State(it): State<Answers>| async move { health(it.site.ready().await) }))
        .route("/lbz", get(|State(it): State<Answers>| async move { health(it.site.balancer()) }))
        .route("/veza.json", get(describe))
        .route("/.well-known/jwks.json", get(keys))
        .route("/dev/login", post(login));
    for file in page {
        router = router.route(file.path, get(move || async move { page_file(file) }));
        if file.path == "/index.html" {
            router = router.route("/", get(move || async move { page_file(file) }));
        }
    }
    router
        .fallback(|| async { refused(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            refused(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not take that method")
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(guarded))
        .with_state(Answers { site, addresses })
}

/// Every answer comes in time and with the headers that keep browsers strict.
async fn guarded(request: Request, next: Next) -> Response {
    let mut response = match tokio::time::timeout(ANSWER_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_elapsed) => refused(StatusCode::GATEWAY_TIMEOUT, "timeout", "the answer took too long"),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-embedder-policy"), "require-corp"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// RFC 7517, section 8.5.1 names the media type. The names of keys change with them, so a minute old is young enough.
async fn keys(State(it): State<Answers>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=60")),
    ];
    (headers, it.site.keys().to_string()).into_response()
}

async fn describe(State(it): State<Answers>, headers: HeaderMap, request: Request) -> Response {
    // HTTP/2 and 3 have the host in the request's target.
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = host.and_then(|host| host.parse().ok()).or_else(|| request.uri().authority().cloned());
    Json(it.site.describe(authority.as_ref().map(|authority| authority.host()), &it.addresses)).into_response()
}

#[derive(serde::Deserialize)]
struct Login {
    user: String,
}

async fn login(
    State(it): State<Answers>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    body: Result<Json<Login>, JsonRejection>,
) -> Response {
    let Json(Login { user }) = match body {
        Ok(body) => body,
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            return refused(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is too large");
        }
        Err(_) => return refused(StatusCode::BAD_REQUEST, "invalid_argument", "the body is not {\"user\": \"…\"}"),
    };
    match it.site.login(user, from.ip()).await {
        Ok(token) => Json(token).into_response(),
        Err(LoginRefused::Absent) => refused(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path"),
        Err(LoginRefused::Invalid(why)) => refused(StatusCode::BAD_REQUEST, "invalid_argument", &why),
        Err(LoginRefused::RateLimited { retry_after_s }) => {
            let answer = refused(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "too many attempts; wait a while");
            ([(header::RETRY_AFTER, retry_after_s)], answer).into_response()
        }
    }
}

fn health(health: Health) -> Response {
    let status = if health.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health.body)).into_response()
}

fn page_file(file: &PageFile) -> Response {
    let headers = [(header::CONTENT_TYPE, file.content_type), (header::CACHE_CONTROL, "no-cache")];
    (headers, file.bytes).into_response()
}

fn refused(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(serde_json::json!({ "error": { "code": code, "message": message } }))).into_response()
}

/// Asks the router for one request that came from this address.
pub(super) async fn answer(router: &Router, remote: SocketAddr, mut request: http::Request<Body>) -> Response {
    request.extensions_mut().insert(ConnectInfo(remote));
    match TowerToHyperService::new(router.clone()).call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// How many connections the HTTP listener takes.
pub(super) fn connections() -> Admissions {
    Admissions::new(CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX)
}

/// Serves one connection in whichever version of HTTP it speaks.
pub(super) async fn serve(router: Router, stream: TcpStream, remote: SocketAddr, stop: CancellationToken) {
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let router = router.clone();
        async move { Ok::<_, Infallible>(answer(&router, remote, request.map(Body::new)).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(STREAMS_MAX as usize)
        .max_local_error_reset_streams(STREAMS_MAX as usize)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(256 * 1024)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        _ = tokio::time::timeout(CONNECTION_TIMEOUT, stop.cancelled()) => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(LAST_ANSWER_TIMEOUT, connection).await {
                Ok(served) => served,
                Err(_elapsed) => return,
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%remote, %error, "an HTTP connection ended early");
    }
}
