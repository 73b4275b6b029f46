//! The environment as written, checked as a whole: every error is reported at once, with its variable's name.

mod check;
mod gateway;
mod icecast;
mod problem;
mod read;
mod reader;
mod show;
mod source;
mod trust;
pub mod variables;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use check::is_world_readable;
pub use problem::{Problem, Problems};
pub(crate) use read::trim_line_end;
pub use show::{markdown, table};
pub use source::{Origin, Source};
pub use trust::{Authz, Guard, Jwks, JwksSource};
use variables::Variable;

use crate::crash::CrashAt;

/// A configuration that can be used, and what to tell about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    /// For the log: unknown names, variables without an effect yet.
    pub warnings: Vec<String>,
    /// The effective values, secrets masked.
    pub shown: Vec<Shown>,
}

/// An effective value as `veza config` tells it.
#[derive(Debug, Clone)]
pub struct Shown {
    pub variable: &'static Variable,
    pub value: String,
    pub origin: Origin,
}

impl Config {
    /// Reads the process's environment and, in development, `.env`.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load() -> Result<Loaded, Problems> {
        Self::read(&Source::of_process())
    }

    /// As [`Config::load`], from what is given: `Config::read(&[("PORT", "0")].into())`.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn read(source: &Source) -> Result<Loaded, Problems> {
        read::read(source)
    }
}

/// The checked configuration. The README's table has a row for every field's variable.
#[derive(Debug, Clone)]
pub struct Config {
    /// `RUST_LOG`
    pub log_filter: String,
    /// `ENVIRONMENT`
    pub environment: Environment,
    /// `SERVICE_NAME`
    pub service_name: String,
    /// `VERSION`
    pub version: String,
    /// `VEZA_DATA_DIR`: certificates, keys, the SQLite file.
    pub data_dir: PathBuf,
    pub network: Network,
    pub gateway: Gateway,
    /// The door for Icecast source clients; shut unless `ICECAST_PORT` is set.
    pub icecast: Option<Icecast>,
    pub tls: Tls,
    pub auth: Auth,
    /// `AUTHZ_*`; nobody is asked without `AUTHZ_GRPC_URL`.
    pub authz: Option<Authz>,
    pub database: Database,
    pub redis: Redis,
    pub events: Events,
    pub webhooks: Webhooks,
    pub monitoring: Monitoring,
    pub performance: Performance,
    pub limits: Limits,
    /// `VEZA_CRASH_AT`, default none; never in production
    pub crash_at: Option<CrashAt>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    Development,
    Production,
}

#[derive(Debug, Clone)]
pub struct Network {
    /// `HOST`
    pub host: IpAddr,
    /// `PORT`, TCP: health, page, certificate hashes. 0 takes a free one.
    pub port: u16,
    /// `WEBTRANSPORT_PORT`, UDP: WebTransport, QUIC, HTTP/3. The same number as `PORT` unless set.
    pub webtransport_port: u16,
    /// `WS_PORT`, TCP: `/ws`.
    pub ws_port: u16,
    /// `VEZA_ALLOWED_ORIGINS`: exact origins (scheme, host, port). Development adds the page's own.
    pub allowed_origins: Vec<String>,
    /// `VEZA_PUBLIC_URL`: what is printed and told to pages when a proxy or a name stands before the server.
    pub public_url: Option<String>,
}

/// The platform's API.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// `GRPC_HOST`, default 127.0.0.1
    pub host: IpAddr,
    /// `GRPC_PORT`. 0 takes a free one.
    pub port: u16,
    /// `GRPC_TLS_CERT_FILE` and `GRPC_TLS_KEY_FILE`, PEM
    pub tls: Option<TlsFiles>,
    /// `GRPC_TLS_CLIENT_CA_FILE`, only with the two above
    pub client_ca: Option<PathBuf>,
    /// `GRPC_SERVICES_FILE` or `GRPC_TOKEN`
    pub services: Services,
    /// `GRPC_REFLECTION`
    pub reflection: bool,
}

/// The door for Icecast source clients.
#[derive(Debug, Clone)]
pub struct Icecast {
    /// `ICECAST_HOST`, default 127.0.0.1
    pub host: IpAddr,
    /// `ICECAST_PORT`. 0 takes a free one.
    pub port: u16,
    /// `ICECAST_SOURCES_MAX`: each has a thread that decodes.
    pub sources_max: usize,
}

/// Who may call the API.
#[derive(Debug, Clone)]
pub enum Services {
    File(PathBuf),
    /// One service that may do everything.
    Token(Secret),
    /// Development makes a token in the data directory; production opens no port.
    Nobody,
}

#[derive(Debug, Clone)]
pub struct Tls {
    /// `TLS_CERT_FILE` and `TLS_KEY_FILE`, PEM. Without them development makes its own; production refuses to start.
    pub files: Option<TlsFiles>,
}

