//! Whom the server believes and whom it asks: other people's token keys, and the platform's own say.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::Secret;

/// Token keys that somebody else publishes as a JWK set.
#[derive(Debug, Clone)]
pub struct Jwks {
    /// `AUTH_JWKS_FILE` or `AUTH_JWKS_URL`
    pub source: JwksSource,
    /// `AUTH_JWKS_CA_FILE`; the platform's authorities without it
    pub ca_file: Option<PathBuf>,
    /// `AUTH_JWKS_REFRESH_SECONDS`, for an address
    pub refresh_every: Duration,
}

#[derive(Debug, Clone)]
pub enum JwksSource {
    File(PathBuf),
    /// https, or http to this machine.
    Url(Uri),
}

/// The service that is asked whether somebody may connect, join or publish.
#[derive(Debug, Clone)]
pub struct Authz {
    /// `AUTHZ_GRPC_URL`: https, or http to this machine.
    pub url: Uri,
    /// `AUTHZ_TOKEN`
    pub token: Option<Secret>,
    /// `AUTHZ_CA_FILE`
    pub ca_file: Option<PathBuf>,
    /// `AUTHZ_CERT_FILE` and `AUTHZ_KEY_FILE`
    pub identity: Option<(PathBuf, PathBuf)>,
    /// `AUTHZ_TIMEOUT_MS`
    pub timeout: Duration,
    /// `AUTHZ_CACHE_SECONDS`
    pub cache_max: Duration,
    /// `AUTHZ_CACHE_ENTRIES`
    pub cache_entries: usize,
    /// `AUTHZ_CONCURRENCY`
    pub concurrency: usize,
    /// `AUTHZ_ON_CONNECT`, `AUTHZ_ON_JOIN` and `AUTHZ_ON_PUBLISH`
    pub on_connect: Guard,
    pub on_join: Guard,
    pub on_publish: Guard,
}

/// What becomes of a kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Nobody is asked.
    Off,
    /// Without an answer it is let through.
    Open,
    /// Without an answer it is refused.
    Closed,
}
