//! The proxy with real sockets on loopback. What is asserted never depends on how fast this machine is: what arrives, in
//! which order, from which port, and no earlier than it may.

#![expect(clippy::unwrap_used, reason = "what does not come as it must fails the test that wanted it")]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use veza_impair::{Both, Options, Proxy, Stats, Trace};

const SOON: Duration = Duration::from_secs(20);

fn trace(text: &str) -> Trace {
    text.parse().unwrap()
}

async fn udp_socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// What must come about, or the test fails.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("it does not come about")
}

/// Waits until the proxy has counted it.
async fn until(proxy: &Proxy, counted: impl Fn(&Stats) -> bool) {
    soon(async {
        while !counted(&proxy.stats()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

async fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2_000];
    let (len, from) = soon(socket.recv_from(&mut buffer)).await.unwrap();
    (buffer[..len].to_vec(), from)
}

/// A server, a client, and the proxy between them.
async fn between(text: &str) -> (UdpSocket, UdpSocket, Proxy) {
    let (server, to) = udp_socket().await;
    let proxy = Proxy::start(Options::new(to, trace(text))).await.unwrap();
    let (client, _) = udp_socket().await;
    client.connect(proxy.address()).await.unwrap();
    (server, client, proxy)
}

#[tokio::test]
async fn datagrams_go_both_ways_in_order_and_no_earlier_than_they_may() {
    let (server, client, proxy) = between("delay=30ms jitter=10ms").await;
    let began = Instant::now();
    for number in 0..20_u8 {
        client.send(&[number; 100]).await.unwrap();
    }
    for number in 0..20_u8 {
        let (packet, from) = receive(&server).await;
        assert_eq!(packet, [number; 100]);
        assert!(began.elapsed() >= Duration::from_millis(30));
        server.send_to(&[number], from).await.unwrap();
    }
    for number in 0..20_u8 {
        assert_eq!(receive(&client).await.0, [number]);
    }
    assert!(began.elapsed() >= Duration::from_millis(60));
    let stats = proxy.stats();
    assert_eq!((stats.sides.up.counts.delivered, stats.sides.down.counts.delivered, stats.clients), (20, 20, 1));
    assert_eq!(stats.sides.up.profile, "delay=30ms jitter=10ms");
}

#[tokio::test]
async fn both_ways_can_be_different() {
    let (server, client, proxy) = between("clear").await;
    proxy.follow(Both { up: trace("clear"), down: trace("loss=100%") });
    client.send(b"question").await.unwrap();
    let (_, from) = receive(&server).await;
    server.send_to(b"lost", from).await.unwrap();
    until(&proxy, |stats| stats.sides.down.counts.lost > 0).await;
    proxy.follow(Both { up: trace("clear"), down: trace("clear") });
    client.send(b"question").await.unwrap();
    receive(&server).await;
    server.send_to(b"answer", from).await.unwrap();
    assert_eq!(receive(&client).await.0, b"answer");
}

#[tokio::test]
async fn a_rebound_client_comes_from_another_port_and_is_answered_there() {
    let (server, client, proxy) = between("clear").await;
    client.send(b"before").await.unwrap();
    let (_, before) = receive(&server).await;
    proxy.rebind();
    // Nothing tells when the new port is there but what comes from it.
    let after = soon(async {
        loop {
            client.send(b"after").await.unwrap();
            let (_, from) = receive(&server).await;
            if from != before {
                return from;
            }
        }
    })
    .await;
    server.send_to(b"to the old port", before).await.unwrap();
    server.send_to(b"to the new port", after).await.unwrap();
    assert_eq!(receive(&client).await.0, b"to the new port");
}

#[tokio::test]
async fn a_trace_rebinds_when_it_says() {
    let (server, client, _proxy) = between("clear for 50ms, rebind").await;
    let mut ports = BTreeSet::new();
    soon(async {
        while ports.len() < 2 {
            client.send(b"where am I?").await.unwrap();
            ports.insert(receive(&server).await.1);
        }
    })
    .await;
}

#[tokio::test]
async fn every_client_has_a_port_of_its_own_up_to_the_bound() {
    let (server, to) = udp_socket().await;
    let options = Options { clients_max: 2, ..Options::new(to, trace("clear")) };
    let proxy = Proxy::start(options).await.unwrap();
    let mut ports = Vec::new();
    for number in 0..2 {
        let (client, _) = udp_socket().await;
        client.send_to(&[number], proxy.address()).await.unwrap();
        ports.push(receive(&server).await.1);
    }
    assert_ne!(ports[0], ports[1]);
    let (third, _) = udp_socket().await;
    third.send_to(b"too many", proxy.address()).await.unwrap();
    until(&proxy, |stats| stats.refused > 0).await;
    assert_eq!(proxy.stats().clients, 2);
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_no_end() {
    let (server, to) = udp_socket().await;
    drop(server);
    let proxy = Proxy::start(Options { tcp: false, ..Options::new(to, trace("clear")) }).await.unwrap();
    let (client, _) = udp_socket().await;
    client.connect(proxy.address()).await.unwrap();
    for _ in 0..5 {
        client.send(b"to nobody").await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let server = UdpSocket::bind(to).await.unwrap();
    client.send(b"to somebody").await.unwrap();
    soon(async { while receive(&server).await.0 != b"to somebody" {} }).await;
}

/// A connection through the proxy, from both ends.
async fn connected(text: &str) -> (TcpStream, TcpStream, Proxy) {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let proxy = Proxy::start(Options::new(server.local_addr().unwrap(), trace(text))).await.unwrap();
    let client = TcpStream::connect(proxy.address()).await.unwrap();
    let (accepted, _) = soon(server.accept()).await.unwrap();
    (client, accepted, proxy)
}

#[tokio::test]
async fn a_stream_arrives_whole_however_much_is_lost() {
    let (mut client, mut server, proxy) = connected("4M delay=1ms loss=5% reorder=10%+5ms duplicate=10%").await;
    let sent: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
    let writing = async {
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
    };
    let mut came = Vec::new();
    let (read, ()) = tokio::join!(server.read_to_end(&mut came), writing);
    read.unwrap();
    assert!(came == sent);
    assert!(proxy.stats().sides.up.counts.stalls > 0);
    // The other direction is still open.
    server.write_all(b"got it").await.unwrap();
    drop(server);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"got it");
}

#[tokio::test]
async fn a_bottleneck_takes_as_long_for_a_stream_as_it_says() {
    let (mut client, mut server, _proxy) = connected("400k").await;
    let began = Instant::now();
    client.write_all(&[0; 10_000]).await.unwrap();
    server.read_exact(&mut [0; 10_000]).await.unwrap();
    // 80,000 bits.
    assert!(began.elapsed() >= Duration::from_millis(199));
}

#[tokio::test]
async fn a_stream_that_nothing_gets_through_stops_its_sender() {
    let (client, mut server, proxy) = connected("0 queue=3kB").await;
    let mut taken = 0;
    // Until the kernel takes no more for a while: how much that is depends on its buffers, not on the time.
    let idle = Duration::from_millis(300);
    while tokio::time::timeout(idle, client.writable()).await.is_ok() {
        taken += client.try_write(&[0; 1_000]).unwrap_or_default();
        assert!(taken < 64_000_000, "the proxy takes whatever comes");
    }
    assert!(proxy.stats().sides.up.counts.bytes < 3_000 + 2 * 1_460, "{:?}", proxy.stats());
    proxy.follow(Both { up: trace("clear"), down: trace("clear") });
    let mut came = vec![0; taken];
    soon(server.read_exact(&mut came)).await.unwrap();
}

#[tokio::test]
async fn one_end_that_goes_takes_the_other_along() {
    let (client, mut server, _proxy) = connected("delay=1ms").await;
    drop(client);
    assert_eq!(soon(server.read(&mut [0; 10])).await.unwrap(), 0);
}

#[tokio::test]
async fn udp_and_tcp_have_the_same_port_unless_it_is_taken() {
    let (_server, to) = udp_socket().await;
    let proxy = Proxy::start(Options::new(to, trace("clear"))).await.unwrap();
    assert!(TcpStream::connect(proxy.address()).await.is_ok());
    let options = Options { listen: proxy.address(), ..Options::new(to, trace("clear")) };
    let taken = Proxy::start(options).await.err().unwrap();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn what_happened_is_told_as_json() {
    let (server, client, proxy) = between("1M queue=200ms").await;
    client.send(&[0; 1_000]).await.unwrap();
    receive(&server).await;
    let told = serde_json::to_value(proxy.stats()).unwrap();
    assert_eq!(
        (&told["clients"], &told["up"]["delivered"], &told["up"]["bytes"]),
        (&1.into(), &1.into(), &1_000.into())
    );
    assert_eq!(told["down"]["profile"], "1M queue=200ms");
}
