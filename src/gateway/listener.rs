//! The port: connections over TCP or TLS, each a task, HTTP/2 from the first byte.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::door::{self, Door, Peer};
use crate::tasks::Tasks;
use crate::telemetry::metrics as declared;
use crate::transport::tls::mutual::{self, Mutual};

/// Calls of one connection at once.
const STREAMS_MAX: u32 = 256;
/// The headers of a call, each counted as its bytes and 32; what is as large is refused.
const HEADERS_BYTES_MAX: u32 = 16 * 1024;
/// What is running when the server stops has this long.
const LAST_ANSWER: Duration = Duration::from_secs(5);
/// After a failed accept: descriptors may have run out.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

pub(super) struct Listener {
    pub(super) socket: TcpListener,
    pub(super) tls: Option<Arc<Mutual>>,
    pub(super) door: Door,
    pub(super) bounds: Bounds,
    pub(super) tasks: Tasks,
}

/// How many connections there may be, and how long one may be silent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// At once; more wait in the kernel.
    connections: usize,
    /// From the first byte to the end of the TLS handshake.
    handshake: Duration,
    /// A connection that says nothing is asked whether it is there, and has this long to say so.
    keep_alive_every: Duration,
    keep_alive_within: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 1_024,
            handshake: Duration::from_secs(5),
            keep_alive_every: Duration::from_secs(30),
            keep_alive_within: Duration::from_secs(10),
        }
    }
}

impl Listener {
    /// Accepts until the token is cancelled; connections then finish what they have.
    pub(super) async fn run(self, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(self.bounds.connections));
        loop {
            let Some(Ok(place)) = stop.run_until_cancelled(Arc::clone(&places).acquire_owned()).await else { return };
            let Some(accepted) = stop.run_until_cancelled(self.socket.accept()).await else { return };
            let (stream, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "the gateway's port accepted nothing; it goes on");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            let (tls, door, bounds, stop) = (self.tls.clone(), self.door.clone(), self.bounds, stop.clone());
            self.tasks.spawn("gateway-connection", async move {
                let _place = place;
                connect(stream, remote, tls, door, bounds, stop).await;
            });
        }
    }
}

async fn connect(
    stream: TcpStream,
    remote: SocketAddr,
    tls: Option<Arc<Mutual>>,
    door: Door,
    bounds: Bounds,
    stop: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%remote, %error, "a connection of the gateway keeps its small packets waiting");
    }
    let Some(tls) = tls else { return serve(stream, remote, Peer::default(), door, bounds, stop).await };
    match tokio::time::timeout(bounds.handshake, tls.acceptor().accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let names = certificate.map(|certificate| mutual::names(certificate)).unwrap_or_default();
            serve(stream, remote, Peer { names: names.into() }, door, bounds, stop).await;
        }
        Ok(Err(error)) => tracing::debug!(%remote, %error, "a TLS handshake with the gateway failed"),
        Err(_elapsed) => tracing::debug!(%remote, "a TLS handshake with the gateway took too long"),
    }
}

async fn serve<S>(stream: S, remote: SocketAddr, peer: Peer, door: Door, bounds: Bounds, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (peer, leaving) = (Arc::new(peer), stop.clone());
    let service = service_fn(move |request| {
        let (door, peer, leaving) = (door.clone(), Arc::clone(&peer), leaving.is_cancelled());
        async move { Ok::<_, Infallible>(if leaving { door::leaving() } else { door.answer(request, &peer).await }) }
    });
    declared::gateway_connections().increment(1.0);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024)
        .max_send_buf_size(256 * 1024)
        .keep_alive_interval(bounds.keep_alive_every)
        .keep_alive_timeout(bounds.keep_alive_within);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(LAST_ANSWER, connection).await.unwrap_or(Ok(()))
        }
    };
    declared::gateway_connections().decrement(1.0);
    if let Err(error) = served {
        tracing::debug!(%remote, %error, "a connection of the gateway ended early");
    }
}
