//! What the platform is asked before somebody connects, joins or publishes: `veza.gateway.v1.Authz`, by gRPC. Its answers
//! are kept as long as they say; while it does not answer it is left alone, and the configuration says what holds then.

mod answers;
mod breaker;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::codegen::Service;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use veza_proto::gateway::v1::{ConnectRequest, ConnectResponse, Decided, JoinRequest, PublishRequest};
use veza_proto::limits::ENTITLEMENT_BYTES_MAX;

use crate::config::{self, Guard};
use crate::dial::{DialError, Peer, Stream, Tls};
use crate::rpc::authz_client::AuthzClient;
use crate::telemetry::metrics;
use answers::{Answers, Key};
use breaker::Breaker;

/// An answer, bytes. A larger one is none.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// The platform's sentence for a user, bytes; what is longer is cut.
const REASON_BYTES_MAX: usize = 256;
/// Entitlements that an answer adds; more are passed over.
const GRANTED_MAX: usize = 32;
/// An hour: nobody is told to wait longer.
const RETRY_AFTER_MS_MAX: u32 = 3_600_000;
/// When a client whose question was not answered may try again.
const ASK_AGAIN_MS: u32 = 2_000;
/// A connection that carries nothing is asked for a sign of life after this, so that a lost one is not found by a question.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_WITHIN: Duration = Duration::from_secs(5);

/// Asks the platform, where one is configured. Clones share everything.
#[derive(Clone, Default)]
pub struct Authz {
    inner: Option<Arc<Inner>>,
}

struct Inner {
    client: AuthzClient<Channel>,
    bearer: Option<MetadataValue<Ascii>>,
    timeout: Duration,
    places: Semaphore,
    answers: Answers,
    breaker: Breaker,
    on_connect: Guard,
    on_join: Guard,
    on_publish: Guard,
}

/// What is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Connect,
    Join,
    Publish,
}

#[derive(Debug, Clone)]
pub enum Question {
    Connect(ConnectRequest),
    Join(JoinRequest),
    Publish(PublishRequest),
}

/// What holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Allowed {
        /// Entitlements beside the token's; only for a connect.
        granted: Vec<String>,
    },
    Denied {
        /// A sentence for the user.
        message: String,
        /// 0: it will not help to try again.
        retry_after_ms: u32,
    },
    /// There is no answer, and without one it is refused.
    Unanswered { message: String, retry_after_ms: u32 },
}

impl Decision {
    fn allowed() -> Self {
        Decision::Allowed { granted: Vec::new() }
    }
}

impl Call {
    fn label(self) -> &'static str {
        match self {
            Call::Connect => "connect",
            Call::Join => "join",
            Call::Publish => "publish",
        }
    }
}

impl Question {
    fn call(&self) -> Call {
        match self {
            Question::Connect(_) => Call::Connect,
            Question::Join(_) => Call::Join,
            Question::Publish(_) => Call::Publish,
        }
    }
}

impl Authz {
    /// Prepares to ask; nobody is called before the first question. Needs a runtime.
    ///
    /// # Errors
    /// [`DialError`] when a file for TLS cannot be used.
    pub fn load(config: Option<&config::Authz>) -> Result<Self, DialError> {
        let Some(config) = config else { return Ok(Self::default()) };
        let (ca_file, identity) = (config.ca_file.clone(), config.identity.clone());
        let tls = Tls { ca_file, identity, alpn: &[b"h2"] };
        tls.check()?;
        let peer = Peer::of(&config.url, tls)?;
        let channel = Endpoint::from(config.url.clone())
            .connect_timeout(config.timeout)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_WITHIN)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(Connector(peer));
        let bearer = config.token.as_ref().map(|token| {
            let mut bearer: MetadataValue<Ascii> =
                format!("Bearer {}", token.expose()).parse().expect("the configuration takes visible ASCII only");
            bearer.set_sensitive(true);
            bearer
        });
        let inner = Inner {
            client: AuthzClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX),
            bearer,
            timeout: config.timeout,
            places: Semaphore::new(config.concurrency),
            answers: Answers::new(config.cache_entries, config.cache_max),
            breaker: Breaker::default(),
            on_connect: config.on_connect,
            on_join: config.on_join,
            on_publish: config.on_publish,
        };
        Ok(Self { inner: Some(Arc::new(inner)) })
    }

    /// Whether anybody is asked about this.
    pub fn is_asked(&self, call: Call) -> bool {
        self.inner.as_ref().is_some_and(|inner| inner.guard(call) != Guard::Off)
    }

    /// What holds without asking: an answer that is still good, or what the configuration says while nobody answers.
    pub fn at_once(&self, question: &Question) -> Option<Decision> {
        let call = question.call();
        let Some(inner) = self.inner.as_ref().filter(|inner| inner.guard(call) != Guard::Off) else {
            return Some(Decision::allowed());
        };
        inner.at_once(call, &Key::of(question))
    }

    /// Asks, unless [`Authz::at_once`] knows; answers within the configured time.
    pub async fn ask(&self, question: Question) -> Decision {
        let call = question.call();
        let Some(inner) = self.inner.as_ref().filter(|inner| inner.guard(call) != Guard::Off) else {
            return Decision::allowed();
        };
        let key = Key::of(&question);
        if let Some(decision) = inner.at_once(call, &key) {
            return decision;
        }
        let Some(attempt) = inner.breaker.attempt(Instant::now()) else { return inner.unasked(call) };
        let begun = Instant::now();
        let answered = tokio::time::timeout(inner.timeout, inner.question(question)).await;
        metrics::authz_seconds(call.label()).record(begun.elapsed());
        match answered.unwrap_or_else(|_elapsed| Err(Status::deadline_exceeded("no answer in time"))) {
            Ok(answer) => {
                attempt.succeeded();
                let keep = Duration::from_secs(answer.decided.cache_seconds.into());
                let decision = decision(answer);
                let outcome = if matches!(decision, Decision::Allowed { .. }) { "allowed" } else { "denied" };
                metrics::authz_total(call.label(), outcome).increment(1);
                inner.answers.keep(key, &decision, keep, Instant::now());
                decision
            }
            Err(status) => {
                metrics::authz_total(call.label(), "failed").increment(1);
                tracing::debug!(call = call.label(), code = ?status.code(), "the platform gave no answer");
                // What is wrong with one question says nothing about the next.
                if says_nothing_of_others(status.code()) {
                    attempt.succeeded();
                } else {
                    attempt.failed(Instant::now(), status.code());
                }
                inner.without_answer(call)
            }
        }
    }
}

