//! Where webhooks may lead.

use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use veza_client::proto::gateway::v1::*;

use super::super::bad_field;
use super::*;
use crate::carrier::SOON;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_addresses_are_refused_when_they_are_written() {
    let (_stage, backend) = stage_of(Start::new()).await;
    let (made, _) = backend.webhook("https://hooks.example/veza").await;
    for url in [
        "http://hooks.example/",
        "https://127.0.0.1:8443/",
        "https://localhost/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://192.168.1.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://100.64.0.1/",
        "https://user:password@hooks.example/",
        "https://hooks.example/#there",
        "",
    ] {
        let create = CreateWebhookRequest { url: url.into(), ..Default::default() };
        assert_eq!(bad_field(backend.webhooks().create_webhook(create).await), "url", "{url}");
        let update = Webhook { id: made.id.clone(), url: url.into(), ..Default::default() };
        assert_eq!(bad_field(backend.update(update, "url").await), "webhook.url", "{url}");
    }
    assert_eq!(backend.stands(&made.id).await.url, "https://hooks.example/veza");
}

/// What was allowed once is looked at again with every attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_addresses_are_not_called_where_they_are_not_allowed() {
    let receiver = Receiver::start(|_, _| Reply::Taken).await;
    let mut process = at_home().settled().run();
    let _kept = process.keep_data();
    let backend = Backend::of(&process).await;
    backend.room("lounge", "alice", &[]).await;
    let plain = backend.of_messages(&receiver.url("/")).await;
    let encrypted = backend.of_messages(&format!("https://{}/", receiver.address)).await;
    process.kill();
    let process = process.again().variable("WEBHOOKS_GIVE_UP_SECONDS", 0).run();
    let backend = Backend::of(&process).await;
    backend.say("lounge", "alice", "k1", "hello").await;
    for (id, why) in
        [(&plain.id, "an address begins with https://"), (&encrypted.id, "the address leads to no public network")]
    {
        let stands = backend.until(id, |webhook| webhook.dead_letters == 1).await;
        assert_eq!(stands.last_outcome, why);
    }
    assert_eq!(receiver.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_is_not_followed() {
    let elsewhere = Receiver::start(|_, _| Reply::Taken).await;
    let to = elsewhere.address;
    let receiver = Receiver::start(move |_, _| Reply::Elsewhere(to)).await;
    let (_stage, backend) = stage_of(impatient()).await;
    backend.room("lounge", "alice", &[]).await;
    let made = backend.of_messages(&receiver.url("/")).await;
    backend.say("lounge", "alice", "k1", "hello").await;
    let stands = backend.until(&made.id, |webhook| webhook.dead_letters == 1).await;
    assert_eq!(stands.last_outcome, "status 307, which is not followed");
    assert_eq!((receiver.count(), elsewhere.count()), (1, 0));
}

/// By https to whom the authority has named, and to nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_shows_a_certificate_for_its_name() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let authority = dir.path().join("ca.pem");
    std::fs::write(&authority, certificate.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let receiving = tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            // Who does not believe it hangs up.
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            let mut asked = Vec::new();
            while !asked.ends_with(b"}") {
                if stream.read_buf(&mut asked).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            if asked.ends_with(b"}") {
                stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.unwrap();
                return String::from_utf8(asked).unwrap();
            }
        }
    });
    let (_stage, backend) = stage_of(impatient().variable("WEBHOOKS_CA_FILE", authority.display())).await;
    backend.room("lounge", "alice", &[]).await;
    let wrong = backend.of_messages(&format!("https://127.0.0.1:{port}/")).await;
    backend.say("lounge", "alice", "k1", "hello").await;
    let refused = backend.until(&wrong.id, |webhook| webhook.dead_letters == 1).await;
    assert!(refused.last_outcome.starts_with("TLS failed: "), "{refused:?}");
    let right = backend.of_messages(&format!("https://localhost:{port}/")).await;
    backend.say("lounge", "alice", "k2", "hello").await;
    let asked = tokio::time::timeout(SOON, receiving).await.unwrap().unwrap();
    assert!(asked.contains(&format!("veza-webhook-id: {}-", right.id)), "{asked}");
    backend.until(&right.id, |webhook| webhook.position == webhook.head).await;
}
