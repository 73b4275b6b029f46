//! The QUIC endpoints: one per shard on one UDP port, and who gets in by them.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{Endpoint, EndpointConfig, Incoming, ServerConfig, TransportConfig, VarInt};
use tokio_util::sync::CancellationToken;
use veza_proto::{ALPN_QUIC, CloseCode, Format};

use super::admission::{Admission, Admissions, Refusal};
use super::meters::Meters;
use super::origins::Origins;
use super::quic::{Plain, QuicLink, close_code};
use super::steering::{self, ShardIds};
use super::tls::Certificates;
use super::{Door, Link, Peer, Transport, http3, keys, webtransport};
use crate::tasks::Tasks;
use crate::telemetry::metrics;

const ALPN_H3: &[u8] = b"h3";
/// From the first packet to the end of the client's first flight; the CONNECT request has its own deadline.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes in progress above which an address must be proved by a Retry first (RFC 9000, section 8.1.2).
const RETRY_ABOVE: usize = 512;
/// Handshakes in progress above which first packets are dropped unanswered; clients send them again.
const IGNORE_ABOVE: usize = 4096;

/// Streams a client may have open at once, of each kind. Slots are allocated eagerly, 1024 cost 130 KB a connection.
const STREAMS_MAX: u32 = 8;
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;
const SEND_WINDOW_BYTES: u64 = 256 * 1024;
pub(super) const DATAGRAMS_OUT_BYTES: usize = 8 * 1024;
const DATAGRAMS_IN_BYTES: usize = 32 * 1024;
const IDLE_TIMEOUT_MS: u32 = 45_000;
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// First packets that wait to be looked at: how many, and what they may hold each and together, bytes.
const INCOMING_MAX: usize = 4096;
const INCOMING_BYTES_MAX: u64 = 64 * 1024;
const INCOMING_BYTES_TOTAL_MAX: u64 = 16 * 1024 * 1024;

/// The endpoints of one UDP port.
pub(super) struct Endpoints {
    shards: Vec<Endpoint>,
    address: SocketAddr,
}

/// What the accept loops share.
pub(super) struct Entrance {
    pub(super) admissions: Admissions,
    pub(super) origins: Origins,
    pub(super) router: Router,
    pub(super) door: Door,
    pub(super) tasks: Tasks,
    pub(super) pressure: Pressure,
    webtransport: Arc<Meters>,
    quic: Arc<Meters>,
    handshaking: Arc<AtomicUsize>,
}

/// At how many handshakes in progress what is done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pressure {
    pub(super) retry_above: usize,
    pub(super) ignore_above: usize,
}

impl Default for Pressure {
    fn default() -> Self {
        Self { retry_above: RETRY_ABOVE, ignore_above: IGNORE_ABOVE }
    }
}

/// What becomes of a connection's first packet.
#[derive(Debug)]
enum Verdict {
    Accept(Admission),
    Retry,
    Refuse(Refusal),
    Ignore,
}

impl Verdict {
    fn label(&self) -> &'static str {
        match self {
            Verdict::Accept(_) => "accept",
            Verdict::Retry => "retry",
            Verdict::Refuse(_) => "refuse",
            Verdict::Ignore => "ignore",
        }
    }
}

impl Endpoints {
    /// Binds one endpoint per shard.
    ///
    /// # Errors
    /// When the port is taken, or the reset key cannot be kept.
    pub(super) fn bind(
        address: SocketAddr,
        shards: usize,
        certificates: &Certificates,
        data_dir: &Path,
    ) -> io::Result<Self> {
        let server = server_config(certificates)?;
        let reset_key = keys::reset_key(data_dir)?;
        let runtime: Arc<dyn quinn::Runtime> = Arc::new(quinn::TokioRuntime);
        let sockets = steering::bind(address, shards)?;
        let shards = sockets.len();
        let shards = sockets
            .into_iter()
            .enumerate()
            .map(|(shard, socket)| {
                let mut config = EndpointConfig::new(reset_key.clone());
                config.cid_generator(move || Box::new(ShardIds { shard, shards }));
                Endpoint::new(config, Some(server.clone()), socket, runtime.clone())
            })
            .collect::<io::Result<Vec<_>>>()?;
        let address = shards.first().ok_or(io::ErrorKind::AddrNotAvailable)?.local_addr()?;
        Ok(Self { shards, address })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    #[cfg(test)]
    pub(super) fn shards(&self) -> &[Endpoint] {
        &self.shards
    }

    /// Accepts on every shard until the token is cancelled, then closes what is left.
    pub(super) async fn run(self, entrance: Arc<Entrance>, stop: CancellationToken) {
        for (number, shard) in self.shards.iter().enumerate() {
            let (shard, entrance, stop) = (shard.clone(), entrance.clone(), stop.clone());
            let spawner = entrance.tasks.clone();
            spawner.spawn("quic accept", async move { accept(number, shard, entrance, stop).await });
        }
        stop.cancelled().await;
        for shard in &self.shards {
            shard.close(close_code(CloseCode::Draining), b"the server ends");
        }
        let idle = async {
            for shard in &self.shards {
                shard.wait_idle().await;
            }
        };
        // Clients that do not answer the close are left to their idle timeout.
        let _ = tokio::time::timeout(Duration::from_secs(1), idle).await;
    }
}

async fn accept(number: usize, shard: Endpoint, entrance: Arc<Entrance>, stop: CancellationToken) {
    loop {
        let incoming = tokio::select! {
            () = stop.cancelled() => return,
            incoming = shard.accept() => incoming,
        };
        match incoming {
            Some(incoming) => entrance.receive(incoming),
            None => {
                tracing::debug!(shard = number, "a QUIC endpoint was closed");
                return;
            }
        }
    }
}

impl Entrance {
    pub(super) fn new(
        admissions: Admissions,
        origins: Origins,
        router: Router,
        door: Door,
        tasks: Tasks,
        pressure: Pressure,
    ) -> Self {
        Self {
            admissions,
            origins,
            router,
            door,
            tasks,
            pressure,
            webtransport: Arc::new(Meters::new(Transport::WebTransport)),
            quic: Arc::new(Meters::new(Transport::Quic)),
            handshaking: Arc::default(),
        }
    }

