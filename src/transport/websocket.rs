//! The WebSocket listener: TLS, the upgrade request, and who gets in by it.

mod link;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use veza_proto::{Format, SUBPROTOCOL_JSON, SUBPROTOCOL_PROTO, WEBSOCKET_PATH};

use self::link::WebSocketLink;
use super::admission::{Admission, Admissions, Refusal};
use super::http::{HEADER_BYTES_MAX, HEADER_TIMEOUT};
use super::meters::Meters;
use super::origins::{Origins, bearer};
use super::{Door, Peer, Transport};
use crate::telemetry::metrics;

const TLS_TIMEOUT: Duration = Duration::from_secs(5);
/// From the end of TLS to the upgraded connection, or to the refusal taken.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections at once that are told why they are refused; the others are only closed.
const REFUSALS_MAX: usize = 64;

/// What accepts WebSocket connections.
pub(super) struct WebSockets {
    acceptor: Option<TlsAcceptor>,
    admissions: Admissions,
    origins: Origins,
    door: Door,
    meters: Arc<Meters>,
    refusals: Semaphore,
}

/// An upgrade that was granted.
struct Granted {
    format: Format,
    bearer: Option<String>,
    upgrade: OnUpgrade,
}

impl WebSockets {
    pub(super) fn new(acceptor: Option<TlsAcceptor>, admissions: Admissions, origins: Origins, door: Door) -> Self {
        Self {
            acceptor,
            admissions,
            origins,
            door,
            meters: Arc::new(Meters::new(Transport::WebSocket)),
            refusals: Semaphore::new(REFUSALS_MAX),
        }
    }

    /// Takes one TCP connection as far as the door.
    pub(super) async fn serve(&self, stream: TcpStream, remote: SocketAddr) {
        let since = Instant::now();
        let admitted = self.admissions.try_admit(remote.ip());
        let _permit = match &admitted {
            Ok(_) => None,
            Err(refusal) => {
                refused(refusal.label());
                let Ok(permit) = self.refusals.try_acquire() else { return };
                Some(permit)
            }
        };
        match &self.acceptor {
            None => self.upgrade(stream, remote, admitted, since).await,
            Some(acceptor) => match tokio::time::timeout(TLS_TIMEOUT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => self.upgrade(stream, remote, admitted, since).await,
                Ok(Err(_)) | Err(_) => refused("handshake"),
            },
        }
    }

    async fn upgrade<S>(&self, stream: S, remote: SocketAddr, admitted: Result<Admission, Refusal>, since: Instant)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let refusal = admitted.as_ref().err().copied();
        let granted: Mutex<Option<Granted>> = Mutex::new(None);
        let service = hyper::service::service_fn(|mut request: Request<Incoming>| {
            let response = match refusal {
                Some(refusal) => Err(Refused::Admission(refusal)),
                None => self.judge(&request).map(|format| {
                    let bearer = text(request.headers(), &header::AUTHORIZATION).and_then(bearer);
                    let response = switching(&request, format);
                    let upgrade = hyper::upgrade::on(&mut request);
                    *granted.lock().unwrap_or_else(PoisonError::into_inner) = Some(Granted { format, bearer, upgrade });
                    response
                }),
            };
            std::future::ready(Ok::<_, Infallible>(response.unwrap_or_else(|why| why.response())))
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(HEADER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        match tokio::time::timeout(UPGRADE_TIMEOUT, connection).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%remote, %error, "no WebSocket upgrade");
                return refused("handshake");
            }
            Err(_elapsed) => return refused("handshake"),
        }
        let granted = granted.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (Some(granted), Ok(admission)) = (granted, admitted) else { return };
        match granted.upgrade.await {
            Ok(upgraded) => {
                let peer =
                    Peer { transport: Transport::WebSocket, remote, format: granted.format, bearer: granted.bearer };
                let link = self.link::<S>(upgraded, peer).await;
                metrics::handshake_seconds(Transport::WebSocket.label()).record(since.elapsed());
                (self.door)(admission, Box::new(link));
            }
            Err(error) => {
                tracing::debug!(%remote, %error, "a granted WebSocket upgrade was not taken");
                refused("handshake");
            }
        }
    }

    async fn link<S>(&self, upgraded: Upgraded, peer: Peer) -> WebSocketLink<S>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let parts = upgraded.downcast::<TokioIo<S>>().expect("this connection was upgraded from that stream");
        let stream = parts.io.into_inner();
        let config = Some(link::config());
        let socket = WebSocketStream::from_partially_read(stream, parts.read_buf.to_vec(), Role::Server, config).await;
        WebSocketLink::new(socket, peer, self.meters.clone())
    }

    /// Which format the connection will speak, or why it is none.
    fn judge<B>(&self, request: &Request<B>) -> Result<Format, Refused> {
        let headers = request.headers();
        if request.uri().path() != WEBSOCKET_PATH {
            return Err(Refused::Path);
        }
        if !self.origins.allow(text(headers, &header::ORIGIN)) || headers.get_all(header::ORIGIN).iter().count() > 1 {
            return Err(Refused::Origin);
        }
        let upgrades = lists(headers, &header::CONNECTION, "upgrade") && lists(headers, &header::UPGRADE, "websocket");
        if request.method() != Method::GET || !upgrades {
            return Err(Refused::NoUpgrade);
        }
        if text(headers, &header::SEC_WEBSOCKET_VERSION) != Some("13") {
            return Err(Refused::Version);
        }
        // A key is 16 bytes in base64 (RFC 6455, section 4.1).
        if text(headers, &header::SEC_WEBSOCKET_KEY).is_none_or(|key| key.len() != 24) {
            return Err(Refused::Malformed("Sec-WebSocket-Key is missing or not 16 bytes in base64"));
        }
        if headers.get(header::SEC_WEBSOCKET_PROTOCOL).is_none() {
            return Ok(Format::Json);
        }
        if lists(headers, &header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL_PROTO) {
            Ok(Format::Proto)
        } else if lists(headers, &header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL_JSON) {
            Ok(Format::Json)
        } else {
            Err(Refused::Malformed("none of the offered subprotocols is veza.v1.proto or veza.v1.json"))
        }
    }
}

