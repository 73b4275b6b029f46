use std::os::unix::fs::PermissionsExt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use aws_lc_rs::signature::{EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::*;
use crate::config::{Secret, TokenAlgorithm};

const NOW: u64 = 1_700_000_000_000;
const NOW_S: u64 = NOW / 1000;
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn settings(algorithm: TokenAlgorithm) -> config::Auth {
    config::Auth {
        algorithm,
        key_file: None,
        hs256_secret: None,
        jwks: None,
        issuer: "veza".into(),
        audience: "veza".into(),
    }
}

fn hs256() -> Auth {
    let config = config::Auth { hs256_secret: Some(Secret::new(SECRET)), ..settings(TokenAlgorithm::Hs256) };
    Auth::load(&config, Environment::Production, Path::new("/nonexistent")).unwrap()
}

fn from_file(algorithm: TokenAlgorithm, path: &Path) -> Result<Auth, AuthError> {
    let config = config::Auth { key_file: Some(path.into()), ..settings(algorithm) };
    Auth::load(&config, Environment::Production, Path::new("/nonexistent"))
}

fn write_key(dir: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n")).into_bytes()
}

fn ec_private(algorithm: &'static EcdsaSigningAlgorithm) -> Vec<u8> {
    pem("PRIVATE KEY", EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap().as_ref())
}

/// SubjectPublicKeyInfo: RFC 8410 for Ed25519, RFC 5480 for P-256 and P-384.
fn spki(prefix: &str, public: &[u8]) -> Vec<u8> {
    let prefix: Vec<u8> =
        (0..prefix.len()).step_by(2).map(|at| u8::from_str_radix(&prefix[at..at + 2], 16).unwrap()).collect();
    pem("PUBLIC KEY", &[&prefix, public].concat())
}

fn claims() -> Value {
    json!({"iss": "veza", "aud": "veza", "sub": "alice", "exp": NOW_S + 60, "iat": NOW_S, "jti": "t1"})
}

fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn claims_without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn signed(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let tag = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{tag}")
}

fn token(claims: &Value) -> String {
    signed(&json!({"alg": "HS256", "typ": "JWT"}), claims)
}

fn alice() -> UserId {
    UserId::parse("alice").unwrap()
}

#[test]
fn a_good_token_says_who() {
    let identity = hs256().verify(&token(&claims()), NOW).unwrap();
    assert_eq!(
        identity,
        Identity {
            user: alice(),
            device: None,
            expires_ms: NOW + 60_000,
            issued_ms: Some(NOW),
            token_id: Some("t1".into()),
            entitlements: Vec::new(),
        }
    );
    let phone = hs256().verify(&token(&claims_with("device", json!("phone-1"))), NOW).unwrap();
    assert_eq!(phone.device, DeviceId::parse("phone-1").ok());
    assert!(hs256().verify(&token(&claims_with("aud", json!(["other", "veza"]))), NOW).is_ok());
    assert_eq!(hs256().verify(&token(&claims_without("jti")), NOW).unwrap().token_id, None);
}

#[test]
fn expiry_to_the_millisecond_with_a_minute_of_skew() {
    let auth = hs256();
    assert!(auth.verify(&token(&claims()), NOW + 60_000 + 59_999).is_ok());
    assert_eq!(auth.verify(&token(&claims()), NOW + 120_000), Err(Rejected::Expired));
    let fraction = token(&claims_with("exp", json!(1_700_000_000.5)));
    assert_eq!(auth.verify(&fraction, NOW).unwrap().expires_ms, NOW + 500);
    for long_ago in [json!(-1), json!(0), json!(-1e300)] {
        assert_eq!(auth.verify(&token(&claims_with("exp", long_ago)), NOW), Err(Rejected::Expired));
    }
}

#[test]
fn the_life_of_a_token_at_its_limit_and_one_past() {
    let year = NOW_S + 365 * 86_400 + 60;
    assert!(hs256().verify(&token(&claims_with("exp", json!(year))), NOW).is_ok());
    for too_long in [json!(year + 1), json!(1e300)] {
        let rejected = hs256().verify(&token(&claims_with("exp", too_long)), NOW);
        assert_eq!(rejected, Err(Rejected::Invalid("exp is more than 365 days away")));
    }
}

#[test]
fn not_before_to_the_millisecond_with_a_minute_of_skew() {
    let auth = hs256();
    let early = token(&claims_with("nbf", json!(NOW_S + 60)));
    assert!(auth.verify(&early, NOW).is_ok());
    assert_eq!(auth.verify(&early, NOW - 1), Err(Rejected::NotYetValid));
}

#[test]
fn claims_that_are_missing_or_wrong() {
    let auth = hs256();
    for name in ["iss", "aud", "sub", "exp"] {
        let rejected = auth.verify(&token(&claims_without(name)), NOW);
        assert!(matches!(rejected, Err(Rejected::Invalid(_))), "without {name}: {rejected:?}");
    }
    for (name, value, why) in [
        ("iss", json!("someone"), "wrong iss"),
        ("sub", json!("service:gateway"), "sub is what a service is called"),
        ("aud", json!("someone"), "wrong aud"),
        ("aud", json!(["a", "b"]), "wrong aud"),
        ("sub", json!(""), "sub is no user's id"),
        ("sub", json!("line\nbreak"), "sub is no user's id"),
        ("sub", json!("u".repeat(129)), "sub is no user's id"),
        ("sub", json!(7), "malformed"),
        ("exp", json!("soon"), "malformed"),
        ("jti", json!("t".repeat(129)), "jti is too long"),
        ("device", json!(""), "device is no device's id"),
        ("device", json!("d".repeat(65)), "device is no device's id"),
        ("device", json!("my phone"), "device is no device's id"),
    ] {
        assert_eq!(auth.verify(&token(&claims_with(name, value.clone())), NOW), Err(Rejected::Invalid(why)), "{value}");
    }
    assert!(auth.verify(&token(&claims_with("sub", json!("u".repeat(128)))), NOW).is_ok());
    assert!(auth.verify(&token(&claims_with("jti", json!("t".repeat(128)))), NOW).is_ok());
    assert!(auth.verify(&token(&claims_with("device", json!("d".repeat(64)))), NOW).is_ok());
}

#[test]
fn headers_that_choose_the_key_or_another_algorithm_are_refused() {
    let auth = hs256();
    for header in [
        json!({"alg": "HS256", "jku": "https://evil.example/keys"}),
        json!({"alg": "HS256", "x5u": "https://evil.example/cert"}),
        json!({"alg": "HS256", "x5c": ["MIIB"]}),
        json!({"alg": "HS256", "jwk": {"kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET)}}),
        json!({"alg": "HS256", "crit": ["exp"]}),
        json!({"alg": "HS256", "zip": "DEF"}),
        json!({"alg": "none"}),
        json!({"alg": "HS384"}),
        json!({"alg": "EdDSA"}),
        json!({"alg": "RS256"}),
        json!({"typ": "JWT"}),
    ] {
        let rejected = auth.verify(&signed(&header, &claims()), NOW);
        assert!(matches!(rejected, Err(Rejected::Invalid(_))), "{header}: {rejected:?}");
    }
    assert!(auth.verify(&signed(&json!({"alg": "HS256", "kid": "whatever"}), &claims()), NOW).is_ok());
}

#[test]
fn a_public_key_is_no_hmac_secret() {
    let dir = tempfile::tempdir().unwrap();
    let private = Keys::make_ed25519_pem();
    let auth = from_file(TokenAlgorithm::EdDsa, &write_key(dir.path(), "key.pem", &private)).unwrap();
    // The classic confusion: HMAC with what the server knows as its key.
    let claims: serde_json::Map<String, Value> = claims().as_object().unwrap().clone();
    let key = EncodingKey::from_secret(&private);
    let forged = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
    assert_eq!(auth.verify(&forged, NOW), Err(Rejected::Invalid("signed with another algorithm")));
}

#[test]
fn what_is_no_token_and_what_was_tampered_with() {
    let auth = hs256();
    for text in ["", ".", "..", "...", "a.b.c", "no token", "\0", "ü.ü.ü"] {
        assert_eq!(auth.verify(text, NOW), Err(Rejected::Invalid("not a JWT")), "{text:?}");
    }
    let good = token(&claims());
    for at in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let tampered = String::from_utf8(bytes).unwrap();
        // The last character of a part may carry bits that are not used, but those must be zero.
        assert!(auth.verify(&tampered, NOW).is_err(), "changed at {at}");
    }
}

#[test]
fn a_token_at_the_size_limit_and_one_past() {
    let auth = hs256();
    let sized = |pad: usize| token(&claims_with("pad", json!("p".repeat(pad))));
    let pad = (0..8192).rev().find(|pad| sized(*pad).len() <= TOKEN_BYTES_MAX).unwrap();
    assert!(auth.verify(&sized(pad), NOW).is_ok());
    let long = sized(pad + 4);
    assert!(long.len() > TOKEN_BYTES_MAX);
    assert_eq!(auth.verify(&long, NOW), Err(Rejected::Invalid("longer than a token may be")));
    let too_long = "a".repeat(TOKEN_BYTES_MAX + 1);
    assert_eq!(auth.verify(&too_long, NOW), Err(Rejected::Invalid("longer than a token may be")));
    assert_eq!(auth.verify(&too_long[1..], NOW), Err(Rejected::Invalid("not a JWT")));
}

#[test]
fn development_makes_a_key_once_and_issues_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let load = || Auth::load(&settings(TokenAlgorithm::EdDsa), Environment::Development, dir.path()).unwrap();
    let first = load();
    assert!(first.can_issue());
    let token = first.issue(&Grant::to(alice()), Duration::from_secs(3600), NOW).unwrap().token;
    let identity = load().verify(&token, NOW).expect("the same key after a restart");
    assert_eq!((identity.user, identity.expires_ms), (alice(), NOW + 3_600_000));
    assert_ne!(identity.token_id, None);
    let mode = std::fs::metadata(dir.path().join("auth/ed25519.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let other = tempfile::tempdir().unwrap();
    let stranger = Auth::load(&settings(TokenAlgorithm::EdDsa), Environment::Development, other.path()).unwrap();
    assert_eq!(stranger.verify(&token, NOW), Err(Rejected::Invalid("wrong signature")));
}

#[test]
fn production_makes_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let loaded = Auth::load(&settings(TokenAlgorithm::EdDsa), Environment::Production, dir.path());
    assert!(matches!(loaded, Err(AuthError::NoKey)));
}

#[test]
fn lifetimes_at_their_limits_and_past_them() {
    let issue = |ttl| hs256().issue(&Grant::to(alice()), ttl, NOW);
    assert!(matches!(issue(Duration::from_millis(999)), Err(AuthError::Lifetime)));
    assert!(issue(Duration::from_secs(1)).is_ok());
    assert!(issue(Duration::from_secs(365 * 86_400)).is_ok());
    assert!(matches!(issue(Duration::from_secs(365 * 86_400 + 1)), Err(AuthError::Lifetime)));
}

#[test]
fn a_public_key_checks_what_its_private_key_issued() {
    let dir = tempfile::tempdir().unwrap();
    let ed = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).unwrap();
    let ed_public = Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap().public_key().as_ref().to_vec();
    let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let ec_public =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref()).unwrap().public_key().as_ref().to_vec();
    let ed = (pem("PRIVATE KEY", ed.as_ref()), spki("302a300506032b6570032100", &ed_public));
    let ec_spki = spki("3059301306072a8648ce3d020106082a8648ce3d030107034200", &ec_public);
    let ec = (pem("PRIVATE KEY", ec.as_ref()), ec_spki);
    for (algorithm, (private, public)) in [(TokenAlgorithm::EdDsa, ed), (TokenAlgorithm::Es256, ec)] {
        let issuer = from_file(algorithm, &write_key(dir.path(), "private.pem", &private)).unwrap();
        let checker = from_file(algorithm, &write_key(dir.path(), "public.pem", &public)).unwrap();
        let token = issuer.issue(&Grant::to(alice()), Duration::from_secs(60), NOW).unwrap().token;
        assert_eq!(checker.verify(&token, NOW).unwrap().user, alice());
        assert!(!checker.can_issue());
        let refused = checker.issue(&Grant::to(alice()), Duration::from_secs(60), NOW);
        assert!(matches!(refused, Err(AuthError::CannotIssue)));
    }
}

#[test]
fn keys_that_do_not_fit_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let p256 = ec_private(&ECDSA_P256_SHA256_FIXED_SIGNING);
    let p384 = ec_private(&ECDSA_P384_SHA384_FIXED_SIGNING);
    let p384_public = spki(
        "3076301006072a8648ce3d020106052b81040022036200",
        EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap().public_key().as_ref(),
    );
    let ed = Keys::make_ed25519_pem();
    for (algorithm, key, why) in [
        (TokenAlgorithm::EdDsa, p256.as_slice(), "is no Ed25519 key"),
        (TokenAlgorithm::Es256, &ed, "is no P-256 key"),
        (TokenAlgorithm::Es256, &p384, "is no P-256 key"),
        (TokenAlgorithm::Es256, &p384_public, "another curve"),
        (TokenAlgorithm::EdDsa, b"nonsense", "is no PEM key"),
        (TokenAlgorithm::EdDsa, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "is no Ed25519 key"),
        (TokenAlgorithm::Es256, b"-----BEGIN EC PRIVATE KEY-----\n", "openssl pkcs8"),
        (TokenAlgorithm::Hs256, b"thirty-one-bytes-are-not-enough", "at least 32 bytes"),
    ] {
        let error = from_file(algorithm, &write_key(dir.path(), "key.pem", key)).unwrap_err().to_string();
        assert!(error.contains("key.pem: ") && error.contains(why), "{error}");
    }
    assert!(from_file(TokenAlgorithm::Hs256, &write_key(dir.path(), "key", SECRET.as_bytes())).is_ok());
}

