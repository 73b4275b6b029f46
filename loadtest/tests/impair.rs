//! `veza-loadtest impair` before the real server: sessions go on through loss and jitter, and over a change of their address.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "what does not come as it must fails the test that wanted it"
)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use veza_client::proto::v1::Delivery;
use veza_client::{Client, Config, Event, Preference, Server, State, Target, TokenSource, Transport};

const LOADTEST: &str = env!("CARGO_BIN_EXE_veza-loadtest");
const SOON: Duration = Duration::from_secs(60);

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    UdpSocket::bind(("127.0.0.1", port)).unwrap();
    port
}

/// The server that cargo builds with the workspace's tests, on free ports and with data of its own.
async fn server(directory: &Path) -> (Running, Server) {
    let binary = Path::new(LOADTEST).with_file_name("veza");
    assert!(binary.exists(), "no server at {}: `cargo build -p veza` first (make test does)", binary.display());
    let port = free_port();
    let log = std::fs::File::create(directory.join("server.log")).unwrap();
    let mut command = Command::new(binary);
    command.current_dir(directory).env_clear().stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    for name in ["PATH", "HOME", "LD_LIBRARY_PATH"] {
        command.envs(std::env::var(name).ok().map(|value| (name, value)));
    }
    command.env("HOST", "127.0.0.1").env("PORT", port.to_string()).env("VEZA_DATA_DIR", directory);
    command.env("WS_PORT", "0").env("PROMETHEUS_PORT", "0").env("GRPC_PORT", "0");
    let mut running = Running(command.spawn().unwrap());
    let url = format!("http://127.0.0.1:{port}");
    let answers = async {
        loop {
            if let Ok(server) = Server::discover(&url).await {
                return server;
            }
            assert!(running.0.try_wait().unwrap().is_none(), "the server ended: see {}", directory.display());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let server = tokio::time::timeout(SOON, answers).await.expect("the server answers");
    (running, server)
}

struct Impair {
    running: Running,
    lines: Lines<BufReader<ChildStdout>>,
    address: String,
}

impl Impair {
    fn start(to: &str, trace: &str) -> Self {
        let mut command = Command::new(LOADTEST);
        command.args(["impair", "--listen", "127.0.0.1:0", "--to", to, "--profile", trace]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut impair = Self { running: Running(child), lines, address: String::new() };
        impair.address = impair.line()["listening"].as_str().unwrap().to_owned();
        impair
    }

    fn line(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }

    fn order(&mut self, order: &str) {
        writeln!(self.running.0.stdin.as_mut().unwrap(), "{order}").unwrap();
    }

    fn stats(&mut self) -> Value {
        self.order("stats");
        self.line()
    }
}

/// One address of the server, and the same behind the proxy.
fn behind(server: &Server, transport: Transport, trace: &str) -> (Impair, Target) {
    let target = server.target();
    let address = match transport {
        Transport::WebTransport => target.webtransport,
        Transport::Quic => target.quic,
        Transport::WebSocket => target.websocket,
    }
    .unwrap();
    let authority = address.split("//").last().unwrap().split('/').next().unwrap();
    let to = authority.replace("localhost", "127.0.0.1");
    let impair = Impair::start(&to, trace);
    let proxied = Some(address.replace(authority, &impair.address));
    let target = match transport {
        Transport::WebTransport => Target { webtransport: proxied, ..Target::default() },
        Transport::Quic => Target { quic: proxied, ..Target::default() },
        Transport::WebSocket => Target { websocket: proxied, ..Target::default() },
    };
    (impair, target)
}

/// Talks with itself through a bad network, and again after an order to the proxy: everything comes once and in order, on the
/// link it began with.
async fn talk(transport: Transport, order: &str) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let (_running, server) = server(directory.path()).await;
    let (mut impair, target) = behind(&server, transport, "2M delay=5ms jitter=10ms loss=5%");
    let token = server.dev_login("alice").await.unwrap();
    let mut config = Config::new(server.endpoints().unwrap(), target, TokenSource::fixed(token));
    config.options.preference = Preference::Only(transport);
    let (client, mut events) = Client::start(config);
    client.join("lobby", Delivery::Unspecified).await.unwrap();
    let mut published = Vec::new();
    for number in 0..40 {
        if number == 20 {
            impair.order(order);
        }
        published.push(client.publish("lobby", &format!("message {number}")).await.unwrap().seq);
    }
    let mut seen = BTreeSet::new();
    let everything = async {
        while seen.len() < published.len() {
            match events.recv().await.unwrap() {
                Event::Message(message) if message.body.starts_with("message ") => {
                    assert!(seen.insert(message.seq), "{} came twice", message.seq);
                }
                Event::State(State::Reconnecting { why, .. }) => panic!("the link was lost: {why}"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(SOON, everything).await.expect("everything comes");
    assert_eq!(seen, published.into_iter().collect());
    client.close().await;
    impair.stats()
}

#[tokio::test]
async fn a_quic_session_survives_a_change_of_its_address() {
    let stats = talk(Transport::Quic, "rebind").await;
    assert_eq!((&stats["rebound"], &stats["clients"]), (&1.into(), &1.into()), "{stats}");
    assert!(stats["up"]["lost"].as_u64().unwrap() > 0, "{stats}");
}

#[tokio::test]
async fn a_webtransport_session_survives_a_change_of_its_address() {
    let stats = talk(Transport::WebTransport, "rebind").await;
    assert_eq!(stats["rebound"], 1, "{stats}");
}

#[tokio::test]
async fn a_websocket_session_goes_through_loss_as_a_stream_does() {
    let stats = talk(Transport::WebSocket, "down 500k delay=20ms loss=30%").await;
    assert!(stats["down"]["stalls"].as_u64().unwrap() > 0, "{stats}");
    assert_eq!((&stats["down"]["profile"], &stats["down"]["lost"]), (&"500k delay=20ms loss=30%".into(), &0.into()));
}
