//! What happened, for whoever listens from outside: streams of named consumers, each from where it stands. What is kept is
//! the store's (`store/outbox.rs`); here is who has a stream, when it wakes, and how far ahead it may run.

mod filter;
mod names;
mod subscription;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use veza_engine::ledger::OnceKey;

use crate::clock::Clock;
use crate::store::StoreError;
use crate::store::outbox::{ConsumerRow, Outbox, Registration, Removed, Span, Start, Told};
use crate::tasks::Tasks;
use crate::telemetry::metrics as declared;
pub use filter::Filter;
pub use names::Names;
pub use subscription::{Ended, Next, Subscription};

/// How long a node that committed nothing itself waits before it looks for what others did.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Commits that come closer than this wake the streams together.
const WAKE_GAP: Duration = Duration::from_millis(5);
/// How often old events are removed and the consumers' lags measured.
const TIDY_EVERY: Duration = Duration::from_secs(5);

/// How long and how many events are kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    pub hours: u32,
    pub rows_max: u64,
}

/// The way to the events. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    shared: Arc<Shared>,
}

struct Shared {
    outbox: Arc<dyn Outbox>,
    committed: Arc<Notify>,
    /// Counts the times that there may be something new.
    pulse: watch::Sender<u64>,
    /// The streams that are open on this node, by their consumers.
    live: Mutex<BTreeMap<String, Live>>,
    retention: Retention,
    clock: Clock,
}

/// A stream, as others reach it.
struct Live {
    holder: u64,
    taken_over: CancellationToken,
    acknowledged: watch::Sender<u64>,
}