#[test]
fn a_readable_private_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = write_key(dir.path(), "key.pem", &Keys::make_ed25519_pem());
    assert!(from_file(TokenAlgorithm::EdDsa, &path).is_ok());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(from_file(TokenAlgorithm::EdDsa, &path).unwrap_err().to_string().contains("chmod o-r"));
}

#[test]
fn a_replaced_key_is_taken_over_and_a_broken_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = write_key(dir.path(), "key.pem", &Keys::make_ed25519_pem());
    let auth = from_file(TokenAlgorithm::EdDsa, &path).unwrap();
    let old = auth.issue(&Grant::to(alice()), Duration::from_secs(60), NOW).unwrap().token;
    assert!(!auth.reload().unwrap(), "nothing has changed");

    write_key(dir.path(), "key.pem", b"half a key");
    assert!(auth.reload().is_err());
    assert!(auth.verify(&old, NOW).is_ok(), "the old key stays");

    write_key(dir.path(), "key.pem", &Keys::make_ed25519_pem());
    assert!(auth.clone().reload().unwrap());
    assert!(auth.verify(&old, NOW).is_err());
    let new = auth.issue(&Grant::to(alice()), Duration::from_secs(60), NOW).unwrap().token;
    assert!(auth.verify(&new, NOW).is_ok());
    assert!(!hs256().reload().unwrap(), "a secret of the environment has no file");
}

