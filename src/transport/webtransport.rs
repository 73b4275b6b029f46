//! WebTransport over HTTP/3: the one place that names `wtransport`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::VarInt;
use veza_proto::{CloseCode, Format, SUBPROTOCOL_PROTO, WEBTRANSPORT_PATH};
use wtransport::endpoint::{IncomingSessionFuture, SessionRequest};
use wtransport::error::ConnectionError;

use super::lanes::{RecvHalf, SendHalf};
use super::meters::Meters;
use super::origins::{Origins, bearer};
use super::quic::{Arrival, Carrier, QuicLink};
use super::{End, Peer, Transport};
use crate::telemetry::metrics;

/// From the client's first flight to its CONNECT request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a stopped stream's code is counted from in HTTP/3 (draft-ietf-webtrans-http3, section 4.4).
const STREAM_CODE_FIRST: u64 = 0x52e4_a40f_a8db;

/// Finishes the handshake, judges the request and answers it. `None` when there is no session; the client knows why.
pub(super) async fn accept(
    connecting: quinn::Connecting,
    origins: &Origins,
    meters: Arc<Meters>,
) -> Option<QuicLink<Session>> {
    let request = request(connecting).await?;
    let refusal = |reason: &'static str| metrics::links_refused_total("webtransport", reason).increment(1);
    if request.path().split('?').next() != Some(WEBTRANSPORT_PATH) {
        refusal("path");
        answered(request.not_found()).await;
        return None;
    }
    if !origins.allow(request.origin()) {
        refusal("origin");
        answered(request.forbidden()).await;
        return None;
    }
    let remote = request.remote_address();
    let bearer = request.headers().get("authorization").and_then(|value| bearer(value));
    let offered = request.headers().get("wt-available-protocols").is_some_and(|list| offers_proto(list));
    let headers = offered.then(|| ("wt-protocol", format!("\"{SUBPROTOCOL_PROTO}\"")));
    let accepted = tokio::time::timeout(CONNECT_TIMEOUT, request.accept_with_headers(headers)).await;
    let Ok(Ok(session)) = accepted else {
        refusal("handshake");
        return None;
    };
    let peer = Peer { transport: Transport::WebTransport, remote, format: Format::Proto, bearer };
    Some(QuicLink::new(Session(Arc::new(session)), peer, meters))
}

async fn request(connecting: quinn::Connecting) -> Option<SessionRequest> {
    let incoming = IncomingSessionFuture::with_quic_connecting(connecting);
    let error = match tokio::time::timeout(CONNECT_TIMEOUT, incoming).await {
        Ok(Ok(request)) => return Some(request),
        Ok(Err(error)) => error.to_string(),
        Err(_elapsed) => "no CONNECT request in time".to_owned(),
    };
    tracing::debug!(error, "no WebTransport session");
    metrics::links_refused_total("webtransport", "handshake").increment(1);
    None
}

/// A refusal goes out, or is given up with the connection.
async fn answered(answer: impl Future<Output = ()>) {
    // The answer is finished when the client has it; a client that does not take it has the connection closed on it.
    let _ = tokio::time::timeout(CONNECT_TIMEOUT, answer).await;
}

/// Whether a list of structured-field strings (RFC 8941) has ours. Anything else in the list is skipped.
fn offers_proto(list: &str) -> bool {
    list.split(',').any(|item| item.trim().trim_matches('"') == SUBPROTOCOL_PROTO)
}

/// A WebTransport session, which has its QUIC connection for itself.
pub(super) struct Session(Arc<wtransport::Connection>);

impl Carrier for Session {
    type Send = wtransport::SendStream;
    type Recv = wtransport::RecvStream;

    fn connection(&self) -> &quinn::Connection {
        self.0.quic_connection()
    }

    fn arrival(&self) -> impl Future<Output = Arrival<Self::Send, Self::Recv>> + Send + 'static {
        let session = self.0.clone();
        async move {
            let arrival = tokio::select! {
                stream = session.accept_bi() => stream.map(|(send, recv)| Arrival::Stream(send, recv)),
                stream = session.accept_uni() => stream.map(Arrival::Unidirectional),
                datagram = session.receive_datagram() => datagram.map(|datagram| Arrival::Datagram(datagram.payload())),
            };
            arrival.unwrap_or_else(|error| Arrival::Ended(end(error)))
        }
    }

    fn stream_code(code: CloseCode) -> VarInt {
        let code = u64::from(code.code());
        VarInt::from_u64(STREAM_CODE_FIRST + code + code / 0x1e).expect("far below 2^62")
    }

    fn datagram(session_zero: Bytes) -> Bytes {
        session_zero
    }
}

impl SendHalf for wtransport::SendStream {
    fn quic(&mut self) -> &mut quinn::SendStream {
        self.quic_stream_mut()
    }
}

impl RecvHalf for wtransport::RecvStream {
    fn quic(&mut self) -> &mut quinn::RecvStream {
        self.quic_stream_mut()
    }
}

fn end(error: ConnectionError) -> End {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            End::Closed { code: u16::try_from(close.code().into_inner()).ok() }
        }
        other @ (ConnectionError::ConnectionClosed(_)
        | ConnectionError::LocallyClosed
        | ConnectionError::LocalH3Error(_)
        | ConnectionError::TimedOut
        | ConnectionError::QuicProto(_)
        | ConnectionError::CidsExhausted) => End::Lost { why: other.to_string() },
    }
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
    fn subprotocols_are_a_list_of_strings() {
        assert!(offers_proto("\"other\", \"veza.v1.proto\""));
        assert!(!offers_proto("\"veza.v2.proto\""));
        assert!(!offers_proto(""));
    }
}
