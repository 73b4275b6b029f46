//! Tokens of an issuer that publishes its keys and changes them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use veza_client::proto::v1::{ErrorCode, Hello};

use crate::carrier::{Carrier, SOON, Stage};
use crate::server::{Start, get};

/// Somebody else who signs tokens.
struct Issuer {
    kid: &'static str,
    pair: Ed25519KeyPair,
}

impl Issuer {
    fn new(kid: &'static str) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).unwrap();
        Self { kid, pair: Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap() }
    }

    fn key(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key().as_ref());
        json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.kid, "use": "sig", "alg": "EdDSA" })
    }

    fn token(&self, user: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": self.kid });
        let claims = json!({ "iss": "veza", "aud": "veza", "sub": user, "iat": now, "exp": now + 600 });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let said = format!("{}.{}", part(&header), part(&claims));
        format!("{said}.{}", URL_SAFE_NO_PAD.encode(self.pair.sign(said.as_bytes()).as_ref()))
    }
}

fn set(issuers: &[&Issuer]) -> String {
    json!({ "keys": issuers.iter().map(|issuer| issuer.key()).collect::<Vec<_>>() }).to_string()
}

/// Whether the token opens a session, or what is said instead.
async fn connects(stage: &Stage, token: String) -> Result<(), (ErrorCode, String)> {
    match stage.try_hello(Hello { token, ..Hello::default() }).await {
        Ok(_) => Ok(()),
        Err(veza_client::Error::Refused(error)) => Err((error.code(), error.message)),
        Err(error) => panic!("{error}"),
    }
}

