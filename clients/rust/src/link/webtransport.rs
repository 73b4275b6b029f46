//! WebTransport over HTTP/3, by wtransport.

use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::Arc;

use wtransport::config::{DnsLookupFuture, DnsResolver};
use wtransport::endpoint::{ConnectOptions, endpoint_side};

use super::streams::{Carrier, StreamLink};
use crate::Endpoints;
use crate::target::Authority;

pub(crate) type Endpoint = Arc<wtransport::Endpoint<endpoint_side::Client>>;

/// Subprotocols offered, as a structured header's list (draft-ietf-webtrans-http3, section 3.3).
const AVAILABLE_PROTOCOLS: &str = "wt-available-protocols";

pub(crate) async fn connect(endpoints: &Endpoints, url: &str) -> Result<StreamLink, String> {
    let remote = Authority::of(url, 443)?.resolve().await?;
    let endpoint = endpoints.webtransport(remote).map_err(|error| format!("no UDP socket: {error}"))?;
    let options = ConnectOptions::builder(url)
        .add_header(AVAILABLE_PROTOCOLS, format!("\"{}\"", veza_proto::SUBPROTOCOL_PROTO))
        .build();
    let connection = endpoint.connect(options).await.map_err(|error| error.to_string())?;
    StreamLink::open(Carrier::WebTransport(connection)).await
}

/// An endpoint on a socket of one address family.
pub(crate) fn endpoint(socket: UdpSocket, config: quinn::ClientConfig, ipv4: bool) -> std::io::Result<Endpoint> {
    let mut config = wtransport::ClientConfig::builder().with_bind_socket(socket).build_with_quic_config(config);
    config.set_dns_resolver(OfFamily { ipv4 });
    wtransport::Endpoint::client(config).map(Arc::new)
}

/// Finds addresses that the endpoint's socket can send to.
#[derive(Debug)]
struct OfFamily {
    ipv4: bool,
}

impl DnsResolver for OfFamily {
    fn resolve(&self, host: &str) -> Pin<Box<dyn DnsLookupFuture>> {
        let (host, ipv4) = (host.to_owned(), self.ipv4);
        Box::pin(async move { Ok(tokio::net::lookup_host(host).await?.find(|found| found.is_ipv4() == ipv4)) })
    }
}
