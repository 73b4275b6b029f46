//! What a server says about itself over HTTP: its addresses, its development certificate, its development login.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::endpoints::{EndpointOptions, Endpoints};
use crate::target::{Authority, Target};
use crate::trust::{Trust, TrustError};

/// An answer's size, bytes: these documents are small.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A server's own description, from `GET /veza.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    base: String,
    description: Description,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    #[serde(default)]
    webtransport_url: Option<String>,
    #[serde(default)]
    websocket_url: Option<String>,
    #[serde(default)]
    certificate_hashes: Vec<String>,
    #[serde(default)]
    development: bool,
    #[serde(default)]
    version: String,
}

/// Why a server's HTTP side did not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    #[error("{0}")]
    Address(String),
    #[error("{url} does not answer: {why}")]
    Unreachable { url: String, why: String },
    #[error("{url} answers {status}")]
    Status { url: String, status: u16 },
    #[error("{url} answers something else than expected: {why}")]
    Answer { url: String, why: String },
    #[error("the server's certificate comes from an authority that is not known here; name the authority's PEM file")]
    NoTrust,
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl Server {
    /// Asks `http://host:port`. Over plain HTTP, so only a network that is trusted may be between: on one's own machine, or
    /// give the addresses and the trust by hand.
    ///
    /// # Errors
    /// When nobody answers there, or not in the form of a Veza server.
    pub async fn discover(base: &str) -> Result<Self, ServerError> {
        let base = base.trim_end_matches('/').to_owned();
        let description = request(&base, "/veza.json", None).await?;
        Ok(Self { base, description })
    }

    /// A token from the development login, which exists only there.
    ///
    /// # Errors
    /// [`ServerError::Status`] with 404 in production.
    pub async fn dev_login(&self, user: &str) -> Result<String, ServerError> {
        #[derive(Serialize)]
        struct Login<'a> {
            user: &'a str,
        }
        #[derive(Deserialize)]
        struct Token {
            token: String,
        }
        let body = serde_json::to_string(&Login { user }).expect("a name is JSON");
        request::<Token>(&self.base, "/dev/login", Some(&body)).await.map(|answer| answer.token)
    }

    /// Where the server is reached. Plain QUIC shares WebTransport's UDP port.
    pub fn target(&self) -> Target {
        let quic = self.description.webtransport_url.as_deref().and_then(|url| {
            let authority = url.parse::<http::Uri>().ok()?;
            authority.authority().map(ToString::to_string)
        });
        Target {
            webtransport: self.description.webtransport_url.clone(),
            quic,
            websocket: self.description.websocket_url.clone(),
        }
    }

    /// Trust in the development certificate this server told about.
    ///
    /// # Errors
    /// [`ServerError::NoTrust`] when it told none.
    pub fn trust(&self) -> Result<Trust, ServerError> {
        if self.description.certificate_hashes.is_empty() {
            return Err(ServerError::NoTrust);
        }
        Ok(Trust::from_hashes(&self.description.certificate_hashes)?)
    }

    /// Endpoints with [`Server::trust`] and one socket per transport.
    ///
    /// # Errors
    /// As [`Server::trust`].
    pub fn endpoints(&self) -> Result<Endpoints, ServerError> {
        Ok(Endpoints::new(&EndpointOptions::new(self.trust()?))?)
    }

    pub fn is_development(&self) -> bool {
        self.description.development
    }

    pub fn version(&self) -> &str {
        &self.description.version
    }
}

/// One HTTP/1.1 request on a connection of its own; with a body it is a POST of JSON.
async fn request<A: DeserializeOwned>(base: &str, path: &str, body: Option<&str>) -> Result<A, ServerError> {
    let url = format!("{base}{path}");
    if !base.starts_with("http://") {
        return Err(ServerError::Address(format!("{base:?} does not begin with http://")));
    }
    let unreachable = |why: String| ServerError::Unreachable { url: url.clone(), why };
    let authority = Authority::of(base, 80).map_err(ServerError::Address)?;
    let exchange = async {
        let socket = TcpStream::connect(authority.resolve().await?).await.map_err(|error| error.to_string())?;
        let host = base.trim_start_matches("http://");
        exchange(socket, &head(host, path, body)).await.map_err(|error| error.to_string())
    };
    let answered = tokio::time::timeout(ANSWER_WITHIN, exchange).await;
    let answer = answered.map_err(|_| unreachable(format!("no answer in {ANSWER_WITHIN:?}")))?.map_err(unreachable)?;
    let (status, body) = read(&answer).map_err(|why| ServerError::Answer { url: url.clone(), why })?;
    if status != 200 {
        return Err(ServerError::Status { url, status });
    }
    serde_json::from_slice(&body).map_err(|error| ServerError::Answer { url, why: error.to_string() })
}

fn head(host: &str, path: &str, body: Option<&str>) -> String {
    match body {
        None => format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
        Some(body) => format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    }
}

async fn exchange(mut socket: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> std::io::Result<Vec<u8>> {
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// Status and body of a whole answer, in either framing of HTTP/1.1 (RFC 9112, section 6).
fn read(answer: &[u8]) -> Result<(u16, Vec<u8>), String> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or("no end of the header")?;
    let header = std::str::from_utf8(&answer[..end]).map_err(|error| error.to_string())?;
    let mut lines = header.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let status = status.ok_or("no status")?;
    let body = &answer[end + 4..];
    let chunked = lines.any(|line| {
        let (name, value) = line.split_once(':').unwrap_or_default();
        name.eq_ignore_ascii_case("transfer-encoding") && value.trim().eq_ignore_ascii_case("chunked")
    });
    if chunked { Ok((status, dechunk(body)?)) } else { Ok((status, body.to_vec())) }
}

fn dechunk(mut rest: &[u8]) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").ok_or("a chunk without a size")?;
        let size = std::str::from_utf8(&rest[..end]).map_err(|error| error.to_string())?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|error| error.to_string())?;
        if size == 0 {
            return Ok(body);
        }
        let chunk = rest.get(end + 2..).and_then(|rest| rest.get(..size)).ok_or("a chunk is cut")?;
        body.extend_from_slice(chunk);
        rest = rest.get(end + 2 + size + 2..).ok_or("a chunk is cut")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_framings_are_read() {
        let plain = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(read(plain), Ok((200, b"{}".to_vec())));
        let chunked = b"HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\n\r\n";
        assert_eq!(read(chunked), Ok((404, b"{}".to_vec())));
        assert!(read(b"HTTP/1.1 200 OK\r\n").is_err());
        assert!(read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nx").is_err());
    }

    #[test]
    fn a_description_becomes_a_target() {
        let description = serde_json::from_str(
            r#"{"webtransportUrl":"https://127.0.0.1:8080/wt","websocketUrl":"ws://127.0.0.1:8081/ws",
                "certificateHashes":[],"development":true,"version":"1","later":1}"#,
        );
        let server = Server { base: "http://127.0.0.1:8080".into(), description: description.unwrap() };
        assert_eq!(server.target().quic.as_deref(), Some("127.0.0.1:8080"));
        assert_eq!(server.trust().err(), Some(ServerError::NoTrust));
    }
}
