//! What operators and pages ask over HTTP: health, where to connect, the development login; and the memory guard.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use veza_proto::{UserId, WEBSOCKET_PATH, WEBTRANSPORT_PATH};

use crate::auth::{Auth, Grant};
use crate::bus::Bus;
use crate::clock::Clock;
use crate::config::Environment;
use crate::session::registry::Registry;
use crate::store::Store;
use crate::telemetry::process::{Memory, MemoryLevel};
use crate::transport::Addresses;
use crate::transport::admission::{Admissions, Pause};
use crate::transport::http::{Health, LoginRefused, Site};
use crate::transport::tls::Certificates;

/// A development login lasts this long.
const LOGIN_TTL: Duration = Duration::from_secs(12 * 60 * 60);
/// A dependency that has not answered in this time is down, for a probe gives up after five seconds.
const CHECK_WITHIN: Duration = Duration::from_secs(2);

/// What this node says of itself.
pub struct Ops {
    pub environment: Environment,
    pub version: String,
    pub public_url: Option<String>,
    pub store: Arc<dyn Store>,
    pub bus: Arc<dyn Bus>,
    pub auth: Auth,
    pub certificates: Arc<Certificates>,
    pub admissions: Admissions,
    pub registry: Arc<Registry>,
    pub clock: Clock,
}

impl Site for Ops {
    fn live(&self) -> Health {
        let checks = json!({ "process": { "ok": true, "detail": "answers" } });
        Health { ok: true, body: json!({ "status": "ok", "version": self.version, "checks": checks }) }
    }

    /// Stays ready while draining or shedding: an endpoint that stops being ready loses its UDP flows, and the sessions
    /// with them. `/lbz` tells balancers.
    fn ready(&self) -> BoxFuture<'_, Health> {
        async move {
            let (store, bus) = tokio::join!(
                tokio::time::timeout(CHECK_WITHIN, self.store.check()),
                tokio::time::timeout(CHECK_WITHIN, self.bus.check()),
            );
            let late = || "no answer within 2 seconds".to_owned();
            let store = store.map_err(|_| late()).and_then(|checked| checked.map_err(|error| error.to_string()));
            let bus = bus.map_err(|_| late()).and_then(|checked| checked.map_err(|error| error.to_string()));
            let ok = store.is_ok() && bus.is_ok();
            let admission = match self.admissions.paused() {
                None => "open",
                Some(Pause::Draining) => "closed: draining",
                Some(Pause::Shedding) => "closed: short of memory",
            };
            let body = json!({
                "status": if ok { "ok" } else { "unavailable" },
                "version": self.version,
                "sessions": self.registry.len(),
                "checks": {
                    "store": check(store),
                    "bus": check(bus),
                    "migrations": check(Ok("applied at start".to_owned())),
                    "admission": check(Ok(admission.to_owned())),
                },
            });
            Health { ok, body }
        }
        .boxed()
    }

    fn balancer(&self) -> Health {
        let paused = self.admissions.paused();
        let status = match paused {
            None => "ok",
            Some(Pause::Draining) => "draining",
            Some(Pause::Shedding) => "shedding",
        };
        Health { ok: paused.is_none(), body: json!({ "status": status }) }
    }

    fn describe(&self, host: Option<&str>, addresses: &Addresses) -> Value {
        let host = match &self.public_url {
            Some(url) => host_of(url).to_owned(),
            // The development certificate and the listeners know the address, and a name could mean IPv6 first.
            None => host.filter(|host| *host != "localhost").unwrap_or("127.0.0.1").to_owned(),
        };
        let behind_tls = self.public_url.as_ref().is_some_and(|url| url.starts_with("https:"));
        let scheme = if addresses.websocket_tls || behind_tls { "wss" } else { "ws" };
        let hashes: Vec<String> = self.certificates.hashes().iter().map(|hash| STANDARD.encode(hash)).collect();
        json!({
            "webtransportUrl": format!("https://{host}:{}{WEBTRANSPORT_PATH}", addresses.webtransport.port()),
            "websocketUrl": format!("{scheme}://{host}:{}{WEBSOCKET_PATH}", addresses.websocket.port()),
            "certificateHashes": hashes,
            "development": self.environment == Environment::Development,
            "version": self.version,
        })
    }

    fn keys(&self) -> Value {
        self.auth.public_keys()
    }

    fn login(&self, user: String, from: IpAddr) -> BoxFuture<'_, Result<Value, LoginRefused>> {
        async move {
            if self.environment != Environment::Development || !self.auth.can_issue() {
                return Err(LoginRefused::Absent);
            }
            if self.admissions.logins_blocked(from) {
                return Err(LoginRefused::RateLimited { retry_after_s: 60 });
            }
            let user = UserId::parse(&user).map_err(|error| LoginRefused::Invalid(error.to_string()))?;
            let now = self.clock.now();
            let issued = self.auth.issue(&Grant::to(user.clone()), LOGIN_TTL, now.as_millis()).map_err(|error| {
                tracing::error!(%error, "the development login could not sign a token");
                LoginRefused::Absent
            })?;
            let expires = now + LOGIN_TTL;
            Ok(json!({ "token": issued.token, "user": user.as_str(), "expiresMs": expires.as_millis() }))
        }
        .boxed()
    }
}

fn check(result: Result<String, String>) -> Value {
    match result {
        Ok(detail) => json!({ "ok": true, "detail": detail }),
        Err(detail) => json!({ "ok": false, "detail": detail }),
    }
}

/// `https://music.example:8443/x` → `music.example`
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    if authority.starts_with('[') {
        return authority.split_inclusive(']').next().unwrap_or(authority);
    }
    authority.split(':').next().unwrap_or(authority)
}

/// Refuses new sessions when memory runs short, and sheds the heaviest when it runs out.
pub async fn guard_memory(
    mut memory: watch::Receiver<Memory>,
    admissions: Admissions,
    registry: Arc<Registry>,
    stop: CancellationToken,
) {
    while let Some(Ok(())) = stop.run_until_cancelled(memory.changed()).await {
        let level = memory.borrow_and_update().level;
        match level {
            MemoryLevel::Normal => admissions.resume(Pause::Shedding),
            MemoryLevel::Refuse => admissions.pause(Pause::Shedding),
            MemoryLevel::Shed => {
                admissions.pause(Pause::Shedding);
                let shed = registry.shed(registry.len().div_ceil(100));
                tracing::warn!(shed, "short of memory: the heaviest sessions are sent away and may resume");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn the_host_of_a_public_url() {
        assert_eq!(host_of("https://music.example"), "music.example");
        assert_eq!(host_of("https://music.example:8443/x"), "music.example");
        assert_eq!(host_of("https://[::1]:8443"), "[::1]");
    }
}
