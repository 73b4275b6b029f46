//! Who may call, and how they show who they are.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio_rustls::rustls::{self, RootCertStore};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt;
use veza::rpc::rooms_client::RoomsClient;
use veza_client::proto::gateway::v1::*;

use super::{Backend, refusal};
use crate::server::{Process, Start};

const TOKEN: &str = "a-token-of-the-tests-which-nobody-guesses";

fn services(dir: &Path, services: serde_json::Value) -> String {
    let path = dir.join("services.json");
    std::fs::write(&path, serde_json::json!({ "services": services }).to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn sha256(text: &str) -> String {
    digest::digest(&digest::SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn get() -> GetRoomRequest {
    GetRoomRequest { room: "lobby".into(), actor: "alice".into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_known_by_its_token_and_does_what_its_scopes_say() {
    let dir = tempfile::tempdir().unwrap();
    let bot = serde_json::json!([{ "name": "bot", "token_sha256": sha256(TOKEN), "scopes": ["rooms.read"] }]);
    let process = Start::new().variable("GRPC_SERVICES_FILE", services(dir.path(), bot)).run();
    for wrong in [None, Some("another-token-which-nobody-knows-either"), Some("")] {
        let refused = Backend::with(&process, wrong).await.rooms().get_room(get()).await;
        assert_eq!(refusal(refused), (Code::Unauthenticated, "SERVICE_UNKNOWN".into()), "{wrong:?}");
    }
    let bot = Backend::with(&process, Some(TOKEN)).await;
    bot.rooms().get_room(get()).await.unwrap();
    let refused = bot.rooms().archive_room(ArchiveRoomRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let info = refused.get_details_error_info().unwrap();
    let scope = HashMap::from([("scope".to_owned(), "rooms.write".to_owned())]);
    assert_eq!((info.reason.as_str(), info.metadata), ("SCOPE_MISSING", scope));
    // It may speak for users, not for itself.
    let itself = bot.rooms().get_room(GetRoomRequest { actor: String::new(), ..get() }).await.unwrap_err();
    assert_eq!(itself.get_details_error_info().unwrap().metadata["scope"], "service");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn production_serves_it_only_to_services_that_are_named() {
    let (_kept, process) = production(&[]);
    assert_eq!(process.gateway, 0);
    assert!(process.said().iter().any(|line| line.contains("no gateway")));
    let (_kept, process) = production(&[("GRPC_TOKEN", TOKEN)]);
    Backend::with(&process, Some(TOKEN)).await.rooms().list_rooms(ListRoomsRequest::default()).await.unwrap();
    let said = process.said().join("\n");
    assert!(!said.contains(TOKEN), "a token is written down");
}

/// A production server with certificates of its own.
fn production(variables: &[(&str, &str)]) -> (tempfile::TempDir, Process) {
    let dir = tempfile::tempdir().unwrap();
    let issuer = Issued::new();
    let (cert, key) = issuer.leaf(dir.path(), "server", "localhost");
    let mut start = Start::new()
        .roomy()
        .variable("ENVIRONMENT", "production")
        .variable("TLS_CERT_FILE", cert)
        .variable("TLS_KEY_FILE", key)
        .variable("VEZA_ALLOWED_ORIGINS", "https://veza.example");
    for (name, value) in variables {
        start = start.variable(name, value);
    }
    (dir, start.run())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_known_by_its_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Issued::new(), Issued::new());
    let (cert, key) = ours.leaf(dir.path(), "server", "localhost");
    let shop = serde_json::json!([
        { "name": "shop", "certificate": "shop.internal", "scopes": ["rooms.read", "service"] },
        { "name": "bot", "token_sha256": sha256(TOKEN), "scopes": ["rooms.read"] },
    ]);
    let process = Start::new()
        .variable("GRPC_SERVICES_FILE", services(dir.path(), shop))
        .variable("GRPC_TLS_CERT_FILE", &cert)
        .variable("GRPC_TLS_KEY_FILE", &key)
        .variable("GRPC_TLS_CLIENT_CA_FILE", ours.file(dir.path()))
        .run();
    let known = connect(&process, &ours, Some(ours.identity("shop.internal"))).await.unwrap();
    let itself = || GetRoomRequest { actor: String::new(), ..get() };
    RoomsClient::new(known).get_room(itself()).await.unwrap();
    // One that nobody named, and none at all: the token decides, and there is none.
    for identity in [Some(ours.identity("cafe.internal")), None] {
        let channel = connect(&process, &ours, identity).await.unwrap();
        let refused = RoomsClient::new(channel.clone()).get_room(itself()).await;
        assert_eq!(refusal(refused), (Code::Unauthenticated, "SERVICE_UNKNOWN".into()));
        let mut request = tonic::Request::new(get());
        request.metadata_mut().insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
        RoomsClient::new(channel).get_room(request).await.unwrap();
    }
    // A certificate of somebody else's authority is no certificate.
    let forged = connect(&process, &ours, Some(theirs.identity("shop.internal"))).await;
    let refused = match forged {
        Err(_handshake) => true,
        Ok(channel) => RoomsClient::new(channel).get_room(itself()).await.is_err(),
    };
    assert!(refused);
    let plain = Endpoint::from_shared(format!("http://127.0.0.1:{}", process.gateway)).unwrap();
    let plain = match plain.connect().await {
        Err(_refused) => return,
        Ok(channel) => channel,
    };
    assert!(RoomsClient::new(plain).get_room(get()).await.is_err(), "nothing is said without TLS");
}

/// A certificate authority of a test.
struct Issued {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Issued {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn file(&self, dir: &Path) -> String {
        write(dir, "ca.crt", &self.certificate.pem())
    }

    fn signed(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn leaf(&self, dir: &Path, file: &str, name: &str) -> (String, String) {
        let (certificate, key) = self.signed(name);
        let paths = [(format!("{file}.crt"), certificate.pem()), (format!("{file}.key"), key.serialize_pem())];
        let [cert, key] = paths.map(|(name, pem)| write(dir, &name, &pem));
        (cert, key)
    }

    fn identity(&self, name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let (certificate, key) = self.signed(name);
        (certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

async fn connect(
    process: &Process,
    trusted: &Issued,
    identity: Option<Identity>,
) -> Result<Channel, tonic::transport::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.certificate.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match identity {
        Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (connector, port) = (TlsConnector::from(Arc::new(config)), process.gateway);
    let connector = tower::service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(("127.0.0.1", port)).await?;
            let name = ServerName::try_from("localhost").unwrap();
            connector.connect(name, stream).await.map(TokioIo::new)
        }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connector).await
}
