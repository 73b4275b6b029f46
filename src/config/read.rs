mod trust;

use std::path::Path;
use std::time::Duration;

use super::check;
use super::problem::{Problems, nearest};
use super::reader::Reader;
use super::source::{Origin, Source};
use super::variables::{Effect, VARIABLES};
use super::{
    Auth, CodecBudget, Config, Database, Environment, Events, Icecast, Limits, Loaded, Monitoring, Network,
    Performance, Redis, Secret, Tls, TlsFiles, TokenAlgorithm, Webhooks,
};
use crate::crash::CrashAt;

/// The shortest key for HS256, bytes: the hash's own length (RFC 7518, section 3.2).
const HS256_KEY_BYTES_MIN: usize = 32;
const HS256_KEY_BYTES_MAX: usize = 4096;

/// Checks everything; the problems are all there are.
pub(super) fn read(source: &Source) -> Result<Loaded, Problems> {
    let mut reader = Reader::new(source);
    let config = reader.config();
    reader.warn();
    match config {
        Some(config) if reader.problems.is_empty() => {
            Ok(Loaded { config, warnings: reader.warnings, shown: reader.shown })
        }
        Some(_) | None => Err(Problems(reader.problems)),
    }
}

impl Reader<'_> {
    /// Reads everything, whatever is wrong on the way. `None` only after a problem was noted.
    fn config(&mut self) -> Option<Config> {
        let log_filter = self.checked("RUST_LOG", crate::telemetry::logs::check_filter);
        let environment = self.environment();
        let service_name = self.checked("SERVICE_NAME", name);
        let version = self.checked("VERSION", name);
        let data_dir = self.path("VEZA_DATA_DIR").unwrap_or_else(|| "./data".into());
        let network = self.network(environment);
        let gateway = self.gateway(environment);
        let icecast = self.icecast();
        let tls = self.tls(environment);
        let auth = self.auth(environment);
        let authz = self.authz(environment);
        let database = self.database(&data_dir);
        let redis = self.redis();
        let events = self.events();
        let webhooks = self.webhooks(environment);
        let monitoring = self.monitoring();
        let performance = self.performance();
        let limits = self.limits();
        let crash_at = self.crash_at(environment);
        if let (Some(network), Some(gateway), Some(icecast), Some(monitoring)) =
            (&network, &gateway, &icecast, &monitoring)
        {
            self.ports_differ(network, gateway.port, icecast.as_ref(), monitoring);
        }
        Some(Config {
            log_filter: log_filter?,
            environment: environment?,
            service_name: service_name?,
            version: version?,
            data_dir,
            network: network?,
            gateway: gateway?,
            icecast: icecast?,
            tls: tls?,
            auth: auth?,
            authz: authz?,
            database: database?,
            redis: redis?,
            events: events?,
            webhooks: webhooks?,
            monitoring: monitoring?,
            performance: performance?,
            limits: limits?,
            crash_at: crash_at?,
        })
    }

    fn events(&mut self) -> Option<Events> {
        let (retention_hours, rows_max) = (self.number("EVENTS_RETENTION_HOURS"), self.number("EVENTS_MAX"));
        Some(Events { retention_hours: retention_hours?, rows_max: rows_max? })
    }

    fn webhooks(&mut self, environment: Option<Environment>) -> Option<Webhooks> {
        const PRIVATE: &str = "WEBHOOKS_ALLOW_PRIVATE";
        let allow_private = self.flag(PRIVATE);
        let ca_file = self.path("WEBHOOKS_CA_FILE");
        let readable = self.file_is_readable("WEBHOOKS_CA_FILE");
        let give_up_after = self.number("WEBHOOKS_GIVE_UP_SECONDS").map(Duration::from_secs);
        if allow_private == Some(true) && environment == Some(Environment::Production) {
            self.warnings.push(format!(
                "{PRIVATE}: whoever may make webhooks has this server call what stands in its own network"
            ));
        }
        readable.then_some(())?;
        Some(Webhooks { allow_private: allow_private?, ca_file, give_up_after: give_up_after? })
    }

    fn crash_at(&mut self, environment: Option<Environment>) -> Option<Option<CrashAt>> {
        const NAME: &str = "VEZA_CRASH_AT";
        let Some(written) = self.source.get(NAME).map(str::to_owned) else {
            self.show(NAME, "(none)".into());
            return Some(None);
        };
        if environment == Some(Environment::Production) {
            self.problem(NAME, Some(&written), "production does not die on purpose");
            return None;
        }
        match CrashAt::parse(&written) {
            Ok(at) => {
                self.show(NAME, written);
                Some(Some(at))
            }
            Err(why) => {
                self.problem(NAME, Some(&written), why);
                None
            }
        }
    }

    fn environment(&mut self) -> Option<Environment> {
        match self.choice("ENVIRONMENT")? {
            "production" => Some(Environment::Production),
            _ => Some(Environment::Development),
        }
    }

    fn network(&mut self, environment: Option<Environment>) -> Option<Network> {
        let host = self.address("HOST");
        let port = self.number("PORT");
        let webtransport_port = self.number_or("WEBTRANSPORT_PORT", u64::from(port.unwrap_or(0)));
        let ws_port = self.number("WS_PORT");
        let allowed_origins = self.origins(environment);
        let public_url = self.public_url(environment);
        Some(Network {
            host: host?,
            port: port?,
            webtransport_port: webtransport_port?,
            ws_port: ws_port?,
            allowed_origins: allowed_origins?,
            public_url: public_url?,
        })
    }

    fn origins(&mut self, environment: Option<Environment>) -> Option<Vec<String>> {
        const NAME: &str = "VEZA_ALLOWED_ORIGINS";
        let production = environment == Some(Environment::Production);
        let written = self.source.get(NAME).unwrap_or_default().to_owned();
        let before = self.problems.len();
        let mut origins = Vec::new();
        for entry in written.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            match check::origin(entry) {
                Ok(origin) if production && origin.starts_with("http://") && !check::is_loopback_origin(&origin) => {
                    self.problem(NAME, Some(entry), "production takes only https origins");
                }
                Ok(origin) if origins.contains(&origin) => {}
                Ok(origin) => origins.push(origin),
                Err(why) => self.problem(NAME, Some(entry), why),
            }
        }
        if self.problems.len() > before {
            return None;
        }
        if production && origins.is_empty() {
            self.problem(NAME, None, "production needs the exact origins of the pages that may connect");
            return None;
        }
        self.show(NAME, if origins.is_empty() { "(none)".into() } else { origins.join(",") });
        Some(origins)
    }

    fn public_url(&mut self, environment: Option<Environment>) -> Option<Option<String>> {
        const NAME: &str = "VEZA_PUBLIC_URL";
        let Some(written) = self.source.get(NAME).map(str::to_owned) else {
            self.show(NAME, "(none)".into());
            return Some(None);
        };
        let origin = match check::origin(written.trim_end_matches('/')) {
            Ok(origin) => origin,
            Err(why) => {
                self.problem(NAME, Some(&written), why);
                return None;
            }
        };
        if environment == Some(Environment::Production) && origin.starts_with("http://") {
            self.problem(NAME, Some(&written), "production is reached by https");
            return None;
        }
        self.show(NAME, origin.clone());
        Some(Some(origin))
    }

    fn tls(&mut self, environment: Option<Environment>) -> Option<Tls> {
        let cert = self.path("TLS_CERT_FILE");
        let key = self.path("TLS_KEY_FILE");
        let readable = [self.file_is_readable("TLS_CERT_FILE"), self.key_is_safe("TLS_KEY_FILE", environment)];
        match (cert, key) {
            (Some(cert), Some(key)) if readable == [true, true] => Some(Tls { files: Some(TlsFiles { cert, key }) }),
            (Some(_), Some(_)) => None,
            (None, None) if environment == Some(Environment::Production) => {
                self.problem(
                    "TLS_CERT_FILE",
                    None,
                    "production needs a certificate; set TLS_CERT_FILE and TLS_KEY_FILE",
                );
                None
            }
            (None, None) => Some(Tls { files: None }),
            (Some(_), None) => {
                self.problem("TLS_KEY_FILE", None, "the certificate of TLS_CERT_FILE needs its private key");
                None
            }
            (None, Some(_)) => {
                self.problem("TLS_CERT_FILE", None, "the key of TLS_KEY_FILE needs its certificate");
                None
            }
        }
    }

    fn auth(&mut self, environment: Option<Environment>) -> Option<Auth> {
        let algorithm = self.choice("AUTH_ALGORITHM").map(|word| match word {
            "ES256" => TokenAlgorithm::Es256,
            "HS256" => TokenAlgorithm::Hs256,
            _ => TokenAlgorithm::EdDsa,
        });
        let key_file = self.path("AUTH_KEY_FILE");
        let key_file_is_good = self.key_is_safe("AUTH_KEY_FILE", environment);
        let hs256_secret = self.hs256_secret();
        let jwks = self.jwks(algorithm);
        let issuer = self.checked("AUTH_ISSUER", short_text);
        let audience = self.checked("AUTH_AUDIENCE", short_text);

        let algorithm = algorithm?;
        let (hs256_secret, jwks) = (hs256_secret?, jwks?);
        let own = (key_file.is_some(), hs256_secret.is_some());
        if let Some(why) = keys_disagree(algorithm, own, jwks.is_some(), environment) {
            self.problem(why.0, None, why.1);
            return None;
        }
        if let (TokenAlgorithm::Hs256, Some(path), true) = (algorithm, &key_file, key_file_is_good)
            && let Ok(bytes) = std::fs::read(path)
            && let Err(why) = hs256_length(trim_line_end(&bytes).len())
        {
            self.problem("AUTH_KEY_FILE", None, why);
            return None;
        }
        key_file_is_good.then_some(())?;
        Some(Auth { algorithm, key_file, hs256_secret, jwks, issuer: issuer?, audience: audience? })
    }

    fn hs256_secret(&mut self) -> Option<Option<Secret>> {
        const NAME: &str = "AUTH_HS256_SECRET";
        let Some(written) = self.source.get(NAME).map(str::to_owned) else {
            self.show(NAME, "(none)".into());
            return Some(None);
        };
        if let Err(why) = hs256_length(written.len()) {
            self.problem(NAME, Some(&written), why);
            return None;
        }
        self.show(NAME, "***".into());
        Some(Some(Secret::new(written)))
    }

    fn database(&mut self, data_dir: &Path) -> Option<Database> {
        const NAME: &str = "DATABASE_URL";
        let url = match self.source.get(NAME).map(str::to_owned) {
            None => Some(format!("sqlite://{}", data_dir.join("veza.db").display())),
            Some(written) => match check::database_url(&written) {
                Ok(()) => Some(written),
                Err(why) => {
                    self.problem(NAME, Some(&written), why);
                    None
                }
            },
        };
        if let Some(url) = &url {
            self.show(NAME, check::mask_url(url));
        }
        let pool_size = self.number("DATABASE_POOL_SIZE");
        let timeout = self.number("DATABASE_TIMEOUT_MS").map(Duration::from_millis);
        let allow_weak_durability = self.flag("VEZA_ALLOW_WEAK_DURABILITY");
        Some(Database {
            url: Secret::new(url?),
            pool_size: pool_size?,
            timeout: timeout?,
            allow_weak_durability: allow_weak_durability?,
        })
    }

    fn redis(&mut self) -> Option<Redis> {
        const NAME: &str = "REDIS_URL";
        let url = match self.source.get(NAME).map(str::to_owned) {
            None => {
                self.show(NAME, "(none)".into());
                Some(None)
            }
            Some(written) => match check::redis_url(&written) {
                Ok(()) => {
                    self.show(NAME, check::mask_url(&written));
                    Some(Some(Secret::new(written)))
                }
                Err(why) => {
                    self.problem(NAME, Some(&written), why);
                    None
                }
            },
        };
        let pool_size = self.number("REDIS_POOL_SIZE");
        let ttl = self.number("REDIS_TTL_DEFAULT").map(Duration::from_secs);
        Some(Redis { url: url?, pool_size: pool_size?, ttl: ttl? })
    }

    fn monitoring(&mut self) -> Option<Monitoring> {
        const NAME: &str = "JAEGER_ENDPOINT";
        let prometheus_port = self.number("PROMETHEUS_PORT");
        let metrics = self.flag("METRICS_ENABLED");
        let otlp_endpoint = match self.source.get(NAME).map(str::to_owned) {
            None => {
                self.show(NAME, "(none)".into());
                Some(None)
            }
            Some(written) => match check::otlp_endpoint(&written) {
                Ok(endpoint) => {
                    self.show(NAME, endpoint.clone());
                    Some(Some(endpoint))
                }
                Err(why) => {
                    self.problem(NAME, Some(&written), why);
                    None
                }
            },
        };
        let tracing = self.flag("TRACING_ENABLED");
        if tracing == Some(true) && otlp_endpoint == Some(None) {
            self.problem(NAME, None, "TRACING_ENABLED=true needs an address to export to, like http://jaeger:4318");
            return None;
        }
        Some(Monitoring {
            prometheus_port: prometheus_port?,
            metrics: metrics?,
            otlp_endpoint: otlp_endpoint?,
            tracing: tracing?,
        })
    }

    fn performance(&mut self) -> Option<Performance> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let max_connections = self.number("MAX_CONNECTIONS");
        let worker_threads = self.number_or("WORKER_THREADS", cores as u64);
        let codec_threads = self.number_or("AUDIO_CODEC_THREADS", (cores as u64 / 2).max(1));
        let codec_percent = self.number("AUDIO_CODEC_BUDGET");
        let blocking_threads = self.number("BLOCKING_THREADS");
        let memory_limit_mib: Option<u64> = self.number("MEMORY_LIMIT_MB");
        Some(Performance {
            max_connections: max_connections?,
            worker_threads: worker_threads?,
            codec: CodecBudget { threads: codec_threads?, percent: codec_percent? },
            blocking_threads: blocking_threads?,
            memory_limit_bytes: memory_limit_mib? * 1024 * 1024,
        })
    }

    fn limits(&mut self) -> Option<Limits> {
        let connections_per_address = self.number("VEZA_CONNECTIONS_PER_ADDRESS");
        let connections_per_user = self.number("VEZA_CONNECTIONS_PER_USER");
        let rooms_per_connection = self.number("VEZA_ROOMS_PER_CONNECTION");
        let publish_per_second = self.number("VEZA_PUBLISH_PER_SECOND");
        let publish_burst = self.number("VEZA_PUBLISH_BURST");
        let user_publish_per_second = self.number("VEZA_USER_PUBLISH_PER_SECOND");
        let user_publish_burst = self.number("VEZA_USER_PUBLISH_BURST");
        let requests_per_second = self.number("VEZA_REQUESTS_PER_SECOND");
        let drain_grace = self.number("VEZA_DRAIN_GRACE_SECONDS").map(Duration::from_secs);
        Some(Limits {
            connections_per_address: connections_per_address?,
            connections_per_user: connections_per_user?,
            rooms_per_connection: rooms_per_connection?,
            publish_per_second: publish_per_second?,
            publish_burst: publish_burst?,
            user_publish_per_second: user_publish_per_second?,
            user_publish_burst: user_publish_burst?,
            requests_per_second: requests_per_second?,
            drain_grace: drain_grace?,
        })
    }

    /// Two listeners cannot have the same TCP port. 0 is a different free port each time; UDP has its own numbers.
    fn ports_differ(&mut self, network: &Network, grpc_port: u16, icecast: Option<&Icecast>, monitoring: &Monitoring) {
        let mut taken = vec![("PORT", network.port), ("WS_PORT", network.ws_port), ("GRPC_PORT", grpc_port)];
        taken.extend(icecast.map(|icecast| ("ICECAST_PORT", icecast.port)));
        if monitoring.metrics {
            taken.push(("PROMETHEUS_PORT", monitoring.prometheus_port));
        }
        for (at, (name, port)) in taken.iter().enumerate() {
            if let Some((other, _)) = taken[..at].iter().find(|(_, earlier)| earlier == port && *port != 0) {
                self.problem(name, Some(&port.to_string()), format!("{other} has the same TCP port"));
            }
        }
    }

    /// What is odd but no reason to refuse.
    fn warn(&mut self) {
        for name in self.source.unknown() {
            let hint = nearest(name).map(|known| format!("; did you mean {known}?")).unwrap_or_default();
            self.warnings.push(format!("{name} is not a variable of this server and has no effect{hint}"));
        }
        for variable in VARIABLES {
            match variable.effect {
                Effect::Later(what) if self.source.origin(variable.name) != Origin::Default => {
                    self.warnings.push(format!("{} is accepted, but takes effect only with {what}", variable.name));
                }
                Effect::Later(_) | Effect::Now => {}
            }
        }
    }
}

