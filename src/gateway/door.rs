//! What every call passes before its service: who calls, may they, is there room, and how long they wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Request, Response};
use tokio::sync::Semaphore;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::ServiceExt;
use tracing::Instrument;
use veza_proto::gateway::v1::Reason;

use super::access::{Access, Service};
use super::scope::{self, Call, Scope};
use super::{deadline, status};
use crate::telemetry::metrics as declared;

/// Calls that may run at once; more are told to come back.
pub(super) const RUNNING_MAX: usize = 1_024;
/// The largest request, bytes of its message.
pub(super) const REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// How long a caller that finds no room waits.
const COME_BACK: Duration = Duration::from_millis(500);

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Peer {
    /// What a verified client certificate calls its owner.
    pub(super) names: Arc<[String]>,
}

/// In front of all services. Clones share it.
#[derive(Clone)]
pub(super) struct Door {
    routes: Routes,
    access: Access,
    running: Arc<Semaphore>,
}

impl Door {
    pub(super) fn new(routes: Routes, access: Access) -> Self {
        Self { routes: routes.prepare(), access, running: Arc::new(Semaphore::new(RUNNING_MAX)) }
    }

    /// Answers one call.
    pub(super) async fn answer<B>(&self, request: Request<B>, peer: &Peer) -> Response<Body>
    where
        B: hyper::body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let begun = Instant::now();
        let call = scope::find(request.uri().path());
        let (service, method) = call.map_or(("unknown", "unknown"), |call| (call.service, call.method));
        let response = self.admit(request, peer, call).await.unwrap_or_else(|status| status.into_http());
        let code = code(response.headers());
        declared::gateway_calls_total(service, method, label(code)).increment(1);
        declared::gateway_call_seconds(service, method).record(begun.elapsed());
        tracing::debug!(service, method, code = label(code), "a call was answered");
        response
    }

    async fn admit<B>(
        &self,
        mut request: Request<B>,
        peer: &Peer,
        call: Option<&'static Call>,
    ) -> Result<Response<Body>, Status>
    where
        B: hyper::body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut caller = None;
        if let Some(call) = call.filter(|call| !call.scopes.is_empty()) {
            let service = self.service(request.headers(), peer)?;
            if !call.scopes.iter().any(|scope| service.may(*scope)) {
                let names: Vec<&str> = call.scopes.iter().copied().map(Scope::name).collect();
                return Err(status::scope_missing(&names));
            }
            caller = Some(Arc::clone(&service));
            request.extensions_mut().insert(service);
        }
        let _place = self.running.try_acquire().map_err(|_full| {
            let sentence = "the server runs as many calls as it may";
            status::later(Code::ResourceExhausted, Reason::Overloaded, sentence, COME_BACK)
        })?;
        let header = request.headers().get("grpc-timeout").and_then(|value| value.to_str().ok());
        let wait = deadline::parse(header);
        if wait.is_zero() {
            return Err(too_late());
        }
        let (service, method) = call.map_or(("unknown", "unknown"), |call| (call.service, call.method));
        let by = caller.as_ref().map_or("", |service| service.name.as_str());
        let span = tracing::info_span!("call", service, method, by);
        let served = self.routes.clone().oneshot(request).instrument(span);
        match tokio::time::timeout(wait, served).await {
            Ok(Ok(response)) => Ok(spoken(response, call.is_some())),
            Err(_elapsed) => Err(too_late()),
        }
    }

    /// Who calls: by token, or by the connection's certificate where no token is shown.
    fn service(&self, headers: &HeaderMap, peer: &Peer) -> Result<Arc<Service>, Status> {
        let found = match headers.get(http::header::AUTHORIZATION) {
            Some(value) => value.to_str().ok().and_then(bearer).and_then(|token| self.access.by_token(token)),
            None => self.access.by_certificate(&peer.names),
        };
        found.ok_or_else(|| {
            let sentence = "show a service token (authorization: Bearer …) or a client certificate that is known here";
            status::because(Code::Unauthenticated, Reason::ServiceUnknown, sentence)
        })
    }
}

/// To a call that comes on a connection that is to end.
pub(super) fn leaving() -> Response<Body> {
    let sentence = "the server goes away: another one takes this call";
    status::later(Code::Unavailable, Reason::Draining, sentence, COME_BACK).into_http()
}

