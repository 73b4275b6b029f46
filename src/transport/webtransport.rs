//! WebTransport over HTTP/3, on our own QUIC connections: the one place that names `wtransport-proto`.
//!
//! That crate has the formats; who polls what when, and what is held meanwhile, is decided here.

mod capsules;
mod connection;
mod critical;
mod frames;
mod opened;
mod request;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::StatusCode;
use quinn::{RecvStream, SendStream, VarInt};
use veza_proto::{CloseCode, Format, SUBPROTOCOL_PROTO, WEBTRANSPORT_PATH};
use wtransport_proto::error::ErrorCode;

use self::capsules::Capsules;
use self::connection::{Connection, News};
use self::request::Request;
use super::media::Prefix;
use super::meters::Meters;
use super::origins::{Origins, bearer};
use super::quic::{Arrival, Carrier, QuicLink};
use super::{End, Peer, Transport};
use crate::telemetry::metrics;

/// From the client's first flight to its CONNECT request, and again until it has the answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Streams of a session that may come before it is answered.
const EARLY_STREAMS_MAX: usize = 4;

/// How long a client that has ended its session may take to close the connection before we do.
const LINGER: Duration = Duration::from_millis(250);

/// What a stopped stream's code is counted from in HTTP/3 (draft-ietf-webtrans-http3, section 4.4).
const STREAM_CODE_FIRST: u64 = 0x52e4_a40f_a8db;

/// Finishes the handshake, judges the request and answers it. `None` when there is no session; the client knows why.
pub(super) async fn accept(
    connecting: quinn::Connecting,
    origins: &Origins,
    meters: Arc<Meters>,
) -> Option<QuicLink<Session>> {
    let refusal = |reason: &'static str| metrics::links_refused_total("webtransport", reason).increment(1);
    let asked = tokio::time::timeout(CONNECT_TIMEOUT, Asked::wait(connecting)).await;
    let asked = match asked.unwrap_or_else(|_elapsed| Err("no CONNECT request in time".to_owned())) {
        Ok(asked) => asked,
        Err(error) => {
            tracing::debug!(error, "no WebTransport session");
            refusal("handshake");
            return None;
        }
    };
    let request = &asked.request;
    if request.path() != Some(WEBTRANSPORT_PATH) {
        refusal("path");
        asked.refuse(StatusCode::NOT_FOUND).await;
        return None;
    }
    if !origins.allow(request.header("origin")) {
        refusal("origin");
        asked.refuse(StatusCode::FORBIDDEN).await;
        return None;
    }
    let remote = asked.connection.quic().remote_address();
    let bearer = request.header("authorization").and_then(bearer);
    let Some(session) = asked.accept().await else {
        refusal("handshake");
        return None;
    };
    let peer = Peer { transport: Transport::WebTransport, remote, format: Format::Proto, bearer };
    Some(QuicLink::new(session, peer, meters))
}

/// A session that is asked for.
struct Asked {
    connection: Connection,
    request: Request,
    early: Vec<Early>,
}

/// A stream of a session that is not answered yet.
struct Early {
    session: u64,
    send: SendStream,
    recv: RecvStream,
}

impl Asked {
    /// Waits for the client's settings and its CONNECT request; whatever else it asks meanwhile is not here.
    async fn wait(connecting: quinn::Connecting) -> Result<Self, String> {
        let connection = connecting.await.map_err(|error| error.to_string())?;
        let mut connection = Connection::open(connection).await?;
        let mut early = Vec::new();
        let mut asked = None;
        let waited = std::future::poll_fn(|cx| {
            loop {
                // The end of the settings is no news of its own, so it is looked for after every poll.
                let news = connection.poll_news(cx);
                match news {
                    Poll::Pending if connection.is_settled() && asked.is_some() => return Poll::Ready(Ok(())),
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(News::Ended(End::Closed { code })) => {
                        return Poll::Ready(Err(format!("closed with {code:?} before a request")));
                    }
                    Poll::Ready(News::Ended(End::Lost { why })) => return Poll::Ready(Err(why)),
                    Poll::Ready(News::Request(request)) => match (request.asks_for_session(), &asked) {
                        (Ok(()), None) => asked = Some(request),
                        (Ok(()), Some(_)) => request.turn_away(cx, StatusCode::TOO_MANY_REQUESTS),
                        (Err(status), _) => request.turn_away(cx, status),
                    },
                    Poll::Ready(News::Stream { session, send, recv }) => {
                        let stream = Early { session, send, recv };
                        if early.len() < EARLY_STREAMS_MAX { early.push(stream) } else { stream.reject() }
                    }
                    // They may be lost at any time.
                    Poll::Ready(News::Datagram { .. }) => {}
                }
            }
        });
        waited.await?;
        let request = asked.expect("what was waited for");
        Ok(Self { connection, request, early })
    }

