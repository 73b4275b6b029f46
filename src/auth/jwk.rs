//! Public keys as JSON (RFC 7517): those of others, read from a set of keys, and our own, shown to others.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::TokenAlgorithm;

/// A set of keys, bytes. A larger one is not read.
pub(super) const SET_BYTES_MAX: usize = 256 * 1024;
/// Keys in a set, whatever they are for.
const KEYS_MAX: usize = 64;
/// A key's name, bytes.
const KID_BYTES_MAX: usize = 128;
/// The bytes of a raw Ed25519 public key, and of an uncompressed point on P-256.
pub(super) const ED25519_PUBLIC_BYTES: usize = 32;
pub(super) const P256_PUBLIC_BYTES: usize = 65;
/// What an uncompressed point begins with (SEC 1, section 2.3.3).
const UNCOMPRESSED: u8 = 4;

/// The keys of a set that check tokens of the configured algorithm, by their names.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    named: BTreeMap<String, Arc<DecodingKey>>,
    nameless: Option<Arc<DecodingKey>>,
    /// To see whether it has changed.
    bytes: Vec<u8>,
}

/// Why a set of keys is not taken. It never repeats what stands in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    #[error("is larger than {SET_BYTES_MAX} bytes")]
    TooLarge,
    #[error("is no JWK set")]
    NotASet,
    #[error("holds more than {KEYS_MAX} keys")]
    TooMany,
    #[error("holds a private key; only public ones belong there")]
    Private,
    #[error("holds two keys of one name")]
    Twice,
    #[error("holds no key for AUTH_ALGORITHM")]
    NoneFits,
}

#[derive(Deserialize)]
struct WireSet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct WireKey {
    kty: String,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
}

impl KeySet {
    /// Reads a set. Keys that are for something else are passed over, as RFC 7517, section 5, wants.
    pub(super) fn read(algorithm: TokenAlgorithm, bytes: &[u8]) -> Result<Self, KeySetError> {
        if bytes.len() > SET_BYTES_MAX {
            return Err(KeySetError::TooLarge);
        }
        let WireSet { keys } = serde_json::from_slice(bytes).map_err(|_| KeySetError::NotASet)?;
        if keys.len() > KEYS_MAX {
            return Err(KeySetError::TooMany);
        }
        let mut set = Self { bytes: bytes.to_vec(), ..Self::default() };
        for value in keys {
            // RFC 7518, sections 6.2.2, 6.3.2 and 6.4: the members of private keys and of secrets.
            if value.get("d").is_some() || value.get("k").is_some() {
                return Err(KeySetError::Private);
            }
            let Ok(key) = serde_json::from_value::<WireKey>(value) else { continue };
            let Some(public) = key.public(algorithm) else { continue };
            let decoding = Arc::new(public.decoding());
            let taken = match key.kid {
                Some(kid) if kid.len() > KID_BYTES_MAX => continue,
                Some(kid) => set.named.insert(kid, decoding).is_some(),
                None => set.nameless.replace(decoding).is_some(),
            };
            if taken {
                return Err(KeySetError::Twice);
            }
        }
        if set.len() == 0 {
            return Err(KeySetError::NoneFits);
        }
        Ok(set)
    }

