//! Plain HTTP/3, for clients that ask by a server name beginning with [`SERVER_NAME_PREFIX`].
//!
//! On a WebTransport connection there is a session and little else: any other request is answered with a status alone.
//! So the two are told apart before the first request, by the name in the TLS hello.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;

use super::http::{HEADER_BYTES_MAX, answer};
use crate::tasks::Tasks;

/// A server name that begins so is served plain HTTP/3: the page and the health paths, no WebTransport.
pub(super) const SERVER_NAME_PREFIX: &str = "h3.";

/// Between requests, and for the headers of one.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

type Stream = h3::server::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

/// Answers requests until the client leaves or asks nothing for a while.
pub(super) async fn serve(connection: quinn::Connection, router: Router, tasks: &Tasks) {
    let remote = connection.remote_address();
    if let Err(error) = requests(connection, remote, router, tasks).await {
        tracing::debug!(%remote, %error, "an HTTP/3 connection ended early");
    }
}

async fn requests(
    connection: quinn::Connection,
    remote: SocketAddr,
    router: Router,
    tasks: &Tasks,
) -> Result<(), h3::error::ConnectionError> {
    let mut connection = h3::server::builder()
        .max_field_section_size(HEADER_BYTES_MAX as u64)
        .build::<_, Bytes>(h3_quinn::Connection::new(connection))
        .await?;
    while let Ok(next) = tokio::time::timeout(REQUEST_TIMEOUT, connection.accept()).await {
        let Some(resolver) = next? else { break };
        let router = router.clone();
        // How many there are at once is bounded by the streams the connection grants.
        tasks.spawn("http3 request", async move {
            let answered = tokio::time::timeout(REQUEST_TIMEOUT, async {
                let (request, stream) = resolver.resolve_request().await?;
                respond(request, stream, remote, &router).await
            });
            if let Ok(Err(error)) = answered.await {
                tracing::debug!(%remote, %error, "an HTTP/3 request was not answered");
            }
        });
    }
    Ok(())
}

async fn respond(
    request: http::Request<()>,
    mut stream: Stream,
    remote: SocketAddr,
    router: &Router,
) -> Result<(), h3::error::StreamError> {
    let has_body = stream.recv_data().await?.is_some();
    let response = if has_body {
        // What we answer here needs no body, so none is read.
        stream.stop_sending(h3::error::Code::H3_NO_ERROR);
        let mut response = axum::response::Response::new(Body::empty());
        *response.status_mut() = http::StatusCode::PAYLOAD_TOO_LARGE;
        response
    } else {
        answer(router, remote, request.map(|()| Body::empty())).await
    };
    let (mut parts, body) = response.into_parts();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => {
            parts.status = http::StatusCode::INTERNAL_SERVER_ERROR;
            Bytes::new()
        }
    };
    stream.send_response(http::Response::from_parts(parts, ())).await?;
    if !body.is_empty() {
        stream.send_data(body).await?;
    }
    stream.finish().await
}
