//! Webhooks: made, changed, looked at, and what they could not deliver.

use std::collections::HashMap;

use prost::Message;
use tonic::{Code, Request, Response, Status};
use veza_proto::gateway::v1::*;
use veza_proto::v1::{Error, ErrorCode};

use super::caller::Caller;
use super::desk::{ATTEMPTS_MAX, Records, busy, failed};
use super::pages;
use super::status::{bad_field, because_of, refused};
use crate::events::Filter;
use crate::hub::Call;
use crate::rpc::webhooks_server::Webhooks as Service;
use crate::store::hooks::{self, Change, WEBHOOKS_MAX};
use crate::webhooks::{self, Wanted, Webhooks};

const WEBHOOKS: &str = "webhooks";
const DEAD_LETTERS: &str = "dead_letters";
const MASK: &str = "update_mask";
/// 16 bytes as they are written.
const ID_CHARS: usize = 22;
const PAGE_DEFAULT: u32 = 50;
const PAGE_MAX: u32 = 100;
/// Dead letters of one page past the first, bytes.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// Serves `veza.gateway.v1.Webhooks`.
pub(super) struct WebhookCalls {
    pub(super) webhooks: Webhooks,
    pub(super) records: Records,
}

type Answered<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Service for WebhookCalls {
    async fn create_webhook(&self, request: Request<CreateWebhookRequest>) -> Answered<CreateWebhookResponse> {
        let (caller, asked) = Caller::take(request)?;
        self.webhooks.check(&asked.url).map_err(|why| bad_field("url", why))?;
        let filter = filter("", asked.filter.as_ref())?;
        let call = caller.once(caller.itself(), "CreateWebhook", &asked.idempotency_key, &asked)?;
        if let Some(made) = self.made(&call).await? {
            return Ok(Response::new(CreateWebhookResponse { webhook: Some(made), secret: String::new() }));
        }
        let wanted = Wanted { url: asked.url, filter, paused: asked.paused };
        let added = self.webhooks.add(wanted, |id| self.records.used(&call, id)).await.map_err(failed)?;
        let (webhook, secret) = match added {
            Some((webhook, secret)) => (wire(&webhook), secret.expose().to_owned()),
            None => (self.made(&call).await?.ok_or_else(full)?, String::new()),
        };
        Ok(Response::new(CreateWebhookResponse { webhook: Some(webhook), secret }))
    }

    async fn update_webhook(&self, request: Request<UpdateWebhookRequest>) -> Answered<UpdateWebhookResponse> {
        let (caller, asked) = Caller::take(request)?;
        let wanted = asked.webhook.clone().unwrap_or_default();
        let id = id("webhook.id", &wanted.id)?;
        let change = self.masked(&wanted, &asked)?;
        let call = caller.once(caller.itself(), "UpdateWebhook", &asked.idempotency_key, &asked)?;
        for _attempt in 0..ATTEMPTS_MAX {
            if let Some(made) = self.made(&call).await? {
                return Ok(Response::new(UpdateWebhookResponse { webhook: Some(made), secret: String::new() }));
            }
            let seen = self.found(id).await?.row;
            let secret = asked.rotate_secret.then(|| self.webhooks.rotated(&seen));
            let shown = secret.as_ref().map(|(secret, _)| secret.expose().to_owned()).unwrap_or_default();
            let change = Change { secret, ..change.clone() };
            if self.webhooks.change(&seen, &change, self.records.used(&call, id).as_ref()).await.map_err(failed)? {
                let webhook = Some(wire(&self.found(id).await?));
                return Ok(Response::new(UpdateWebhookResponse { webhook, secret: shown }));
            }
        }
        Err(busy())
    }

    async fn get_webhook(&self, request: Request<GetWebhookRequest>) -> Answered<GetWebhookResponse> {
        let (_caller, asked) = Caller::take(request)?;
        let webhook = Some(wire(&self.found(id("id", &asked.id)?).await?));
        Ok(Response::new(GetWebhookResponse { webhook }))
    }

    async fn list_webhooks(&self, request: Request<ListWebhooksRequest>) -> Answered<ListWebhooksResponse> {
        let (_caller, asked) = Caller::take(request)?;
        let limit = pages::size(asked.page_size, PAGE_DEFAULT, PAGE_MAX);
        let after = pages::place(WEBHOOKS, &asked.page_token)?.unwrap_or_default();
        let mut found = self.webhooks.list(&after, limit + 1).await.map_err(failed)?;
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let next = found.last().filter(|_| more).map_or("", |last| last.row.id.as_str());
        let next_page_token = pages::token(WEBHOOKS, next);
        Ok(Response::new(ListWebhooksResponse { webhooks: found.iter().map(wire).collect(), next_page_token }))
    }

    async fn delete_webhook(&self, request: Request<DeleteWebhookRequest>) -> Answered<DeleteWebhookResponse> {
        let (caller, asked) = Caller::take(request)?;
        let id = id("id", &asked.id)?;
        let call = caller.once(caller.itself(), "DeleteWebhook", &asked.idempotency_key, &asked)?;
        if self.records.made(&call).await?.is_some() {
            return Ok(Response::new(DeleteWebhookResponse {}));
        }
        let removed = self.webhooks.remove(id, self.records.used(&call, id).as_ref()).await.map_err(failed)?;
        if removed || self.records.made(&call).await?.is_some() {
            return Ok(Response::new(DeleteWebhookResponse {}));
        }
        Err(no_such("webhook"))
    }

    async fn list_dead_letters(&self, request: Request<ListDeadLettersRequest>) -> Answered<ListDeadLettersResponse> {
        let (_caller, asked) = Caller::take(request)?;
        let id = id("id", &asked.id)?;
        let limit = pages::size(asked.page_size, PAGE_DEFAULT, PAGE_MAX);
        let after = pages::number(DEAD_LETTERS, &asked.page_token)?.unwrap_or(0);
        self.found(id).await?;
        let found = self.webhooks.dead_letters(id, after, limit + 1).await.map_err(failed)?;
        let letters = found.into_iter().map(letter).collect();
        let (dead_letters, more) = page(letters, limit as usize, PAGE_BYTES_MAX);
        let next = dead_letters.last().filter(|_| more).map_or(0, |last| last.number);
        Ok(Response::new(ListDeadLettersResponse {
            dead_letters,
            next_page_token: pages::number_token(DEAD_LETTERS, next),
        }))
    }

    async fn replay(&self, request: Request<ReplayRequest>) -> Answered<ReplayResponse> {
        let (caller, asked) = Caller::take(request)?;
        let id = id("id", &asked.id)?;
        let what = asked.what.filter(|what| *what != replay_request::What::DeadLetters(false));
        let what = what.ok_or_else(|| bad_field("dead_letters", "say what: dead_letters, number or after_position"))?;
        let call = caller.once(caller.itself(), "Replay", &asked.idempotency_key, &asked)?;
        for _attempt in 0..ATTEMPTS_MAX {
            // What it has made is the number that it was answered with.
            if let Some(made) = self.records.made(&call).await? {
                return Ok(Response::new(ReplayResponse { count: made.parse().unwrap_or_default() }));
            }
            let seen = self.found(id).await?;
            let count = self.replayed(&seen, what).await?;
            let used = self.records.used(&call, &count.to_string());
            let done = match what {
                replay_request::What::DeadLetters(_) => self.webhooks.requeue(&seen.row, None, used.as_ref()).await,
                replay_request::What::Number(number) => {
                    self.webhooks.requeue(&seen.row, Some(number), used.as_ref()).await
                }
                replay_request::What::AfterPosition(position) => {
                    // What was not reached yet comes anyway.
                    let rewind_to = Some(position).filter(|position| *position < seen.row.position);
                    let change = Change { rewind_to, ..Change::default() };
                    self.webhooks.change(&seen.row, &change, used.as_ref()).await
                }
            };
            if done.map_err(failed)? {
                return Ok(Response::new(ReplayResponse { count }));
            }
        }
        Err(busy())
    }
}

