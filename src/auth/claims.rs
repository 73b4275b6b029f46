use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use veza_engine::ledger::Actor;
use veza_proto::limits::ENTITLEMENT_BYTES_MAX;
use veza_proto::{DeviceId, UserId};

use super::{AuthError, Grant, Identity, Issued, Rejected};
use crate::config::TokenAlgorithm;

/// How far the issuer's clock may be from ours.
const SKEW_MS: u64 = 60_000;
/// A `jti`, bytes: revocation remembers it.
const TOKEN_ID_BYTES_MAX: usize = 128;
/// Entitlements of one token.
const ENTITLEMENTS_MAX: usize = 64;
/// The longest a token may live, ours and others'. Whoever revokes a user relies on it: after this nothing is left that was
/// issued before.
pub(super) const TTL_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

const TTL_MAX_MS: u64 = TTL_MAX.as_millis() as u64;

/// What a token must say, whatever its key.
#[derive(Debug)]
pub(super) struct Rules {
    algorithm: TokenAlgorithm,
    issuer: String,
    audience: String,
    /// Signature, `iss`, `aud` and the presence of claims. It never reads a clock.
    validation: Validation,
}

/// The claims that are read, RFC 7519 section 4.1. Times are seconds and may have a fraction.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
    jti: Option<String>,
    device: Option<String>,
    #[serde(default)]
    entitlements: Vec<String>,
}

#[derive(Serialize)]
struct Said<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    iat: u64,
    nbf: u64,
    exp: u64,
    jti: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    entitlements: &'a [String],
}

impl Rules {
    pub(super) fn new(algorithm: TokenAlgorithm, issuer: &str, audience: &str) -> Self {
        let mut validation = Validation::new(wire(algorithm));
        validation.set_required_spec_claims(&["iss", "aud", "sub"]);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        Self { algorithm, issuer: issuer.into(), audience: audience.into(), validation }
    }

    pub(super) fn algorithm(&self) -> TokenAlgorithm {
        self.algorithm
    }

    /// `key_of` gives the key that the header's `kid` names.
    pub(super) fn check(
        &self,
        token: &str,
        key_of: impl FnOnce(Option<&str>) -> Result<Arc<DecodingKey>, Rejected>,
        now_ms: u64,
    ) -> Result<Identity, Rejected> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| Rejected::Invalid("not a JWT"))?;
        if header.alg != wire(self.algorithm) {
            return Err(Rejected::Invalid("signed with another algorithm"));
        }
        if let Some(why) = foreign_key(&header) {
            return Err(Rejected::Invalid(why));
        }
        let key = key_of(header.kid.as_deref())?;
        let claims: Claims = jsonwebtoken::decode(token, &key, &self.validation)
            .map_err(|error| Rejected::Invalid(why(error.kind())))?
            .claims;
        let expires_ms = millis(claims.exp);
        if now_ms >= expires_ms.saturating_add(SKEW_MS) {
            return Err(Rejected::Expired);
        }
        if expires_ms > now_ms.saturating_add(TTL_MAX_MS + SKEW_MS) {
            return Err(Rejected::Invalid("exp is more than 365 days away"));
        }
        if claims.nbf.is_some_and(|nbf| now_ms.saturating_add(SKEW_MS) < millis(nbf)) {
            return Err(Rejected::NotYetValid);
        }
        let user = UserId::parse(&claims.sub).map_err(|_| Rejected::Invalid("sub is no user's id"))?;
        if Actor::is_service_id(&user) {
            return Err(Rejected::Invalid("sub is what a service is called"));
        }
        if claims.jti.as_ref().is_some_and(|id| id.len() > TOKEN_ID_BYTES_MAX) {
            return Err(Rejected::Invalid("jti is too long"));
        }
        let count = claims.entitlements.len();
        if count > ENTITLEMENTS_MAX || claims.entitlements.iter().any(|one| one.len() > ENTITLEMENT_BYTES_MAX) {
            return Err(Rejected::Invalid("too many or too long entitlements"));
        }
        let device = claims.device.as_deref().map(DeviceId::parse).transpose();
        Ok(Identity {
            user,
            device: device.map_err(|_| Rejected::Invalid("device is no device's id"))?,
            expires_ms,
            issued_ms: claims.iat.map(millis),
            token_id: claims.jti,
            entitlements: claims.entitlements,
        })
    }

    /// Signs with `key`, which tokens name as `kid` when it has one.
    pub(super) fn issue(
        &self,
        grant: &Grant,
        ttl: Duration,
        now_ms: u64,
        (key, kid): (&EncodingKey, Option<&str>),
    ) -> Result<Issued, AuthError> {
        if !(Duration::from_secs(1)..=TTL_MAX).contains(&ttl) {
            return Err(AuthError::Lifetime);
        }
        let now = now_ms / 1000;
        let token_id = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>());
        let claims = Said {
            iss: &self.issuer,
            aud: &self.audience,
            sub: grant.user.as_str(),
            iat: now,
            nbf: now,
            exp: now + ttl.as_secs(),
            jti: &token_id,
            device: grant.device.as_ref().map(DeviceId::as_str),
            entitlements: &grant.entitlements,
        };
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(wire(self.algorithm)) };
        let token = jsonwebtoken::encode(&header, &claims, key).map_err(|_| AuthError::Signing)?;
        let expires_ms = claims.exp * 1000;
        Ok(Issued { token, token_id, expires_ms })
    }
}

fn wire(algorithm: TokenAlgorithm) -> Algorithm {
    match algorithm {
        TokenAlgorithm::EdDsa => Algorithm::EdDSA,
        TokenAlgorithm::Es256 => Algorithm::ES256,
        TokenAlgorithm::Hs256 => Algorithm::HS256,
    }
}

/// A header must not say which key to take, nor that something must be understood which is not (RFC 7515, section 4.1).
fn foreign_key(header: &Header) -> Option<&'static str> {
    if header.jku.is_some() || header.x5u.is_some() {
        Some("the header names a key's address")
    } else if header.jwk.is_some() || header.x5c.is_some() {
        Some("the header brings a key")
    } else if header.crit.is_some() {
        Some("the header has crit")
    } else if header.enc.is_some() || header.zip.is_some() {
        Some("the header says it is encrypted or compressed")
    } else {
        None
    }
}

fn why(kind: &ErrorKind) -> &'static str {
    const KNOWN: [(&ErrorKind, &str); 3] = [
        (&ErrorKind::InvalidSignature, "wrong signature"),
        (&ErrorKind::InvalidIssuer, "wrong iss"),
        (&ErrorKind::InvalidAudience, "wrong aud"),
    ];
    if matches!(kind, ErrorKind::MissingRequiredClaim(_)) {
        return "a claim is missing: iss, aud or sub";
    }
    KNOWN.iter().find(|(known, _)| *known == kind).map_or("malformed", |(_, why)| why)
}

/// Seconds as the claims have them. A float's cast saturates: what is before 1970 is 0, what is beyond u64 its end.
fn millis(seconds: f64) -> u64 {
    (seconds * 1000.0) as u64
}