    /// Decides about a first packet and starts the handshake.
    fn receive(self: &Arc<Self>, incoming: Incoming) {
        let remote = incoming.remote_address();
        let refused = |reason| metrics::links_refused_total("quic", reason).increment(1);
        let verdict = self.judge(remote, incoming.remote_address_validated());
        metrics::first_packets_total(verdict.label()).increment(1);
        match verdict {
            Verdict::Accept(admission) => match incoming.accept() {
                Ok(connecting) => {
                    let (this, handshake) = (self.clone(), Handshake::begin(&self.handshaking));
                    self.tasks.spawn("quic connection", async move {
                        this.shake_hands(connecting, admission, handshake).await;
                    });
                }
                Err(error) => {
                    tracing::debug!(%remote, %error, "a QUIC connection could not be accepted");
                    refused("handshake");
                }
            },
            Verdict::Retry => {
                // Unvalidated addresses may always be sent a Retry; if not after all, the client is refused.
                if let Err(error) = incoming.retry() {
                    error.into_incoming().refuse();
                }
            }
            Verdict::Refuse(refusal) => {
                refused(refusal.label());
                incoming.refuse();
            }
            Verdict::Ignore => {
                refused("pressure");
                incoming.ignore();
            }
        }
    }

    fn judge(&self, remote: SocketAddr, validated: bool) -> Verdict {
        let handshaking = self.handshaking.load(Ordering::Relaxed);
        if handshaking >= self.pressure.ignore_above {
            return Verdict::Ignore;
        }
        // Before an address is counted it is proved: forged ones must not use up somebody's share.
        if !validated && handshaking >= self.pressure.retry_above {
            return Verdict::Retry;
        }
        match self.admissions.try_admit(remote.ip()) {
            Ok(admission) => Verdict::Accept(admission),
            Err(refusal) => Verdict::Refuse(refusal),
        }
    }

    async fn shake_hands(&self, mut connecting: quinn::Connecting, admission: Admission, handshake: Handshake) {
        let data = match tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting.handshake_data()).await {
            Ok(Ok(data)) => data.downcast::<HandshakeData>().expect("rustls does our handshakes"),
            Ok(Err(_)) | Err(_) => return metrics::links_refused_total("quic", "handshake").increment(1),
        };
        let plain_http = data.server_name.as_deref().is_some_and(|name| name.starts_with(http3::SERVER_NAME_PREFIX));
        if data.protocol.as_deref() == Some(ALPN_QUIC) {
            if let Some(connection) = established(connecting).await {
                let remote = connection.remote_address();
                let peer = Peer { transport: Transport::Quic, remote, format: Format::Proto, bearer: None };
                self.enter(admission, QuicLink::new(Plain::new(connection), peer, self.quic.clone()), handshake);
            }
        } else if plain_http {
            if let Some(connection) = established(connecting).await {
                drop(handshake);
                http3::serve(connection, self.router.clone(), &self.tasks).await;
            }
            drop(admission);
        } else if let Some(link) = webtransport::accept(connecting, &self.origins, self.webtransport.clone()).await {
            self.enter(admission, link, handshake);
        }
    }

    fn enter(&self, admission: Admission, link: impl Link + 'static, handshake: Handshake) {
        let took = handshake.since.elapsed();
        drop(handshake);
        metrics::handshake_seconds(link.peer().transport.label()).record(took);
        (self.door)(admission, Box::new(link));
    }
}

async fn established(connecting: quinn::Connecting) -> Option<quinn::Connection> {
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => Some(connection),
        Ok(Err(_)) | Err(_) => {
            metrics::links_refused_total("quic", "handshake").increment(1);
            None
        }
    }
}

/// Counts one handshake in progress.
struct Handshake {
    counted: Arc<AtomicUsize>,
    since: Instant,
}

impl Handshake {
    fn begin(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self { counted: counter.clone(), since: Instant::now() }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.counted.fetch_sub(1, Ordering::Relaxed);
    }
}

fn server_config(certificates: &Certificates) -> io::Result<ServerConfig> {
    let tls = certificates.quic_config(&[ALPN_H3, ALPN_QUIC]);
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).map_err(io::Error::other)?));
    config
        .transport_config(Arc::new(transport_config()))
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES_MAX)
        .incoming_buffer_size_total(INCOMING_BYTES_TOTAL_MAX);
    Ok(config)
}

/// A client's connection, as session-and-transport.md has measured it.
fn transport_config() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS_MAX))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_send_buffer_size(DATAGRAMS_OUT_BYTES)
        .datagram_receive_buffer_size(Some(DATAGRAMS_IN_BYTES))
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_TIMEOUT_MS).into()))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .mtu_discovery_config(None)
        .congestion_controller_factory(Arc::new(quinn::congestion::CubicConfig::default()));
    config
}

const _: () = assert!(KEEP_ALIVE.as_millis() * 2 < IDLE_TIMEOUT_MS as u128, "one lost keep-alive does not end a link");
const _: () = assert!(STREAM_WINDOW_BYTES <= CONNECTION_WINDOW_BYTES);
