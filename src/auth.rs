//! Who somebody is: tokens checked with the one key and algorithm that are configured, revocation, resume tokens.

mod claims;
pub mod key_file;
mod keys;
pub mod resume;
mod revoked;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use veza_proto::UserId;
use veza_proto::limits::TOKEN_BYTES_MAX;

use crate::config::{self, Environment};
use crate::telemetry::metrics;
use claims::Rules;
use keys::Keys;
pub use revoked::RevocationsFull;
use revoked::Revoked;

/// How often a key's file is looked at.
const RELOAD_EVERY: Duration = Duration::from_secs(5);

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
    keys: ArcSwap<Keys>,
    revoked: Revoked,
}

/// Where the key comes from.
#[derive(Debug)]
enum KeySource {
    /// Read again by [`Auth::reload`]; the flag refuses a secret that everybody may read.
    File { path: PathBuf, strict: bool },
    /// From the environment, so it is the same until the process ends.
    Given,
}

/// Whom a token that was checked speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub user: UserId,
    /// `exp`, without the skew that [`Auth::verify`] still grants.
    pub expires_ms: u64,
    /// `jti`
    pub token_id: Option<String>,
    /// `entitlements`: which premium rooms the user may join.
    pub entitlements: Vec<String>,
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
}

impl Rejected {
    /// Says no more than the holder of the token may know.
    pub fn sentence(self) -> &'static str {
        match self {
            Rejected::Expired => "the token has expired",
            Rejected::NotYetValid => "the token is not valid yet",
            Rejected::Invalid(_) => "the token is not valid",
            Rejected::Revoked => "the token was revoked",
        }
    }

    /// The `outcome` of `veza_auth_total`.
    pub fn label(self) -> &'static str {
        match self {
            Rejected::Expired => "expired",
            Rejected::NotYetValid => "not_yet_valid",
            Rejected::Invalid(_) => "invalid",
            Rejected::Revoked => "revoked",
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
    #[error("there is no key: set AUTH_KEY_FILE or AUTH_HS256_SECRET")]
    NoKey,
    #[error("the key of AUTH_KEY_FILE is public: it checks tokens; issuing them needs the private key (PKCS#8)")]
    CannotIssue,
    #[error("a token lives from one second to 365 days")]
    Lifetime,
    #[error("the token could not be signed")]
    Signing,
}

impl Auth {
    /// Loads the configured key; development without one makes an Ed25519 key in `<data_dir>/auth/` and keeps it.
    ///
    /// # Errors
    /// [`AuthError`] when the key is missing, unreadable, of another algorithm, or (production) readable for everybody.
    pub fn load(config: &config::Auth, environment: Environment, data_dir: &Path) -> Result<Self, AuthError> {
        let strict = environment == Environment::Production;
        let (keys, source) = match (&config.key_file, &config.hs256_secret) {
            (Some(path), _) => {
                let keys = Keys::read(config.algorithm, path, strict)?;
                (keys, KeySource::File { path: path.clone(), strict })
            }
            (None, Some(secret)) => (Keys::from_secret(config.algorithm, secret)?, KeySource::Given),
            (None, None) if strict => return Err(AuthError::NoKey),
            (None, None) => {
                let path = data_dir.join("auth").join("ed25519.pem");
                key_file::load_or_create(&path, Keys::make_ed25519_pem)?;
                let keys = Keys::read(config.algorithm, &path, true)?;
                (keys, KeySource::File { path, strict: true })
            }
        };
        let rules = Rules::new(config.algorithm, &config.issuer, &config.audience);
        let inner = Inner { rules, source, keys: ArcSwap::from_pointee(keys), revoked: Revoked::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Checks a token: size, algorithm, signature, `iss`, `aud`, `exp`, `nbf`, `sub`, revocation; 60 s of skew.
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
        let Inner { rules, keys, revoked, .. } = &*self.inner;
        let checked = rules.check(token, &keys.load().decoding, now_ms)?;
        if revoked.covers(&checked.identity, checked.issued_ms, now_ms) {
            return Err(Rejected::Revoked);
        }
        Ok(checked.identity)
    }

    /// Makes a token for `user`, valid from now on for `ttl` (one second to 365 days).
    ///
    /// # Errors
    /// [`AuthError::CannotIssue`] without a private key.
    pub fn issue(
        &self,
        user: &UserId,
        entitlements: &[String],
        ttl: Duration,
        now_ms: u64,
    ) -> Result<String, AuthError> {
        let keys = self.inner.keys.load();
        let key = keys.encoding.as_ref().ok_or(AuthError::CannotIssue)?;
        self.inner.rules.issue(user, entitlements, ttl, now_ms, key)
    }

    /// Whether [`Auth::issue`] has a key.
    pub fn can_issue(&self) -> bool {
        self.inner.keys.load().encoding.is_some()
    }

    /// Refuses the token with this `jti` from now on. The entry is dropped when the token has expired anyway.
    ///
    /// # Errors
    /// [`RevocationsFull`]: nothing was revoked.
    pub fn revoke_token(&self, token_id: &str, expires_ms: u64, now_ms: u64) -> Result<(), RevocationsFull> {
        self.inner.revoked.token(token_id, expires_ms, now_ms)
    }

    /// Refuses every token of `user` that was issued up to now (to the second; one without `iat` counts as such),
    /// until `until_ms`, by which time the caller knows them to have expired.
    ///
    /// # Errors
    /// [`RevocationsFull`]: nothing was revoked.
    pub fn revoke_user(&self, user: &UserId, until_ms: u64, now_ms: u64) -> Result<(), RevocationsFull> {
        self.inner.revoked.user(user, until_ms, now_ms)
    }

    /// Whether an identity that was checked earlier has been revoked since; for sessions that are already open.
    /// `verified_ms` is when its token was checked.
    pub fn is_revoked(&self, identity: &Identity, verified_ms: u64, now_ms: u64) -> bool {
        self.inner.revoked.covers(identity, Some(verified_ms), now_ms)
    }

    /// Reads the key's file again and says whether the key is another one. On an error the old key stays.
    ///
    /// # Errors
    /// As [`Auth::load`].
    pub fn reload(&self) -> Result<bool, AuthError> {
        let KeySource::File { path, strict } = &self.inner.source else { return Ok(false) };
        let fresh = Keys::read(self.inner.rules.algorithm(), path, *strict)?;
        if fresh.is_same_as(&self.inner.keys.load()) {
            return Ok(false);
        }
        self.inner.keys.store(Arc::new(fresh));
        Ok(true)
    }

    /// Takes over a changed key file within seconds, until `stop`. Spawn it as a task.
    pub async fn maintain(self, stop: CancellationToken) {
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
