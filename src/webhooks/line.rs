//! One delivery over HTTP, bounded in size and time. No redirects: who is asked answers. A connection is kept for the next
//! delivery, so that a webhook's speed is that of one answer and not of four.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Fuse, FusedFuture};
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout};

use super::address::Address;
use crate::dial::DialError;

/// From looking up the name to the status.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// What comes behind the status is read so long and so far, and is of no interest.
pub(super) const REST_WITHIN: Duration = Duration::from_secs(1);
const REST_BYTES_MAX: usize = 4 * 1024;
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// A connection that is older is not used again: its name may lead elsewhere by now.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// Of a sentence about a failure, bytes.
const WHY_BYTES_MAX: usize = 200;

/// What is delivered.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) id: String,
    pub(super) at_seconds: u64,
    pub(super) signatures: String,
    pub(super) body: Bytes,
}

/// What an attempt came to. Its display is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Outcome {
    #[error("status {0}")]
    Delivered(u16),
    /// Nobody is there any more, and says so.
    #[error("status 410: paused")]
    Gone,
    #[error("status {status}")]
    Status { status: u16, retry_after_ms: Option<u64> },
    #[error("status {0}, which is not followed")]
    Redirect(u16),
    #[error("no answer within {} s", ANSWER_WITHIN.as_secs())]
    TooLate,
    /// Also: not one that may be called at all.
    #[error("{0}")]
    Address(String),
    #[error("{0}")]
    Unreachable(String),
    #[error("this event cannot be written as JSON")]
    Unwritable,
}

impl Outcome {
    /// As metrics call it.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Outcome::Delivered(_) => "delivered",
            Outcome::Gone => "gone",
            Outcome::Status { .. } => "status",
            Outcome::Redirect(_) => "redirect",
            Outcome::TooLate => "late",
            Outcome::Address(_) => "address",
            Outcome::Unreachable(_) => "unreachable",
            Outcome::Unwritable => "unwritable",
        }
    }

    fn of(answer: &Response<Incoming>) -> Self {
        let status = answer.status();
        match status {
            _ if status.is_success() => Outcome::Delivered(status.as_u16()),
            _ if status.is_redirection() => Outcome::Redirect(status.as_u16()),
            StatusCode::GONE => Outcome::Gone,
            _ => Outcome::Status { status: status.as_u16(), retry_after_ms: retry_after(answer.headers()) },
        }
    }
}

/// In seconds; a date is not looked at.
fn retry_after(headers: &HeaderMap) -> Option<u64> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(seconds.saturating_mul(1_000))
}

/// The way to one receiver.
pub(super) struct Line {
    kept: Option<Open>,
    answer_within: Duration,
    rest_within: Duration,
}

impl Default for Line {
    fn default() -> Self {
        Self { kept: None, answer_within: ANSWER_WITHIN, rest_within: REST_WITHIN }
    }
}

struct Open {
    sender: SendRequest<Full<Bytes>>,
    /// Driven while something is asked, and at no other time.
    connection: Fuse<BoxFuture<'static, ()>>,
    since: Instant,
}

impl Line {
    /// Another receiver's turn.
    pub(super) fn close(&mut self) {
        self.kept = None;
    }

    pub(super) async fn post(&mut self, address: &Address, delivery: &Delivery) -> Outcome {
        let asked = timeout(self.answer_within, self.ask(address, delivery)).await;
        let (mut open, answer) = match asked {
            Err(_elapsed) => return Outcome::TooLate,
            Ok(Err(outcome)) => return outcome,
            Ok(Ok(answered)) => answered,
        };
        let outcome = Outcome::of(&answer);
        let rest = Limited::new(answer.into_body(), REST_BYTES_MAX).collect();
        let is_whole = matches!(timeout(self.rest_within, open.during(rest)).await, Ok(Ok(_)));
        self.kept = Some(open).filter(|open| is_whole && !open.connection.is_terminated());
        outcome
    }

    /// The status, and the connection it came by.
    async fn ask(&mut self, address: &Address, delivery: &Delivery) -> Result<(Open, Response<Incoming>), Outcome> {
        let kept = self.kept.take().filter(|open| open.since.elapsed() < KEPT_FOR);
        if let Some(mut open) = kept
            && let Ok(answer) = open.send(request(address, delivery)?).await
        {
            return Ok((open, answer));
        }
        // None was kept, or the other side has closed it meanwhile.
        let mut open = Open::to(address).await?;
        let answer = open.send(request(address, delivery)?).await.map_err(|error| failed(&error))?;
        Ok((open, answer))
    }
}