/// Why a request is not upgraded.
#[derive(Debug, Clone, Copy)]
enum Refused {
    Admission(Refusal),
    Path,
    Origin,
    NoUpgrade,
    Version,
    Malformed(&'static str),
}

impl Refused {
    fn response(self) -> Response<Full<Bytes>> {
        let (status, reason, code, message) = match self {
            Refused::Admission(refusal) => {
                (refusal.status(), None, refusal.label(), "no connection is taken now; come back later")
            }
            Refused::Path => (StatusCode::NOT_FOUND, Some("path"), "not_found", "there is nothing at this path"),
            Refused::Origin => {
                (StatusCode::FORBIDDEN, Some("origin"), "origin", "pages of this origin may not connect")
            }
            Refused::NoUpgrade => {
                (StatusCode::UPGRADE_REQUIRED, Some("upgrade"), "upgrade", "this path speaks WebSocket only")
            }
            Refused::Version => {
                (StatusCode::UPGRADE_REQUIRED, Some("upgrade"), "upgrade", "this server speaks WebSocket version 13")
            }
            Refused::Malformed(message) => (StatusCode::BAD_REQUEST, Some("upgrade"), "malformed", message),
        };
        if let Some(reason) = reason {
            refused(reason);
        }
        let body = serde_json::json!({ "error": { "code": code, "message": message } }).to_string();
        // One answer for one connection: who is refused comes back by another.
        let mut response = Response::builder()
            .status(status)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close");
        match self {
            Refused::Admission(refusal) => {
                response = response.header(header::RETRY_AFTER, refusal.retry_after_s());
            }
            Refused::NoUpgrade | Refused::Version => {
                response = response.header(header::UPGRADE, "websocket").header(header::SEC_WEBSOCKET_VERSION, "13");
            }
            Refused::Path | Refused::Origin | Refused::Malformed(_) => {}
        }
        response.body(Full::new(body.into())).expect("constant header names and values that are numbers or constants")
    }
}

fn switching<B>(request: &Request<B>, format: Format) -> Response<Full<Bytes>> {
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
    let mut response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, key.unwrap_or_default());
    if request.headers().contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        let chosen = match format {
            Format::Proto => SUBPROTOCOL_PROTO,
            Format::Json => SUBPROTOCOL_JSON,
        };
        response = response.header(header::SEC_WEBSOCKET_PROTOCOL, chosen);
    }
    response.body(Full::default()).expect("constant header names, and values in base64 or constants")
}

fn refused(reason: &'static str) {
    metrics::links_refused_total("websocket", reason).increment(1);
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Whether a comma-separated header, or several of that name, has the token.
fn lists(headers: &HeaderMap, name: &header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
}
