//! Webhooks: events delivered by HTTP, one after another, signed, tried again, and put aside when nobody takes them. What is
//! kept is the store's (`store/hooks.rs`); here is what callers do with webhooks, and who delivers: `keeper.rs` holds webhooks
//! for this node, `runner.rs` is one of them, `line.rs` one delivery. docs/design/webhooks.md tells why.

mod address;
mod keeper;
mod line;
mod retry;
mod runner;
mod sign;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::{self, Secret};
use crate::dial::{DialError, Tls};
use crate::events::{Events, Filter, Names};
use crate::store::desk::Used;
use crate::store::hooks::{Change, DeadLetter, Former, Fresh, Hooks, WebhookRow};
use crate::store::outbox::{Outbox, Span};
use crate::store::{Opened, StoreError};
use crate::tasks::Tasks;
use address::Address;
use keeper::Keeper;

/// Dead letters of one webhook; past it the oldest go.
const DEAD_LETTERS_MAX: u32 = 10_000;
/// Events that are looked at to say how many will be repeated.
pub const COUNTED_MAX: u32 = 10_000;
/// How long the former secret signs beside a new one.
const FORMER_FOR_MS: u64 = 24 * 3_600 * 1_000;
/// Events that are read at once.
const PAGE: u32 = 50;

static LABELS: Names = Names::new();

/// The way to the webhooks. Cheap to clone.
#[derive(Clone)]
pub struct Webhooks {
    shared: Arc<Shared>,
}

struct Shared {
    hooks: Arc<dyn Hooks>,
    outbox: Arc<dyn Outbox>,
    events: Events,
    rules: config::Webhooks,
    clock: Clock,
    /// Counts what was changed about webhooks through this node; told before it is answered.
    changes: watch::Sender<u64>,
}

/// A webhook, and how things are with it.
#[derive(Debug, Clone)]
pub struct Webhook {
    pub row: WebhookRow,
    pub head: u64,
}

/// A webhook that somebody asks for.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub url: String,
    pub filter: Filter,
    pub paused: bool,
}

impl Webhooks {
    /// Begins to deliver for the webhooks that no other node delivers for.
    ///
    /// # Errors
    /// When the authorities that are named cannot be read.
    pub fn start(
        opened: &Opened,
        events: Events,
        rules: config::Webhooks,
        clock: Clock,
        tasks: &Tasks,
    ) -> Result<Self, DialError> {
        Tls { ca_file: rules.ca_file.clone(), ..Tls::default() }.check()?;
        let (hooks, outbox) = (Arc::clone(&opened.hooks), Arc::clone(&opened.outbox));
        let shared = Arc::new(Shared { hooks, outbox, events, rules, clock, changes: watch::Sender::new(0) });
        tasks.spawn("webhooks", Keeper::new(Arc::clone(&shared), tasks.clone()).run(tasks.token()));
        Ok(Self { shared })
    }

    /// Whether a webhook may lead there, as far as that can be said of what is written.
    ///
    /// # Errors
    /// What an address must be.
    pub fn check(&self, url: &str) -> Result<(), String> {
        Address::parse(url, &self.shared.rules).map(drop)
    }

    /// Makes a webhook, with the key that `used` makes for its id. `None` when there are as many as there may be, or the key
    /// is used.
    ///
    /// # Errors
    /// [`StoreError`], here as below.
    pub async fn add(
        &self,
        wanted: Wanted,
        used: impl FnOnce(&str) -> Option<Used>,
    ) -> Result<Option<(Webhook, Secret)>, StoreError> {
        let fresh = Fresh {
            id: URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>()),
            url: wanted.url,
            filter: wanted.filter.to_wire(),
            paused: wanted.paused,
            secret: new_secret(),
            created_ms: self.now_ms(),
        };
        if !self.shared.hooks.add_webhook(&fresh, used(&fresh.id).as_ref()).await? {
            return Ok(None);
        }
        self.shared.changes.send_modify(|count| *count += 1);
        Ok(self.find(&fresh.id).await?.map(|webhook| (webhook, fresh.secret)))
    }

    pub async fn find(&self, id: &str) -> Result<Option<Webhook>, StoreError> {
        match self.shared.hooks.webhook(id).await? {
            Some(row) => self.whole(row).await.map(Some),
            None => Ok(None),
        }
    }

    /// In the order of their ids.
    pub async fn list(&self, after: &str, limit: u32) -> Result<Vec<Webhook>, StoreError> {
        let mut webhooks = Vec::new();
        for row in self.shared.hooks.webhooks(after, limit).await? {
            webhooks.push(self.whole(row).await?);
        }
        Ok(webhooks)
    }

    async fn whole(&self, row: WebhookRow) -> Result<Webhook, StoreError> {
        Ok(Webhook { row, head: self.span().await?.head })
    }

    /// Changes a webhook; `false` when somebody has changed it since it was seen, here as below.
    pub async fn change(&self, seen: &WebhookRow, change: &Change, used: Option<&Used>) -> Result<bool, StoreError> {
        let changed = self.shared.hooks.change_webhook(&seen.id, seen.revision, change, used).await?;
        self.shared.changes.send_modify(|count| *count += 1);
        Ok(changed)
    }

    /// A new secret, and what becomes of the present one.
    pub fn rotated(&self, seen: &WebhookRow) -> (Secret, Former) {
        let until_ms = self.now_ms().saturating_add(FORMER_FOR_MS);
        (new_secret(), Former { secret: seen.secret.clone(), until_ms })
    }

    /// `false` when there is no such webhook.
    pub async fn remove(&self, id: &str, used: Option<&Used>) -> Result<bool, StoreError> {
        let removed = self.shared.hooks.remove_webhook(id, used).await?;
        self.shared.changes.send_modify(|count| *count += 1);
        Ok(removed)
    }

    /// In the order of their numbers.
    pub async fn dead_letters(&self, id: &str, after: u64, limit: u32) -> Result<Vec<DeadLetter>, StoreError> {
        self.shared.hooks.dead_letters(id, after, limit).await
    }

    /// Has one dead letter delivered again, or all.
    pub async fn requeue(
        &self,
        seen: &WebhookRow,
        number: Option<u64>,
        used: Option<&Used>,
    ) -> Result<bool, StoreError> {
        let requeued = self.shared.hooks.requeue(&seen.id, seen.revision, number, self.now_ms(), used).await?;
        self.shared.changes.send_modify(|count| *count += 1);
        Ok(requeued)
    }

    /// How many events behind a position the webhook wants, as far as they are counted.
    pub async fn count_after(&self, row: &WebhookRow, position: u64) -> Result<u64, StoreError> {
        let (filter, mut after, mut wanted) = (Filter::of(&row.filter), position, 0);
        for _page in 0..COUNTED_MAX / PAGE {
            let page = self.shared.outbox.events(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.position;
            wanted += page.iter().filter(|event| filter.wants(event)).count() as u64;
        }
        Ok(wanted)
    }

    /// Where events begin and end.
    pub async fn span(&self) -> Result<Span, StoreError> {
        self.shared.outbox.span().await
    }

    pub fn now_ms(&self) -> u64 {
        self.shared.now_ms()
    }
}

impl Shared {
    fn now_ms(&self) -> u64 {
        self.clock.now().as_millis()
    }
}

/// As it is shown: its characters are the key.
fn new_secret() -> Secret {
    Secret::new(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}
