//! The server under test: found, known to be one's own, and measurable.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use veza_client::{EndpointOptions, Endpoints, Options, Preference, Server, Target, Transport, Trust};

use crate::Failure;
use crate::process::Process;

/// Descriptors a run needs besides its sockets.
const DESCRIPTORS_SPARE: u64 = 64;

#[derive(Debug, Clone, Args)]
pub(crate) struct SiteArgs {
    /// The server's HTTP address.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub(crate) url: String,
    /// The server's process; found by its listening port when left out.
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Write the figures here as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Load a host that is not this machine. Only for hosts of one's own.
    #[arg(long)]
    pub(crate) allow_remote: bool,
    /// PEM of the authority that signed the server's certificate, when it is not the development one.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Believe any certificate. Only with a server on this machine.
    #[arg(long, conflicts_with = "allow_remote")]
    pub(crate) insecure: bool,
    /// A shell command that prints a token for the user in VEZA_USER; without it the development login is asked.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) token_command: Option<String>,
    /// UDP sockets that carry the WebTransport and QUIC sessions.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) sockets: u16,
}

/// A transport as it is asked for on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Carrier {
    Wt,
    Quic,
    Ws,
    Wss,
}

pub(crate) struct Site {
    pub(crate) server: Server,
    pub(crate) process: Option<Process>,
    pub(crate) endpoints: Endpoints,
    pub(crate) target: Target,
}

impl Carrier {
    pub(crate) fn transport(self) -> Transport {
        match self {
            Carrier::Wt => Transport::WebTransport,
            Carrier::Quic => Transport::Quic,
            Carrier::Ws | Carrier::Wss => Transport::WebSocket,
        }
    }

    pub(crate) fn options(self) -> Options {
        Options { preference: Preference::Only(self.transport()), ..Options::default() }
    }
}

impl Site {
    /// Finds the server and refuses it when it is not on this machine.
    pub(crate) async fn find(args: &SiteArgs) -> Result<Self, Failure> {
        let here = only_loopback(&args.url, args.allow_remote).await?;
        let server = Server::discover(&args.url).await?;
        let target = server.target();
        for address in [&target.webtransport, &target.quic, &target.websocket].into_iter().flatten() {
            only_loopback(address, args.allow_remote).await?;
        }
        let trust = match &args.ca {
            Some(path) => Trust::Authorities(std::fs::read(path).map_err(Failure::io(path.display().to_string()))?),
            None if args.insecure => Trust::Insecure,
            None => server.trust()?,
        };
        let process = match args.pid {
            Some(pid) => Some(Process(pid)),
            None if here => Some(Process::listening_on(port_of(&args.url)?)?),
            // The processes of another host cannot be seen: its figures are left out.
            None => None,
        };
        Ok(Self { server, process, endpoints: endpoints(trust, args.sockets)?, target })
    }

    /// WebSocket as this server speaks it.
    pub(crate) fn websocket(&self) -> Carrier {
        let secure = self.target.websocket.as_deref().is_some_and(|url| url.starts_with("wss:"));
        if secure { Carrier::Wss } else { Carrier::Ws }
    }

    /// Whether the server speaks what is asked for.
    pub(crate) fn expect(&self, carrier: Carrier) -> Result<(), Failure> {
        let websocket = self.target.websocket.as_deref().unwrap_or_default();
        match carrier {
            Carrier::Ws if websocket.starts_with("wss:") => {
                Err(Failure::setup(format!("the server's WebSocket is {websocket}: ask for --transport wss")))
            }
            Carrier::Wss if websocket.starts_with("ws:") => Err(Failure::setup(format!(
                "the server's WebSocket is {websocket}, without TLS: start it with TLS_CERT_FILE and TLS_KEY_FILE"
            ))),
            Carrier::Wt | Carrier::Quic | Carrier::Ws | Carrier::Wss => Ok(()),
        }
    }
}

/// Endpoints that play many clients: no TLS tickets, so that every handshake is a whole one.
pub(crate) fn endpoints(trust: Trust, sockets: u16) -> Result<Endpoints, Failure> {
    let options = EndpointOptions { trust, sockets: sockets.into(), remember_tls: false };
    Endpoints::new(&options).map_err(|error| Failure::setup(error.to_string()))
}

/// Says when a process may not open as many sockets as the run needs. Nothing is raised in silence.
pub(crate) fn enough_descriptors(process: Process, whose: &str, sockets: u64) -> Result<(), Failure> {
    let (max, needed) = (process.descriptors_max()?, sockets + DESCRIPTORS_SPARE);
    if max < needed {
        return Err(Failure::setup(format!(
            "{whose} may open {max} descriptors and needs {needed}: start it after `ulimit -n {needed}`"
        )));
    }
    Ok(())
}

/// Whether an address is on this machine; another is an error unless allowed. A load test of somebody else's host is an
/// attack, and a mistyped address should not make one.
pub(crate) async fn only_loopback(address: &str, allow_remote: bool) -> Result<bool, Failure> {
    let uri = parse(address)?;
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let found: Vec<_> = tokio::net::lookup_host((host.as_str(), uri.port_u16().unwrap_or(443)))
        .await
        .map_err(Failure::io(host.clone()))?
        .collect();
    let here = !found.is_empty() && found.iter().all(|address| address.ip().is_loopback());
    if !here && !allow_remote {
        return Err(Failure::setup(format!(
            "{address} is not on this machine. A load test of a host that is not one's own is an attack on it; \
             --allow-remote is for hosts you operate"
        )));
    }
    Ok(here)
}

fn port_of(url: &str) -> Result<u16, Failure> {
    Ok(parse(url)?.port_u16().unwrap_or(80))
}

pub(crate) fn parse(address: &str) -> Result<http::Uri, Failure> {
    address.parse().map_err(|error| Failure::setup(format!("{address:?} is no address: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_this_machine_is_loaded_unless_allowed() {
        for here in ["http://127.0.0.1:8080", "https://127.9.9.9:1/wt", "ws://[::1]:8081/ws", "127.0.0.1:8080"] {
            assert_eq!(only_loopback(here, false).await.ok(), Some(true), "{here}");
        }
        for elsewhere in ["http://192.0.2.1:8080", "https://[2001:db8::1]:443/wt", "http://0.0.0.0:8080"] {
            let refused = only_loopback(elsewhere, false).await.unwrap_err().to_string();
            assert!(refused.contains("--allow-remote"), "{refused}");
            assert_eq!(only_loopback(elsewhere, true).await.ok(), Some(false));
        }
    }

    #[test]
    fn too_few_descriptors_are_told_with_the_number() {
        let this = Process::this();
        let max = this.descriptors_max().unwrap();
        assert!(enough_descriptors(this, "this", max - DESCRIPTORS_SPARE).is_ok());
        let refused = enough_descriptors(this, "this", max - DESCRIPTORS_SPARE + 1).unwrap_err().to_string();
        assert!(refused.contains(&format!("ulimit -n {}", max + 1)), "{refused}");
    }
}
