//! The transport's floor: sessions against a bare server that answers every hello with the same welcome and then only
//! holds the link. What a real server needs beyond it is its own.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use clap::Args as ClapArgs;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use veza_client::proto::v1::{Reply, ServerFrame, Welcome, reply, server_frame};
use veza_client::{Target, Trust};

use crate::Failure;
use crate::crowd::Opening;
use crate::idle::{self, PaceArgs};
use crate::process::Process;
use crate::report::Report;
use crate::site::{self, Carrier};

mod streams;
mod websocket;

const READY_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[arg(long, value_enum)]
    transport: Carrier,
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    sessions: u32,
    #[command(flatten)]
    pace: PaceArgs,
    /// UDP sockets that carry the sessions.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    sockets: u16,
    /// Write the figures here as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<std::path::PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ServerArgs {
    #[arg(long, value_enum)]
    transport: Carrier,
    /// Sends every native session a datagram of this many bytes again and again.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    datagram_bytes: Option<u16>,
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    every_ms: u32,
}

/// What a bare server sends all its sessions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Datagrams {
    pub(crate) bytes: u16,
    pub(crate) every_ms: u32,
}

/// A bare server in a process of its own.
pub(crate) struct Bare {
    child: Child,
    port: u16,
    pub(crate) process: Process,
}

/// What the child says in its first line.
#[derive(Debug, Serialize, Deserialize)]
struct Ready {
    port: u16,
}

pub(crate) async fn run(args: Args) -> Result<Report, Failure> {
    let mut report = measure(args.transport, args.sessions, &args.pace, args.sockets).await?;
    report.write_to(args.json);
    Ok(report)
}

/// One run against a bare server of its own.
pub(crate) async fn measure(
    transport: Carrier,
    sessions: u32,
    pace: &PaceArgs,
    sockets: u16,
) -> Result<Report, Failure> {
    idle::check_descriptors(transport, None, sessions.into())?;
    let bare = Bare::start(transport, None).await?;
    let opening = Opening {
        // The child made its certificate a moment ago, on this machine.
        endpoints: site::endpoints(Trust::Insecure, sockets)?,
        target: bare.target(transport),
        sessions: (0..sessions).map(|_| (String::new(), transport.options())).collect(),
        rate: pace.rate,
        at_once: pace.at_once.into(),
    };
    let parameters = json!({
        "transport": transport, "sessions": sessions, "rate": pace.rate, "at_once": pace.at_once, "hold_s": pace.hold,
        "sockets": sockets,
    });
    let mut report = Report::new("floor", None, parameters, "");
    idle::measure(&mut report, opening, Some(bare.process), pace, 0).await?;
    bare.end().await?;
    Ok(report)
}

impl Bare {
    pub(crate) async fn start(transport: Carrier, datagrams: Option<Datagrams>) -> Result<Self, Failure> {
        let name = format!("{transport:?}").to_lowercase();
        let mut command = Command::new(std::env::current_exe().map_err(Failure::io("this program"))?);
        command.args(["floor-server", "--transport", &name]);
        if let Some(Datagrams { bytes, every_ms }) = datagrams {
            command.args(["--datagram-bytes", &bytes.to_string(), "--every-ms", &every_ms.to_string()]);
        }
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn();
        let mut child = child.map_err(Failure::io("the bare server"))?;
        let process = Process(child.id().ok_or_else(|| Failure::setup("the bare server ended at once"))?);
        let said = child.stdout.take().ok_or_else(|| Failure::setup("the bare server has no output"))?;
        let mut line = String::new();
        tokio::time::timeout(READY_WITHIN, BufReader::new(said).read_line(&mut line))
            .await
            .map_err(|_| Failure::setup("the bare server does not get ready"))?
            .map_err(Failure::io("the bare server"))?;
        let ready: Ready = serde_json::from_str(&line).map_err(|error| Failure::setup(error.to_string()))?;
        Ok(Self { child, port: ready.port, process })
    }

    pub(crate) fn target(&self, transport: Carrier) -> Target {
        target(transport, self.port)
    }

    /// It ends with its input.
    pub(crate) async fn end(mut self) -> Result<(), Failure> {
        drop(self.child.stdin.take());
        self.child.wait().await.map(drop).map_err(Failure::io("the bare server"))
    }
}