/// The token opens a session once the server has looked at the keys again.
async fn connects_soon(stage: &Stage, issuer: &Issuer) {
    let begun = std::time::Instant::now();
    while let Err(refused) = connects(stage, issuer.token("alice")).await {
        assert!(begun.elapsed() < SOON, "{refused:?}");
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_in_a_file_rotate_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    let (first, second) = (Issuer::new("2026-01"), Issuer::new("2026-02"));
    std::fs::write(&path, set(&[&first])).unwrap();
    let start = Start::new().variable("AUTH_JWKS_FILE", path.display());
    let stage = Stage::new(start.run(), Carrier::Quic).await;
    assert_eq!(connects(&stage, first.token("alice")).await, Ok(()));
    assert_eq!(connects(&stage, stage.token("alice").await).await, Ok(()), "the server's own key goes on beside it");

    // Both are published while tokens of the first are still about.
    std::fs::write(&path, set(&[&first, &second])).unwrap();
    assert_eq!(
        connects(&stage, second.token("alice")).await,
        Ok(()),
        "a token that names a new key makes it be looked for"
    );
    assert_eq!(connects(&stage, first.token("alice")).await, Ok(()));

    let stranger = Issuer { kid: "2026-02", ..Issuer::new("") };
    let (code, sentence) = connects(&stage, stranger.token("alice")).await.unwrap_err();
    assert_eq!((code, sentence.as_str()), (ErrorCode::Unauthenticated, "the token is not valid"));
    let unknown = connects(&stage, Issuer::new("2027-01").token("alice")).await.unwrap_err();
    assert_eq!(unknown, (ErrorCode::Unauthenticated, "the token names a key that is not known here".into()));

    // A key that is withdrawn is refused once the file was looked at; the others stay.
    std::fs::write(&path, set(&[&second])).unwrap();
    let begun = std::time::Instant::now();
    while connects(&stage, first.token("alice")).await.is_ok() {
        assert!(begun.elapsed() < SOON, "the key is still believed");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert_eq!(connects(&stage, second.token("alice")).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_at_an_address_rotate_and_outlive_its_failures() {
    let (first, second, third) = (Issuer::new("a"), Issuer::new("b"), Issuer::new("c"));
    let site = Site::start(set(&[&first]), None).await;
    let start = Start::new().variable("AUTH_JWKS_URL", &site.url).variable("AUTH_JWKS_REFRESH_SECONDS", 86_400);
    let stage = Stage::new(start.run(), Carrier::WebSocketProto).await;
    assert_eq!((connects(&stage, first.token("alice")).await, site.asked()), (Ok(()), 1));

    site.says(200, set(&[&first, &second]));
    assert_eq!((connects(&stage, second.token("alice")).await, site.asked()), (Ok(()), 2));
    // A name that nobody has costs one look in ten seconds, however many come with it.
    for _ in 0..5 {
        assert!(connects(&stage, Issuer::new("nobody").token("mallory")).await.is_err());
    }
    assert_eq!(site.asked(), 2);

    // While the address fails, what was known stays; when it is back, what is new is found.
    for (status, body) in [(500, "{}"), (200, "half a se"), (302, "")] {
        site.says(status, body.into());
        assert_eq!(connects(&stage, first.token("alice")).await, Ok(()));
    }
    site.says(200, set(&[&second, &third]));
    connects_soon(&stage, &third).await;
    assert!(connects(&stage, first.token("alice")).await.is_err(), "withdrawn");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_starts_though_the_keys_cannot_be_read_yet() {
    let issuer = Issuer::new("a");
    let site = Site::start(String::new(), None).await;
    site.says(503, String::new());
    let stage = Stage::new(Start::new().variable("AUTH_JWKS_URL", &site.url).run(), Carrier::Quic).await;
    assert!(connects(&stage, issuer.token("alice")).await.is_err());
    site.says(200, set(&[&issuer]));
    connects_soon(&stage, &issuer).await;
    let scrape = get(stage.process.metrics, "/metrics", "").body;
    for counted in ["veza_jwks_reads_total{outcome=\"failed\"}", "veza_jwks_reads_total{outcome=\"ok\"}"] {
        assert!(scrape.contains(counted), "{counted} in\n{scrape}");
    }
    assert!(scrape.contains("veza_auth_total{outcome=\"unknown_key\"}"), "{scrape}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_with_tls_is_believed_by_its_authority() {
    let issuer = Issuer::new("a");
    let dir = tempfile::tempdir().unwrap();
    let site = Site::start(set(&[&issuer]), Some(dir.path())).await;
    let ca = dir.path().join("ca.pem");
    let start = Start::new().variable("AUTH_JWKS_URL", &site.url);
    let stage = Stage::new(start.clone().variable("AUTH_JWKS_CA_FILE", ca.display()).run(), Carrier::Quic).await;
    assert_eq!(connects(&stage, issuer.token("alice")).await, Ok(()));
    let stage = Stage::new(start.run(), Carrier::Quic).await;
    assert!(connects(&stage, issuer.token("alice")).await.is_err(), "the platform's authorities do not know it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_shows_the_key_of_its_own_tokens() {
    let stage = Stage::new(Start::new().run(), Carrier::Quic).await;
    let answer = get(stage.process.http, "/.well-known/jwks.json", "");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.head.contains("content-type: application/jwk-set+json"), "{}", answer.head);
    let shown: Value = serde_json::from_str(&answer.body).unwrap();
    let key = &shown["keys"][0];
    let token = stage.token("alice").await;
    let (said, signature) = token.rsplit_once('.').unwrap();
    let header = URL_SAFE_NO_PAD.decode(said.split('.').next().unwrap()).unwrap();
    let header: BTreeMap<String, Value> = serde_json::from_slice(&header).unwrap();
    assert_eq!(header["kid"], key["kid"], "a token names the key that is shown");
    let public = URL_SAFE_NO_PAD.decode(key["x"].as_str().unwrap()).unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    UnparsedPublicKey::new(&ED25519, public).verify(said.as_bytes(), &signature).unwrap();
    assert!(!answer.body.contains("\"d\""), "nothing of the private key");

    let secret = Start::new().roomy().run();
    assert_eq!(get(secret.http, "/.well-known/jwks.json", "").body, r#"{"keys":[]}"#);
}

/// Where an issuer publishes its keys.
struct Site {
    url: String,
    answer: Arc<Mutex<(u16, String)>>,
    asked: Arc<AtomicUsize>,
}

impl Site {
    /// With a directory it has TLS, and its authority is `ca.pem` in there.
    async fn start(body: String, tls: Option<&Path>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/keys", listener.local_addr().unwrap());
        let acceptor = tls.map(|dir| super::callbacks::acceptor(dir, false));
        let site = Self { url, answer: Arc::new(Mutex::new((200, body))), asked: Arc::default() };
        let (answer, asked) = (Arc::clone(&site.answer), Arc::clone(&site.asked));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                asked.fetch_add(1, Ordering::SeqCst);
                let (status, body) = answer.lock().unwrap().clone();
                match &acceptor {
                    None => serve(socket, status, &body).await,
                    Some(acceptor) => {
                        if let Ok(socket) = acceptor.accept(socket).await {
                            serve(socket, status, &body).await;
                        }
                    }
                }
            }
        });
        site
    }

    fn says(&self, status: u16, body: String) {
        *self.answer.lock().unwrap() = (status, body);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn serve(mut socket: impl AsyncRead + AsyncWrite + Unpin, status: u16, body: &str) {
    let mut request = [0; 4_096];
    if socket.read(&mut request).await.is_ok_and(|read| read > 0) {
        let length = body.len();
        let head = format!("HTTP/1.1 {status} Said\r\nlocation: /elsewhere\r\ncontent-length: {length}\r\n\r\n");
        let _gone = socket.write_all(format!("{head}{body}").as_bytes()).await;
        let _gone = socket.flush().await;
    }
}
