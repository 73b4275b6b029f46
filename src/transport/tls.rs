//! The certificate store: what the QUIC and TLS listeners show, and how it changes without dropping a session.
//!
//! Development makes its own certificates, production reads files. Either way the listeners hold one resolver, and a
//! new certificate is in force for the next handshake.

mod files;
pub mod mutual;
mod self_made;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;

use self::files::Files;
use self::self_made::SelfMade;
use crate::config::Tls;
use crate::telemetry::metrics;

/// How often files are looked at and the end of a certificate is checked.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(5);

/// Why there is no usable certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}: {why}")]
    File { path: PathBuf, why: String },
    #[error("{path} can be read by everybody; chmod 600 it")]
    Exposed { path: PathBuf },
    #[error("certificate for development: {0}")]
    Generate(#[from] rcgen::Error),
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// The current certificate and where the next one comes from.
#[derive(Debug)]
pub struct Certificates {
    source: Source,
    current: Arc<Resolver>,
    known: ArcSwap<Known>,
    ticketer: Arc<dyn rustls::server::ProducesTickets>,
}

#[derive(Debug)]
enum Source {
    SelfMade(SelfMade),
    Files(Files),
}

/// What is told of the certificates.
#[derive(Debug, Clone)]
struct Known {
    hashes: Vec<[u8; 32]>,
    expires: SystemTime,
}

/// A certificate with its key, and when it is valid.
#[derive(Debug, Clone)]
struct Identity {
    key: Arc<CertifiedKey>,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// A source's current certificate, and the hashes to be told with it.
#[derive(Debug)]
struct Shown {
    identity: Identity,
    hashes: Vec<[u8; 32]>,
}

impl Certificates {
    /// Reads the configured files, or the data directory's own certificates, which are made when missing.
    ///
    /// # Errors
    /// Files that cannot be read, do not match, or have ended; a data directory that cannot be written.
    pub fn load(config: &Tls, data_dir: &Path, now: SystemTime) -> Result<Arc<Self>, TlsError> {
        let (source, shown) = match &config.files {
            Some(files) => {
                let (files, identity) = Files::open(files.clone(), now)?;
                (Source::Files(files), Shown { identity, hashes: Vec::new() })
            }
            None => {
                let made = SelfMade::open(data_dir.join("certs"), now)?;
                let shown = made.current();
                (Source::SelfMade(made), shown)
            }
        };
        let Shown { identity, hashes } = shown;
        let known = Known { hashes, expires: identity.not_after };
        metrics::certificate_expires_seconds().set(seconds(known.expires));
        Ok(Arc::new(Self {
            source,
            current: Arc::new(Resolver(ArcSwap::new(identity.key))),
            known: ArcSwap::from_pointee(known),
            ticketer: aws_lc_rs::Ticketer::new()?,
        }))
    }

    /// SHA-256 of the current and the next self-made certificate, for `serverCertificateHashes`; empty for files.
    pub fn hashes(&self) -> Vec<[u8; 32]> {
        self.known.load().hashes.clone()
    }

    /// When the current certificate ends.
    pub fn expires(&self) -> SystemTime {
        self.known.load().expires
    }

    /// TLS for QUIC: version 1.3 with these protocols, tickets without state, no early data.
    pub fn quic_config(&self, alpns: &[&[u8]]) -> rustls::ServerConfig {
        self.server_config(&[&rustls::version::TLS13], alpns)
    }

    /// TLS for WebSocket and HTTP/1.1 over TCP.
    pub fn tls_acceptor(&self) -> tokio_rustls::TlsAcceptor {
        let versions = &[&rustls::version::TLS13, &rustls::version::TLS12];
        Arc::new(self.server_config(versions, &[b"http/1.1"])).into()
    }

    /// Renews or reloads whatever needs it, until the token is cancelled.
    pub async fn maintain(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(MAINTENANCE_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            let this = self.clone();
            if let Err(panic) = tokio::task::spawn_blocking(move || this.refresh(SystemTime::now())).await {
                tracing::error!(error = %panic, "looking after the certificate failed");
            }
        }
    }

    /// One round of [`Certificates::maintain`]: says whether another certificate is in force now.
    pub fn refresh(&self, now: SystemTime) -> bool {
        let changed = match &self.source {
            Source::SelfMade(made) => made.renew(now),
            Source::Files(files) => {
                files.reload(now).map(|new| new.map(|identity| Shown { identity, hashes: Vec::new() }))
            }
        };
        match changed {
            Ok(None) => false,
            Ok(Some(Shown { identity, hashes })) => {
                let expires = identity.not_after;
                self.current.0.store(identity.key);
                self.known.store(Arc::new(Known { hashes, expires }));
                metrics::certificate_reloads_total("ok").increment(1);
                metrics::certificate_expires_seconds().set(seconds(expires));
                tracing::info!(expires_s = seconds(expires), "a new certificate is in force");
                true
            }
            Err(error) => {
                metrics::certificate_reloads_total("failed").increment(1);
                tracing::error!(%error, "the certificate was not replaced; the old one stays");
                false
            }
        }
    }

    /// The certificate in force, for clients in tests that are to trust it.
    #[cfg(test)]
    pub(super) fn leaf(&self) -> CertificateDer<'static> {
        self.current.0.load().cert[0].clone()
    }

    fn server_config(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        alpns: &[&[u8]],
    ) -> rustls::ServerConfig {
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .expect("aws-lc-rs has suites for TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(self.current.clone());
        config.alpn_protocols = alpns.iter().map(|alpn| alpn.to_vec()).collect();
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.ticketer = self.ticketer.clone();
        config.send_tls13_tickets = 1;
        // Nothing a client sends early has no effect, so nothing is taken early (RFC 9001, section 9.2).
        config.max_early_data_size = 0;
        config
    }
}

/// Gives every handshake the certificate that is current then.
#[derive(Debug)]
struct Resolver(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl Identity {
    /// Reads a chain and its key, PEM.
    fn from_pem(cert: &[u8], key: &[u8]) -> Result<Self, String> {
        use rustls::pki_types::pem::PemObject;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(cert)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("certificate: {error}"))?;
        let leaf = chain.first().ok_or("no certificate in it")?;
        let (not_before, not_after) = validity(leaf)?;
        let key =
            rustls::pki_types::PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("private key: {error}"))?;
        let key = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map_err(|error| format!("certificate and key: {error}"))?;
        Ok(Self { key: Arc::new(key), not_before, not_after })
    }

    fn hash(&self) -> [u8; 32] {
        sha256(self.key.cert.first().expect("an identity is made from at least one certificate"))
    }
}

fn validity(certificate: &CertificateDer<'_>) -> Result<(SystemTime, SystemTime), String> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|error| format!("certificate: {error}"))?;
    let time = |at: x509_parser::time::ASN1Time| {
        UNIX_EPOCH + Duration::from_secs(u64::try_from(at.timestamp()).unwrap_or_default())
    };
    Ok((time(parsed.validity().not_before), time(parsed.validity().not_after)))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let suite = super::keys::tls13_sha256();
    suite.common.hash_provider.hash(bytes).as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

fn seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// A file that only its owner reads, whole or not there.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), TlsError> {
    super::keys::write_private(path, bytes).map_err(|source| TlsError::Io { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