impl Open {
    async fn to(address: &Address) -> Result<Self, Outcome> {
        let stream = address.dial().await.map_err(|error| match error {
            DialError::NotPublic | DialError::NotLoopback(_) | DialError::Url(_) => Outcome::Address(sentence(&error)),
            DialError::Connect(_) | DialError::Tls(_) | DialError::File { .. } => {
                Outcome::Unreachable(sentence(&error))
            }
        })?;
        let builder = http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream));
        let (sender, connection) = builder.await.map_err(|error| failed(&error))?;
        // How it ends is told by what is asked meanwhile.
        let connection = connection.map(|_ended| ()).boxed().fuse();
        Ok(Self { sender, connection, since: Instant::now() })
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, hyper::Error> {
        let Self { sender, connection, .. } = self;
        let sent = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
        driving(connection, sent).await
    }

    async fn during<T>(&mut self, what: impl Future<Output = T>) -> T {
        driving(&mut self.connection, what).await
    }
}

/// Waits for something that comes over a connection. Where that ends first, what was said on it is heard all the same.
async fn driving<T>(connection: &mut Fuse<BoxFuture<'static, ()>>, what: impl Future<Output = T>) -> T {
    let connection = async {
        connection.await;
        std::future::pending::<T>().await
    };
    tokio::select! {
        done = what => done,
        never = connection => never,
    }
}