#[test]
fn revoked_tokens_devices_and_users_are_refused() {
    let revocation = |subject| Revocation { subject, revoked_ms: NOW + 500, drop_at_ms: NOW + 3_600_000 };
    let auth = hs256();
    let token = token(&claims());
    let identity = auth.verify(&token, NOW).unwrap();
    auth.revoke(&revocation(Subject::Token("t1".into())), NOW);
    assert_eq!(auth.verify(&token, NOW), Err(Rejected::Revoked));
    assert!(auth.is_revoked(&identity, NOW, NOW), "an open session learns of it");

    let phone = DeviceId::parse("phone").unwrap();
    for subject in [Subject::User(alice()), Subject::Device(alice(), phone.clone())] {
        let auth = hs256();
        let grant = Grant { device: Some(phone.clone()), ..Grant::to(alice()) };
        let issue = |at| auth.issue(&grant, Duration::from_secs(3600), at).unwrap().token;
        let before = issue(NOW);
        auth.revoke(&revocation(subject), NOW + 500);
        let after = issue(NOW + 1_000);
        assert_eq!(auth.verify(&before, NOW + 1_000), Err(Rejected::Revoked));
        assert!(auth.verify(&after, NOW + 1_000).is_ok());
    }
}

/// A set of public keys, as an issuer publishes it.
fn key_set(issuers: &[&Auth]) -> String {
    let keys = issuers.iter().flat_map(|issuer| issuer.public_keys()["keys"].as_array().unwrap().clone());
    json!({ "keys": keys.collect::<Vec<_>>() }).to_string()
}