impl Inner {
    fn guard(&self, call: Call) -> Guard {
        match call {
            Call::Connect => self.on_connect,
            Call::Join => self.on_join,
            Call::Publish => self.on_publish,
        }
    }

    fn at_once(&self, call: Call, key: &Key) -> Option<Decision> {
        let now = Instant::now();
        if let Some(decision) = self.answers.find(key, now) {
            metrics::authz_cached_total(call.label()).increment(1);
            return Some(decision);
        }
        self.breaker.is_open(now).then(|| self.unasked(call))
    }

    fn unasked(&self, call: Call) -> Decision {
        metrics::authz_total(call.label(), "unasked").increment(1);
        self.without_answer(call)
    }

    fn without_answer(&self, call: Call) -> Decision {
        match self.guard(call) {
            Guard::Off | Guard::Open => Decision::allowed(),
            Guard::Closed => Decision::Unanswered {
                message: "it cannot be asked whether this is allowed: try again soon".to_owned(),
                retry_after_ms: ASK_AGAIN_MS,
            },
        }
    }

    async fn question(&self, question: Question) -> Result<Answer, Status> {
        let _place = self.places.acquire().await.map_err(|_closed| Status::cancelled("stopping"))?;
        let mut client = self.client.clone();
        let answer = match question {
            Question::Connect(asked) => {
                let ConnectResponse { decided, entitlements } = client.connect(self.request(asked)).await?.into_inner();
                decided.map(|decided| Answer { decided, entitlements })
            }
            Question::Join(asked) => {
                let decided = client.join(self.request(asked)).await?.into_inner().decided;
                decided.map(|decided| Answer { decided, entitlements: Vec::new() })
            }
            Question::Publish(asked) => {
                let decided = client.publish(self.request(asked)).await?.into_inner().decided;
                decided.map(|decided| Answer { decided, entitlements: Vec::new() })
            }
        };
        answer.ok_or_else(|| Status::invalid_argument("the answer decides nothing"))
    }

    fn request<T>(&self, asked: T) -> Request<T> {
        let mut request = Request::new(asked);
        request.set_timeout(self.timeout);
        if let Some(bearer) = &self.bearer {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        request
    }
}

struct Answer {
    decided: Decided,
    entitlements: Vec<String>,
}

/// Answers are made of what somebody else says: every length has its bound here.
fn decision(Answer { decided, entitlements }: Answer) -> Decision {
    if decided.allow {
        let fits = |one: &String| (1..=ENTITLEMENT_BYTES_MAX).contains(&one.len());
        return Decision::Allowed { granted: entitlements.into_iter().filter(fits).take(GRANTED_MAX).collect() };
    }
    let retry_after_ms = decided.retry_after_ms.min(RETRY_AFTER_MS_MAX);
    Decision::Denied { message: sentence(&decided.reason), retry_after_ms }
}

fn sentence(reason: &str) -> String {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let said: String = reason[..end].chars().filter(|c| !c.is_control()).collect();
    if said.is_empty() { "the platform does not allow this".to_owned() } else { said }
}

/// Whether an error is about the question and not about who was asked.
fn says_nothing_of_others(code: Code) -> bool {
    match code {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::DataLoss => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::Unauthenticated => false,
    }
}

/// Connects the channel through our own dialler.
struct Connector(Peer);

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = DialError;
    type Future = BoxFuture<'static, Result<Self::Response, DialError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _url: Uri) -> Self::Future {
        let peer = self.0.clone();
        async move { peer.dial().await.map(TokioIo::new) }.boxed()
    }
}
