//! The port as a client meets it that speaks HTTP/2 by hand: what libraries keep to by themselves is left to the server.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::service::Routes;

use super::*;
use crate::config::{Environment, Secret, Services};
use crate::gateway::access::Access;
use crate::transport::tls::mutual::tests::made;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// RFC 9113, sections 6.5.2 and 7.
const MAX_CONCURRENT_STREAMS: [u8; 2] = [0, 3];
const MAX_HEADER_LIST_SIZE: [u8; 2] = [0, 6];
const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];

/// A port with health behind it, and what ends it.
struct House {
    address: SocketAddr,
    tasks: Tasks,
}

impl Drop for House {
    fn drop(&mut self) {
        self.tasks.token().cancel();
    }
}

async fn house(bounds: Bounds, tls: Option<Arc<Mutual>>) -> House {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, tasks, dir) = (socket.local_addr().unwrap(), Tasks::new(), tempfile::tempdir().unwrap());
    let token = Services::Token(Secret::new("t".repeat(32)));
    let access = Access::load(&token, Environment::Production, dir.path()).unwrap().unwrap();
    let (_reporter, health) = tonic_health::server::health_reporter();
    let door = Door::new(Routes::new(health), access);
    let listener = Listener { socket, tls, door, bounds, tasks: tasks.clone() };
    tasks.spawn("gateway", listener.run(tasks.token()));
    House { address, tasks }
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

struct Client(TcpStream);

impl Client {
    async fn connect(house: &House) -> Self {
        let mut stream = TcpStream::connect(house.address).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut client = Self(stream);
        client.say(SETTINGS, 0, 0, &[]).await;
        client
    }

    async fn say(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.write_all(&frame).await.unwrap();
    }

    /// The next frame; `None` at the end of the connection. The server's settings are taken note of.
    async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let frame = Frame { kind: head[3], flags: head[4], stream, payload };
        if frame.kind == SETTINGS && frame.flags & ACK == 0 {
            self.say(SETTINGS, ACK, 0, &[]).await;
        }
        Some(frame)
    }

    /// The next frame of this kind.
    async fn until(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().await.expect("the connection has ended");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Asks whether the server is there, and waits until it says so.
    async fn ping(&mut self) {
        self.say(PING, 0, 0, b"anybody?").await;
        while self.until(PING).await.flags & ACK == 0 {}
    }

    /// Begins a call that is never done: whether the server is well, from now on.
    async fn watch(&mut self, stream: u32) {
        let path = b"/grpc.health.v1.Health/Watch";
        // :method POST, :scheme http, :path, content-type, te (RFC 7541, section 6).
        let mut headers = vec![0x83, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
        headers.extend(path);
        headers.extend([0x0f, 0x10, 16]);
        headers.extend(b"application/grpc");
        headers.extend([0x00, 2, b't', b'e', 8]);
        headers.extend(b"trailers");
        self.say(HEADERS, END_HEADERS, stream, &headers).await;
        self.say(DATA, END_STREAM, stream, &[0; 5]).await;
    }
}

fn setting(settings: &Frame, which: [u8; 2]) -> Option<u32> {
    let found = settings.payload.chunks(6).find(|setting| setting[..2] == which)?;
    Some(u32::from_be_bytes([found[2], found[3], found[4], found[5]]))
}

#[tokio::test]
async fn connections_at_their_bound_and_one_more() {
    let house = house(Bounds { connections: 3, ..Bounds::default() }, None).await;
    let mut served = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(&house).await;
        client.until(SETTINGS).await;
        served.push(client);
    }
    let mut more = Client::connect(&house).await;
    for _ in 0..20 {
        served[0].ping().await;
        assert!(futures_util::poll!(std::pin::pin!(more.0.readable())).is_pending(), "one too many is served");
    }
    drop(served.pop());
    more.until(SETTINGS).await;
    served[0].ping().await;
}

#[tokio::test]
async fn calls_of_one_connection_at_their_bound_and_one_more() {
    let house = house(Bounds::default(), None).await;
    let mut client = Client::connect(&house).await;
    let settings = client.until(SETTINGS).await;
    assert_eq!(setting(&settings, MAX_CONCURRENT_STREAMS), Some(STREAMS_MAX));
    assert_eq!(setting(&settings, MAX_HEADER_LIST_SIZE), Some(HEADERS_BYTES_MAX));
    for nth in 0..STREAMS_MAX {
        client.watch(2 * nth + 1).await;
        assert_eq!(client.until(HEADERS).await.stream, 2 * nth + 1);
    }
    let more = 2 * STREAMS_MAX + 1;
    client.watch(more).await;
    let refused = client.until(RST_STREAM).await;
    assert_eq!((refused.stream, refused.payload.as_slice()), (more, REFUSED_STREAM.as_slice()));
    // One is given up, and there is room for another.
    client.say(RST_STREAM, 0, 1, &[0, 0, 0, 8]).await;
    client.watch(more + 2).await;
    assert_eq!(client.until(HEADERS).await.stream, more + 2);
}

#[tokio::test]
async fn a_handshake_that_is_not_begun_in_time_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let files = made(dir.path(), "gateway.internal");
    let tls = Mutual::load(&files, None, b"h2", std::time::SystemTime::now()).unwrap();
    let bounds = Bounds { handshake: Duration::from_millis(200), ..Bounds::default() };
    let house = house(bounds, Some(tls)).await;
    let begun = Instant::now();
    let mut silent = TcpStream::connect(house.address).await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(20), silent.read(&mut [0; 1])).await;
    assert_eq!(end.expect("it goes on for ever").unwrap(), 0);
    assert!(begun.elapsed() >= bounds.handshake, "it had no time");
}

#[tokio::test]
async fn a_connection_that_does_not_answer_is_ended() {
    let every = Duration::from_millis(50);
    let keeping = |keep_alive_within| Bounds { keep_alive_every: every, keep_alive_within, ..Bounds::default() };
    let within = Duration::from_millis(200);
    let (hasty, begun) = (house(keeping(within), None).await, Instant::now());
    let mut silent = Client::connect(&hasty).await;
    silent.until(PING).await;
    let end = async { while silent.next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(20), end).await.expect("it goes on for ever");
    assert!(begun.elapsed() >= every + within, "it had no time: {:?}", begun.elapsed());

    let patient = house(keeping(Duration::from_secs(60)), None).await;
    let mut alive = Client::connect(&patient).await;
    for _ in 0..3 {
        let asked = alive.until(PING).await;
        assert_eq!(asked.flags & ACK, 0);
        alive.say(PING, ACK, 0, &asked.payload).await;
    }
    alive.watch(1).await;
    assert_eq!(alive.until(HEADERS).await.stream, 1);
}