    /// The key of this name. A token that names none means the only one.
    pub(super) fn get(&self, kid: Option<&str>) -> Option<Arc<DecodingKey>> {
        match kid {
            Some(kid) => self.named.get(kid).cloned(),
            None if self.len() == 1 => self.named.values().next().or(self.nameless.as_ref()).cloned(),
            None => None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.named.len() + usize::from(self.nameless.is_some())
    }

    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl WireKey {
    /// The key, if tokens of this algorithm may be checked with it.
    fn public(&self, algorithm: TokenAlgorithm) -> Option<PublicKey> {
        let coordinate = |text: &Option<String>| -> Option<[u8; 32]> {
            URL_SAFE_NO_PAD.decode(text.as_ref()?).ok()?.try_into().ok()
        };
        let for_signatures = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !for_signatures {
            return None;
        }
        let alg = self.alg.as_deref();
        match (algorithm, self.kty.as_str(), self.crv.as_deref()) {
            (TokenAlgorithm::EdDsa, "OKP", Some("Ed25519")) if matches!(alg, None | Some("EdDSA" | "Ed25519")) => {
                Some(PublicKey::Ed25519(coordinate(&self.x)?))
            }
            (TokenAlgorithm::Es256, "EC", Some("P-256")) if matches!(alg, None | Some("ES256")) => {
                Some(PublicKey::P256 { x: coordinate(&self.x)?, y: coordinate(&self.y)? })
            }
            (TokenAlgorithm::EdDsa | TokenAlgorithm::Es256 | TokenAlgorithm::Hs256, _, _) => None,
        }
    }
}

/// A key that everybody may know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PublicKey {
    Ed25519([u8; 32]),
    P256 { x: [u8; 32], y: [u8; 32] },
}

impl PublicKey {
    /// A raw Ed25519 key, or an uncompressed point on P-256.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes.len() {
            ED25519_PUBLIC_BYTES => Some(Self::Ed25519(bytes.try_into().ok()?)),
            P256_PUBLIC_BYTES if bytes[0] == UNCOMPRESSED => {
                Some(Self::P256 { x: bytes[1..33].try_into().ok()?, y: bytes[33..].try_into().ok()? })
            }
            _ => None,
        }
    }

    fn decoding(&self) -> DecodingKey {
        match self {
            Self::Ed25519(x) => DecodingKey::from_ed_der(x),
            Self::P256 { x, y } => DecodingKey::from_ec_der(&[&[UNCOMPRESSED], x.as_slice(), y].concat()),
        }
    }

    /// The key's thumbprint (RFC 7638; RFC 8037, section 2): the same key has the same name everywhere.
    pub(super) fn kid(&self) -> String {
        let text = match self {
            Self::Ed25519(x) => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, encode(x)),
            Self::P256 { x, y } => {
                format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, encode(x), encode(y))
            }
        };
        encode(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
    }

    pub(super) fn to_jwk(&self) -> Value {
        let kid = self.kid();
        match self {
            Self::Ed25519(x) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(x), "kid": kid, "use": "sig", "alg": "EdDSA" })
            }
            Self::P256 { x, y } => json!({
                "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y), "kid": kid, "use": "sig", "alg": "ES256",
            }),
        }
    }
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of RFC 8037, appendix A.2, and its thumbprint of appendix A.3.
    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    const THUMBPRINT: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";

    fn ed25519(kid: Option<&str>) -> Value {
        let mut key = json!({ "kty": "OKP", "crv": "Ed25519", "x": X });
        if let Some(kid) = kid {
            key["kid"] = kid.into();
        }
        key
    }

    fn read(keys: &[Value]) -> Result<KeySet, KeySetError> {
        KeySet::read(TokenAlgorithm::EdDsa, json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn a_key_is_named_by_its_thumbprint() {
        let key = PublicKey::from_bytes(&URL_SAFE_NO_PAD.decode(X).unwrap()).unwrap();
        assert_eq!(key.kid(), THUMBPRINT);
        let set = read(&[key.to_jwk()]).unwrap();
        assert!(set.get(Some(THUMBPRINT)).is_some(), "what we show others can read");
    }

    #[test]
    fn a_point_of_p256_is_shown_and_read() {
        // RFC 7517, appendix A.1.
        let (x, y) = ("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM");
        let key = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "use": "sig", "kid": "1" });
        let set = KeySet::read(TokenAlgorithm::Es256, json!({ "keys": [key] }).to_string().as_bytes()).unwrap();
        assert!(set.get(Some("1")).is_some());
        let point = [URL_SAFE_NO_PAD.decode(x).unwrap(), URL_SAFE_NO_PAD.decode(y).unwrap()].concat();
        let shown = PublicKey::from_bytes(&[&[UNCOMPRESSED], point.as_slice()].concat()).unwrap().to_jwk();
        assert_eq!((shown["x"].as_str(), shown["y"].as_str()), (Some(x), Some(y)));
    }

    #[test]
    fn keys_are_found_by_their_name_and_a_lone_one_without() {
        let lone = read(&[ed25519(Some("a"))]).unwrap();
        assert!(lone.get(Some("a")).is_some() && lone.get(None).is_some() && lone.get(Some("b")).is_none());
        let two = read(&[ed25519(Some("a")), ed25519(None)]).unwrap();
        assert!(two.get(Some("a")).is_some() && two.get(None).is_none(), "which of them is not said");
    }

    #[test]
    fn what_is_for_something_else_is_passed_over() {
        let with = |name: &str, value: Value| {
            let mut key = ed25519(Some("other"));
            key[name] = value;
            key
        };
        for other in [
            with("use", json!("enc")),
            with("alg", json!("ES256")),
            with("key_ops", json!(["sign"])),
            with("crv", json!("X25519")),
            with("kty", json!("RSA")),
            with("x", json!("AAAA")),
            with("kid", json!("k".repeat(KID_BYTES_MAX + 1))),
            json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" }),
            json!("no key at all"),
        ] {
            let set = read(&[ed25519(Some("a")), other.clone()]).unwrap();
            assert_eq!((set.len(), set.get(Some("other")).is_none()), (1, true), "{other}");
            assert_eq!(read(&[other]).unwrap_err(), KeySetError::NoneFits);
        }
        assert_eq!(read(&[with("kid", json!("k".repeat(KID_BYTES_MAX)))]).unwrap().len(), 1);
    }

    #[test]
    fn a_set_that_cannot_be_believed_is_refused_as_a_whole() {
        let mut private = ed25519(Some("b"));
        private["d"] = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A".into();
        assert_eq!(read(&[ed25519(Some("a")), private]).unwrap_err(), KeySetError::Private);
        let secret = json!({ "kty": "oct", "k": "AAAA" });
        assert_eq!(read(&[ed25519(Some("a")), secret]).unwrap_err(), KeySetError::Private);
        assert_eq!(read(&[ed25519(Some("a")), ed25519(Some("a"))]).unwrap_err(), KeySetError::Twice);
        for nonsense in ["", "[]", "{}", r#"{"keys":{}}"#] {
            let read = KeySet::read(TokenAlgorithm::EdDsa, nonsense.as_bytes());
            assert_eq!(read.unwrap_err(), KeySetError::NotASet, "{nonsense}");
        }
    }

    #[test]
    fn the_bounds_of_a_set_at_their_limit_and_one_past() {
        let keys = |count: usize| (0..count).map(|n| ed25519(Some(&n.to_string()))).collect::<Vec<_>>();
        assert_eq!(read(&keys(KEYS_MAX)).unwrap().len(), KEYS_MAX);
        assert_eq!(read(&keys(KEYS_MAX + 1)).unwrap_err(), KeySetError::TooMany);
        let mut text = json!({ "keys": [ed25519(Some("a"))] }).to_string();
        text.push_str(&" ".repeat(SET_BYTES_MAX - text.len()));
        assert!(KeySet::read(TokenAlgorithm::EdDsa, text.as_bytes()).is_ok());
        text.push(' ');
        assert_eq!(KeySet::read(TokenAlgorithm::EdDsa, text.as_bytes()).unwrap_err(), KeySetError::TooLarge);
    }
}
