//! TLS between programs: a certificate from files, and clients that may show one of their own.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use tokio_util::sync::CancellationToken;

use super::{Identity, MAINTENANCE_INTERVAL, TlsError, read};
use crate::config::TlsFiles;

/// The TLS of a listener for programs. A changed file is in force for the next handshake.
#[derive(Debug)]
pub struct Mutual {
    files: TlsFiles,
    client_ca: Option<PathBuf>,
    alpn: &'static [u8],
    /// What was last looked at, good or not: a broken file is reported once.
    seen: Mutex<Content>,
    current: ArcSwap<rustls::ServerConfig>,
}

#[derive(Debug, PartialEq, Eq)]
struct Content {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Mutual {
    /// # Errors
    /// Files that cannot be read, do not match, or have ended.
    pub fn load(
        files: &TlsFiles,
        client_ca: Option<&PathBuf>,
        alpn: &'static [u8],
        now: SystemTime,
    ) -> Result<Arc<Self>, TlsError> {
        let content = Content::read(files, client_ca)?;
        let config = content.config(files, client_ca, alpn, now)?;
        Ok(Arc::new(Self {
            files: files.clone(),
            client_ca: client_ca.cloned(),
            alpn,
            seen: Mutex::new(content),
            current: ArcSwap::from_pointee(config),
        }))
    }

    /// For one handshake.
    pub fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        self.current.load_full().into()
    }

    /// Looks at the files until the token is cancelled.
    pub async fn maintain(self: Arc<Self>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(MAINTENANCE_INTERVAL);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            let this = Arc::clone(&self);
            if let Err(panic) = tokio::task::spawn_blocking(move || this.refresh(SystemTime::now())).await {
                tracing::error!(error = %panic, "looking after the gateway's certificate failed");
            }
        }
    }

    /// One round of [`Mutual::maintain`]: says whether something else is in force now.
    pub fn refresh(&self, now: SystemTime) -> bool {
        let changed = Content::read(&self.files, self.client_ca.as_ref()).and_then(|content| {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == content {
                return Ok(None);
            }
            *seen = content;
            seen.config(&self.files, self.client_ca.as_ref(), self.alpn, now).map(Some)
        });
        match changed {
            Ok(None) => false,
            Ok(Some(config)) => {
                self.current.store(Arc::new(config));
                tracing::info!("the gateway's new certificate is in force");
                true
            }
            Err(error) => {
                tracing::error!(%error, "the gateway's certificate was not replaced; the old one stays");
                false
            }
        }
    }
}

impl Content {
    fn read(files: &TlsFiles, client_ca: Option<&PathBuf>) -> Result<Self, TlsError> {
        super::files::refuse_exposed(&files.key)?;
        let client_ca = client_ca.map(|path| read(path)).transpose()?;
        Ok(Self { cert: read(&files.cert)?, key: read(&files.key)?, client_ca })
    }

    fn config(
        &self,
        files: &TlsFiles,
        client_ca: Option<&PathBuf>,
        alpn: &[u8],
        now: SystemTime,
    ) -> Result<rustls::ServerConfig, TlsError> {
        let broken = |why: String| TlsError::File { path: files.cert.clone(), why };
        let identity = Identity::from_pem(&self.cert, &self.key).map_err(broken)?;
        if identity.not_after <= now {
            return Err(TlsError::File { path: files.cert.clone(), why: "the certificate has ended".to_owned() });
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions = &[&rustls::version::TLS13, &rustls::version::TLS12];
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .expect("aws-lc-rs has suites for TLS 1.2 and 1.3");
        let builder = match (&self.client_ca, client_ca) {
            (Some(pem), Some(path)) => {
                let broken = |why: String| TlsError::File { path: path.clone(), why };
                let roots = Arc::new(roots(pem).map_err(broken)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).allow_unauthenticated();
                let verifier =
                    verifier.build().map_err(|error| TlsError::File { path: path.clone(), why: error.to_string() })?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(Arc::clone(&identity.key)));
        let mut config = builder.with_cert_resolver(resolver);
        config.alpn_protocols = vec![alpn.to_vec()];
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(config)
    }
}

fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    use rustls::pki_types::pem::PemObject;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("certificate: {error}"))?;
        roots.add(certificate).map_err(|error| format!("certificate: {error}"))?;
    }
    if roots.is_empty() { Err("no certificate in it".into()) } else { Ok(roots) }
}

/// What a client's certificate calls its owner: the DNS names and URIs it is for, and its subject's common name.
pub fn names(certificate: &[u8]) -> Vec<String> {
    use x509_parser::extensions::GeneralName;
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return Vec::new() };
    let common = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok()).map(str::to_owned);
    let mut names: Vec<String> = common.collect();
    if let Ok(Some(alternative)) = parsed.subject_alternative_name() {
        for name in &alternative.value.general_names {
            if let GeneralName::DNSName(name) | GeneralName::URI(name) = name {
                names.push((*name).to_owned());
            }
        }
    }
    names
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    /// A certificate for this name and its key, in this directory.
    pub(crate) fn made(dir: &Path, name: &str) -> TlsFiles {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned(), "spiffe.example".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "common");
        let certificate = params.self_signed(&key).unwrap();
        let files = TlsFiles { cert: dir.join("cert.pem"), key: dir.join("key.pem") };
        std::fs::write(&files.cert, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o600)).unwrap();
        files
    }

    #[test]
    fn a_changed_file_is_in_force_and_a_broken_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let files = made(dir.path(), "first.internal");
        let (ca, now) = (files.cert.clone(), SystemTime::now());
        let tls = Mutual::load(&files, Some(&ca), b"h2", now).unwrap();
        let before = tls.current.load_full();
        assert!(!tls.refresh(now) && Arc::ptr_eq(&before, &tls.current.load_full()));
        made(dir.path(), "second.internal");
        assert!(tls.refresh(now) && !Arc::ptr_eq(&before, &tls.current.load_full()));
        let second = tls.current.load_full();
        std::fs::write(&files.cert, "nothing").unwrap();
        assert!(!tls.refresh(now) && Arc::ptr_eq(&second, &tls.current.load_full()));
    }

    #[test]
    fn what_cannot_be_used_is_refused_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let (files, now) = (made(dir.path(), "a.internal"), SystemTime::now());
        let nothing = dir.path().join("empty.pem");
        std::fs::write(&nothing, "").unwrap();
        assert!(Mutual::load(&files, Some(&nothing), b"h2", now).is_err(), "an authority without a certificate");
        let far = now + std::time::Duration::from_secs(5_000 * 365 * 86_400);
        assert!(Mutual::load(&files, None, b"h2", far).is_err(), "a certificate that has ended");
        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Mutual::load(&files, None, b"h2", now).is_err(), "a key that everybody may read");
    }

    #[test]
    fn a_certificate_has_the_names_that_it_is_for() {
        use rustls::pki_types::pem::PemObject;
        let dir = tempfile::tempdir().unwrap();
        let pem = std::fs::read(made(dir.path(), "shop.internal").cert).unwrap();
        let names = names(&CertificateDer::from_pem_slice(&pem).unwrap());
        for name in ["common", "shop.internal", "spiffe.example"] {
            assert!(names.iter().any(|known| known == name), "{names:?}");
        }
        assert!(super::names(b"nonsense").is_empty());
    }
}