/// Somebody who issues tokens with a key of their own.
fn issuer(dir: &Path, name: &str) -> Auth {
    from_file(TokenAlgorithm::EdDsa, &write_key(dir, name, &Keys::make_ed25519_pem())).unwrap()
}

fn with_published(path: &Path, key_file: Option<PathBuf>) -> Auth {
    let jwks = config::Jwks {
        source: config::JwksSource::File(path.into()),
        ca_file: None,
        refresh_every: Duration::from_secs(300),
    };
    let config = config::Auth { key_file, jwks: Some(jwks), ..settings(TokenAlgorithm::EdDsa) };
    Auth::load(&config, Environment::Production, Path::new("/nonexistent")).unwrap()
}

#[tokio::test]
async fn published_keys_rotate_while_the_old_one_is_still_good() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (issuer(dir.path(), "first.pem"), issuer(dir.path(), "second.pem"));
    let issue = |by: &Auth| by.issue(&Grant::to(alice()), Duration::from_secs(60), NOW).unwrap().token;
    let path = dir.path().join("keys.json");
    std::fs::write(&path, key_set(&[&first])).unwrap();
    let checker = with_published(&path, None);
    let mut now = Instant::now();
    let look = async |at| checker.inner.published.as_ref().unwrap().look_again(at).await;
    assert!(!checker.can_issue() && checker.may_learn_keys());
    assert!(checker.verify(&issue(&first), NOW).is_ok());
    assert_eq!(checker.verify(&issue(&second), NOW), Err(Rejected::UnknownKey));

    // The second key is published beside the first, and found when a token names it.
    std::fs::write(&path, key_set(&[&first, &second])).unwrap();
    look(now).await;
    assert!(checker.verify(&issue(&first), NOW).is_ok() && checker.verify(&issue(&second), NOW).is_ok());

    // What is asked for at once again is not: unknown names cost one look in ten seconds.
    std::fs::write(&path, key_set(&[&second])).unwrap();
    look(now).await;
    look(now + Duration::from_millis(9_999)).await;
    assert!(checker.verify(&issue(&first), NOW).is_ok());
    now += Duration::from_secs(10);
    look(now).await;
    assert_eq!(checker.verify(&issue(&first), NOW), Err(Rejected::UnknownKey), "withdrawn");

    // What cannot be read changes nothing.
    for broken in ["half a se", r#"{"keys":[]}"#] {
        std::fs::write(&path, broken).unwrap();
        now += Duration::from_secs(10);
        look(now).await;
        assert!(checker.verify(&issue(&second), NOW).is_ok());
    }
}