#[derive(Debug, Clone)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, Clone)]
pub struct Auth {
    /// `AUTH_ALGORITHM`: EdDSA, ES256 or HS256; bound to the key.
    pub algorithm: TokenAlgorithm,
    /// `AUTH_KEY_FILE` (PEM public or private key, or at least 32 bytes for HS256). Development makes one in the data directory.
    pub key_file: Option<PathBuf>,
    /// `AUTH_HS256_SECRET`, at least 32 bytes; alternative to the file.
    pub hs256_secret: Option<Secret>,
    /// `AUTH_JWKS_FILE` or `AUTH_JWKS_URL`: keys of others, beside our own or instead of it.
    pub jwks: Option<Jwks>,
    /// `AUTH_ISSUER`, default `veza`
    pub issuer: String,
    /// `AUTH_AUDIENCE`, default `veza`
    pub audience: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenAlgorithm {
    EdDsa,
    Es256,
    Hs256,
}

#[derive(Debug, Clone)]
pub struct Database {
    /// `DATABASE_URL`
    pub url: Secret,
    /// `DATABASE_POOL_SIZE`
    pub pool_size: u32,
    /// `DATABASE_TIMEOUT_MS`: acquire and statement.
    pub timeout: Duration,
    /// `VEZA_ALLOW_WEAK_DURABILITY`
    pub allow_weak_durability: bool,
}

/// What is kept for consumers of events.
#[derive(Debug, Clone)]
pub struct Events {
    /// `EVENTS_RETENTION_HOURS`
    pub retention_hours: u32,
    /// `EVENTS_MAX`
    pub rows_max: u64,
}

/// How events are delivered by HTTP.
#[derive(Debug, Clone)]
pub struct Webhooks {
    /// `WEBHOOKS_ALLOW_PRIVATE`: private addresses too, and http to this machine.
    pub allow_private: bool,
    /// `WEBHOOKS_CA_FILE`; the platform's authorities without it
    pub ca_file: Option<PathBuf>,
    /// `WEBHOOKS_GIVE_UP_SECONDS`
    pub give_up_after: Duration,
}

#[derive(Debug, Clone)]
pub struct Redis {
    /// `REDIS_URL`
    pub url: Option<Secret>,
    /// `REDIS_POOL_SIZE`
    pub pool_size: u32,
    /// `REDIS_TTL_DEFAULT`
    pub ttl: Duration,
}

#[derive(Debug, Clone)]
pub struct Monitoring {
    /// `PROMETHEUS_PORT`
    pub prometheus_port: u16,
    /// `METRICS_ENABLED`
    pub metrics: bool,
    /// `JAEGER_ENDPOINT`, already mapped to the OTLP/HTTP traces URL.
    pub otlp_endpoint: Option<String>,
    /// `TRACING_ENABLED`
    pub tracing: bool,
}

/// What is given for coding live audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodecBudget {
    /// 0: only what is published is sent.
    pub threads: usize,
    /// Of each thread's time so much is planned, per cent.
    pub percent: u32,
}

#[derive(Debug, Clone)]
pub struct Performance {
    /// `MAX_CONNECTIONS`
    pub max_connections: usize,
    /// `WORKER_THREADS`
    pub worker_threads: usize,
    /// `AUDIO_CODEC_THREADS`, `AUDIO_CODEC_BUDGET`
    pub codec: CodecBudget,
    /// `BLOCKING_THREADS`
    pub blocking_threads: usize,
    /// `MEMORY_LIMIT_MB`, in bytes.
    pub memory_limit_bytes: u64,
}

/// Bounds that an operator may set; the others stand in `veza_engine::limits` and `veza_proto::limits`.
#[derive(Debug, Clone)]
pub struct Limits {
    /// `VEZA_CONNECTIONS_PER_ADDRESS`, default 100
    pub connections_per_address: usize,
    /// `VEZA_CONNECTIONS_PER_USER`, default 10
    pub connections_per_user: usize,
    /// `VEZA_ROOMS_PER_CONNECTION`, default 128
    pub rooms_per_connection: usize,
    /// `VEZA_PUBLISH_PER_SECOND`, default 20
    pub publish_per_second: u32,
    /// `VEZA_PUBLISH_BURST`, default 40
    pub publish_burst: u32,
    /// `VEZA_USER_PUBLISH_PER_SECOND`, default 40
    pub user_publish_per_second: u32,
    /// `VEZA_USER_PUBLISH_BURST`, default 80
    pub user_publish_burst: u32,
    /// `VEZA_REQUESTS_PER_SECOND`, default 100
    pub requests_per_second: u32,
    /// `VEZA_DRAIN_GRACE_SECONDS`, default 30
    pub drain_grace: Duration,
}

/// A string that shows itself to nobody: its `Debug` is `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}
