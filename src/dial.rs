//! Connections that this server opens to others: plain to this machine, TLS to everybody else, with the platform's roots or
//! an authority that is named. Who is named by strangers is reached in public only. Redirects, proxies and retries are nobody's
//! business here.

mod public;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use http::Uri;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub use public::is_public;

/// Somebody who is called.
#[derive(Debug, Clone)]
pub struct Peer {
    host: String,
    port: u16,
    tls: Option<Tls>,
    /// Whether its name may lead anywhere, or to the public network only.
    in_public: bool,
}

/// How a peer is believed, and how we show who we are. The files are read for every connection, so that changed ones are
/// taken over by the next.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// The authorities, PEM; the platform's without it.
    pub ca_file: Option<PathBuf>,
    /// Our certificate and its key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Application protocols, the best first.
    pub alpn: &'static [&'static [u8]],
}

/// A connection, whatever carries it.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why nobody was reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("{0}")]
    Url(&'static str),
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("TLS failed: {0}")]
    Tls(io::Error),
    #[error("without TLS only this machine is spoken to, and {0} is another")]
    NotLoopback(String),
    #[error("the address leads to no public network")]
    NotPublic,
    #[error("{path}: {why}", path = path.display())]
    File { path: PathBuf, why: String },
}

impl Peer {
    /// `https://host[:port]` or `http://host[:port]`; what follows is the caller's.
    ///
    /// # Errors
    /// [`DialError::Url`]
    pub fn of(url: &Uri, tls: Tls) -> Result<Self, DialError> {
        let host = url.host().filter(|host| !host.is_empty()).ok_or(DialError::Url("the address names no host"))?;
        let host = host.trim_matches(['[', ']']).to_owned();
        match url.scheme_str() {
            Some("https") if ServerName::try_from(host.as_str()).is_err() => Err(DialError::Url("the host is no name")),
            Some("https") => Ok(Self { host, port: url.port_u16().unwrap_or(443), tls: Some(tls), in_public: false }),
            Some("http") => Ok(Self { host, port: url.port_u16().unwrap_or(80), tls: None, in_public: false }),
            Some(_) | None => Err(DialError::Url("the address begins with https:// or http://")),
        }
    }

    /// The same, reached only where its name leads to the public network.
    #[must_use]
    pub fn in_public(self) -> Self {
        Self { in_public: true, ..self }
    }

    /// Connects. Without TLS only to this machine, wherever the name leads. Bounding the time is the caller's.
    ///
    /// # Errors
    /// [`DialError`]
    pub async fn dial(&self) -> Result<Box<dyn Stream>, DialError> {
        let Some(tls) = &self.tls else { return self.dial_loopback().await };
        let found = self.look_up().await?;
        let stream = TcpStream::connect(found.as_slice()).await.map_err(DialError::Connect)?;
        stream.set_nodelay(true).map_err(DialError::Connect)?;
        let name = ServerName::try_from(self.host.clone()).map_err(|_| DialError::Url("the host is no name"))?;
        let connector = TlsConnector::from(Arc::new(tls.client()?));
        Ok(Box::new(connector.connect(name, stream).await.map_err(DialError::Tls)?))
    }

    /// Where the name leads at this moment, as far as we go there. It is asked once: what was judged is what is connected to.
    async fn look_up(&self) -> Result<Vec<SocketAddr>, DialError> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await.map_err(DialError::Connect)?;
        let found: Vec<_> = found.filter(|address| !self.in_public || is_public(address.ip())).collect();
        if found.is_empty() && self.in_public { Err(DialError::NotPublic) } else { Ok(found) }
    }

    async fn dial_loopback(&self) -> Result<Box<dyn Stream>, DialError> {
        let mut here = self.look_up().await?;
        here.retain(|address| address.ip().is_loopback());
        if here.is_empty() {
            return Err(DialError::NotLoopback(self.host.clone()));
        }
        let stream = TcpStream::connect(here.as_slice()).await.map_err(DialError::Connect)?;
        stream.set_nodelay(true).map_err(DialError::Connect)?;
        Ok(Box::new(stream))
    }
}