fn name(text: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    let fits = (1..=64).contains(&text.len()) && text.chars().all(allowed);
    fits.then_some(()).ok_or_else(|| "allowed: 1 to 64 letters, digits, '.', '_', '-' or '+'".into())
}

fn short_text(text: &str) -> Result<(), String> {
    let fits = (1..=256).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    fits.then_some(()).ok_or_else(|| "allowed: 1 to 256 characters, no control characters".into())
}

fn hs256_length(bytes: usize) -> Result<(), String> {
    match bytes {
        HS256_KEY_BYTES_MIN..=HS256_KEY_BYTES_MAX => Ok(()),
        _ => Err(format!("HS256 needs {HS256_KEY_BYTES_MIN} to {HS256_KEY_BYTES_MAX} bytes, this has {bytes}")),
    }
}

/// Editors and `echo` end a file with a line end that nobody means as part of the key.
pub(crate) fn trim_line_end(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes)
}

/// Which variable is wrong and why, when the keys given do not belong to the algorithm.
fn keys_disagree(
    algorithm: TokenAlgorithm,
    (file, secret): (bool, bool),
    others: bool,
    environment: Option<Environment>,
) -> Option<(&'static str, &'static str)> {
    let development = environment != Some(Environment::Production);
    match (algorithm, file, secret) {
        (_, true, true) => Some(("AUTH_HS256_SECRET", "AUTH_KEY_FILE is set too; one key is enough")),
        (TokenAlgorithm::EdDsa | TokenAlgorithm::Es256, false, true) => {
            Some(("AUTH_HS256_SECRET", "is only for AUTH_ALGORITHM=HS256"))
        }
        (TokenAlgorithm::Hs256, true, false)
        | (TokenAlgorithm::Hs256, false, true)
        | (TokenAlgorithm::EdDsa | TokenAlgorithm::Es256, true, false) => None,
        (TokenAlgorithm::EdDsa, false, false) if development => None,
        (TokenAlgorithm::EdDsa | TokenAlgorithm::Es256, false, false) if others => None,
        (TokenAlgorithm::EdDsa, false, false) => {
            Some(("AUTH_KEY_FILE", "production needs the key that tokens are checked with, or AUTH_JWKS_URL or _FILE"))
        }
        (TokenAlgorithm::Es256, false, false) => Some(("AUTH_KEY_FILE", "AUTH_ALGORITHM=ES256 needs a P-256 key, PEM")),
        (TokenAlgorithm::Hs256, false, false) => {
            Some(("AUTH_HS256_SECRET", "AUTH_ALGORITHM=HS256 needs a secret here or in AUTH_KEY_FILE"))
        }
    }
}

#[cfg(test)]
mod tests;
