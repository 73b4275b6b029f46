//! Real clients against real listeners on the loopback interface.

mod doors;
mod pressure;
mod sessions;
mod streams;
mod web;
mod websocket;

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use veza_proto::frame::{Decoder, encode_delimited};
use veza_proto::v1::{
    Bye, ClientFrame, Error, ErrorCode, History, Ping, Pong, ServerFrame, client_frame::Command, reply, server_frame,
};
use veza_proto::{ALPN_QUIC, CloseCode, Encoded, Lane};

use super::admission::{Admission, Admissions};
use super::http::{Health, LoginRefused, PageFile, Site};
use super::tls::Certificates;
use super::{Addresses, Door, Inbound, Link, Transports};
use crate::config;
use crate::tasks::Tasks;

/// A server whose sessions echo: the rooms are not this module's business.
struct House {
    addresses: Addresses,
    certificates: Arc<Certificates>,
    admissions: Admissions,
    tasks: Tasks,
    /// What every session heard, as text.
    heard: mpsc::Receiver<String>,
    _data: tempfile::TempDir,
}

impl Drop for House {
    fn drop(&mut self) {
        self.tasks.token().cancel();
    }
}

async fn house() -> House {
    house_with(|_| {}).await
}

async fn house_with(change: impl FnOnce(&mut config::Config)) -> House {
    let (tell, heard) = mpsc::channel(4096);
    let tasks = Tasks::new();
    let spawner = tasks.clone();
    let door: Door = Arc::new(move |admission, link| {
        spawner.spawn("echo", echo(admission, link, tell.clone()));
    });
    open_house(change, tasks, door, heard)
}

/// A house whose links the test drives itself.
async fn held() -> (House, mpsc::Receiver<Box<dyn Link>>) {
    let (give, links) = mpsc::channel(16);
    let (_, heard) = mpsc::channel(1);
    let door: Door = Arc::new(move |_admission, link| give.try_send(link).map_err(|_| ()).unwrap());
    (open_house(|_| {}, Tasks::new(), door, heard), links)
}

fn open_house(
    change: impl FnOnce(&mut config::Config),
    tasks: Tasks,
    door: Door,
    heard: mpsc::Receiver<String>,
) -> House {
    let data = tempfile::tempdir().unwrap();
    let mut config = configuration(data.path());
    change(&mut config);
    let certificates = Certificates::load(&config.tls, data.path(), SystemTime::now()).unwrap();
    let admissions = Admissions::new(config.performance.max_connections, config.limits.connections_per_address);
    let transports =
        Transports::bind(&config, &certificates, admissions.clone(), Arc::new(Home), PAGE, door, tasks.clone())
            .unwrap();
    let addresses = transports.addresses();
    let stop = tasks.token();
    tasks.spawn("transports", async move { transports.run(stop).await });
    House { addresses, certificates, admissions, tasks, heard, _data: data }
}