    /// Answers that there will be no session, and ends the connection when the client has the answer.
    async fn refuse(self, status: StatusCode) {
        let Self { connection, request: Request { mut send, .. }, .. } = self;
        let answered = async {
            send.write_all(&request::answer(status, [])).await?;
            // An error says that the stream is stopped, which is waited for.
            let _ = send.finish();
            let _ = send.stopped().await;
            Ok::<(), quinn::WriteError>(())
        };
        // A client that does not take the answer has the connection closed on it.
        let _ = tokio::time::timeout(CONNECT_TIMEOUT, answered).await;
        connection.quic().close(h3_code(ErrorCode::NoError), b"");
    }

    /// Answers that the session begins. `None` when the client does not take the answer.
    async fn accept(self) -> Option<Session> {
        let Self { connection, request, mut early } = self;
        let id = request.id();
        let offered = request.header("wt-available-protocols").is_some_and(offers_proto);
        let fields = offered.then(|| ("wt-protocol", format!("\"{SUBPROTOCOL_PROTO}\"")));
        let answer = request::answer(StatusCode::OK, fields);
        let Request { mut send, frames, .. } = request;
        tokio::time::timeout(CONNECT_TIMEOUT, send.write_all(&answer)).await.ok()?.ok()?;
        early.reverse();
        Some(Session { connection, id, send, capsules: Capsules::new(frames), early, goodbye: None })
    }
}

impl Early {
    /// Says that the stream belongs to no session here (the draft, section 4.6).
    fn reject(mut self) {
        let code = h3_code(ErrorCode::BufferedStreamRejected);
        // Errors say that the client was faster.
        let _ = self.send.reset(code);
        let _ = self.recv.stop(code);
    }
}

/// A WebTransport session, which has its QUIC connection for itself.
pub(super) struct Session {
    connection: Connection,
    /// The id of its CONNECT stream.
    id: u64,
    send: SendStream,
    capsules: Capsules,
    /// Came before the answer; the last is the next.
    early: Vec<Early>,
    goodbye: Option<Goodbye>,
}

/// Our close on its way.
struct Goodbye {
    pending: Bytes,
    /// The capsule is out, and so is the end of the stream.
    finished: bool,
    /// The client has ended its side and may close the connection itself.
    linger: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Session {
    /// A stream that says it is this session's.
    fn own(&self, stream: Early) -> Option<Arrival> {
        if stream.session == self.id {
            return Some(Arrival::Stream(stream.send, stream.recv));
        }
        stream.reject();
        None
    }
}

impl Carrier for Session {
    fn connection(&self) -> &quinn::Connection {
        self.connection.quic()
    }

    fn poll_arrival(&mut self, cx: &mut Context<'_>) -> Poll<Arrival> {
        while let Some(stream) = self.early.pop() {
            if let Some(arrival) = self.own(stream) {
                return Poll::Ready(arrival);
            }
        }
        if let Poll::Ready(end) = self.capsules.poll_end(cx) {
            let end = match end {
                Ok(code) => {
                    self.connection.quic().close(h3_code(ErrorCode::NoError), b"");
                    End::Closed { code: code.and_then(|code| u16::try_from(code).ok()) }
                }
                Err(fault) => self.connection.fail(fault),
            };
            return Poll::Ready(Arrival::Ended(end));
        }
        loop {
            match ready!(self.connection.poll_news(cx)) {
                News::Stream { session, send, recv } => {
                    if let Some(arrival) = self.own(Early { session, send, recv }) {
                        return Poll::Ready(arrival);
                    }
                }
                News::Request(request) => {
                    // There is one session for one connection, as our settings say.
                    let status = request.asks_for_session().err().unwrap_or(StatusCode::TOO_MANY_REQUESTS);
                    request.turn_away(cx, status);
                }
                News::Datagram { session, payload } if session == self.id => {
                    return Poll::Ready(Arrival::Datagram(payload));
                }
                News::Datagram { .. } => {}
                News::Ended(end) => return Poll::Ready(Arrival::Ended(end)),
            }
        }
    }