#[test]
fn our_own_key_goes_on_beside_published_ones() {
    let dir = tempfile::tempdir().unwrap();
    let other = issuer(dir.path(), "other.pem");
    let path = dir.path().join("keys.json");
    std::fs::write(&path, key_set(&[&other])).unwrap();
    let own = write_key(dir.path(), "own.pem", &Keys::make_ed25519_pem());
    let auth = with_published(&path, Some(own));
    let issue = |by: &Auth| by.issue(&Grant::to(alice()), Duration::from_secs(60), NOW).unwrap().token;
    assert!(auth.verify(&issue(&auth), NOW).is_ok() && auth.verify(&issue(&other), NOW).is_ok());
    assert_eq!(auth.verify(&issue(&issuer(dir.path(), "third.pem")), NOW), Err(Rejected::UnknownKey));
    assert_eq!(auth.public_keys()["keys"].as_array().unwrap().len(), 1, "only our own is ours to show");
    assert_eq!(hs256().public_keys(), json!({ "keys": [] }), "a shared secret is not shown");
}

#[test]
fn a_name_alone_does_not_make_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let (known, forger) = (issuer(dir.path(), "known.pem"), issuer(dir.path(), "forger.pem"));
    let path = dir.path().join("keys.json");
    let mut set: Value = serde_json::from_str(&key_set(&[&known])).unwrap();
    set["keys"][0]["kid"] = forger.public_keys()["keys"][0]["kid"].clone();
    std::fs::write(&path, set.to_string()).unwrap();
    let forged = forger.issue(&Grant::to(alice()), Duration::from_secs(60), NOW).unwrap().token;
    assert_eq!(with_published(&path, None).verify(&forged, NOW), Err(Rejected::Invalid("wrong signature")));
}
