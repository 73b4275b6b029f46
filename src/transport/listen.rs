//! All listeners of the server: bound together, run together.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::admission::{Admission, Admissions};
use super::endpoint::{Endpoints, Entrance, Pressure};
use super::http::{self, PageFile, Site};
use super::origins::Origins;
use super::tls::Certificates;
use super::websocket::WebSockets;
use super::{Link, tcp};
use crate::config::{Config, Environment};
use crate::tasks::Tasks;

/// Takes every accepted link, with its place among the connections. It must not block.
pub type Door = Arc<dyn Fn(Admission, Box<dyn Link>) + Send + Sync>;

/// How often another number is tried when `PORT` is 0 and UDP has given the same number to somebody else.
const PORT_TRIES: usize = 16;

/// Where the listeners really are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// TCP: health, page.
    pub http: SocketAddr,
    /// UDP: WebTransport, QUIC, HTTP/3.
    pub webtransport: SocketAddr,
    /// TCP: `/ws`.
    pub websocket: SocketAddr,
    pub websocket_tls: bool,
}

/// The bound listeners.
pub struct Transports {
    addresses: Addresses,
    http: TcpListener,
    websocket: TcpListener,
    websockets: Arc<WebSockets>,
    endpoints: Endpoints,
    entrance: Arc<Entrance>,
    router: Router,
    tasks: Tasks,
}

impl Transports {
    /// Binds every port. Nothing is accepted before [`Transports::run`].
    ///
    /// # Errors
    /// Names the variable whose port cannot be had.
    pub fn bind(
        config: &Config,
        certificates: &Arc<Certificates>,
        admissions: Admissions,
        site: Arc<dyn Site>,
        page: &'static [PageFile],
        door: Door,
        tasks: Tasks,
    ) -> io::Result<Self> {
        let (http, endpoints) = bind_pair(config, certificates)?;
        let network = &config.network;
        let websocket = named("WS_PORT", tcp::bind((network.host, network.ws_port).into()))?;
        let acceptor = config.tls.files.is_some().then(|| certificates.tls_acceptor());
        let addresses = Addresses {
            http: http.local_addr()?,
            webtransport: endpoints.address(),
            websocket: websocket.local_addr()?,
            websocket_tls: acceptor.is_some(),
        };
        let origins = origins(config, addresses.http.port());
        let router = http::router(site, addresses, page);
        Ok(Self {
            addresses,
            http,
            websocket,
            websockets: Arc::new(WebSockets::new(acceptor, admissions.clone(), origins.clone(), door.clone())),
            endpoints,
            entrance: Arc::new(Entrance::new(
                admissions,
                origins,
                router.clone(),
                door,
                tasks.clone(),
                Pressure::default(),
            )),
            router,
            tasks,
        })
    }

    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Accepts until the token is cancelled, then closes what is still open. While draining, pause the admissions
    /// first: the HTTP listener goes on telling how it stands.
    pub async fn run(self, stop: CancellationToken) {
        let (tasks, router, connections) = (self.tasks.clone(), self.router, http::connections());
        let stopping = stop.clone();
        let http = tcp::accept(self.http, stop.clone(), move |stream, remote| {
            // Whoever has its share of a listener for health and page loses the connection.
            let Ok(admission) = connections.try_admit(remote.ip()) else { return };
            let (router, stop) = (router.clone(), stopping.clone());
            tasks.spawn("http connection", async move {
                http::serve(router, stream, remote, stop).await;
                drop(admission);
            });
        });
        let (tasks, websockets, stopping) = (self.tasks.clone(), self.websockets, stop.clone());
        let websocket = tcp::accept(self.websocket, stop.clone(), move |stream, remote| {
            let (websockets, stop) = (websockets.clone(), stopping.clone());
            tasks.spawn("websocket connection", async move {
                // Who is not through the door when everything ends is left outside.
                let _ = stop.run_until_cancelled(websockets.serve(stream, remote)).await;
            });
        });
        tokio::join!(http, websocket, self.endpoints.run(self.entrance, stop));
    }
}

/// The HTTP port and the UDP port of the same number, unless another is configured.
fn bind_pair(config: &Config, certificates: &Certificates) -> io::Result<(TcpListener, Endpoints)> {
    let network = &config.network;
    let mut tries = PORT_TRIES;
    loop {
        let http = named("PORT", tcp::bind((network.host, network.port).into()))?;
        let port = match network.webtransport_port {
            0 => http.local_addr()?.port(),
            configured => configured,
        };
        let shards = config.performance.worker_threads;
        match Endpoints::bind((network.host, port).into(), shards, certificates, &config.data_dir) {
            Ok(endpoints) => return Ok((http, endpoints)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && network.port == 0 && tries > 1 => tries -= 1,
            Err(error) => return named("WEBTRANSPORT_PORT", Err(error)),
        }
    }
}

fn named<T>(variable: &str, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("{variable}: {error}")))
}

fn origins(config: &Config, http_port: u16) -> Origins {
    let own = match config.environment {
        Environment::Development => {
            ["localhost", "127.0.0.1", "[::1]"].map(|host| format!("http://{host}:{http_port}")).to_vec()
        }
        Environment::Production => Vec::new(),
    };
    let public = config.network.public_url.as_deref().map(origin_of);
    Origins::new(config.network.allowed_origins.iter().cloned().chain(public).chain(own))
}

/// Scheme, host and port of a URL.
fn origin_of(url: &str) -> String {
    let host = url.find("://").map_or(0, |scheme| scheme + 3);
    let end = url[host..].find(['/', '?', '#']).map_or(url.len(), |path| host + path);
    url[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::origin_of;

    #[test]
    fn the_origin_of_a_url() {
        for url in ["https://veza.example:8443", "https://veza.example:8443/", "https://veza.example:8443/chat?x#y"] {
            assert_eq!(origin_of(url), "https://veza.example:8443");
        }
    }
}