impl Tls {
    fn client(&self) -> Result<rustls::ClientConfig, DialError> {
        let roots = match &self.ca_file {
            Some(path) => Arc::new(roots_of(path)?),
            None => platform_roots(),
        };
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("aws-lc-rs has suites for TLS 1.2 and 1.3")
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = certificates(cert)?;
                let private = PrivateKeyDer::from_pem_file(key).map_err(|error| broken(key, &error))?;
                builder.with_client_auth_cert(chain, private).map_err(|error| broken(cert, &error))?
            }
        };
        config.alpn_protocols = self.alpn.iter().map(|alpn| alpn.to_vec()).collect();
        Ok(config)
    }

    /// Reads the files once, so that a mistake in them is told at the start and not at the first call.
    ///
    /// # Errors
    /// [`DialError::File`]
    pub fn check(&self) -> Result<(), DialError> {
        self.client().map(drop)
    }
}

fn roots_of(path: &Path) -> Result<RootCertStore, DialError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| broken(path, &error))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, DialError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| broken(path, &error))?;
    if certificates.is_empty() {
        return Err(broken(path, &"holds no certificate"));
    }
    Ok(certificates)
}

/// Read once: they are many, and change with the machine.
fn platform_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let load = || {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "an authority of the platform cannot be read");
        }
        let mut roots = RootCertStore::empty();
        let (_, unusable) = roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            tracing::warn!(unusable, "the platform knows no authorities: nobody is believed who shows a certificate");
        }
        Arc::new(roots)
    };
    Arc::clone(ROOTS.get_or_init(load))
}

fn broken(path: &Path, why: &dyn std::fmt::Display) -> DialError {
    DialError::File { path: path.to_owned(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(url: &str) -> Result<Peer, DialError> {
        Peer::of(&url.parse().unwrap(), Tls::default())
    }

    #[test]
    fn an_address_says_who_is_called() {
        for (url, host, port, tls) in [
            ("https://id.example/keys", "id.example", 443, true),
            ("https://id.example:8443", "id.example", 8443, true),
            ("http://127.0.0.1:50052", "127.0.0.1", 50_052, false),
            ("http://[::1]/keys", "::1", 80, false),
        ] {
            let peer = peer(url).unwrap();
            assert_eq!((peer.host.as_str(), peer.port, peer.tls.is_some()), (host, port, tls), "{url}");
        }
        assert!(peer("ftp://id.example").is_err() && peer("https://-.example").is_err());
    }

    #[tokio::test]
    async fn without_tls_only_this_machine_is_spoken_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = format!("http://{}", listener.local_addr().unwrap());
        assert!(peer(&here).unwrap().dial().await.is_ok());
        let elsewhere = peer("http://192.0.2.1:9").unwrap().dial().await;
        assert!(matches!(elsewhere, Err(DialError::NotLoopback(host)) if host == "192.0.2.1"));
    }

    /// A name that leads to this machine is no way in, though somebody listens there.
    #[tokio::test]
    async fn who_is_to_be_in_public_is_not_reached_inside() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in
            ["localhost", "127.0.0.1", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "10.0.0.1", "169.254.169.254"]
        {
            for scheme in ["https", "http"] {
                // What no certificate can name is refused before.
                let Ok(peer) = peer(&format!("{scheme}://{host}:{port}/")) else { continue };
                let inside = peer.in_public().dial().await;
                assert!(matches!(inside, Err(DialError::NotPublic)), "{scheme}://{host}");
            }
        }
        assert!(futures_util::poll!(Box::pin(listener.accept())).is_pending(), "nobody has come");
    }

    #[test]
    fn a_file_without_a_certificate_is_told_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, "nothing").unwrap();
        let tls = Tls { ca_file: Some(path), ..Tls::default() };
        assert!(tls.check().unwrap_err().to_string().ends_with("ca.pem: holds no certificate"));
    }
}