impl WebhookCalls {
    async fn found(&self, id: &str) -> Result<webhooks::Webhook, Status> {
        self.webhooks.find(id).await.map_err(failed)?.ok_or_else(|| no_such("webhook"))
    }

    /// The webhook that was made or changed under this call's key before, as it is now.
    async fn made(&self, call: &Call) -> Result<Option<Webhook>, Status> {
        match self.records.made(call).await? {
            Some(id) => Ok(Some(wire(&self.found(&id).await?))),
            None => Ok(None),
        }
    }

    /// What the mask names; a new secret alone needs none.
    fn masked(&self, wanted: &Webhook, asked: &UpdateWebhookRequest) -> Result<Change, Status> {
        let paths = asked.update_mask.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default();
        if paths.is_empty() && !asked.rotate_secret {
            return Err(bad_field(MASK, "name at least one field, or rotate_secret"));
        }
        let mut change = Change::default();
        for path in paths {
            match path.as_str() {
                "url" => {
                    self.webhooks.check(&wanted.url).map_err(|why| bad_field("webhook.url", why))?;
                    change.url = Some(wanted.url.clone());
                }
                "filter" => change.filter = Some(filter("webhook.", wanted.filter.as_ref())?.to_wire()),
                "paused" => change.paused = Some(wanted.paused),
                other => return Err(bad_field(MASK, format!("{other:?} is no field that can be changed"))),
            }
        }
        Ok(change)
    }

