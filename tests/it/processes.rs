//! The program as an operator meets it: what it refuses to start with, tokens, production with certificate files, its logs.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use veza_client::proto::v1::{CreateRoom, ErrorCode, Hello, Ping, client_frame::Command as Ask};
use veza_client::{EndpointOptions, Endpoints, Server, ServerError, Trust};

use crate::carrier::{Carrier, Stage};
use crate::server::{Process, Start};

const SECRET: &str = "0123456789abcdef0123456789abcdef-not-for-logs";
const CARRIERS: [Carrier; 3] = [Carrier::WebTransport, Carrier::Quic, Carrier::WebSocketJson];

#[test]
fn a_wrong_configuration_is_told_at_once_and_ends_with_2() {
    let directory = tempfile::tempdir().unwrap();
    let wrong = Start::new()
        .data(directory.path())
        .variable("PORT", "many")
        .variable("WS_PORT", 70_000)
        .variable("ENVIRONMENT", "staging")
        .variable("AUTH_HS256_SECRET", "short-and-secret")
        .variable("VEZA_ALLOWED_ORIGINS", "*")
        .output(&[]);
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert_eq!((wrong.status.code(), wrong.stdout.len()), (Some(2), 0), "{said}");
    for name in ["PORT", "WS_PORT", "ENVIRONMENT", "AUTH_HS256_SECRET", "VEZA_ALLOWED_ORIGINS"] {
        assert!(said.contains(&format!("{name}: ")), "{name} is not named:\n{said}");
    }
    assert!(!said.contains("short-and-secret"), "{said}");
    assert!(!directory.path().join("data").exists(), "something was begun");
}