impl House {
    /// Waits until a session has heard something with this in it.
    async fn heard(&mut self, part: &str) -> String {
        let found = async {
            loop {
                let line = self.heard.recv().await.unwrap();
                if line.contains(part) {
                    return line;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(5), found).await.unwrap_or_else(|_| panic!("nothing with {part}"))
    }
}

fn configuration(data: &std::path::Path) -> config::Config {
    let secret = || config::Secret::new("");
    config::Config {
        log_filter: "info".into(),
        environment: config::Environment::Development,
        service_name: "veza".into(),
        version: "test".into(),
        data_dir: data.into(),
        network: config::Network {
            host: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            webtransport_port: 0,
            ws_port: 0,
            allowed_origins: vec!["https://veza.example".into()],
            public_url: None,
        },
        icecast: None,
        gateway: config::Gateway {
            host: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            tls: None,
            client_ca: None,
            services: config::Services::Nobody,
            reflection: false,
        },
        events: config::Events { retention_hours: 72, rows_max: 10_000_000 },
        webhooks: config::Webhooks { allow_private: false, ca_file: None, give_up_after: Duration::from_secs(1_800) },
        tls: config::Tls { files: None },
        auth: config::Auth {
            algorithm: config::TokenAlgorithm::EdDsa,
            key_file: None,
            hs256_secret: None,
            jwks: None,
            issuer: "veza".into(),
            audience: "veza".into(),
        },
        authz: None,
        database: config::Database {
            url: secret(),
            pool_size: 1,
            timeout: Duration::from_secs(1),
            allow_weak_durability: false,
        },
        redis: config::Redis { url: None, pool_size: 1, ttl: Duration::from_secs(1) },
        monitoring: config::Monitoring { prometheus_port: 0, metrics: false, otlp_endpoint: None, tracing: false },
        performance: config::Performance {
            codec: config::CodecBudget { threads: 0, percent: 80 },
            max_connections: 1000,
            worker_threads: 2,
            blocking_threads: 2,
            memory_limit_bytes: 1 << 30,
        },
        limits: config::Limits {
            connections_per_address: 100,
            connections_per_user: 10,
            rooms_per_connection: 128,
            publish_per_second: 20,
            publish_burst: 40,
            user_publish_per_second: 40,
            user_publish_burst: 80,
            requests_per_second: 100,
            drain_grace: Duration::from_secs(1),
        },
        crash_at: None,
    }
}

const PAGE: &[PageFile] = &[PageFile { path: "/index.html", content_type: "text/html; charset=utf-8", bytes: b"<p>" }];

struct Home;

impl Site for Home {
    fn live(&self) -> Health {
        Health { ok: true, body: serde_json::json!({ "status": "live" }) }
    }

    fn ready(&self) -> BoxFuture<'_, Health> {
        Box::pin(async { Health { ok: false, body: serde_json::json!({ "checks": { "store": "down" } }) } })
    }

    fn balancer(&self) -> Health {
        self.live()
    }

    fn describe(&self, host: Option<&str>, addresses: &Addresses) -> serde_json::Value {
        serde_json::json!({ "host": host, "port": addresses.webtransport.port() })
    }

    fn keys(&self) -> serde_json::Value {
        serde_json::json!({ "keys": [] })
    }

    fn login(&self, user: String, _from: std::net::IpAddr) -> BoxFuture<'_, Result<serde_json::Value, LoginRefused>> {
        Box::pin(async move {
            match user.as_str() {
                "" => Err(LoginRefused::Invalid("a user has a name".into())),
                "mallory" => Err(LoginRefused::RateLimited { retry_after_s: 60 }),
                user => Ok(serde_json::json!({ "user": user })),
            }
        })
    }
}

/// A session that answers pings and history on the lane they came by, typing by datagram, and closes on bye.
async fn echo(_admission: Admission, mut link: Box<dyn Link>, tell: mpsc::Sender<String>) {
    // The house may be closed before its sessions are.
    let tell = |what: String| drop(tell.try_send(what));
    tell(format!("{:?}", link.peer()));
    loop {
        let inbound = std::future::poll_fn(|cx| {
            let _ = link.poll_flush(cx);
            link.poll_recv(cx)
        })
        .await;
        tell(format!("{inbound:?}").chars().take(300).collect());
        match inbound {
            Inbound::Frame { frame: ClientFrame { command: Some(Command::Bye(_)), .. }, .. } => {
                std::future::poll_fn(|cx| link.poll_close(cx, CloseCode::Draining, "the node goes away")).await;
                return;
            }
            Inbound::Frame { frame: ClientFrame { command: Some(Command::Publish(_)), .. }, .. } => {
                panic!("a session panics on purpose")
            }
            Inbound::Frame { lane, frame, .. } => send(&mut *link, lane, &pong(frame.id)).await,
            Inbound::Datagram { frame, .. } => {
                let sent = link.send_datagram(&pong(frame.id));
                tell(format!("{sent:?}"));
            }
            Inbound::Bad { lane, error } => {
                let lane = if matches!(lane, Lane::Bulk(_)) { lane } else { Lane::Control };
                let error = Error::permanent(ErrorCode::Malformed, error.to_string());
                send(&mut *link, lane, &Encoded::reply(0, reply::Result::Error(error))).await;
            }
            Inbound::Media { packet } => {
                let sent = link.media().send(&[&[0], &packet[..]].concat().into());
                tell(format!("{sent:?}"));
            }
            Inbound::BadDatagram { .. } | Inbound::Alive => {}
            Inbound::Ended(_) => return,
        }
    }
}