fn too_late() -> Status {
    let sentence = "the deadline of this call has passed; a write may have happened all the same";
    status::because(Code::DeadlineExceeded, Reason::Deadline, sentence)
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Two refusals that the library makes without a reason: a request that was too large, which it calls out of range, and a
/// call of the schema (`known`) that this server does not serve.
fn spoken(response: Response<Body>, known: bool) -> Response<Body> {
    let Some(refused) = Status::from_header_map(response.headers()) else { return response };
    if refused.code() == Code::OutOfRange && refused.message().contains("message length too large") {
        let sentence = format!("a request may have {REQUEST_BYTES_MAX} bytes");
        return status::because(Code::ResourceExhausted, Reason::RequestTooLarge, sentence).into_http();
    }
    if refused.code() == Code::Unimplemented && known && refused.details().is_empty() {
        let sentence = "this version of the server does not serve this call";
        return status::because(Code::Unimplemented, Reason::NotServed, sentence).into_http();
    }
    response
}

/// As far as it is known before the body: a refusal stands in the headers, and what has a body went well so far.
fn code(headers: &HeaderMap) -> Code {
    headers.get("grpc-status").map_or(Code::Ok, |value| Code::from_bytes(value.as_bytes()))
}

/// The label of a code in metrics.
fn label(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::StreamExt;
    use futures_util::stream::FuturesUnordered;
    use http_body_util::Full;
    use tonic_health::pb::health_server::{Health, HealthServer};
    use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
    use tonic_types::StatusExt;

    use super::*;
    use crate::config::{Environment, Secret, Services};

    /// A service that takes as long as it likes.
    struct Silent;

    #[tonic::async_trait]
    impl Health for Silent {
        type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

        async fn check(
            &self,
            _: tonic::Request<HealthCheckRequest>,
        ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
            std::future::pending().await
        }

        async fn watch(
            &self,
            _: tonic::Request<HealthCheckRequest>,
        ) -> Result<tonic::Response<Self::WatchStream>, Status> {
            Ok(tonic::Response::new(tokio_stream::empty()))
        }
    }

    fn silent() -> Door {
        let dir = tempfile::tempdir().unwrap();
        let token = Services::Token(Secret::new("t".repeat(32)));
        let access = Access::load(&token, Environment::Production, dir.path()).unwrap().unwrap();
        Door::new(Routes::new(HealthServer::new(Silent)), access)
    }

    /// Of a call that is never answered.
    fn check(timeout: &str) -> Request<Full<Bytes>> {
        Request::post("/grpc.health.v1.Health/Check")
            .header("content-type", "application/grpc")
            .header("grpc-timeout", timeout)
            .body(Full::new(Bytes::from_static(&[0; 5])))
            .unwrap()
    }

    fn refusal(response: &Response<Body>) -> (Code, String) {
        let status = Status::from_header_map(response.headers()).unwrap();
        (status.code(), status.get_details_error_info().unwrap().reason)
    }

    #[tokio::test]
    async fn nobody_waits_longer_than_the_deadline() {
        let response = silent().answer(check("20m"), &Peer::default()).await;
        assert_eq!(refusal(&response), (Code::DeadlineExceeded, "DEADLINE".into()));
    }

    #[tokio::test]
    async fn as_many_calls_as_may_run_and_one_more() {
        let (door, peer) = (silent(), Peer::default());
        let mut running: FuturesUnordered<_> = (0..RUNNING_MAX).map(|_| door.answer(check("10H"), &peer)).collect();
        assert!(futures_util::poll!(running.next()).is_pending(), "all of them are let in");
        let response = door.answer(check("20m"), &peer).await;
        assert_eq!(refusal(&response), (Code::ResourceExhausted, "OVERLOADED".into()));
        drop(running);
        assert_eq!(refusal(&door.answer(check("20m"), &peer).await).0, Code::DeadlineExceeded, "there is room again");
    }

    #[tokio::test]
    async fn a_call_of_the_schema_that_is_not_served_says_so() {
        let ask = |path: &str| {
            let request = Request::post(path).header("content-type", "application/grpc");
            let request = request.header("authorization", format!("Bearer {}", "t".repeat(32)));
            request.body(Full::new(Bytes::from_static(&[0; 5]))).unwrap()
        };
        let response = silent().answer(ask("/veza.gateway.v1.Rooms/GetRoom"), &Peer::default()).await;
        assert_eq!(refusal(&response), (Code::Unimplemented, "NOT_SERVED".into()));
        let response = silent().answer(ask("/somebody.Elses/Call"), &Peer::default()).await;
        assert_eq!(code(response.headers()), Code::Unimplemented);
    }

    #[test]
    fn who_comes_at_the_end_is_sent_elsewhere() {
        assert_eq!(refusal(&leaving()), (Code::Unavailable, "DRAINING".into()));
    }

    #[test]
    fn tokens_are_read_as_http_writes_them() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc "), Some("abc"));
        assert_eq!(bearer("Basic abc"), None);
        assert_eq!(bearer("abc"), None);
    }

    #[test]
    fn a_refusal_is_counted_by_its_code() {
        let refused: Response<Body> = Status::not_found("no").into_http();
        assert_eq!(label(code(refused.headers())), "not_found");
        assert_eq!(code(&HeaderMap::new()), Code::Ok);
    }
}