#[test]
fn production_refuses_what_is_not_safe() {
    let files = Files::make();
    let refused = |start: &Start| {
        let output = start.output(&[]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        said
    };
    let bare = Start::new().data(files.path()).variable("ENVIRONMENT", "production");
    let said = refused(&bare);
    for name in ["TLS_CERT_FILE", "AUTH_KEY_FILE", "VEZA_ALLOWED_ORIGINS"] {
        assert!(said.contains(name), "{name} is not asked for:\n{said}");
    }
    // Keys that everybody may read: of the certificate, and of the tokens.
    for (name, file) in [("TLS_KEY_FILE", "server.key"), ("AUTH_KEY_FILE", "token.key")] {
        allow(&files.0.path().join(file), 0o644);
        let said = refused(&files.production().variable("AUTH_KEY_FILE", files.at("token.key")));
        assert!(said.contains(&format!("{name}: ")) && said.contains("chmod"), "{said}");
        allow(&files.0.path().join(file), 0o600);
    }
}

#[test]
fn one_data_directory_has_one_server() {
    let first = Process::start();
    let second = Start::new().data(&first.data).output(&[]);
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("another server is using this database"), "{said}");
    assert_eq!(first.get("/health/ready").status, 200, "the first one goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn printed_tokens_are_taken_and_foreign_ones_are_not() {
    let files = Files::make();
    let hs256 = hs256(Start::new());
    let eddsa = Start::new().variable("AUTH_KEY_FILE", files.at("token.key"));
    // A server that can only check: it has the public key alone.
    let checking = Start::new().variable("AUTH_KEY_FILE", files.at("token.pub"));
    let tokens = [hs256.clone(), eddsa.clone()].map(|start| token(&start.data(files.path()), "alice"));
    for (server, mine, foreign) in [(hs256, 0, 1), (eddsa, 1, 0), (checking, 1, 0)] {
        let stage = Stage::new(server.run(), Carrier::WebSocketProto).await;
        let hello = |at: usize| Hello { token: tokens[at].clone(), ..Hello::default() };
        let alice = stage.try_hello(hello(mine)).await.unwrap();
        assert_eq!(alice.connection.welcome().user, "alice");
        let refused = stage.try_hello(hello(foreign)).await.err().unwrap();
        assert!(refused.is(ErrorCode::Unauthenticated), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn production_speaks_tls_by_files_and_changes_them_under_its_sessions() {
    let files = Files::make();
    let mut stage = files.stage(hs256(files.production()).run()).await;
    let veza = stage.process.get("/veza.json");
    let veza: serde_json::Value = serde_json::from_str(&veza.body).unwrap();
    assert_eq!((&veza["development"], &veza["certificateHashes"]), (&false.into(), &serde_json::json!([])));
    assert!(veza["websocketUrl"].as_str().unwrap().starts_with("wss://"), "{veza}");
    let login = stage.server.dev_login("alice").await;
    assert!(matches!(login, Err(ServerError::Status { status: 404, .. })), "{login:?}");

    let mut players = Vec::new();
    for carrier in CARRIERS {
        stage.carrier = carrier;
        players.push(stage.try_hello(files.hello()).await.unwrap());
        // Nobody else's certificate will do.
        let strangers = pinned(&[0; 32]);
        let trusted = std::mem::replace(&mut stage.endpoints, strangers);
        assert!(stage.try_hello(files.hello()).await.is_err(), "{carrier:?} talked to a stranger");
        stage.endpoints = trusted;
    }

    let (old, new) = (files.certificate_hash(), {
        files.renew();
        files.certificate_hash()
    });
    assert_ne!(old, new);
    for carrier in CARRIERS {
        stage.carrier = carrier;
        let begun = Instant::now();
        while {
            stage.endpoints = pinned(&new);
            stage.try_hello(files.hello()).await.is_err()
        } {
            assert!(begun.elapsed() < Duration::from_secs(20), "{carrier:?} does not show the new certificate");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        stage.endpoints = pinned(&old);
        assert!(stage.try_hello(files.hello()).await.is_err(), "{carrier:?} still shows the old certificate");
    }
    for player in players {
        player.ask(Ask::Ping(Ping::default())).await.expect("who was there has noticed nothing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn production_logs_are_json_and_tell_no_secrets() {
    let files = Files::make();
    let mut stage = files.stage(hs256(files.production()).variable("RUST_LOG", "debug,veza=trace").run()).await;
    let mut secrets =
        vec![SECRET.to_owned(), "body-that-nobody-may-read".to_owned(), "the-room-s-own-title".to_owned()];
    for carrier in CARRIERS {
        stage.carrier = carrier;
        let hello = files.hello();
        secrets.push(hello.token.clone());
        let mut alice = stage.try_hello(hello).await.unwrap();
        secrets.push(alice.connection.welcome().resume_token.clone());
        let create =
            CreateRoom { room: carrier.label().into(), title: "the-room-s-own-title".into(), ..CreateRoom::default() };
        alice.ask(Ask::CreateRoom(create)).await.unwrap();
        alice.join(carrier.label()).await.unwrap();
        alice.publish(carrier.label(), "c1", "body-that-nobody-may-read").await.unwrap();
        alice.publish(carrier.label(), "c1", "body-that-nobody-may-read, changed").await.unwrap_err();
        assert_eq!(alice.message().await.body, "body-that-nobody-may-read");
        let foreign = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJtYWxsb3J5In0.c2VjcmV0";
        secrets.push(foreign.to_owned());
        assert!(stage.try_hello(Hello { token: foreign.into(), ..Hello::default() }).await.is_err());
    }
    let said = stage.process.said();
    let ended = said.iter().filter(|line| line.contains("a session has ended")).count();
    assert_eq!(ended, 2 * CARRIERS.len(), "{said:#?}");
    for line in &said {
        let event: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        for key in ["timestamp", "level", "service", "version"] {
            assert!(event[key].is_string(), "no {key} in {line}");
        }
        for secret in &secrets {
            assert!(!line.contains(secret.as_str()), "{secret:?} was logged: {line}");
        }
    }
}

/// An authority, a certificate and keys in a directory of their own.
struct Files(tempfile::TempDir);

impl Files {
    fn make() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.renew();
        openssl(&["genpkey", "-algorithm", "ed25519", "-out", &files.at("token.key")]);
        openssl(&["pkey", "-in", &files.at("token.key"), "-pubout", "-out", &files.at("token.pub")]);
        allow(&files.path().join("token.key"), 0o600);
        files
    }

    /// Makes another certificate of the same authority in the place of the last.
    fn renew(&self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("certs/make-ca.sh");
        let made = Command::new(script).args(["-o", &self.at(""), "localhost", "127.0.0.1"]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn at(&self, name: &str) -> String {
        self.path().join(name).display().to_string()
    }

    fn production(&self) -> Start {
        Start::new()
            .data(self.path())
            .variable("ENVIRONMENT", "production")
            .variable("VEZA_ALLOWED_ORIGINS", "https://veza.example")
            .variable("TLS_CERT_FILE", self.at("server.pem"))
            .variable("TLS_KEY_FILE", self.at("server.key"))
    }

    /// The way to a server that runs with these files, trusted by its authority.
    async fn stage(&self, process: Process) -> Stage {
        let server = Server::discover(&process.url()).await.unwrap();
        let authority = std::fs::read(self.at("ca.pem")).unwrap();
        let endpoints = endpoints(Trust::Authorities(authority));
        Stage { process, server, endpoints, carrier: Carrier::WebTransport }
    }

    /// A hello with a token as an operator would print it.
    fn hello(&self) -> Hello {
        Hello { token: token(&hs256(Start::new().data(self.path())), "alice"), ..Hello::default() }
    }

    /// SHA-256 of the server's certificate.
    fn certificate_hash(&self) -> [u8; 32] {
        let certificate = CertificateDer::from_pem_file(self.at("server.pem")).unwrap();
        digest(&SHA256, &certificate).as_ref().try_into().unwrap()
    }
}

fn hs256(start: Start) -> Start {
    start.variable("AUTH_ALGORITHM", "HS256").variable("AUTH_HS256_SECRET", SECRET)
}

/// What `veza token` prints with this configuration.
fn token(start: &Start, user: &str) -> String {
    let printed = start.output(&["token", "--user", user, "--ttl", "10m"]);
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    String::from_utf8(printed.stdout).unwrap().trim_end().to_owned()
}

fn pinned(hash: &[u8; 32]) -> Endpoints {
    endpoints(Trust::Pinned(vec![*hash]))
}

fn endpoints(trust: Trust) -> Endpoints {
    Endpoints::new(&EndpointOptions::new(trust)).unwrap()
}

fn allow(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn openssl(arguments: &[&str]) {
    let made = Command::new("openssl").args(arguments).output().expect("openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
