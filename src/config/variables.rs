//! Every variable of the environment, declared once: `veza config`, the README's table, the bounds and their tests
//! are made from this.

/// One variable as an operator meets it.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    pub name: &'static str,
    pub kind: Kind,
    pub default: Default,
    /// What it does, for a cell of a table.
    pub help: &'static str,
    pub effect: Effect,
}

/// What may be written into a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number, both ends included.
    Number { min: u64, max: u64, unit: &'static str },
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// 1 to 64 of letters, digits, `.`, `_`, `-`, `+`.
    Name,
    /// Text with a grammar of its own, described here.
    Text(&'static str),
    /// A path.
    Path,
    /// A text that nobody may see.
    Secret(&'static str),
    /// A URL whose user, password and query nobody may see.
    SecretUrl(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default {
    /// The value taken when the variable is not set.
    Fixed(&'static str),
    /// How the value is found when the variable is not set.
    Described(&'static str),
}

/// Since when a variable does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Now,
    /// Read and checked already; it takes effect with this capability.
    Later(&'static str),
}

impl Variable {
    pub fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret(_) | Kind::SecretUrl(_))
    }

    /// The end of a sentence: "allowed: …".
    pub fn allowed(&self) -> String {
        match self.kind {
            Kind::Number { min, max, unit: "" } => format!("a whole number from {min} to {max}"),
            Kind::Number { min, max, unit } => format!("a whole number of {unit} from {min} to {max}"),
            Kind::Flag => "true or false".into(),
            Kind::Choice(words) => words.join(", "),
            Kind::Name => "1 to 64 letters, digits, '.', '_', '-' or '+'".into(),
            Kind::Text(what) | Kind::Secret(what) | Kind::SecretUrl(what) => what.into(),
            Kind::Path => "a path".into(),
        }
    }
}

/// The declaration of `name`, which every reader of it goes through.
pub fn variable(name: &str) -> &'static Variable {
    VARIABLES.iter().find(|variable| variable.name == name).expect("every variable that is read is declared here")
}

const PORT: Kind = Kind::Number { min: 0, max: 65_535, unit: "" };
const GUARD: Kind = Kind::Choice(&["off", "open", "closed"]);
const CLUSTERS: Effect = Effect::Later("clusters");

const fn number(
    name: &'static str,
    range: (u64, u64, &'static str),
    default: &'static str,
    help: &'static str,
) -> Variable {
    let kind = Kind::Number { min: range.0, max: range.1, unit: range.2 };
    Variable { name, kind, default: Default::Fixed(default), help, effect: Effect::Now }
}

const fn fixed(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Variable {
    Variable { name, kind, default: Default::Fixed(default), help, effect: Effect::Now }
}

const fn described(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Variable {
    Variable { name, kind, default: Default::Described(default), help, effect: Effect::Now }
}

const fn later(variable: Variable, effect: Effect) -> Variable {
    Variable { effect, ..variable }
}

/// In the order of the table.
pub const VARIABLES: &[Variable] = &[
    fixed("RUST_LOG", Kind::Text("a filter like info or veza=debug,quinn=warn"), "info", "What is logged."),
    fixed(
        "ENVIRONMENT",
        Kind::Choice(&["development", "production"]),
        "development",
        "Production logs JSON and refuses to start without certificate files, a token key and allowed origins; \
         development makes its own certificate and keys, serves the development login and reads `.env`.",
    ),
    fixed("SERVICE_NAME", Kind::Name, "veza-stream-server", "The service's name in logs, traces and metrics."),
    fixed("VERSION", Kind::Name, env!("CARGO_PKG_VERSION"), "The service's version in logs, traces and metrics."),
    fixed(
        "VEZA_DATA_DIR",
        Kind::Path,
        "./data",
        "Where the SQLite file and what the server makes for itself are kept.",
    ),
    fixed("HOST", Kind::Text("an IP address"), "0.0.0.0", "The address every listener binds."),
    fixed("PORT", PORT, "8080", "TCP: health, development page, certificate hashes. 0 takes a free port."),
    described("WEBTRANSPORT_PORT", PORT, "as `PORT`", "UDP: WebTransport, QUIC and HTTP/3."),
    fixed("WS_PORT", PORT, "8081", "TCP: the WebSocket fallback at `/ws`; TLS when certificate files are given."),
    fixed(
        "GRPC_HOST",
        Kind::Text("an IP address"),
        "127.0.0.1",
        "The address the platform's API binds. It is for the platform's backend, never for browsers.",
    ),
    fixed("GRPC_PORT", PORT, "50051", "TCP: the API for the platform's backend. 0 takes a free port."),
    described(
        "GRPC_TLS_CERT_FILE",
        Kind::Path,
        "none: no TLS",
        "The API's certificate chain, PEM. Reloaded when it changes.",
    ),
    described("GRPC_TLS_KEY_FILE", Kind::Path, "none", "Its private key, PEM."),
    described(
        "GRPC_TLS_CLIENT_CA_FILE",
        Kind::Path,
        "none: clients show no certificate",
        "Who signs the certificates that services may show instead of a token, PEM. Reloaded when it changes.",
    ),
    described(
        "GRPC_SERVICES_FILE",
        Kind::Path,
        "none",
        "Which services may call the API, and what each may do; JSON, reloaded when it changes (docs/GATEWAY.md).",
    ),
    described(
        "GRPC_TOKEN",
        Kind::Secret("32 to 4096 bytes"),
        "none; development makes one in the data directory",
        "Instead of a file: the token of one service, `gateway`, that may do everything. Production opens the API only \
         with a file or a token.",
    ),
    described(
        "GRPC_REFLECTION",
        Kind::Flag,
        "true in development",
        "Whether the API tells its schema to whoever asks (grpc.reflection).",
    ),
    described(
        "ICECAST_PORT",
        PORT,
        "none: the door is shut",
        "TCP: Icecast source clients publish streams here (docs/ICECAST.md). 0 takes a free port.",
    ),
    fixed(
        "ICECAST_HOST",
        Kind::Text("an IP address"),
        "127.0.0.1",
        "The address this door binds. Source clients send tokens without TLS: let a proxy with TLS stand before it.",
    ),
    number(
        "ICECAST_SOURCES_MAX",
        (1, 1_000, ""),
        "32",
        "Source clients at most at a time; each has a thread that decodes and encodes.",
    ),
    described(
        "VEZA_ALLOWED_ORIGINS",
        Kind::Text("exact origins, comma-separated, like https://veza.example,https://app.veza.example:8443"),
        "none; development adds the page's own",
        "Which pages may open a session. No wildcards, no `null`; production needs at least one.",
    ),
    described(
        "VEZA_PUBLIC_URL",
        Kind::Text("an origin like https://live.veza.example"),
        "none",
        "The server's name as browsers see it, when a name or a proxy stands before it; ports stay the server's own.",
    ),
    described(
        "TLS_CERT_FILE",
        Kind::Path,
        "none; development makes a certificate",
        "Certificate chain, PEM. Reloaded when it changes. Production needs it.",
    ),
    described(
        "TLS_KEY_FILE",
        Kind::Path,
        "none",
        "Its private key, PEM; production refuses one that everybody may read.",
    ),
    fixed(
        "AUTH_ALGORITHM",
        Kind::Choice(&["EdDSA", "ES256", "HS256"]),
        "EdDSA",
        "The only signature algorithm that is accepted on tokens.",
    ),
    described(
        "AUTH_KEY_FILE",
        Kind::Path,
        "none; development makes an Ed25519 key",
        "The key that tokens are checked with: PEM, public, or private (PKCS#8) to issue tokens too; for HS256 at least \
         32 bytes. Reloaded when it changes. Production needs it or `AUTH_HS256_SECRET`.",
    ),
    described(
        "AUTH_HS256_SECRET",
        Kind::Secret("32 to 4096 bytes"),
        "none",
        "The secret for HS256, instead of a file.",
    ),
    described(
        "AUTH_JWKS_FILE",
        Kind::Path,
        "none",
        "A JWK set with keys of others that tokens are checked with too, by their `kid`. Looked at every 5 seconds.",
    ),
    described(
        "AUTH_JWKS_URL",
        Kind::Text("https://…, or http:// to this machine"),
        "none",
        "The same from an address, instead of a file. Asked on schedule, and when a token names a key that is not known, at \
         most every 10 seconds; while it does not answer the last keys stay.",
    ),
    described("AUTH_JWKS_CA_FILE", Kind::Path, "the platform's authorities", "Who is believed there, PEM."),
    number("AUTH_JWKS_REFRESH_SECONDS", (10, 86_400, "seconds"), "300", "The schedule of `AUTH_JWKS_URL`."),
    fixed("AUTH_ISSUER", Kind::Text("1 to 256 characters"), "veza", "The `iss` a token must have."),
    fixed("AUTH_AUDIENCE", Kind::Text("1 to 256 characters"), "veza", "The `aud` a token must have."),
    described(
        "AUTHZ_GRPC_URL",
        Kind::Text("https://host[:port], or http:// to this machine"),
        "none: nobody is asked",
        "The platform's service `veza.gateway.v1.Authz`, which is asked before somebody connects, joins or publishes.",
    ),
    described(
        "AUTHZ_TOKEN",
        Kind::Secret("1 to 4096 visible ASCII characters"),
        "none",
        "What we show there: `authorization: Bearer …`.",
    ),
    described("AUTHZ_CA_FILE", Kind::Path, "the platform's authorities", "Who is believed there, PEM."),
    described("AUTHZ_CERT_FILE", Kind::Path, "none", "The certificate that we show there, PEM."),
    described(
        "AUTHZ_KEY_FILE",
        Kind::Path,
        "none",
        "Its private key, PEM; production refuses one that everybody may read.",
    ),
    number("AUTHZ_TIMEOUT_MS", (10, 10_000, "milliseconds"), "500", "How long an answer is waited for."),
    number(
        "AUTHZ_CACHE_SECONDS",
        (0, 300, "seconds"),
        "60",
        "The longest an answer is kept for the same question; the answer itself says how long, 0 when it does not.",
    ),
    number("AUTHZ_CACHE_ENTRIES", (1, 1_000_000, "answers"), "10000", "Answers that are kept; the oldest go first."),
    number(
        "AUTHZ_CONCURRENCY",
        (1, 10_000, "questions"),
        "64",
        "Questions that are out at a time; more wait, within their time.",
    ),
    fixed(
        "AUTHZ_ON_CONNECT",
        GUARD,
        "closed",
        "Whether it is asked before a session begins, and what holds without an answer.",
    ),
    fixed("AUTHZ_ON_JOIN", GUARD, "closed", "The same before somebody joins a room, or subscribes to it again."),
    fixed(
        "AUTHZ_ON_PUBLISH",
        GUARD,
        "open",
        "The same before a message or an edit is stored: open, for what a room itself forbids stays forbidden.",
    ),
    described(
        "DATABASE_URL",
        Kind::SecretUrl("sqlite://<file>, or postgresql://[user[:password]@]host[:port]/database"),
        "`sqlite://<VEZA_DATA_DIR>/veza.db`",
        "The database. PostgreSQL 13 or later; `?sslmode=verify-full&sslrootcert=<file>` for TLS.",
    ),
    number(
        "DATABASE_POOL_SIZE",
        (1, 10_000, "connections"),
        "100",
        "Connections that read from the database; SQLite takes at most 8.",
    ),
    number(
        "DATABASE_TIMEOUT_MS",
        (100, 600_000, "milliseconds"),
        "5000",
        "How long a connection or a statement is waited for.",
    ),
    fixed(
        "VEZA_ALLOW_WEAK_DURABILITY",
        Kind::Flag,
        "false",
        "For development: start although PostgreSQL's `synchronous_commit` or `fsync` is not `on`, so that a power cut \
         may take what was acknowledged.",
    ),
    number(
        "EVENTS_RETENTION_HOURS",
        (1, 8_760, "hours"),
        "72",
        "How long events are kept for consumers; one that is further behind is told that it missed some.",
    ),
    number(
        "EVENTS_MAX",
        (1_000, 1_000_000_000, "events"),
        "10000000",
        "Events that are kept; beyond it the oldest go, however young.",
    ),
    fixed(
        "WEBHOOKS_ALLOW_PRIVATE",
        Kind::Flag,
        "false",
        "Whether webhooks may lead into private networks and to this machine, there by http:// too. For development and \
         tests; production says so in its log.",
    ),
    described("WEBHOOKS_CA_FILE", Kind::Path, "the platform's authorities", "Who is believed there, PEM."),
    number(
        "WEBHOOKS_GIVE_UP_SECONDS",
        (0, 604_800, "seconds"),
        "1800",
        "How long an event is tried before it becomes a dead letter and the next one has its turn; 0 tries once.",
    ),
    later(
        described(
            "REDIS_URL",
            Kind::SecretUrl("redis://[user[:password]@]host[:port][/db] or rediss://…"),
            "none: in-process",
            "Bus, presence and node registry of a cluster.",
        ),
        CLUSTERS,
    ),
    later(number("REDIS_POOL_SIZE", (1, 10_000, "connections"), "50", "Connections to Redis."), CLUSTERS),
    later(
        number("REDIS_TTL_DEFAULT", (1, 31_536_000, "seconds"), "3600", "How long cached entries live in Redis."),
        CLUSTERS,
    ),
    fixed("PROMETHEUS_PORT", PORT, "9090", "TCP: `/metrics` for Prometheus, on its own listener."),
    fixed("METRICS_ENABLED", Kind::Flag, "true", "Whether that listener is opened."),
    described(
        "JAEGER_ENDPOINT",
        Kind::Text("an OTLP/HTTP address like http://jaeger:4318, or http://jaeger:14268/api/traces"),
        "none",
        "Where spans go, as OTLP over HTTP. The address of Jaeger's own collector (port 14268) is taken as the same \
         host's OTLP port 4318.",
    ),
    fixed("TRACING_ENABLED", Kind::Flag, "false", "Whether spans are exported; needs `JAEGER_ENDPOINT`."),
    number(
        "MAX_CONNECTIONS",
        (1, 10_000_000, "connections"),
        "100000",
        "Connections on this node; one more is refused with 503 or CONNECTION_REFUSED and told when to retry.",
    ),
    described(
        "WORKER_THREADS",
        Kind::Number { min: 1, max: 1024, unit: "threads" },
        "the number of cores",
        "Threads that run the sessions.",
    ),
    described(
        "AUDIO_CODEC_THREADS",
        Kind::Number { min: 0, max: 1024, unit: "threads" },
        "half the number of cores",
        "Threads that make the rungs of live audio that nobody publishes; 0: listeners get what is published.",
    ),
    number(
        "AUDIO_CODEC_BUDGET",
        (1, 100, "per cent"),
        "80",
        "How much of each codec thread's time is planned; a rung that does not fit is not made.",
    ),
    number("BLOCKING_THREADS", (1, 10_000, "threads"), "32", "Threads for what blocks, like files."),
    number(
        "MEMORY_LIMIT_MB",
        (64, 16_777_216, "MiB"),
        "8192",
        "Resident memory: from 85 % of it new sessions are refused, from 95 % the heaviest are told to come back later.",
    ),
    number("VEZA_CONNECTIONS_PER_ADDRESS", (1, 1_000_000, "connections"), "100", "Connections from one IP address."),
    number("VEZA_CONNECTIONS_PER_USER", (1, 100_000, "connections"), "10", "Connections of one user."),
    number("VEZA_ROOMS_PER_CONNECTION", (1, 4096, "rooms"), "128", "Rooms one connection may be subscribed to."),
    number("VEZA_PUBLISH_PER_SECOND", (1, 10_000, "messages"), "20", "Messages a second one connection may publish."),
    number("VEZA_PUBLISH_BURST", (1, 10_000, "messages"), "40", "Messages one connection may publish at once."),
    number(
        "VEZA_USER_PUBLISH_PER_SECOND",
        (1, 100_000, "messages"),
        "40",
        "Messages a second one user may publish, over all connections to this node; edits, deletions, reactions and pins \
         count.",
    ),
    number(
        "VEZA_USER_PUBLISH_BURST",
        (1, 100_000, "messages"),
        "80",
        "Messages one user may publish at once, over all connections to this node.",
    ),
    number("VEZA_REQUESTS_PER_SECOND", (1, 100_000, "requests"), "100", "Other requests a second from one connection."),
    number(
        "VEZA_DRAIN_GRACE_SECONDS",
        (1, 3600, "seconds"),
        "30",
        "How long a stopping server takes to send its sessions elsewhere.",
    ),
    described(
        "VEZA_CRASH_AT",
        Kind::Text(
            "before_commit, in_delete, after_commit, before_fan_out or after_acknowledgement, with :n for the nth time",
        ),
        "none",
        "For tests of durability: the server dies when it passes this point. Production refuses it.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_unique_and_helps_are_sentences() {
        for (at, variable) in VARIABLES.iter().enumerate() {
            let name = variable.name;
            assert!(VARIABLES[..at].iter().all(|other| other.name != name), "{name} is declared twice");
            assert!(variable.help.ends_with('.'), "{name}'s help is no sentence");
            assert!(!variable.help.contains('|'), "{name}'s help breaks the table");
            assert!(!variable.allowed().contains('|'), "{name}'s grammar breaks the table");
        }
    }
}
