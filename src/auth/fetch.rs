//! One document over HTTP, bounded in size and time. No redirects: who is asked answers.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::dial::{DialError, Peer, Tls};

/// From the first packet to the last byte.
const FETCH_WITHIN: Duration = Duration::from_secs(5);
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What is asked, and of whom.
#[derive(Debug)]
pub(super) struct Document {
    url: Uri,
    peer: Peer,
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("no whole answer within {} s", FETCH_WITHIN.as_secs())]
    TooLate,
    #[error("the answer is {0}, which is not followed")]
    Redirect(StatusCode),
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the conversation failed: {0}")]
    Http(String),
}

impl Document {
    pub(super) fn at(url: &Uri, tls: Tls) -> Result<Self, DialError> {
        Ok(Self { url: url.clone(), peer: Peer::of(url, Tls { alpn: &[b"http/1.1"], ..tls })? })
    }

    pub(super) async fn fetch(&self, bytes_max: usize) -> Result<Bytes, FetchError> {
        tokio::time::timeout(FETCH_WITHIN, self.exchange(bytes_max)).await.unwrap_or(Err(FetchError::TooLate))
    }

    async fn exchange(&self, bytes_max: usize) -> Result<Bytes, FetchError> {
        let stream = TokioIo::new(self.peer.dial().await?);
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(stream).await.map_err(failed)?;
        // The connection is driven beside the request, and who ends it first does not cut the answer short.
        let connection = async {
            let _ended = connection.await;
            std::future::pending::<Result<Bytes, FetchError>>().await
        };
        let answer = async {
            let target = self.url.path_and_query().map_or("/", |target| target.as_str());
            let host = self.url.authority().map_or("", |authority| authority.as_str());
            let request = Request::get(target)
                .header(HOST, host)
                .header(ACCEPT, "application/json")
                .header(USER_AGENT, "veza")
                .body(Empty::<Bytes>::new())
                .map_err(failed)?;
            let answer = sender.send_request(request).await.map_err(failed)?;
            let status = answer.status();
            if status.is_redirection() {
                return Err(FetchError::Redirect(status));
            }
            if status != StatusCode::OK {
                return Err(FetchError::Status(status));
            }
            let body = Limited::new(answer.into_body(), bytes_max).collect().await;
            body.map(http_body_util::Collected::to_bytes).map_err(|error| {
                if error.is::<LengthLimitError>() { FetchError::TooLarge(bytes_max) } else { failed(error) }
            })
        };
        tokio::select! {
            answered = answer => answered,
            never = connection => never,
        }
    }
}

fn failed(error: impl std::fmt::Display) -> FetchError {
    FetchError::Http(error.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const BYTES_MAX: usize = 1_000;

    /// Fetches from somebody who answers so and hangs up.
    async fn fetch(answer: String) -> Result<Bytes, FetchError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys?all", listener.local_addr().unwrap()).parse().unwrap();
        let server = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut asked = [0; 4_096];
            let read = socket.read(&mut asked).await.unwrap();
            socket.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&asked[..read]).into_owned()
        };
        let document = Document::at(&url, Tls::default()).unwrap();
        let (fetched, asked) = tokio::join!(document.fetch(BYTES_MAX), server);
        assert!(asked.starts_with("GET /keys?all HTTP/1.1\r\n") && asked.contains("host: 127.0.0.1:"), "{asked}");
        fetched
    }

    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn a_document_comes_as_it_is() {
        assert_eq!(fetch(ok("{}")).await.unwrap(), "{}");
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
        assert_eq!(fetch(chunked.into()).await.unwrap(), "{}");
        assert_eq!(fetch("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}".into()).await.unwrap(), "{}");
    }

    #[tokio::test]
    async fn a_document_at_the_size_limit_and_one_past() {
        assert_eq!(fetch(ok(&"x".repeat(BYTES_MAX))).await.unwrap().len(), BYTES_MAX);
        assert!(matches!(fetch(ok(&"x".repeat(BYTES_MAX + 1))).await, Err(FetchError::TooLarge(BYTES_MAX))));
    }

    #[tokio::test]
    async fn whatever_is_no_document_is_refused() {
        let moved = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        assert!(matches!(fetch(moved.into()).await, Err(FetchError::Redirect(StatusCode::FOUND))));
        let failed = "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n";
        assert!(matches!(fetch(failed.into()).await, Err(FetchError::Status(StatusCode::INTERNAL_SERVER_ERROR))));
        assert!(matches!(fetch("nonsense\r\n\r\n".into()).await, Err(FetchError::Http(_))));
        let cut = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}";
        assert!(matches!(fetch(cut.into()).await, Err(FetchError::Http(_))));
    }

    #[tokio::test]
    async fn a_head_without_end_is_not_read() {
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(2 * HEAD_BYTES_MAX));
        assert!(matches!(fetch(endless).await, Err(FetchError::Http(_))));
    }
}