    /// How many will be delivered again.
    async fn replayed(&self, seen: &webhooks::Webhook, what: replay_request::What) -> Result<u64, Status> {
        match what {
            replay_request::What::DeadLetters(_) => Ok(seen.dead_letters.into()),
            replay_request::What::Number(number) => {
                let before = number.saturating_sub(1);
                let found = self.webhooks.dead_letters(&seen.row.id, before, 1).await.map_err(failed)?;
                let is_there = found.first().is_some_and(|letter| letter.number == number);
                if is_there { Ok(1) } else { Err(no_such("dead letter")) }
            }
            replay_request::What::AfterPosition(position) => {
                let expired = self.webhooks.span().await.map_err(failed)?.expired;
                if position < expired {
                    return Err(gone_before(expired + 1));
                }
                self.webhooks.count_after(&seen.row, position).await.map_err(failed)
            }
        }
    }
}

fn id<'a>(field: &str, id: &'a str) -> Result<&'a str, Status> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if id.len() == ID_CHARS && id.chars().all(fits) {
        return Ok(id);
    }
    Err(bad_field(field, format!("a webhook's id has {ID_CHARS} of A-Z a-z 0-9 - _")))
}

fn filter(before: &str, filter: Option<&EventFilter>) -> Result<Filter, Status> {
    let parsed = filter.map(Filter::parse).transpose();
    Ok(parsed.map_err(|(field, why)| bad_field(&format!("{before}{field}"), why))?.unwrap_or_default())
}

fn wire(webhook: &webhooks::Webhook) -> Webhook {
    let webhooks::Webhook { row, head, dead_letters } = webhook;
    Webhook {
        id: row.id.clone(),
        url: row.url.clone(),
        filter: Some(row.filter.clone()),
        paused: row.paused,
        created_ms: row.created_ms,
        position: row.position,
        head: *head,
        dead_letters: *dead_letters,
        last_outcome: row.course.last_outcome.clone(),
        last_attempt_ms: row.course.last_attempt_ms,
        failures: row.course.failures,
    }
}

fn letter(letter: hooks::DeadLetter) -> DeadLetter {
    DeadLetter {
        number: letter.number,
        event: Some(letter.event),
        attempts: letter.attempts,
        first_attempt_ms: letter.first_attempt_ms,
        last_attempt_ms: letter.last_attempt_ms,
        outcome: letter.outcome,
    }
}

/// As many as fit, and whether there are more.
fn page(mut letters: Vec<DeadLetter>, count_max: usize, bytes_max: usize) -> (Vec<DeadLetter>, bool) {
    let mut bytes = 0;
    let mut fits = |letter: &DeadLetter| {
        bytes += letter.encoded_len();
        bytes <= bytes_max
    };
    let fit = letters.iter().map_while(|letter| Some(letter).filter(|letter| fits(letter))).count();
    let all = letters.len();
    letters.truncate(fit.max(1).min(count_max));
    let more = letters.len() < all;
    (letters, more)
}

fn full() -> Status {
    refused(&Error::permanent(ErrorCode::Limit, format!("there may be {WEBHOOKS_MAX} webhooks")))
}

fn no_such(what: &str) -> Status {
    refused(&Error::permanent(ErrorCode::NotFound, format!("no such {what}")))
}

fn gone_before(first: u64) -> Status {
    let metadata = HashMap::from([("first_position".to_owned(), first.to_string())]);
    let sentence = format!("events are kept from position {first} on");
    because_of(Code::OutOfRange, Reason::EventsExpired, sentence, metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_dead_letters_at_its_limits_and_one_past() {
        let letters = |count: u64| (1..=count).map(|number| DeadLetter { number, ..DeadLetter::default() }).collect();
        let numbers = |count, count_max, bytes_max| {
            let (letters, more) = page(letters(count), count_max, bytes_max);
            (letters.iter().map(|letter| letter.number).collect::<Vec<_>>(), more)
        };
        // Each has two bytes.
        assert_eq!(numbers(3, 3, 6), (vec![1, 2, 3], false));
        assert_eq!(numbers(3, 3, 5), (vec![1, 2], true));
        assert_eq!(numbers(3, 2, 6), (vec![1, 2], true));
        assert_eq!(numbers(2, 2, 1), (vec![1], true), "one at least, however large");
        assert_eq!(numbers(0, 2, 1), (vec![], false));
    }
}
