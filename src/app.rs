//! The one place where the parts meet: load everything, run it, drain it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use veza_engine::session::Settings;
use veza_proto::{CloseCode, RoomId};

use crate::audio::{Audio, Pool};
use crate::auth::resume::ResumeKeys;
use crate::auth::{Auth, AuthError};
use crate::authz::Authz;
use crate::clock::Clock;
use crate::config::{Config, Environment};
use crate::crash;
use crate::dial::DialError;
use crate::events::{Events, Retention};
use crate::gateway::{Gateway, GatewayError, Parts, Trust};
use crate::hub::{Guards, Hub, UserRate};
use crate::icecast;
use crate::ops::{self, Ops};
use crate::session::attendance::Attendance;
use crate::session::devices::Devices;
use crate::session::registry::Registry;
use crate::session::revocation::Revocations;
use crate::session::{self, Meters, Node};
use crate::store::{self, Opened, Store, Writer};
use crate::tasks::Tasks;
use crate::telemetry::metrics as declared;
use crate::telemetry::{exporter, process};
use crate::transport::admission::{Admissions, Pause};
use crate::transport::tls::{Certificates, TlsError};
use crate::transport::{Addresses, Door, Transports};
use crate::webhooks::Webhooks;
use crate::{bus, page};

/// Reconnects that a drain spreads out to, per second: well under what a neighbour can admit.
const RECONNECTS_PER_SECOND: usize = 500;
/// Who has not left this long after it was told to is not going to.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// What a drain leaves for closing the rest.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// A server that is ready to run.
pub struct App {
    config: Config,
    tasks: Tasks,
    store: Arc<dyn Store>,
    transports: Transports,
    gateway: Option<Gateway>,
    icecast: Option<icecast::Door>,
    admissions: Admissions,
    registry: Arc<Registry>,
    metrics: Option<SocketAddr>,
    /// Cancelled when nobody can publish any more; the writer then finishes what it has.
    writing: CancellationToken,
}

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the data directory {path} cannot be made: {source}")]
    DataDirectory { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Store(#[from] store::OpenError),
    #[error("the database does not answer: {0}")]
    Database(#[from] store::StoreError),
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error("AUTHZ_GRPC_URL cannot be asked: {0}")]
    Authz(DialError),
    #[error("WEBHOOKS_CA_FILE cannot be used: {0}")]
    Webhooks(DialError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
    #[error("a port cannot be bound: {0}")]
    Bind(std::io::Error),
    #[error(transparent)]
    Icecast(#[from] icecast::OpenError),
    #[error("PROMETHEUS_PORT {address} cannot be bound: {source}")]
    Metrics { address: SocketAddr, source: std::io::Error },
}

/// Loads and runs the server until it is told to stop.
///
/// # Errors
/// [`StartError`], before anything is accepted.
pub async fn serve(config: Config) -> Result<(), StartError> {
    App::load(config).await?.run().await;
    Ok(())
}

impl App {
    /// Opens the database, the keys and the ports. Nothing is accepted yet.
    ///
    /// # Errors
    /// The first thing that is not as it must be.
    pub async fn load(config: Config) -> Result<Self, StartError> {
        make_private(&config.data_dir)?;
        let (tasks, clock) = (Tasks::new(), Clock::start());
        let metrics = start_metrics(&config, &tasks).await?;
        let opened = store::open(&config.database, &config.data_dir).await?;
        let Opened { store, outbox, records, desk, .. } = opened.clone();
        let bus = bus::open(&config.redis);
        let auth = Auth::load(&config.auth, config.environment, &config.data_dir)?;
        auth.prepare().await;
        let authz = Authz::load(config.authz.as_ref()).map_err(StartError::Authz)?;
        let resume = ResumeKeys::load(&config.data_dir)?;
        let certificates = Certificates::load(&config.tls, &config.data_dir, SystemTime::now())?;
        let limits = &config.limits;
        let admissions = Admissions::new(config.performance.max_connections, limits.connections_per_address);
        let devices = Devices::new(Arc::clone(&records));

        let (writer, handle) = Writer::new(Arc::clone(&store), config.database.timeout);
        let writing = CancellationToken::new();
        tasks.spawn_apart("writer", writer.run(writing.clone())).map_err(StartError::Thread)?;
        let retention = Retention { hours: config.events.retention_hours, rows_max: config.events.rows_max };
        let events = Events::start(outbox, handle.committed(), retention, clock, &tasks);
        let webhooks = Webhooks::start(&opened, events.clone(), config.webhooks.clone(), clock, &tasks)
            .map_err(StartError::Webhooks)?;
        let workers = config.performance.worker_threads;
        let rate = UserRate { per_second: limits.user_publish_per_second, burst: limits.user_publish_burst };
        let guards = Guards { rate, authz: authz.clone() };
        let hub = Hub::start(Arc::clone(&store), handle, Arc::clone(&bus), workers, guards, clock, &tasks);
        let (attendance, noted) = Attendance::new(hub.node(), clock);
        tasks.spawn("attendance", noted.tell(events.clone(), tasks.token()));
        let registry = Registry::new(limits.connections_per_user, attendance);
        let revocations =
            Revocations::new(auth.clone(), Arc::clone(&records), Arc::clone(&registry), events.clone(), clock);
        revocations.catch_up().await?;
        if config.environment == Environment::Development {
            let lobby = RoomId::parse("lobby").expect("a valid id");
            hub.ensure_room(lobby, "Lobby").await?;
        }
        if let Some(at) = config.crash_at {
            crash::arm(at);
        }

        let memory = process::watch(&tasks, config.performance.memory_limit_bytes);
        let guard = ops::guard_memory(memory, admissions.clone(), Arc::clone(&registry), tasks.token());
        tasks.spawn("memory-guard", guard);
        tasks.spawn("auth-keys", auth.clone().maintain(tasks.token()));
        tasks.spawn("revocations", revocations.clone().watch(tasks.token()));
        tasks.spawn("devices", devices.clone().keep(tasks.token()));
        tasks.spawn("certificates", Arc::clone(&certificates).maintain(tasks.token()));

        let trust = Trust {
            auth: auth.clone(),
            revocations,
            devices: devices.clone(),
            registry: Arc::clone(&registry),
            records,
            store: Arc::clone(&store),
            clock,
        };
        let pool = Pool::start(config.performance.codec, &tasks).map_err(StartError::Thread)?;
        let audio = Audio::start(hub.clone(), Arc::clone(&desk), events.clone(), workers, pool, clock, &tasks);
        let parts =
            Parts { store: Arc::clone(&store), hub: hub.clone(), audio: audio.clone(), desk, events, webhooks, trust };
        let gateway = Gateway::open(&config.gateway, config.environment, &config.data_dir, parts, &tasks).await?;
        let node = Arc::new(Node {
            hub,
            audio,
            auth: Arc::new(auth.clone()),
            authz,
            resume,
            registry: Arc::clone(&registry),
            devices,
            admissions: admissions.clone(),
            settings: Arc::new(settings(&config)),
            clock,
            meters: Meters::new(),
        });
        let site = Arc::new(Ops {
            environment: config.environment,
            version: config.version.clone(),
            public_url: config.network.public_url.clone(),
            store: Arc::clone(&store),
            bus,
            auth,
            certificates: Arc::clone(&certificates),
            admissions: admissions.clone(),
            registry: Arc::clone(&registry),
            clock,
        });
        let icecast = config.icecast.as_ref();
        let icecast = icecast
            .map(|door| icecast::Door::bind(door, &config.data_dir, Arc::clone(&node), tasks.clone()))
            .transpose()?;
        let door = door(node, tasks.clone());
        let transports =
            Transports::bind(&config, &certificates, admissions.clone(), site, page::FILES, door, tasks.clone())
                .map_err(StartError::Bind)?;
        Ok(Self { config, tasks, store, transports, gateway, icecast, admissions, registry, metrics, writing })
    }

    /// Where the listeners are.
    pub fn addresses(&self) -> Addresses {
        self.transports.addresses()
    }

    /// Serves until SIGTERM or SIGINT, then drains.
    pub async fn run(self) {
        self.announce();
        let Self { config, tasks, store, transports, gateway, icecast, admissions, registry, writing, metrics: _ } =
            self;
        let (mut stop, accepting) = (Stop::new(), CancellationToken::new());
        tasks.spawn("transports", transports.run(accepting.clone()));
        let draining = gateway.as_ref().map(Gateway::draining);
        if let Some(gateway) = gateway {
            tasks.spawn("gateway", gateway.run(accepting.clone()));
        }
        if let Some(door) = icecast {
            tasks.spawn("icecast", door.run(accepting.clone()));
        }
        stop.asked().await;
        // Whoever balances calls between nodes learns it first.
        draining.inspect(CancellationToken::cancel);
        drain(&admissions, &registry, config.limits.drain_grace, &mut stop).await;
        accepting.cancel();
        writing.cancel();
        if let Err(unfinished) = tasks.shutdown(CLOSE_WITHIN + config.database.timeout).await {
            tracing::warn!(%unfinished, "not everything ended in time");
        }
        store.close().await;
        tracing::info!("stopped");
    }

    /// Tells where everything is: to people in development, to the log always.
    fn announce(&self) {
        let addresses = self.transports.addresses();
        tracing::info!(
            http = %addresses.http,
            webtransport = %addresses.webtransport,
            websocket = %addresses.websocket,
            websocket_tls = addresses.websocket_tls,
            gateway = self.gateway.as_ref().map(|gateway| tracing::field::display(gateway.address())),
            metrics = self.metrics.map(tracing::field::display),
            icecast = self.icecast.as_ref().map(|door| tracing::field::display(door.address())),
            "listening"
        );
        if self.config.environment == Environment::Development {
            let icecast = self.icecast.as_ref().map(icecast::Door::address);
            greet(&self.config, addresses, self.gateway.as_ref(), self.metrics, icecast);
        }
    }
}

#[expect(clippy::print_stdout, reason = "the greeting is for the person who started the server")]
fn greet(
    config: &Config,
    addresses: Addresses,
    gateway: Option<&Gateway>,
    metrics: Option<SocketAddr>,
    icecast: Option<SocketAddr>,
) {
    let scheme = if addresses.websocket_tls { "wss" } else { "ws" };
    let data = config.data_dir.display();
    println!();
    println!("  Veza {} is ready. Open  http://localhost:{}", config.version, addresses.http.port());
    println!();
    println!("  WebTransport  https://127.0.0.1:{}/wt  (UDP; also QUIC veza/1)", addresses.webtransport.port());
    println!("  WebSocket     {scheme}://127.0.0.1:{}/ws", addresses.websocket.port());
    if let Some(gateway) = gateway {
        let tls = if gateway.has_tls() { "TLS" } else { "no TLS" };
        println!("  Gateway       {}  (gRPC, {tls})", gateway.address());
    }
    if let Some(metrics) = metrics {
        println!("  Metrics       http://127.0.0.1:{}/metrics", metrics.port());
    }
    if let Some(icecast) = icecast {
        println!(
            "  Icecast       http://127.0.0.1:{}/<stream>  (source clients; the password is a token)",
            icecast.port()
        );
    }
    println!("  Data          {data}");
    println!();
}

/// Stops admitting, sends everybody away at their own time, waits for them, closes the rest. A second signal shortens it.
async fn drain(admissions: &Admissions, registry: &Registry, grace: Duration, stop: &mut Stop) {
    admissions.pause(Pause::Draining);
    declared::draining().set(1.0);
    let sessions = registry.len();
    let wait = grace.saturating_sub(CLOSE_WITHIN);
    let spread = Duration::from_secs_f64(sessions as f64 / RECONNECTS_PER_SECOND as f64).min(wait);
    let wait = wait.min(spread + LEAVE_WITHIN);
    tracing::info!(sessions, ?spread, "draining");
    registry.drain(|_| spread.mul_f64(rand::random::<f64>()));
    tokio::select! {
        () = until(|| registry.is_empty()) => {}
        () = tokio::time::sleep(wait) => {}
        () = stop.asked() => tracing::info!("told again: the rest is closed now"),
    }
    registry.close_all(CloseCode::Draining, "the server restarts");
    // A closing session has left the registry; its link is gone when its admission is.
    let closed = tokio::time::timeout(CLOSE_WITHIN, until(|| admissions.admitted() == 0)).await;
    if closed.is_err() {
        tracing::warn!(links = admissions.admitted(), "links did not close in time");
    }
}

async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The signals that ask a server to stop.
struct Stop {
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
}

impl Stop {
    fn new() -> Self {
        let listen = |kind, name| match signal(kind) {
            Ok(listener) => Some(listener),
            Err(error) => {
                tracing::error!(%error, name, "a signal cannot be listened to; only SIGKILL will stop this server by it");
                None
            }
        };
        Self {
            terminate: listen(SignalKind::terminate(), "SIGTERM"),
            interrupt: listen(SignalKind::interrupt(), "SIGINT"),
        }
    }

    async fn asked(&mut self) {
        tokio::select! {
            () = heard(self.terminate.as_mut()) => {}
            () = heard(self.interrupt.as_mut()) => {}
        }
    }
}

async fn heard(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

fn door(node: Arc<Node>, tasks: Tasks) -> Door {
    Arc::new(move |admission, link| {
        tasks.spawn("session", session::run(Arc::clone(&node), admission, link));
    })
}

fn settings(config: &Config) -> Settings {
    let limits = &config.limits;
    Settings {
        rooms_max: limits.rooms_per_connection,
        publish_per_second: limits.publish_per_second,
        publish_burst: limits.publish_burst,
        requests_per_second: limits.requests_per_second,
        server_version: config.version.clone(),
    }
}

async fn start_metrics(config: &Config, tasks: &Tasks) -> Result<Option<SocketAddr>, StartError> {
    exporter::maintain(tasks);
    if !config.monitoring.metrics {
        return Ok(None);
    }
    let address = SocketAddr::new(config.network.host, config.monitoring.prometheus_port);
    exporter::start(tasks, address).await.map(Some).map_err(|source| StartError::Metrics { address, source })
}

/// The data directory holds keys: only its owner may look inside.
fn make_private(path: &std::path::Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| StartError::DataDirectory { path: path.to_owned(), source })
}
