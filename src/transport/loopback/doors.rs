//! Who gets in: origins, paths, admission, steering, certificates.

use std::collections::HashMap;
use std::net::UdpSocket;

use super::*;
use crate::transport::admission::Pause;
use crate::transport::endpoint::{Endpoints, Entrance, Pressure};
use crate::transport::http;
use crate::transport::origins::Origins;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_paths_and_origins_are_refused() {
    use wtransport::error::ConnectingError::SessionRejected;
    let house = house().await;
    assert!(matches!(house.try_webtransport("/", &[]).await.err(), Some(SessionRejected)));
    assert!(matches!(house.try_webtransport("/wt/x", &[]).await.err(), Some(SessionRejected)));
    for origin in ["null", "https://evil.example", "https://veza.example:444", "http://veza.example"] {
        let refused = house.try_webtransport("/wt", &[("origin", origin)]).await.err();
        assert!(matches!(refused, Some(SessionRejected)), "{origin}: {refused:?}");
    }
    let own = format!("http://localhost:{}", house.addresses.http.port());
    for origin in ["https://veza.example", &own] {
        house.try_webtransport("/wt?x=1", &[("origin", origin)]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_house_refuses_and_a_place_that_is_free_is_given() {
    let house = house_with(|config| config.performance.max_connections = 1).await;
    let first = house.quic().await;
    assert!(house.try_webtransport("/wt", &[]).await.is_err());
    first.connection().close(0u32.into(), b"");
    for _ in 0..100 {
        if house.admissions.admitted() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    house.webtransport().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_draining_nobody_comes_in_and_who_is_in_stays() {
    let house = house().await;
    let client = house.quic().await;
    let mut control = client.open(0).await;
    control.ask(&ping(1)).await;
    house.admissions.pause(Pause::Draining);
    let endpoint = house.quic_endpoint(ALPN_QUIC);
    let refused = endpoint.connect(house.addresses.webtransport, "localhost").unwrap().await.unwrap_err();
    assert!(matches!(refused, quinn::ConnectionError::ConnectionClosed(_)), "{refused}");
    control.ask(&ping(2)).await;
    house.admissions.resume(Pause::Draining);
    house.quic().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_our_protocols_is_refused_by_tls() {
    let house = house().await;
    let endpoint = house.quic_endpoint(b"other");
    assert!(endpoint.connect(house.addresses.webtransport, "localhost").unwrap().await.is_err());
    house.quic().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_spread_over_shards_and_survive_a_new_address() {
    let house = house_with(|config| config.performance.worker_threads = 4).await;
    let mut rebound = 0;
    for _ in 0..16 {
        let endpoint = house.quic_endpoint(ALPN_QUIC);
        let connection = endpoint.connect(house.addresses.webtransport, "localhost").unwrap().await.unwrap();
        let client = Client::Quic { connection, _endpoint: endpoint.clone() };
        let mut control = client.open(0).await;
        control.ask(&ping(1)).await;
        // Other ports make the kernel's own hash choose other sockets; the connection id does not change.
        for id in 2..5 {
            endpoint.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
            control.ask(&ping(id)).await;
            rebound += 1;
        }
    }
    assert_eq!(rebound, 48);
}

/// Endpoints of their own, to look at the shards and to set when pressure begins.
struct Shards {
    house: House,
    endpoints: Vec<quinn::Endpoint>,
    address: SocketAddr,
}

async fn shards(number: usize, pressure: Pressure) -> Shards {
    let mut house = house().await;
    let data = tempfile::tempdir().unwrap();
    let bound = Endpoints::bind(loopback(0), number, &house.certificates, data.path()).unwrap();
    let (address, endpoints) = (bound.address(), bound.shards().to_vec());
    let (tell, heard) = mpsc::channel(4096);
    house.heard = heard;
    let spawner = house.tasks.clone();
    let door: Door = Arc::new(move |admission, link| {
        spawner.spawn("echo", echo(admission, link, tell.clone()));
    });
    let entrance = Entrance::new(
        house.admissions.clone(),
        Origins::default(),
        http::router(Arc::new(Home), house.addresses, PAGE),
        door,
        house.tasks.clone(),
        pressure,
    );
    let stop = house.tasks.token();
    house.tasks.spawn("endpoints", async move { bound.run(Arc::new(entrance), stop).await });
    Shards { house, endpoints, address }
}

impl Shards {
    async fn connect(&self) -> Result<Client, quinn::ConnectionError> {
        let endpoint = self.house.quic_endpoint(ALPN_QUIC);
        let connection = endpoint.connect(self.address, "localhost").unwrap().await?;
        Ok(Client::Quic { connection, _endpoint: endpoint })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_shard_has_its_part() {
    let shards = shards(4, Pressure::default()).await;
    assert_eq!(shards.endpoints.len(), 4);
    let mut held = Vec::new();
    for _ in 0..64 {
        held.push(shards.connect().await.unwrap());
    }
    let by_shard: Vec<usize> = shards.endpoints.iter().map(quinn::Endpoint::open_connections).collect();
    assert_eq!(by_shard.iter().sum::<usize>(), 64);
    assert!(by_shard.iter().all(|connections| *connections >= 4), "{by_shard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_pressure_an_address_is_proved_by_a_retry() {
    let shards = shards(2, Pressure { retry_above: 0, ignore_above: 100 }).await;
    let client = shards.connect().await.unwrap();
    let mut control = client.open(0).await;
    control.ask(&ping(1)).await;
    // The client's first packet was answered by a Retry, so it sent its first flight twice.
    assert!(client.connection().stats().frame_tx.crypto >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_more_pressure_first_packets_are_ignored() {
    let shards = shards(2, Pressure { retry_above: 0, ignore_above: 0 }).await;
    let connected = tokio::time::timeout(Duration::from_millis(500), shards.connect()).await;
    assert!(connected.is_err(), "there was an answer");
    assert_eq!(shards.house.admissions.admitted(), 0);
}

/// Passes packets between one client and the server, each of the client's as often as asked.
async fn proxy(server: SocketAddr, copies: usize) -> SocketAddr {
    let front = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = front.local_addr().unwrap();
    let back = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    back.connect(server).await.unwrap();
    Tasks::new().spawn("proxy", async move {
        let (mut up, mut down) = ([0; 2048], [0; 2048]);
        let mut clients: HashMap<u8, SocketAddr> = HashMap::new();
        loop {
            tokio::select! {
                Ok((len, client)) = front.recv_from(&mut up) => {
                    clients.insert(0, client);
                    for _ in 0..copies {
                        back.send(&up[..len]).await.unwrap();
                    }
                }
                Ok(len) = back.recv(&mut down) => {
                    front.send_to(&down[..len], clients[&0]).await.unwrap();
                }
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicated_first_packets_make_one_connection() {
    for pressure in [Pressure::default(), Pressure { retry_above: 0, ignore_above: 100 }] {
        let mut shards = shards(2, pressure).await;
        shards.address = proxy(shards.address, 3).await;
        let client = shards.connect().await.unwrap();
        let mut control = client.open(0).await;
        control.ask(&ping(1)).await;
        assert_eq!(shards.house.admissions.admitted(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rubbish_on_the_port_disturbs_nobody() {
    let house = house().await;
    let rubbish = UdpSocket::bind("127.0.0.1:0").unwrap();
    for len in [0, 1, 5, 6, 7, 20, 1200] {
        for first in [0x00, 0x40, 0x80, 0xc0, 0xff] {
            let mut packet = vec![0xa5; len];
            packet.iter_mut().take(1).for_each(|byte| *byte = first);
            rubbish.send_to(&packet, house.addresses.webtransport).unwrap();
        }
    }
    let client = house.quic().await;
    client.open(0).await.ask(&ping(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_for_new_connections_and_the_old_ones_stay() {
    let house = house().await;
    let before = house.certificates.hashes();
    let client = house.webtransport().await;
    let mut control = client.open(0).await;
    control.ask(&ping(1)).await;

    // Nothing but the store's clock moves: the certificate that takes over is valid from then on only.
    assert!(house.certificates.refresh(SystemTime::now() + Duration::from_secs(12 * 24 * 60 * 60)));
    assert_eq!(house.certificates.hashes()[0], before[1]);
    control.ask(&ping(2)).await;

    let shown = shown_certificate(&house).await;
    assert_eq!(shown, house.certificates.leaf().as_ref());
    control.ask(&ping(3)).await;
}

/// The certificate a new connection is shown, whatever its dates.
async fn shown_certificate(house: &House) -> Vec<u8> {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut tls = house.tls_client(&[ALPN_QUIC]);
    tls.dangerous().set_certificate_verifier(Arc::new(Note(seen.clone())));
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let endpoint = quinn::Endpoint::client(loopback(0)).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    endpoint.connect_with(config, house.addresses.webtransport, "localhost").unwrap().await.unwrap();
    std::mem::take(&mut *seen.lock().unwrap())
}

/// Notes the certificate and takes it.
#[derive(Debug, Default)]
pub(super) struct Note(Arc<std::sync::Mutex<Vec<u8>>>);

impl rustls::client::danger::ServerCertVerifier for Note {
    fn verify_server_cert(
        &self,
        end_entity: &rustls::pki_types::CertificateDer<'_>,
        _intermediates: &[rustls::pki_types::CertificateDer<'_>],
        _server_name: &rustls::pki_types::ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = end_entity.to_vec();
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &rustls::pki_types::CertificateDer<'_>,
        _dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        rustls::crypto::verify_tls13_signature(message, cert, dss, &provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
