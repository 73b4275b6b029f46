//! Who somebody is: tokens checked with the keys and the one algorithm that are configured, revocation, resume tokens.

mod claims;
mod fetch;
mod jwk;
pub mod key_file;
mod keys;
mod published;
pub mod resume;
mod revoked;
pub mod source;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use jsonwebtoken::DecodingKey;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use veza_proto::limits::TOKEN_BYTES_MAX;
use veza_proto::{DeviceId, UserId};

use crate::config::{self, Environment, TokenAlgorithm};
use crate::dial::DialError;
use crate::store::records::{Revocation, Subject};
use crate::telemetry::metrics;
use claims::Rules;
use keys::Keys;
use published::Published;
pub use published::PublishedError;
pub use revoked::RevocationsFull;
use revoked::Revoked;

/// How often a key's file is looked at.
const RELOAD_EVERY: Duration = Duration::from_secs(5);
/// The longest life of a token, ours or others'.
pub const TOKEN_LIFE_MAX: Duration = claims::TTL_MAX;

/// Checks tokens, and issues them when the key is private. Clones share everything. Times are milliseconds since
/// 1970-01-01 UTC and always given.
#[derive(Debug, Clone)]
pub struct Auth {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    rules: Rules,
    source: KeySource,
    /// Our own key, if there is one.
    keys: ArcSwapOption<Keys>,
    /// Those of others.
    published: Option<Published>,
    revoked: Revoked,
}

/// Where the key comes from.
#[derive(Debug)]
enum KeySource {
    /// Read again by [`Auth::reload`]; the flag refuses a secret that everybody may read.
    File { path: PathBuf, strict: bool },
    /// From the environment, or none at all: the same until the process ends.
    Given,
}

/// Whom a token that was checked speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub user: UserId,
    /// `device`
    pub device: Option<DeviceId>,
    /// `exp`, without the skew that [`Auth::verify`] still grants.
    pub expires_ms: u64,
    /// `iat`
    pub issued_ms: Option<u64>,
    /// `jti`
    pub token_id: Option<String>,
    /// `entitlements`: which premium rooms the user may join.
    pub entitlements: Vec<String>,
}

/// What a token is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub user: UserId,
    pub device: Option<DeviceId>,
    pub entitlements: Vec<String>,
}

impl Grant {
    /// For a user, with nothing beside it.
    pub fn to(user: UserId) -> Self {
        Self { user, device: None, entitlements: Vec::new() }
    }
}

/// A token that was made. Its `Debug` does not show it.
#[derive(Clone)]
pub struct Issued {
    pub token: String,
    /// `jti`
    pub token_id: String,
    pub expires_ms: u64,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("token_id", &self.token_id).finish_non_exhaustive()
    }
}

/// Why a token is not taken. The display is for our logs; [`Rejected::sentence`] is for the person outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    #[error("expired")]
    Expired,
    #[error("not valid yet")]
    NotYetValid,
    #[error("{0}")]
    Invalid(&'static str),
    #[error("revoked")]
    Revoked,
    /// Its key may have been published meanwhile: see [`Auth::look_for_keys`].
    #[error("signed with a key that is not known")]
    UnknownKey,
}

impl Rejected {
    /// Says no more than the holder of the token may know.
    pub fn sentence(self) -> &'static str {
        match self {
            Rejected::Expired => "the token has expired",
            Rejected::NotYetValid => "the token is not valid yet",
            Rejected::Invalid(_) => "the token is not valid",
            Rejected::Revoked => "the token was revoked",
            Rejected::UnknownKey => "the token names a key that is not known here",
        }
    }

    /// The `outcome` of `veza_auth_total`.
    pub fn label(self) -> &'static str {
        match self {
            Rejected::Expired => "expired",
            Rejected::NotYetValid => "not_yet_valid",
            Rejected::Invalid(_) => "invalid",
            Rejected::Revoked => "revoked",
            Rejected::UnknownKey => "unknown_key",
        }
    }
}

