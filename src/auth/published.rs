//! Keys that somebody else publishes and rotates: read at the start, on a schedule, and when a token names one that is not
//! known. While they cannot be read, the last ones that could be stay.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jsonwebtoken::DecodingKey;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::fetch::{Document, FetchError};
use super::jwk::{KeySet, KeySetError, SET_BYTES_MAX};
use super::{AuthError, RELOAD_EVERY};
use crate::config::{self, TokenAlgorithm};
use crate::dial::Tls;
use crate::telemetry::metrics;

/// A token with an unknown key makes the keys be read again, at most so often, whoever sends how many of them.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// After a failure the keys are asked for again sooner than on schedule.
const RETRY_AFTER: Duration = Duration::from_secs(15);

/// Where keys come from, and those that were there last.
#[derive(Debug)]
pub(super) struct Published {
    algorithm: TokenAlgorithm,
    source: Source,
    refresh_every: Duration,
    keys: ArcSwap<KeySet>,
    /// When they were last asked for because of a token. Whoever asks meanwhile waits for that answer.
    asked: Mutex<Option<Instant>>,
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Url(Document),
}

/// Why keys could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum PublishedError {
    #[error("AUTH_JWKS_FILE {path}: {source}", path = path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("AUTH_JWKS_URL: {0}")]
    Fetch(#[from] FetchError),
    #[error("the key set {0}")]
    Set(#[from] KeySetError),
}

impl Published {
    /// A file is read at once; an address is asked by [`Published::refresh`].
    pub(super) fn load(algorithm: TokenAlgorithm, config: &config::Jwks) -> Result<Self, AuthError> {
        let source = match &config.source {
            config::JwksSource::File(path) => Source::File(path.clone()),
            config::JwksSource::Url(url) => {
                let tls = Tls { ca_file: config.ca_file.clone(), ..Tls::default() };
                tls.check().and_then(|()| Document::at(url, tls)).map(Source::Url).map_err(AuthError::Jwks)?
            }
        };
        let keys = match &source {
            Source::File(path) => KeySet::read(algorithm, &read(path)?).map_err(PublishedError::Set)?,
            Source::Url(_) => KeySet::default(),
        };
        let (keys, asked) = (ArcSwap::from_pointee(keys), Mutex::new(None));
        Ok(Self { algorithm, source, refresh_every: config.refresh_every, keys, asked })
    }

    pub(super) fn get(&self, kid: Option<&str>) -> Option<Arc<DecodingKey>> {
        self.keys.load().get(kid)
    }

    /// Asks for the keys and says whether they are others.
    pub(super) async fn refresh(&self) -> Result<bool, PublishedError> {
        let _one_at_a_time = self.asked.lock().await;
        self.take_over().await
    }

    /// For a token whose key is not known: asks unless that was done lately, or waits for who is asking.
    pub(super) async fn look_again(&self, now: Instant) {
        let mut asked = self.asked.lock().await;
        if asked.is_some_and(|at| now.duration_since(at) < LOOK_AGAIN_AFTER) {
            return;
        }
        *asked = Some(now);
        match self.take_over().await {
            Ok(changed) => tracing::info!(changed, "a token names a key that is not known: the keys were read again"),
            Err(error) => tracing::warn!(%error, "a token names a key that is not known, and keys cannot be read"),
        }
    }

    async fn take_over(&self) -> Result<bool, PublishedError> {
        let fresh = match &self.source {
            Source::File(path) => read(path).map(bytes::Bytes::from),
            Source::Url(document) => document.fetch(SET_BYTES_MAX).await.map_err(PublishedError::Fetch),
        };
        let fresh = fresh.and_then(|bytes| Ok(KeySet::read(self.algorithm, &bytes)?));
        metrics::jwks_reads_total(if fresh.is_ok() { "ok" } else { "failed" }).increment(1);
        let fresh = fresh?;
        if fresh.is_same_as(&self.keys.load()) {
            return Ok(false);
        }
        tracing::info!(keys = fresh.len(), "the published keys for tokens were taken over");
        self.keys.store(Arc::new(fresh));
        Ok(true)
    }

    /// Keeps the keys fresh until `stop`.
    pub(super) async fn maintain(&self, stop: &CancellationToken) {
        let every = match &self.source {
            Source::File(_) => RELOAD_EVERY,
            Source::Url(_) => self.refresh_every,
        };
        let (mut said, mut wait) = (String::new(), if self.keys.load().len() == 0 { RETRY_AFTER } else { every });
        while stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
            wait = every;
            if let Err(error) = self.refresh().await {
                wait = every.min(RETRY_AFTER);
                let text = error.to_string();
                if text != said {
                    tracing::warn!(error = text, "the published keys cannot be read, the old ones stay");
                    said = text;
                }
            } else {
                said.clear();
            }
        }
    }
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, PublishedError> {
    let failed = |source| PublishedError::File { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    // One more than allowed, so that a file that is too large is seen to be.
    let mut bounded = std::io::Read::take(file, SET_BYTES_MAX as u64 + 1);
    std::io::Read::read_to_end(&mut bounded, &mut bytes).map_err(failed)?;
    Ok(bytes)
}