fn target(transport: Carrier, port: u16) -> Target {
    let at = format!("127.0.0.1:{port}");
    match transport {
        Carrier::Wt => Target { webtransport: Some(format!("https://{at}/wt")), ..Target::default() },
        Carrier::Quic => Target { quic: Some(at), ..Target::default() },
        Carrier::Ws => Target { websocket: Some(format!("ws://{at}/ws")), ..Target::default() },
        Carrier::Wss => Target { websocket: Some(format!("wss://{at}/ws")), ..Target::default() },
    }
}

/// The child's life: serve until the input ends.
pub(crate) async fn serve(args: ServerArgs) -> Result<(), Failure> {
    let datagrams = args.datagram_bytes.map(|bytes| Datagrams { bytes, every_ms: args.every_ms });
    let serving = start(args.transport, datagrams).await?;
    let ready = serde_json::to_string(&Ready { port: serving.port }).expect("a number is JSON");
    crate::report::print(&format!("{ready}\n"));
    let (mut input, mut nothing) = (tokio::io::stdin(), Vec::new());
    tokio::select! {
        () = serving.run => {}
        // Either way the parent is gone.
        _ = input.read_to_end(&mut nothing) => {}
    }
    Ok(())
}

async fn start(transport: Carrier, datagrams: Option<Datagrams>) -> Result<Serving, Failure> {
    match transport {
        Carrier::Wt | Carrier::Quic => streams::start(transport, datagrams),
        Carrier::Ws | Carrier::Wss => websocket::start(transport).await,
    }
}

/// A bare server: its port and its accept loop.
struct Serving {
    port: u16,
    run: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// A certificate of this run alone, and TLS with it.
fn tls(alpn: &[u8]) -> Result<rustls::ServerConfig, Failure> {
    let setup = |error: &dyn std::fmt::Display| Failure::setup(format!("no certificate: {error}"));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(|error| setup(&error))?;
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| setup(&error))?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .map_err(|error| setup(&error))?;
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

/// The answer to every hello.
fn welcome(id: u32) -> ServerFrame {
    let welcome = Welcome { session_id: "floor".into(), heartbeat_ms: 25_000, ..Welcome::default() };
    let reply = Reply { id, result: Some(reply::Result::Welcome(welcome)) };
    ServerFrame { frame: Some(server_frame::Frame::Reply(reply)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client's own test over real streams: its peer here is small, but its packets are real.
    #[tokio::test]
    async fn every_transport_opens_and_holds_sessions() {
        for transport in [Carrier::Wt, Carrier::Quic, Carrier::Ws, Carrier::Wss] {
            let serving = start(transport, None).await.unwrap();
            let opening = Opening {
                endpoints: site::endpoints(Trust::Insecure, 2).unwrap(),
                target: target(transport, serving.port),
                sessions: vec![(String::new(), transport.options()); 6],
                rate: Some(100.0),
                at_once: 3,
            };
            let mut server = tokio::task::JoinSet::new();
            server.spawn(serving.run);
            let crowd = opening.open("test").await;
            assert_eq!(crowd.complaint(), None, "{transport:?}");
            assert_eq!(crowd.handshakes.len(), 6);
            assert!(crowd.took >= Duration::from_millis(50), "six begin at 100 a second");
            for (connection, _) in crowd.sessions.iter().flatten() {
                assert_eq!(connection.transport(), transport.transport());
                assert_eq!(connection.welcome().session_id, "floor");
                assert_eq!(connection.ended(), None);
            }
        }
    }

    #[tokio::test]
    async fn a_server_that_goes_is_noticed_by_every_session() {
        for transport in [Carrier::Quic, Carrier::Ws] {
            let serving = start(transport, None).await.unwrap();
            let opening = Opening {
                endpoints: site::endpoints(Trust::Insecure, 1).unwrap(),
                target: target(transport, serving.port),
                sessions: vec![(String::new(), transport.options()); 2],
                rate: None,
                at_once: 2,
            };
            let mut server = tokio::task::JoinSet::new();
            server.spawn(serving.run);
            let crowd = opening.open("test").await;
            server.shutdown().await;
            for (connection, mut pushes) in crowd.sessions.into_iter().flatten() {
                let ended = tokio::time::timeout(Duration::from_secs(5), pushes.next()).await.unwrap();
                assert!(ended.is_err(), "{transport:?}");
                assert!(connection.ended().is_some());
            }
        }
    }
}