/// Why keys could not be had or a token not be issued.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("{path}: {source}", path = path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{path}: {why}", path = path.display())]
    Key { path: PathBuf, why: &'static str },
    #[error("AUTH_HS256_SECRET: {0}")]
    Secret(&'static str),
    #[error("there is no key: set AUTH_KEY_FILE, AUTH_JWKS_URL, AUTH_JWKS_FILE or AUTH_HS256_SECRET")]
    NoKey,
    #[error("issuing tokens needs a private key (PKCS#8) in AUTH_KEY_FILE; public ones only check them")]
    CannotIssue,
    #[error("AUTH_JWKS_CA_FILE or AUTH_JWKS_URL: {0}")]
    Jwks(DialError),
    #[error(transparent)]
    Published(#[from] PublishedError),
    #[error("a token lives from one second to 365 days")]
    Lifetime,
    #[error("the token could not be signed")]
    Signing,
}

impl Auth {
    /// Loads the configured keys; development without one of its own makes an Ed25519 key in `<data_dir>/auth/` and keeps
    /// it. Nobody is called yet: that is [`Auth::look_for_keys`].
    ///
    /// # Errors
    /// [`AuthError`] when the key is missing, unreadable, of another algorithm, or (production) readable for everybody.
    pub fn load(config: &config::Auth, environment: Environment, data_dir: &Path) -> Result<Self, AuthError> {
        let strict = environment == Environment::Production;
        let published = config.jwks.as_ref().map(|jwks| Published::load(config.algorithm, jwks)).transpose()?;
        let (keys, source) = match (&config.key_file, &config.hs256_secret) {
            (Some(path), _) => {
                let keys = Keys::read(config.algorithm, path, strict)?;
                (Some(keys), KeySource::File { path: path.clone(), strict })
            }
            (None, Some(secret)) => (Some(Keys::from_secret(config.algorithm, secret)?), KeySource::Given),
            (None, None) if published.is_some() && (strict || config.algorithm != TokenAlgorithm::EdDsa) => {
                (None, KeySource::Given)
            }
            (None, None) if strict => return Err(AuthError::NoKey),
            (None, None) => {
                let path = data_dir.join("auth").join("ed25519.pem");
                key_file::load_or_create(&path, Keys::make_ed25519_pem)?;
                let keys = Keys::read(config.algorithm, &path, true)?;
                (Some(keys), KeySource::File { path, strict: true })
            }
        };
        let rules = Rules::new(config.algorithm, &config.issuer, &config.audience);
        let keys = ArcSwapOption::from_pointee(keys);
        let inner = Inner { rules, source, keys, published, revoked: Revoked::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Checks a token: size, algorithm, key, signature, `iss`, `aud`, `exp`, `nbf`, `sub`, `device`, revocation; 60 s of
    /// skew.
    ///
    /// # Errors
    /// [`Rejected`]; nothing of the token is believed then.
    pub fn verify(&self, token: &str, now_ms: u64) -> Result<Identity, Rejected> {
        let verdict = self.check(token, now_ms);
        metrics::auth_total(verdict.as_ref().map_or_else(|why| why.label(), |_| "ok")).increment(1);
        verdict
    }

    fn check(&self, token: &str, now_ms: u64) -> Result<Identity, Rejected> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Rejected::Invalid("longer than a token may be"));
        }
        let identity = self.inner.rules.check(token, |kid| self.key_of(kid), now_ms)?;
        if self.inner.revoked.covers(&identity, now_ms) {
            return Err(Rejected::Revoked);
        }
        Ok(identity)
    }

    /// The key that a token names. Where only our own key is known there is nothing to choose, and a name is not looked at.
    fn key_of(&self, kid: Option<&str>) -> Result<Arc<DecodingKey>, Rejected> {
        let own = self.inner.keys.load();
        let Some(published) = &self.inner.published else {
            return own.as_ref().map(|keys| Arc::clone(&keys.decoding)).ok_or(Rejected::UnknownKey);
        };
        let ours = own.as_ref().filter(|keys| kid.is_none_or(|kid| keys.kid() == Some(kid)));
        ours.map(|keys| Arc::clone(&keys.decoding)).or_else(|| published.get(kid)).ok_or(Rejected::UnknownKey)
    }

    /// Asks for the published keys, unless that was done a moment ago; an answer to [`Rejected::UnknownKey`].
    pub async fn look_for_keys(&self) {
        if let Some(published) = &self.inner.published {
            published.look_again(Instant::now()).await;
        }
    }

    /// Asks for the published keys for the first time, before anybody comes. Without an answer the server starts all the
    /// same: its own key, or an answer later, may do.
    pub async fn prepare(&self) {
        if let Some(published) = &self.inner.published
            && let Err(error) = published.refresh().await
        {
            tracing::error!(%error, "the published keys for tokens cannot be read; they are asked for again");
        }
    }

    /// As [`Auth::verify`], and asks for the published keys where the token names one that is not known.
    ///
    /// # Errors
    /// [`Rejected`]
    pub async fn verify_or_learn(&self, token: &str, now_ms: u64) -> Result<Identity, Rejected> {
        match self.verify(token, now_ms) {
            Err(Rejected::UnknownKey) if self.may_learn_keys() => {
                self.look_for_keys().await;
                self.verify(token, now_ms)
            }
            verified => verified,
        }
    }

    /// Whether a key that is not known may come to be known.
    pub fn may_learn_keys(&self) -> bool {
        self.inner.published.is_some()
    }

    /// Makes a token that is valid from now on for `ttl` (one second to 365 days).
    ///
    /// # Errors
    /// [`AuthError::CannotIssue`] without a private key.
    pub fn issue(&self, grant: &Grant, ttl: Duration, now_ms: u64) -> Result<Issued, AuthError> {
        let keys = self.inner.keys.load();
        let keys = keys.as_ref().ok_or(AuthError::CannotIssue)?;
        let key = keys.encoding.as_ref().ok_or(AuthError::CannotIssue)?;
        self.inner.rules.issue(grant, ttl, now_ms, (key, keys.kid()))
    }

    /// Whether [`Auth::issue`] has a key.
    pub fn can_issue(&self) -> bool {
        self.inner.keys.load().as_ref().is_some_and(|keys| keys.encoding.is_some())
    }

    /// Our own public key as a JWK set (RFC 7517), for those who check what we issue. A shared secret is not shown.
    pub fn public_keys(&self) -> Value {
        let keys = self.inner.keys.load();
        let own = keys.as_ref().and_then(|keys| keys.public.as_ref()).map(|(key, _)| key);
        json!({ "keys": own.map(jwk::PublicKey::to_jwk).into_iter().collect::<Vec<_>>() })
    }

    /// Refuses what a revocation names from now on. Live sessions, and that it is remembered, are others' business
    /// ([`crate::session`]'s revocation).
    pub fn revoke(&self, revocation: &Revocation, now_ms: u64) {
        self.inner.revoked.add(revocation, now_ms);
    }

    /// Whether one more subject finds a place in the lists.
    ///
    /// # Errors
    /// [`RevocationsFull`]
    pub fn has_room_for(&self, subject: &Subject, now_ms: u64) -> Result<(), RevocationsFull> {
        self.inner.revoked.has_room_for(subject, now_ms)
    }

    /// Up to when a user's or a device's tokens are refused, if any are.
    pub fn revoked_until(&self, subject: &Subject, now_ms: u64) -> Option<u64> {
        self.inner.revoked.until(subject, now_ms)
    }

    /// Whether an identity that was checked at `verified_ms` has been revoked since; for sessions that are already open.
    pub fn is_revoked(&self, identity: &Identity, verified_ms: u64, now_ms: u64) -> bool {
        self.inner.revoked.covers_checked(identity, verified_ms, now_ms)
    }

    /// Reads the key's file again and says whether the key is another one. On an error the old key stays.
    ///
    /// # Errors
    /// As [`Auth::load`].
    pub fn reload(&self) -> Result<bool, AuthError> {
        let KeySource::File { path, strict } = &self.inner.source else { return Ok(false) };
        let fresh = Keys::read(self.inner.rules.algorithm(), path, *strict)?;
        if self.inner.keys.load().as_ref().is_some_and(|keys| fresh.is_same_as(keys)) {
            return Ok(false);
        }
        self.inner.keys.store(Some(Arc::new(fresh)));
        Ok(true)
    }

    /// Takes over changed keys, our own and published ones, until `stop`. Spawn it as a task.
    pub async fn maintain(self, stop: CancellationToken) {
        let published = async {
            if let Some(published) = &self.inner.published {
                published.maintain(&stop).await;
            }
        };
        tokio::join!(self.watch_file(&stop), published);
    }

    /// Takes over a changed key file within seconds.
    async fn watch_file(&self, stop: &CancellationToken) {
        let mut said = String::new();
        while stop.run_until_cancelled(tokio::time::sleep(RELOAD_EVERY)).await.is_some() {
            match self.reload() {
                Ok(true) => tracing::info!("the key for tokens was replaced"),
                Ok(false) => said.clear(),
                Err(error) => {
                    let text = error.to_string();
                    if text != said {
                        tracing::warn!(error = text, "the changed key for tokens cannot be used, the old one stays");
                        said = text;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
