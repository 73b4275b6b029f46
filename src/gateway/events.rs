//! Events and their consumers.

use std::collections::HashMap;
use std::pin::Pin;

use futures_util::Stream;
use futures_util::stream::{self, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};
use veza_proto::gateway::v1::*;

use super::caller::Caller;
use super::pages;
use super::status::{bad_field, because, because_of, refused};
use crate::events::{self, Ended, Events as Told, Filter, Next, Subscription, Unheard};
use crate::rpc::events_server::Events;
use crate::store::StoreError;
use crate::store::outbox::{Removed, Start};
use veza_engine::room::unavailable;

/// A consumer's name, bytes.
const NAME_BYTES_MAX: usize = 64;
const WINDOW_DEFAULT: usize = 1_000;
const WINDOW_MAX: u32 = 10_000;
const PAGE_DEFAULT: u32 = 50;
const PAGE_MAX: u32 = 100;

/// Serves `veza.gateway.v1.Events`.
pub(super) struct EventCalls {
    pub(super) events: Told,
    /// A node that drains ends its streams: another one goes on with them.
    pub(super) draining: CancellationToken,
}

type Answered<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Events for EventCalls {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<SubscribeResponse, Status>> + Send>>;

    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Answered<Self::SubscribeStream> {
        let (_caller, asked) = Caller::take(request)?;
        let name = name(&asked.consumer)?;
        let filter = asked.filter.as_ref().map(Filter::parse).transpose();
        let filter = filter.map_err(|(field, why)| bad_field(field, why))?;
        let start = match asked.start {
            None | Some(subscribe_request::Start::Now(_)) => Start::Now,
            Some(subscribe_request::Start::Earliest(_)) => Start::Earliest,
            Some(subscribe_request::Start::AfterPosition(position)) => Start::After(position),
        };
        let window = match asked.window {
            0 => WINDOW_DEFAULT,
            window if window <= WINDOW_MAX => window as usize,
            _ => return Err(bad_field("window", format!("at most {WINDOW_MAX}"))),
        };
        if self.draining.is_cancelled() {
            return Err(drains());
        }
        let subscription = self.events.subscribe(name, filter, start, window).await.map_err(unheard)?;
        let first = subscribe_response::What::Consumer(wire(subscription.consumer()));
        let rest = stream::unfold(Some((subscription, self.draining.clone())), said);
        Ok(Response::new(Box::pin(stream::iter([Ok(SubscribeResponse { what: Some(first) })]).chain(rest))))
    }

    async fn acknowledge(&self, request: Request<AcknowledgeRequest>) -> Answered<AcknowledgeResponse> {
        let (_caller, asked) = Caller::take(request)?;
        let stands = self.events.acknowledge(name(&asked.consumer)?, asked.position).await.map_err(silent)?;
        Ok(Response::new(AcknowledgeResponse { position: stands.ok_or_else(no_such_consumer)? }))
    }

    async fn get_consumer(&self, request: Request<GetConsumerRequest>) -> Answered<GetConsumerResponse> {
        let (_caller, asked) = Caller::take(request)?;
        let found = self.events.consumer(name(&asked.consumer)?).await.map_err(silent)?;
        let consumer = wire(&found.ok_or_else(no_such_consumer)?);
        Ok(Response::new(GetConsumerResponse { consumer: Some(consumer) }))
    }

    async fn list_consumers(&self, request: Request<ListConsumersRequest>) -> Answered<ListConsumersResponse> {
        let (_caller, asked) = Caller::take(request)?;
        let limit = pages::size(asked.page_size, PAGE_DEFAULT, PAGE_MAX);
        let after = pages::place("consumers", &asked.page_token)?.unwrap_or_default();
        let mut found = self.events.consumers(&after, limit + 1).await.map_err(silent)?;
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let next = found.last().filter(|_| more).map_or("", |last| last.row.name.as_str());
        let next_page_token = pages::token("consumers", next);
        Ok(Response::new(ListConsumersResponse { consumers: found.iter().map(wire).collect(), next_page_token }))
    }

    async fn delete_consumer(&self, request: Request<DeleteConsumerRequest>) -> Answered<DeleteConsumerResponse> {
        let (caller, asked) = Caller::take(request)?;
        let name = name(&asked.consumer)?;
        let call = caller.once(caller.itself(), "DeleteConsumer", &asked.idempotency_key, &asked)?;
        match self.events.remove(name, call.once.as_ref()).await.map_err(silent)? {
            Removed::Now | Removed::Before => Ok(Response::new(DeleteConsumerResponse {})),
            Removed::NotThere => Err(no_such_consumer()),
            Removed::KeyReused => {
                let sentence = "this idempotency key was used for another request";
                Err(because(Code::AlreadyExists, Reason::IdempotencyKeyReused, sentence))
            }
        }
    }
}

type Saying = Option<(Subscription, CancellationToken)>;

/// What a stream says next; nothing after its end.
async fn said(saying: Saying) -> Option<(Result<SubscribeResponse, Status>, Saying)> {
    let (mut subscription, draining) = saying?;
    let Some(next) = draining.run_until_cancelled(subscription.next()).await else {
        return Some((Err(drains()), None));
    };
    match next {
        Ok(next) => {
            let what = match next {
                Next::Event(event) => subscribe_response::What::Event(event),
                Next::Idle(position) => subscribe_response::What::Idle(Idle { position }),
            };
            Some((Ok(SubscribeResponse { what: Some(what) }), Some((subscription, draining))))
        }
        Err(ended) => Some((Err(over(ended)), None)),
    }
}

fn name(name: &str) -> Result<&str, Status> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(fits) {
        return Ok(name);
    }
    Err(bad_field("consumer", format!("a consumer's name is 1 to {NAME_BYTES_MAX} of a-z 0-9 . _ -")))
}

fn wire(consumer: &events::Consumer) -> Consumer {
    Consumer {
        name: consumer.row.name.clone(),
        filter: Some(consumer.row.filter.clone()),
        position: consumer.row.position,
        head: consumer.head,
        lag_ms: consumer.lag_ms,
        created_ms: consumer.row.created_ms,
        acknowledged_ms: consumer.row.acknowledged_ms,
        connected: consumer.connected,
    }
}

fn unheard(why: Unheard) -> Status {
    match why {
        Unheard::Full => refused(&veza_proto::v1::Error::permanent(veza_proto::v1::ErrorCode::Limit, why.to_string())),
        Unheard::Expired { first } => expired(first),
        Unheard::Store(error) => silent(error),
    }
}

fn over(ended: Ended) -> Status {
    match ended {
        Ended::TakenOver => because(Code::Aborted, Reason::TakenOver, ended.to_string()),
        Ended::Deleted => no_such_consumer(),
        Ended::Expired { first } => expired(first),
        Ended::Store(error) => silent(error),
    }
}

fn expired(first: u64) -> Status {
    let metadata = HashMap::from([("first_position".to_owned(), first.to_string())]);
    let sentence = format!("events are kept from position {first} on; acknowledge {} to go on there", first - 1);
    because_of(Code::OutOfRange, Reason::EventsExpired, sentence, metadata)
}

fn no_such_consumer() -> Status {
    refused(&veza_proto::v1::Error::permanent(veza_proto::v1::ErrorCode::NotFound, "no such consumer"))
}

fn drains() -> Status {
    because(Code::Unavailable, Reason::Draining, "the server is draining; another one goes on with the stream")
}

fn silent(error: StoreError) -> Status {
    tracing::error!(%error, "a call about events was not answered by the database");
    refused(&unavailable())
}