async fn send(link: &mut dyn Link, lane: Lane, frame: &Encoded) {
    std::future::poll_fn(|cx| link.poll_ready(cx, lane)).await;
    link.start_send(lane, frame);
    std::future::poll_fn(|cx| link.poll_flush(cx)).await;
}

fn pong(id: u32) -> Encoded {
    Encoded::reply(id, reply::Result::Pong(Pong { client_time_ms: id.into(), server_time_ms: 0 }))
}

fn ping(id: u32) -> ClientFrame {
    ClientFrame { id, command: Some(Command::Ping(Ping { client_time_ms: 1 })) }
}

fn history(id: u32) -> ClientFrame {
    ClientFrame { id, command: Some(Command::History(History { room: "lobby".into(), ..History::default() })) }
}

fn bye() -> ClientFrame {
    ClientFrame { id: 1, command: Some(Command::Bye(Bye {})) }
}

/// The id of the reply in a frame.
fn replied(frame: &ServerFrame) -> u32 {
    match &frame.frame {
        Some(server_frame::Frame::Reply(reply)) => reply.id,
        Some(server_frame::Frame::Push(_)) | None => panic!("not a reply: {frame:?}"),
    }
}

/// A client on QUIC or WebTransport.
enum Client {
    Quic {
        connection: quinn::Connection,
        _endpoint: quinn::Endpoint,
    },
    WebTransport {
        session: wtransport::Connection,
        _endpoint: Box<wtransport::Endpoint<wtransport::endpoint::endpoint_side::Client>>,
    },
}

/// A stream the client has opened for a lane.
struct Stream {
    send: Pin<Box<dyn AsyncWrite + Send>>,
    recv: Pin<Box<dyn AsyncRead + Send>>,
    decoder: Decoder,
}

impl House {
    async fn quic(&self) -> Client {
        let endpoint = self.quic_endpoint(ALPN_QUIC);
        let connection = endpoint.connect(self.addresses.webtransport, "localhost").unwrap().await.unwrap();
        Client::Quic { connection, _endpoint: endpoint }
    }

    /// A client endpoint that trusts the house's own certificate.
    fn quic_endpoint(&self, alpn: &[u8]) -> quinn::Endpoint {
        let mut endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        endpoint.set_default_client_config(self.quic_client(alpn));
        endpoint
    }

    fn quic_client(&self, alpn: &[u8]) -> quinn::ClientConfig {
        let tls = self.tls_client(&[alpn]);
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
        quinn::ClientConfig::new(Arc::new(crypto))
    }

    fn tls_client(&self, alpns: &[&[u8]]) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificates.leaf()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = alpns.iter().map(|alpn| alpn.to_vec()).collect();
        tls
    }

    async fn webtransport(&self) -> Client {
        self.try_webtransport("/wt", &[]).await.unwrap()
    }

    async fn try_webtransport(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Client, wtransport::error::ConnectingError> {
        let hashes = self.certificates.hashes().into_iter().map(wtransport::tls::Sha256Digest::new);
        let config = wtransport::ClientConfig::builder()
            .with_bind_address((Ipv4Addr::LOCALHOST, 0).into())
            .with_server_certificate_hashes(hashes)
            .build();
        let endpoint = wtransport::Endpoint::client(config).unwrap();
        let url = format!("https://{}{path}", self.addresses.webtransport);
        let mut options = wtransport::endpoint::ConnectOptions::builder(url);
        for (name, value) in headers {
            options = options.add_header(*name, *value);
        }
        let session = endpoint.connect(options.build()).await?;
        Ok(Client::WebTransport { session, _endpoint: Box::new(endpoint) })
    }

    async fn both(&self) -> [Client; 2] {
        [self.quic().await, self.webtransport().await]
    }
}

