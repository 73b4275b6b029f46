use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::link::webtransport;
use crate::trust::{Trust, TrustError};

/// What a UDP socket may hold unread.
const SOCKET_BYTES: usize = 1024 * 1024;

const CLOSED_WITHIN: Duration = Duration::from_secs(1);

/// Sockets and TLS configurations that any number of links share. Cloning counts a reference.
///
/// A UDP socket is opened when the first link needs it and used by many: thousands of QUIC connections fit on one.
#[derive(Clone)]
pub struct Endpoints(Arc<Inner>);

/// What [`Endpoints`] are made from.
#[derive(Clone)]
pub struct EndpointOptions {
    pub trust: Trust,
    /// UDP sockets per transport and address family, taken in turn. At least 1.
    pub sockets: usize,
    /// Keep TLS tickets, so that a second handshake with the same server is shorter. A load test that plays many clients
    /// says no.
    pub remember_tls: bool,
}

impl EndpointOptions {
    pub fn new(trust: Trust) -> Self {
        Self { trust, sockets: 1, remember_tls: true }
    }
}

struct Inner {
    quic: quinn::ClientConfig,
    webtransport: quinn::ClientConfig,
    websocket: Arc<rustls::ClientConfig>,
    quic_sockets: Pool<quinn::Endpoint>,
    webtransport_sockets: Pool<webtransport::Endpoint>,
}

impl Endpoints {
    /// # Errors
    /// When the trusted authorities cannot be used. No socket is opened yet.
    pub fn new(options: &EndpointOptions) -> Result<Self, TrustError> {
        let tls = |alpn: &[u8]| options.trust.config(&[alpn], options.remember_tls);
        Ok(Self(Arc::new(Inner {
            quic: quic_config(tls(veza_proto::ALPN_QUIC)?),
            webtransport: quic_config(tls(b"h3")?),
            websocket: Arc::new(tls(b"http/1.1")?),
            quic_sockets: Pool::new(options.sockets),
            webtransport_sockets: Pool::new(options.sockets),
        })))
    }

    /// Waits until the servers know that every link over these sockets is closed, a second at most. A program that ends
    /// right after it dropped its QUIC links would take their farewells with it.
    pub async fn wait_closed(&self) {
        let idle = async {
            for endpoint in self.0.quic_sockets.opened() {
                endpoint.wait_idle().await;
            }
            for endpoint in self.0.webtransport_sockets.opened() {
                endpoint.wait_idle().await;
            }
        };
        // Whoever has not answered by then is left to its own timeout.
        tokio::time::timeout(CLOSED_WITHIN, idle).await.ok();
    }

    /// TLS for TCP: `wss://` and `https://`.
    pub(crate) fn tls(&self) -> Arc<rustls::ClientConfig> {
        self.0.websocket.clone()
    }

    pub(crate) fn quic(&self, to: SocketAddr) -> std::io::Result<quinn::Endpoint> {
        self.0.quic_sockets.take(to, |socket| {
            let runtime = Arc::new(quinn::TokioRuntime);
            let mut endpoint = quinn::Endpoint::new(quinn::EndpointConfig::default(), None, socket, runtime)?;
            endpoint.set_default_client_config(self.0.quic.clone());
            Ok(endpoint)
        })
    }

    pub(crate) fn webtransport(&self, to: SocketAddr) -> std::io::Result<webtransport::Endpoint> {
        self.0
            .webtransport_sockets
            .take(to, |socket| webtransport::endpoint(socket, self.0.webtransport.clone(), to.is_ipv4()))
    }
}

/// Endpoints opened on first use and taken in turn.
struct Pool<E> {
    v4: Vec<OnceLock<E>>,
    v6: Vec<OnceLock<E>>,
    next: AtomicUsize,
}

impl<E: Clone> Pool<E> {
    fn new(sockets: usize) -> Self {
        let empty = || (0..sockets.max(1)).map(|_| OnceLock::new()).collect();
        Self { v4: empty(), v6: empty(), next: AtomicUsize::new(0) }
    }

    fn opened(&self) -> impl Iterator<Item = &E> {
        self.v4.iter().chain(&self.v6).filter_map(OnceLock::get)
    }

    fn take(&self, to: SocketAddr, open: impl FnOnce(UdpSocket) -> std::io::Result<E>) -> std::io::Result<E> {
        let (slots, bind) = match to {
            SocketAddr::V4(_) => (&self.v4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            SocketAddr::V6(_) => (&self.v6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))),
        };
        let slot = &slots[self.next.fetch_add(1, Ordering::Relaxed) % slots.len()];
        if let Some(endpoint) = slot.get() {
            return Ok(endpoint.clone());
        }
        // Two callers may open one each; the second is dropped again, which costs a socket for a moment.
        let socket = UdpSocket::bind(bind)?;
        // Best effort: the kernel's default holds fewer packets than many links receive while the runtime is busy.
        socket2::SockRef::from(&socket).set_recv_buffer_size(SOCKET_BYTES).ok();
        let endpoint = open(socket)?;
        Ok(slot.get_or_init(|| endpoint).clone())
    }
}

/// The transport settings of a client: the server's counterparts stand in `docs/design`.
fn quic_config(tls: rustls::ClientConfig) -> quinn::ClientConfig {
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("TLS 1.3 with its first suite is there");
    let mut transport = quinn::TransportConfig::default();
    transport
        // A server of ours opens none but HTTP/3's own three: control and the two of QPACK.
        .max_concurrent_bidi_streams(0u32.into())
        .max_concurrent_uni_streams(8u32.into())
        .stream_receive_window((256 * 1024u32).into())
        .receive_window((1024 * 1024u32).into())
        .send_window(256 * 1024)
        .datagram_receive_buffer_size(Some(256 * 1024))
        .datagram_send_buffer_size(8 * 1024)
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .max_idle_timeout(Some(quinn::IdleTimeout::try_from(Duration::from_secs(45)).expect("45 s fit")))
        .mtu_discovery_config(None);
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    config
}
