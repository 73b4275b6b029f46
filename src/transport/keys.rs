//! Secrets that outlive a restart, and the hash functions of the one TLS provider.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::Tls13CipherSuite;
use rustls::crypto::tls13::OkmBlock;

/// The suite whose hash is SHA-256: the provider's HMAC and digest come with it.
pub(super) fn tls13_sha256() -> &'static Tls13CipherSuite {
    rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13().expect("a TLS 1.3 suite by its name")
}

/// The key of stateless resets, kept in the data directory: a server that restarts can tell the clients of the old one
/// that their connections are gone (RFC 9000, section 10.3), instead of letting them wait for the idle timeout.
///
/// # Errors
/// When the file cannot be read or written.
pub(super) fn reset_key(data_dir: &Path) -> io::Result<Arc<dyn quinn::crypto::HmacKey>> {
    let path = data_dir.join("quic-reset.key");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) if bytes.len() == 32 => bytes,
        Ok(_) => fresh(&path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => fresh(&path)?,
        Err(error) => return Err(error),
    };
    Ok(Arc::new(HmacKey(OkmBlock::new(&bytes))))
}

fn fresh(path: &Path) -> io::Result<Vec<u8>> {
    let bytes: [u8; 32] = rand::random();
    write_private(path, &bytes)?;
    Ok(bytes.to_vec())
}

/// Writes a file that only its owner reads; whoever reads it sees the old bytes or the new ones, never a part.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let new = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

/// HMAC-SHA-256 of the TLS provider.
struct HmacKey(OkmBlock);

impl quinn::crypto::HmacKey for HmacKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(tls13_sha256().hkdf_provider.hmac_sign(&self.0, data).as_ref());
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), quinn::crypto::CryptoError> {
        let expected = tls13_sha256().hkdf_provider.hmac_sign(&self.0, data);
        let differing = expected.as_ref().iter().zip(signature).fold(0, |all, (a, b)| all | (a ^ b));
        if signature.len() == 32 && differing == 0 { Ok(()) } else { Err(quinn::crypto::CryptoError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reset_key_stays_the_same_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let sign = |key: Arc<dyn quinn::crypto::HmacKey>| {
            let mut out = [0; 32];
            key.sign(b"connection", &mut out);
            key.verify(b"connection", &out).unwrap();
            assert!(key.verify(b"another", &out).is_err());
            out
        };
        let first = sign(reset_key(dir.path()).unwrap());
        assert_eq!(first, sign(reset_key(dir.path()).unwrap()));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(dir.path().join("quic-reset.key")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