    fn stream_code(code: CloseCode) -> VarInt {
        stream_code(code)
    }

    fn prefix(&self) -> Prefix {
        Prefix::Session(self.id)
    }

    /// Sends the close capsule, ends the CONNECT stream, and waits until the client has ended its side (the draft, section 5)
    /// and, for a moment, until it has closed the connection. Chromium ends its side before its page is told, and a connection
    /// that is closed in between tells the page only that the session was lost.
    fn poll_goodbye(&mut self, cx: &mut Context<'_>, code: CloseCode, reason: &str) -> Poll<()> {
        let goodbye = self.goodbye.get_or_insert_with(|| Goodbye {
            pending: capsules::close(code.code(), reason),
            finished: false,
            linger: None,
        });
        while !goodbye.pending.is_empty() {
            match ready!(Pin::new(&mut self.send).poll_write(cx, &goodbye.pending)) {
                Ok(written) => goodbye.pending.advance(written),
                // Nobody listens any more.
                Err(_) => return Poll::Ready(()),
            }
        }
        if !goodbye.finished {
            goodbye.finished = true;
            // An error says that the client was faster.
            let _ = self.send.finish();
        }
        if goodbye.linger.is_none() {
            let _the_clients_end = ready!(self.capsules.poll_end(cx));
        }
        let connection = self.connection.quic();
        let linger = goodbye.linger.get_or_insert_with(|| {
            let connection = connection.clone();
            Box::pin(async move {
                let _late = tokio::time::timeout(LINGER, connection.closed()).await;
            })
        });
        linger.as_mut().poll(cx)
    }
}

/// A close code as an error code of a session's stream: it is counted past the reserved code points.
fn stream_code(code: CloseCode) -> VarInt {
    let code = u64::from(code.code());
    VarInt::from_u64(STREAM_CODE_FIRST + code + code / 0x1e).expect("far below 2^62")
}

fn h3_code(code: ErrorCode) -> VarInt {
    VarInt::from_u64(code.to_code().into_inner()).expect("both are integers of QUIC")
}

/// A datagram of a session that is not the first stream of its connection.
pub(super) fn datagram_of(session: u64, payload: &[u8]) -> Bytes {
    use wtransport_proto::bytes::BytesWriter;
    let quarter = wtransport_proto::varint::VarInt::try_from_u64(session / 4).expect("less than a stream's id");
    let mut bytes = Vec::with_capacity(quarter.size() + payload.len());
    let written = bytes.put_varint(quarter).and_then(|()| bytes.put_bytes(payload));
    written.expect("a vector grows");
    bytes.into()
}

/// Whether a list of structured-field strings (RFC 8941) has ours. Anything else in the list is skipped.
fn offers_proto(list: &str) -> bool {
    list.split(',').any(|item| item.trim().trim_matches('"') == SUBPROTOCOL_PROTO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_codes_are_the_drafts() {
        // draft-ietf-webtrans-http3, section 4.4: 0x1e maps over the reserved code point.
        assert_eq!(Session::stream_code(CloseCode::TooLarge).into_inner(), STREAM_CODE_FIRST + 4409 + 146);
    }

    #[test]
    fn datagrams_of_a_later_session_name_it() {
        assert_eq!(datagram_of(4, b"x"), b"\x01x"[..]);
        assert_eq!(datagram_of(256, b"x"), b"\x40\x40x"[..]);
    }

    #[test]
    fn subprotocols_are_a_list_of_strings() {
        assert!(offers_proto("\"other\", \"veza.v1.proto\""));
        assert!(!offers_proto("\"veza.v2.proto\""));
        assert!(!offers_proto(""));
    }
}