/// Why a consumer gets no stream.
#[derive(Debug, thiserror::Error)]
pub enum Unheard {
    #[error("as many consumers as there may be are registered")]
    Full,
    /// The first position that is kept.
    #[error("the events from here on are kept no more")]
    Expired { first: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Events {
    /// `committed` is told after every commit of this node.
    pub fn start(
        outbox: Arc<dyn Outbox>,
        committed: Arc<Notify>,
        retention: Retention,
        clock: Clock,
        tasks: &Tasks,
    ) -> Self {
        let (pulse, live) = (watch::Sender::new(0), Mutex::default());
        let shared = Arc::new(Shared { outbox, committed, pulse, live, retention, clock });
        let events = Self { shared };
        tasks.spawn("events-relay", events.clone().relay(tasks.token()));
        tasks.spawn("events-tidy", events.clone().tidy(tasks.token()));
        events
    }

    /// Tells what no change that is kept tells by itself: who comes and goes.
    ///
    /// # Errors
    /// [`StoreError`]: whether it is told is not known; telling it again may tell it twice.
    pub async fn append(&self, told: &[Told]) -> Result<(), StoreError> {
        self.shared.outbox.append(told).await?;
        self.wake();
        Ok(())
    }

    /// There may be something new: somebody has told it with a change of their own.
    pub fn wake(&self) {
        self.shared.committed.notify_one();
    }

    /// Opens the consumer's stream, which ends the one it had.
    ///
    /// # Errors
    /// [`Unheard`]
    pub async fn subscribe(
        &self,
        name: &str,
        filter: Option<Filter>,
        start: Start,
        window: usize,
    ) -> Result<Subscription, Unheard> {
        let holder: u64 = rand::random();
        if let Start::After(position) = start
            && self.shared.outbox.consumer(name).await?.is_none()
        {
            self.still_kept(position).await?;
        }
        let registration = Registration {
            name: name.to_owned(),
            filter: filter.as_ref().map(Filter::to_wire),
            start,
            holder,
            at_ms: self.now_ms(),
        };
        let row = self.shared.outbox.register(&registration).await?.ok_or(Unheard::Full)?;
        self.still_kept(row.position).await?;
        let consumer = Consumer { connected: true, ..self.stands(row).await? };
        let (taken_over, acknowledged) = (CancellationToken::new(), watch::Sender::new(consumer.row.position));
        let heard = acknowledged.subscribe();
        let live = Live { holder, taken_over: taken_over.clone(), acknowledged };
        if let Some(before) = self.live().insert(name.to_owned(), live) {
            before.taken_over.cancel();
        }
        declared::events_streams().increment(1.0);
        Ok(Subscription::new(self.clone(), consumer, taken_over, heard, window))
    }

    async fn still_kept(&self, position: u64) -> Result<(), Unheard> {
        let Span { expired, .. } = self.shared.outbox.span().await?;
        if position < expired { Err(Unheard::Expired { first: expired + 1 }) } else { Ok(()) }
    }

    /// Moves a consumer forward; `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError`], here as below.
    pub async fn acknowledge(&self, name: &str, position: u64) -> Result<Option<u64>, StoreError> {
        let stands = self.shared.outbox.acknowledge(name, position, self.now_ms()).await?;
        if let (Some(stands), Some(live)) = (stands, self.live().get(name)) {
            live.acknowledged.send_if_modified(|known| {
                let moved = *known < stands;
                *known = stands.max(*known);
                moved
            });
        }
        Ok(stands)
    }

    pub async fn consumer(&self, name: &str) -> Result<Option<Consumer>, StoreError> {
        match self.shared.outbox.consumer(name).await? {
            Some(row) => self.stands(row).await.map(Some),
            None => Ok(None),
        }
    }

    /// In the order of their names.
    pub async fn consumers(&self, after: &str, limit: u32) -> Result<Vec<Consumer>, StoreError> {
        let mut consumers = Vec::new();
        for row in self.shared.outbox.consumers(after, limit).await? {
            consumers.push(self.stands(row).await?);
        }
        Ok(consumers)
    }

    /// Forgets a consumer, and ends its stream.
    pub async fn remove(&self, name: &str, once: Option<&OnceKey>) -> Result<Removed, StoreError> {
        let removed = self.shared.outbox.remove(name, once, self.now_ms()).await?;
        if removed == Removed::Now {
            // Its stream finds out that it is not there.
            self.shared.pulse.send_modify(|pulse| *pulse += 1);
            if let Some(live) = self.live().remove(name) {
                live.taken_over.cancel();
            }
        }
        Ok(removed)
    }

    /// Changes whenever there may be something new; while somebody holds it, that is looked for.
    pub fn pulse(&self) -> watch::Receiver<u64> {
        self.shared.pulse.subscribe()
    }

    async fn stands(&self, row: ConsumerRow) -> Result<Consumer, StoreError> {
        let head = self.shared.outbox.span().await?.head;
        let since = self.shared.outbox.waiting_since(row.position).await?;
        let lag_ms = since.map_or(0, |since| self.now_ms().saturating_sub(since));
        let connected = self.live().get(&row.name).is_some_and(|live| live.holder == row.holder);
        Ok(Consumer { row, head, lag_ms, connected })
    }

    fn closed(&self, name: &str, holder: u64) {
        declared::events_streams().decrement(1.0);
        let mut live = self.live();
        if live.get(name).is_some_and(|live| live.holder == holder) {
            live.remove(name);
        }
    }

    fn now_ms(&self) -> u64 {
        self.shared.clock.now().as_millis()
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<String, Live>> {
        self.shared.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes who waits for events after commits of this node, and each second for those of others. Costs nothing while
    /// nobody does.
    async fn relay(self, stop: CancellationToken) {
        loop {
            let heard = tokio::time::timeout(LOOK_EVERY, self.shared.committed.notified());
            let Some(_heard_or_time) = stop.run_until_cancelled(heard).await else { return };
            if self.shared.pulse.receiver_count() == 0 {
                continue;
            }
            match self.shared.outbox.arrange().await {
                Ok(true) => {}
                // More waits for its position.
                Ok(false) => self.shared.committed.notify_one(),
                Err(error) => tracing::warn!(%error, "events got no positions; it is tried again"),
            }
            self.shared.pulse.send_modify(|pulse| *pulse += 1);
            tokio::time::sleep(WAKE_GAP).await;
        }
    }

    async fn tidy(self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(TIDY_EVERY)).await.is_some() {
            if let Err(error) = self.tidy_once().await {
                tracing::warn!(%error, "old events were not removed; it is tried again");
            }
        }
    }

    async fn tidy_once(&self) -> Result<(), StoreError> {
        let Retention { hours, rows_max } = self.shared.retention;
        let before_ms = self.now_ms().saturating_sub(u64::from(hours) * 3_600_000);
        let span = self.shared.outbox.forget(before_ms, rows_max).await?;
        declared::events_kept().set((span.head - span.expired) as f64);
        for Consumer { row, head, lag_ms, .. } in self.consumers("", u32::MAX).await? {
            let label = names::CONSUMERS.label(&row.name);
            declared::events_lag(label).set(head.saturating_sub(row.position) as f64);
            declared::events_lag_seconds(label).set(lag_ms as f64 / 1_000.0);
        }
        Ok(())
    }
}

/// A consumer, and how things are with it.
#[derive(Debug, Clone)]
pub struct Consumer {
    pub row: ConsumerRow,
    pub head: u64,
    pub lag_ms: u64,
    /// Whether its stream is on this node.
    pub connected: bool,
}
