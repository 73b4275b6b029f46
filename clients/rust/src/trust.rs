use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedCipherSuite,
};

/// Which servers a client believes. The system's own authorities are never asked.
#[derive(Clone)]
pub enum Trust {
    /// Servers whose certificate has one of these SHA-256 hashes (of its DER), as `/veza.json` tells them.
    Pinned(Vec<[u8; 32]>),
    /// Servers with a certificate of one of these authorities for the name that was asked for: PEM, one or many.
    Authorities(Vec<u8>),
    /// Any server that answers. For tests on one's own machine.
    Insecure,
}

/// Why trust cannot be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    #[error("the authorities' PEM cannot be read: {0}")]
    Pem(String),
    #[error("the authorities' PEM holds no certificate")]
    Empty,
    #[error("an authority's certificate cannot be used: {0}")]
    Authority(String),
    #[error("a certificate's hash is 32 bytes in base64, this is something else")]
    Hash,
}

impl Trust {
    /// Reads hashes as `/veza.json` writes them: base64 of SHA-256.
    ///
    /// # Errors
    /// [`TrustError::Hash`] when one is not 32 bytes.
    pub fn from_hashes<S: AsRef<str>>(hashes: &[S]) -> Result<Self, TrustError> {
        use base64::Engine;
        let decode = |text: &S| {
            let bytes =
                base64::engine::general_purpose::STANDARD.decode(text.as_ref()).map_err(|_| TrustError::Hash)?;
            <[u8; 32]>::try_from(bytes).map_err(|_| TrustError::Hash)
        };
        hashes.iter().map(decode).collect::<Result<_, _>>().map(Trust::Pinned)
    }

    /// A TLS configuration for one protocol. TLS 1.3 only: QUIC knows no other, and neither should a new client.
    pub fn config(&self, alpn: &[&[u8]], remember: bool) -> Result<ClientConfig, TrustError> {
        let provider = Arc::new(default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has TLS 1.3 suites");
        let mut config = match self {
            Trust::Authorities(pem) => builder.with_root_certificates(authorities(pem)?).with_no_client_auth(),
            Trust::Pinned(hashes) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(ByHash { hashes: Some(hashes.clone()), provider }))
                .with_no_client_auth(),
            Trust::Insecure => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(ByHash { hashes: None, provider }))
                .with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        if !remember {
            config.resumption = rustls::client::Resumption::disabled();
        }
        Ok(config)
    }
}

fn authorities(pem: &[u8]) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| TrustError::Pem(error.to_string()))?;
        roots.add(certificate).map_err(|error| TrustError::Authority(error.to_string()))?;
    }
    if roots.is_empty() { Err(TrustError::Empty) } else { Ok(roots) }
}

/// Believes a certificate by its hash alone, or any (`None`). The handshake's signature is checked all the same, so
/// whoever answers owns the key of the certificate shown.
#[derive(Debug)]
struct ByHash {
    hashes: Option<Vec<[u8; 32]>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ByHash {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.hashes {
            Some(hashes) if !hashes.contains(&sha256(certificate)) => {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
            Some(_) | None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// SHA-256 by the TLS provider: its suite of that hash lends it, so no second implementation is linked.
fn sha256(bytes: &[u8]) -> [u8; 32] {
    let SupportedCipherSuite::Tls13(suite) = cipher_suite::TLS13_AES_128_GCM_SHA256 else {
        unreachable!("a TLS 1.3 suite is one");
    };
    suite.common.hash_provider.hash(bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_sha_256() {
        let empty = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        let Ok(Trust::Pinned(hashes)) = Trust::from_hashes(&[empty]) else { panic!("a hash of 32 bytes") };
        assert_eq!(hashes, [sha256(b"")]);
    }

    #[test]
    fn a_hash_of_31_bytes_is_none() {
        assert_eq!(Trust::from_hashes(&["AAAA"]).err(), Some(TrustError::Hash));
        assert_eq!(Trust::from_hashes(&["not base64!"]).err(), Some(TrustError::Hash));
    }

    #[test]
    fn only_the_pinned_certificate_is_believed() {
        let certificate = CertificateDer::from(b"certificate".as_slice());
        let name = ServerName::try_from("localhost").unwrap();
        let verify = |hashes| {
            ByHash { hashes, provider: Arc::new(default_provider()) }
                .verify_server_cert(
                    &certificate,
                    &[],
                    &name,
                    &[],
                    UnixTime::since_unix_epoch(std::time::Duration::ZERO),
                )
                .is_ok()
        };
        assert!(verify(Some(vec![sha256(b"certificate")])));
        assert!(!verify(Some(vec![sha256(b"another")])));
        assert!(!verify(Some(vec![])));
        assert!(verify(None));
    }

    #[test]
    fn authorities_need_a_certificate() {
        assert_eq!(Trust::Authorities(b"nothing".to_vec()).config(&[], true).err(), Some(TrustError::Empty));
    }
}