fn request(address: &Address, delivery: &Delivery) -> Result<Request<Full<Bytes>>, Outcome> {
    let Delivery { id, at_seconds, signatures, body } = delivery;
    Request::post(address.target())
        .header(HOST, address.authority())
        .header(USER_AGENT, concat!("veza/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json")
        .header("veza-webhook-id", id)
        .header("veza-webhook-timestamp", *at_seconds)
        .header("veza-webhook-signature", signatures)
        .body(Full::new(body.clone()))
        .map_err(|error| Outcome::Address(sentence(&error)))
}

fn failed(error: &hyper::Error) -> Outcome {
    Outcome::Unreachable(sentence(&format_args!("the conversation failed: {error}")))
}

fn sentence(error: &dyn std::fmt::Display) -> String {
    let mut text = error.to_string();
    text.truncate(text.floor_char_boundary(WHY_BYTES_MAX));
    text
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::config;

    /// A receiver that answers as it is told.
    struct Receiver {
        listener: TcpListener,
        address: SocketAddr,
    }

    impl Receiver {
        async fn new() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            Self { address: listener.local_addr().unwrap(), listener }
        }

        fn address(&self) -> Address {
            let rules = config::Webhooks { allow_private: true, ca_file: None, give_up_after: Duration::ZERO };
            Address::parse(&format!("http://{}/veza?x=1", self.address), &rules).unwrap()
        }

        async fn accept(&self) -> TcpStream {
            self.listener.accept().await.unwrap().0
        }

        /// Takes one connection, answers so and hangs up: what came of it, and what was asked.
        async fn once(&self, answer: &str) -> (Outcome, String) {
            let (mut line, address, delivery) = (Line::default(), self.address(), delivery());
            let receiver = async {
                let mut stream = self.accept().await;
                let asked = asked(&mut stream).await;
                stream.write_all(answer.as_bytes()).await.unwrap();
                asked
            };
            tokio::join!(line.post(&address, &delivery), receiver)
        }
    }

    fn delivery() -> Delivery {
        Delivery { id: "one-7".into(), at_seconds: 1_764_000_000, signatures: "v1=00".into(), body: "{}".into() }
    }

    /// One request, whose body is `{}`.
    async fn asked(stream: &mut TcpStream) -> String {
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n{}") {
            let read = stream.read_buf(&mut asked).await.unwrap();
            assert!(read > 0, "the request broke off: {}", String::from_utf8_lossy(&asked));
        }
        String::from_utf8(asked).unwrap()
    }

    const TAKEN: &str = "HTTP/1.1 204 No Content\r\n\r\n";

    #[tokio::test]
    async fn a_delivery_says_what_it_is() {
        let receiver = Receiver::new().await;
        let (outcome, asked) = receiver.once(TAKEN).await;
        assert_eq!((&outcome, outcome.to_string().as_str()), (&Outcome::Delivered(204), "status 204"));
        let wanted = [
            "POST /veza?x=1 HTTP/1.1".to_owned(),
            format!("host: {}", receiver.address),
            format!("user-agent: veza/{}", env!("CARGO_PKG_VERSION")),
            "content-type: application/json".into(),
            "veza-webhook-id: one-7".into(),
            "veza-webhook-timestamp: 1764000000".into(),
            "veza-webhook-signature: v1=00".into(),
            "content-length: 2".into(),
        ];
        for line in wanted {
            assert!(asked.lines().any(|asked| asked == line), "{line} in {asked}");
        }
    }

    #[tokio::test]
    async fn whatever_is_not_2xx_was_not_taken() {
        let receiver = Receiver::new().await;
        let of = async |head: &str| receiver.once(&format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n")).await.0;
        let status = |status, retry_after_ms| Outcome::Status { status, retry_after_ms };
        assert_eq!(of("200 OK").await, Outcome::Delivered(200));
        assert_eq!(of("299 Whatever").await, Outcome::Delivered(299));
        assert_eq!(of("302 Found\r\nlocation: http://127.0.0.1:1/").await, Outcome::Redirect(302));
        assert_eq!(of("410 Gone").await, Outcome::Gone);
        assert_eq!(of("404 Not Found").await, status(404, None));
        assert_eq!(of("500 Oh").await, status(500, None));
        assert_eq!(of("503 Later\r\nretry-after: 7").await, status(503, Some(7_000)));
        assert_eq!(of("503 Later\r\nretry-after: 18446744073709551615").await, status(503, Some(u64::MAX)));
        assert_eq!(of("503 Later\r\nretry-after: Fri, 01 Jan 2027 00:00:00 GMT").await, status(503, None));
        for nonsense in
            ["nonsense\r\n\r\n".to_owned(), format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(2 * HEAD_BYTES_MAX))]
        {
            let outcome = receiver.once(&nonsense).await.0;
            assert!(matches!(&outcome, Outcome::Unreachable(_)), "{outcome}");
        }
        drop(receiver.listener);
        let gone = Receiver { listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), address: receiver.address };
        let outcome = Line::default().post(&gone.address(), &delivery()).await;
        assert!(outcome.to_string().starts_with("cannot connect: "), "{outcome}");
    }

    /// The next delivery takes the connection of the one before, unless that was closed or its answer is without end.
    #[tokio::test]
    async fn a_connection_is_kept_for_the_next_delivery() {
        let receiver = Receiver::new().await;
        let (mut line, address, delivery) = (Line::default(), receiver.address(), delivery());
        let long = |bytes: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n{}", "x".repeat(bytes));
        let story = async {
            let mut first = receiver.accept().await;
            for answer in
                [TAKEN.to_owned(), long(REST_BYTES_MAX), "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n".into()]
            {
                asked(&mut first).await;
                first.write_all(answer.as_bytes()).await.unwrap();
            }
            // It hangs up while nothing is asked.
            drop(first);
            let mut second = receiver.accept().await;
            asked(&mut second).await;
            second.write_all(long(REST_BYTES_MAX + 1).as_bytes()).await.unwrap();
            let mut third = receiver.accept().await;
            asked(&mut third).await;
            third.write_all(TAKEN.as_bytes()).await.unwrap();
        };
        let deliveries = async {
            let mut outcomes = Vec::new();
            for _ in 0..5 {
                outcomes.push(line.post(&address, &delivery).await);
            }
            outcomes
        };
        let (outcomes, ()) = tokio::join!(deliveries, story);
        let failed = Outcome::Status { status: 500, retry_after_ms: None };
        let taken = Outcome::Delivered(200);
        assert_eq!(outcomes, [Outcome::Delivered(204), taken.clone(), failed, taken, Outcome::Delivered(204)]);
    }

    /// Who says nothing is given up in time, who has answered and says more is not waited for.
    #[tokio::test]
    async fn nobody_is_waited_for_longer_than_there_is_time() {
        const SHORT: Duration = Duration::from_millis(50);
        let (receiver, delivery) = (Receiver::new().await, delivery());
        let address = receiver.address();
        let silent = async {
            let stream = receiver.accept().await;
            std::future::pending::<()>().await;
            drop(stream);
        };
        let mut line = Line { answer_within: SHORT, ..Line::default() };
        let outcome = tokio::select! {
            outcome = line.post(&address, &delivery) => outcome,
            () = silent => unreachable!("it waits for ever"),
        };
        assert_eq!((&outcome, outcome.to_string().as_str()), (&Outcome::TooLate, "no answer within 5 s"));
        let endless = async {
            let mut stream = receiver.accept().await;
            asked(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{").await.unwrap();
            stream
        };
        let mut line = Line { rest_within: SHORT, ..Line::default() };
        let (outcome, _stream) = tokio::join!(line.post(&address, &delivery), endless);
        assert_eq!(outcome, Outcome::Delivered(200));
        assert!(line.kept.is_none());
    }
}
