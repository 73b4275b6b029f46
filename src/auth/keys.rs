use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{DecodingKey, EncodingKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;

use super::jwk::{ED25519_PUBLIC_BYTES, P256_PUBLIC_BYTES, PublicKey};
use super::{AuthError, key_file};
use crate::config::{Secret, TokenAlgorithm, trim_line_end};

/// RFC 7518, section 3.2: a key is at least as long as the hash.
const HS256_KEY_BYTES_MIN: usize = 32;

/// A key that checks tokens and perhaps signs them; always of the configured algorithm.
pub(super) struct Keys {
    pub(super) decoding: Arc<DecodingKey>,
    pub(super) encoding: Option<EncodingKey>,
    /// As others may know it, with its name; a shared secret has none.
    pub(super) public: Option<(PublicKey, String)>,
    /// To see whether a file has changed.
    bytes: Vec<u8>,
}

impl Keys {
    /// Reads a PEM key (public, or private in PKCS#8), or the secret of HS256 as the file's bytes.
    pub(super) fn read(algorithm: TokenAlgorithm, path: &Path, strict: bool) -> Result<Self, AuthError> {
        let bytes = key_file::read(path, strict)?;
        Self::from_bytes(algorithm, bytes).map_err(|why| AuthError::Key { path: path.into(), why })
    }

    pub(super) fn from_secret(algorithm: TokenAlgorithm, secret: &Secret) -> Result<Self, AuthError> {
        match algorithm {
            TokenAlgorithm::Hs256 => Self::hs256(secret.expose().as_bytes()).map_err(AuthError::Secret),
            TokenAlgorithm::EdDsa | TokenAlgorithm::Es256 => Err(AuthError::Secret("is only for AUTH_ALGORITHM=HS256")),
        }
    }

    fn from_bytes(algorithm: TokenAlgorithm, bytes: Vec<u8>) -> Result<Self, &'static str> {
        let private = bytes.windows(27).any(|window| window == b"-----BEGIN PRIVATE KEY-----");
        match algorithm {
            TokenAlgorithm::Hs256 => Self::hs256(trim_line_end(&bytes)),
            TokenAlgorithm::EdDsa if private => {
                Self::private(bytes, ed25519_public, DecodingKey::from_ed_der, EncodingKey::from_ed_pem)
            }
            TokenAlgorithm::Es256 if private => {
                Self::private(bytes, p256_public, DecodingKey::from_ec_der, EncodingKey::from_ec_pem)
            }
            TokenAlgorithm::EdDsa => Self::public(bytes, DecodingKey::from_ed_pem, ED25519_PUBLIC_BYTES),
            TokenAlgorithm::Es256 => Self::public(bytes, DecodingKey::from_ec_pem, P256_PUBLIC_BYTES),
        }
    }

    fn hs256(secret: &[u8]) -> Result<Self, &'static str> {
        if secret.len() < HS256_KEY_BYTES_MIN {
            return Err("HS256 needs at least 32 bytes");
        }
        Ok(Self {
            decoding: DecodingKey::from_secret(secret).into(),
            encoding: Some(EncodingKey::from_secret(secret)),
            public: None,
            bytes: secret.into(),
        })
    }

    fn private(
        pem: Vec<u8>,
        public_of: fn(&[u8]) -> Result<Vec<u8>, &'static str>,
        decoding: fn(&[u8]) -> DecodingKey,
        encoding: fn(&[u8]) -> jsonwebtoken::errors::Result<EncodingKey>,
    ) -> Result<Self, &'static str> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| "is no private key in PKCS#8 PEM")?;
        let public = public_of(der.secret_pkcs8_der())?;
        let encoding = encoding(&pem).map_err(|_| "is no private key for AUTH_ALGORITHM")?;
        let public_key = PublicKey::from_bytes(&public).ok_or("is a key of another curve than AUTH_ALGORITHM's")?;
        let (decoding, encoding) = (decoding(&public).into(), Some(encoding));
        Ok(Self { decoding, encoding, public: Some(named(public_key)), bytes: pem })
    }

    fn public(
        pem: Vec<u8>,
        decoding: fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey>,
        length: usize,
    ) -> Result<Self, &'static str> {
        if pem.windows(30).any(|window| window == b"-----BEGIN EC PRIVATE KEY-----") {
            return Err(
                "is a private key in SEC1 form; convert it: openssl pkcs8 -topk8 -nocrypt -in old.pem -out new.pem",
            );
        }
        let decoding = decoding(&pem).map_err(|_| "is no PEM key for AUTH_ALGORITHM")?;
        let public = decoding.try_get_as_bytes().ok().filter(|bytes| bytes.len() == length);
        let public = public.and_then(PublicKey::from_bytes);
        let public = public.ok_or("is a key of another curve than AUTH_ALGORITHM's")?;
        Ok(Self { decoding: decoding.into(), encoding: None, public: Some(named(public)), bytes: pem })
    }

    /// The name that our tokens give this key.
    pub(super) fn kid(&self) -> Option<&str> {
        self.public.as_ref().map(|(_, kid)| kid.as_str())
    }

    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }

    /// A fresh Ed25519 private key, PKCS#8 as PEM (RFC 8410).
    pub(super) fn make_ed25519_pem() -> Vec<u8> {
        let der = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).expect("the system has random numbers");
        // 48 bytes of DER are exactly one line of 64 characters.
        let line = STANDARD.encode(der.as_ref());
        format!("-----BEGIN PRIVATE KEY-----\n{line}\n-----END PRIVATE KEY-----\n").into_bytes()
    }
}

fn named(key: PublicKey) -> (PublicKey, String) {
    let kid = key.kid();
    (key, kid)
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("private", &self.encoding.is_some()).finish_non_exhaustive()
    }
}

fn ed25519_public(pkcs8: &[u8]) -> Result<Vec<u8>, &'static str> {
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| "is no Ed25519 key, which AUTH_ALGORITHM=EdDSA needs")?;
    Ok(pair.public_key().as_ref().into())
}

fn p256_public(pkcs8: &[u8]) -> Result<Vec<u8>, &'static str> {
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)
        .map_err(|_| "is no P-256 key, which AUTH_ALGORITHM=ES256 needs")?;
    Ok(pair.public_key().as_ref().into())
}