impl Client {
    fn connection(&self) -> &quinn::Connection {
        match self {
            Client::Quic { connection, .. } => connection,
            Client::WebTransport { session, .. } => session.quic_connection(),
        }
    }

    /// Opens a stream and names its lane.
    async fn open(&self, lane: u8) -> Stream {
        let mut stream = self.open_unnamed().await;
        stream.send.write_all(&[lane]).await.unwrap();
        stream
    }

    async fn open_unnamed(&self) -> Stream {
        match self {
            Client::Quic { connection, .. } => {
                let (send, recv) = connection.open_bi().await.unwrap();
                Stream { send: Box::pin(send), recv: Box::pin(recv), decoder: Decoder::default() }
            }
            Client::WebTransport { session, .. } => {
                let (send, recv) = session.open_bi().await.unwrap().await.unwrap();
                Stream { send: Box::pin(send), recv: Box::pin(recv), decoder: Decoder::default() }
            }
        }
    }

    fn send_datagram(&self, payload: &[u8]) {
        match self {
            Client::Quic { connection, .. } => {
                connection.send_datagram(Bytes::copy_from_slice(payload)).unwrap();
            }
            Client::WebTransport { session, .. } => session.send_datagram(payload).unwrap(),
        }
    }

    async fn datagram(&self) -> Bytes {
        let datagram = async {
            match self {
                Client::Quic { connection, .. } => connection.read_datagram().await.unwrap(),
                Client::WebTransport { session, .. } => session.receive_datagram().await.unwrap().payload(),
            }
        };
        tokio::time::timeout(Duration::from_secs(5), datagram).await.expect("a datagram")
    }

    /// The code and reason the server closed with.
    async fn closed(&self) -> (u64, String) {
        let closed = async {
            match self {
                Client::Quic { connection, .. } => {
                    let closed = connection.closed().await;
                    let quinn::ConnectionError::ApplicationClosed(close) = closed else { panic!("{closed}") };
                    (close.error_code.into_inner(), close.reason.to_vec())
                }
                // By the session's capsule or by the connection, as the library tells it.
                Client::WebTransport { session, .. } => {
                    let closed = session.accept_uni().await.expect_err("the server opens no streams");
                    let wtransport::error::ConnectionError::ApplicationClosed(close) = closed else {
                        panic!("{closed}")
                    };
                    (close.code().into_inner(), close.reason().to_vec())
                }
            }
        };
        let (code, reason) = tokio::time::timeout(Duration::from_secs(5), closed).await.expect("a close");
        (code, String::from_utf8(reason).unwrap())
    }
}

impl Stream {
    async fn send(&mut self, frame: &ClientFrame) {
        self.send.write_all(&encode_delimited(frame)).await.unwrap();
    }

    async fn next(&mut self) -> ServerFrame {
        self.try_next().await.expect("a frame before the end")
    }

    /// `None` at the end of the stream.
    async fn try_next(&mut self) -> Option<ServerFrame> {
        let next = async {
            loop {
                if let Some(frame) = self.decoder.next().unwrap() {
                    return Some(frame);
                }
                let mut buffer = [0; 4096];
                match self.recv.read(&mut buffer).await {
                    Ok(0) => return None,
                    Ok(read) => self.decoder.push(&buffer[..read]),
                    Err(error) => panic!("{error}"),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(5), next).await.expect("an answer within 5 s")
    }

    /// Sends and waits for the reply with the same id.
    async fn ask(&mut self, frame: &ClientFrame) {
        self.send(frame).await;
        assert_eq!(replied(&self.next().await), frame.id);
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
