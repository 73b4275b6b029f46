use std::net::SocketAddr;

use http::Uri;

pub use veza_proto::Transport;

/// Where a server is reached, one address per transport. What is missing is not tried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// `https://host:port/wt`
    pub webtransport: Option<String>,
    /// `host:port`, UDP, ALPN `veza/1`
    pub quic: Option<String>,
    /// `ws://host:port/ws` or `wss://…`
    pub websocket: Option<String>,
}

/// Which transport a client takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Preference {
    /// WebTransport at once, WebSocket 400 ms later or when WebTransport fails; the first link wins and is remembered.
    #[default]
    Auto,
    Only(Transport),
}

/// Host and port of an address like `https://host:port/path` or `host:port`.
pub(crate) struct Authority {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Authority {
    pub(crate) fn of(uri: &str, default_port: u16) -> Result<Self, String> {
        let parsed: Uri = uri.parse().map_err(|error| format!("{uri:?} is no address: {error}"))?;
        let host = parsed.host().ok_or_else(|| format!("{uri:?} names no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: parsed.port_u16().unwrap_or(default_port) })
    }

    /// The first IPv4 address, else the first: servers listen on `0.0.0.0` unless told otherwise, and `localhost`
    /// often means `::1` first.
    pub(crate) async fn resolve(&self) -> Result<SocketAddr, String> {
        let found: Vec<_> = tokio::net::lookup_host((self.host.as_str(), self.port))
            .await
            .map_err(|error| format!("{} is not found: {error}", self.host))?
            .collect();
        let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
        first.copied().ok_or_else(|| format!("{} has no address", self.host))
    }
}

#[cfg(test)]
mod tests {
    use super::Authority;

    #[test]
    fn hosts_and_ports_are_read() {
        let read = |text| Authority::of(text, 443).map(|found| (found.host, found.port));
        assert_eq!(read("https://example.org/wt"), Ok(("example.org".into(), 443)));
        assert_eq!(read("wss://127.0.0.1:8081/ws"), Ok(("127.0.0.1".into(), 8081)));
        assert_eq!(read("127.0.0.1:8080"), Ok(("127.0.0.1".into(), 8080)));
        assert_eq!(read("https://[::1]:8080/wt"), Ok(("::1".into(), 8080)));
        assert!(read("/only/a/path").is_err());
    }
}
