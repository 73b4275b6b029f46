//! One consumer's stream.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use veza_proto::gateway::v1::Event;

use super::{Consumer, Events, Filter, LOOK_EVERY, names};
use crate::store::StoreError;
use crate::telemetry::metrics as declared;

/// Events that are read at once.
const PAGE: u32 = 200;
/// A stream that had nothing to say for so long says that.
const IDLE_AFTER: Duration = Duration::from_secs(10);

/// A stream of events. Dropping it closes it.
pub struct Subscription {
    events: Events,
    consumer: Consumer,
    filter: Filter,
    taken_over: CancellationToken,
    acknowledged: watch::Receiver<u64>,
    pulse: watch::Receiver<u64>,
    /// Everything up to here was looked at.
    looked: u64,
    /// Read, and wanted.
    ready: VecDeque<Event>,
    /// On their way and not acknowledged.
    sent: VecDeque<u64>,
    window: usize,
    spoke: Instant,
    checked: Instant,
}

/// What a stream says next.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly everything that is said is an event")]
pub enum Next {
    Event(Event),
    /// There was nothing for a while: everything up to this position was looked at.
    Idle(u64),
}

/// Why a stream is over.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    #[error("another stream of this consumer has taken over")]
    TakenOver,
    #[error("the consumer was deleted")]
    Deleted,
    /// The first position that is kept.
    #[error("the consumer fell behind what is kept")]
    Expired { first: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Subscription {
    pub(super) fn new(
        events: Events,
        consumer: Consumer,
        taken_over: CancellationToken,
        acknowledged: watch::Receiver<u64>,
        window: usize,
    ) -> Self {
        let (filter, looked) = (Filter::of(&consumer.row.filter), consumer.row.position);
        let mut pulse = events.shared.pulse.subscribe();
        // What was committed before is looked for at once.
        pulse.mark_changed();
        let (ready, sent, now) = (VecDeque::new(), VecDeque::new(), Instant::now());
        let (spoke, checked) = (now, now);
        Self { events, consumer, filter, taken_over, acknowledged, pulse, looked, ready, sent, window, spoke, checked }
    }

    /// Where the consumer stood when the stream was opened.
    pub fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    /// Waits for the next thing to say.
    ///
    /// # Errors
    /// [`Ended`]: the stream is over.
    pub async fn next(&mut self) -> Result<Next, Ended> {
        loop {
            if self.taken_over.is_cancelled() {
                return Err(self.lost().await);
            }
            if self.checked.elapsed() >= LOOK_EVERY {
                self.check().await?;
            }
            self.take_acknowledgement();
            let has_room = self.sent.len() < self.window;
            if has_room && let Some(event) = self.ready.pop_front() {
                self.sent.push_back(event.position);
                self.spoke = Instant::now();
                declared::events_delivered_total(names::CONSUMERS.label(&self.consumer.row.name)).increment(1);
                return Ok(Next::Event(event));
            }
            if has_room && self.read().await? {
                continue;
            }
            if self.spoke.elapsed() >= IDLE_AFTER {
                self.spoke = Instant::now();
                return Ok(Next::Idle(self.settled().await?));
            }
            let taken_over = self.taken_over.clone();
            tokio::select! {
                () = taken_over.cancelled() => {}
                _ = self.acknowledged.changed() => {}
                _ = self.pulse.changed(), if has_room => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Reads a page; `false` when there is nothing new.
    async fn read(&mut self) -> Result<bool, StoreError> {
        let page = self.events.shared.outbox.events(self.looked, PAGE).await?;
        let Some(last) = page.last() else { return Ok(false) };
        self.looked = last.position;
        self.ready.extend(page.into_iter().filter(|event| self.filter.wants(event)));
        Ok(true)
    }

    fn take_acknowledgement(&mut self) {
        let up_to = *self.acknowledged.borrow_and_update();
        self.release(up_to);
    }

    fn release(&mut self, up_to: u64) {
        while self.sent.front().is_some_and(|position| *position <= up_to) {
            self.sent.pop_front();
        }
    }

    /// Whether the consumer is still ours: another node may have taken it, or heard its acknowledgements.
    async fn check(&mut self) -> Result<(), Ended> {
        self.checked = Instant::now();
        let outbox = &self.events.shared.outbox;
        let row = outbox.consumer(&self.consumer.row.name).await?.ok_or(Ended::Deleted)?;
        if row.holder != self.consumer.row.holder {
            return Err(Ended::TakenOver);
        }
        let expired = outbox.span().await?.expired;
        if self.looked < expired {
            return Err(Ended::Expired { first: expired + 1 });
        }
        self.release(row.position);
        Ok(())
    }

    /// How far everything is dealt with. Where nothing is on its way, the cursor moves over what the filter left out.
    async fn settled(&self) -> Result<u64, StoreError> {
        match self.sent.front() {
            Some(first) => Ok(first - 1),
            None => {
                self.events.acknowledge(&self.consumer.row.name, self.looked).await?;
                Ok(self.looked)
            }
        }
    }

    async fn lost(&self) -> Ended {
        match self.events.shared.outbox.consumer(&self.consumer.row.name).await {
            Ok(Some(_)) => Ended::TakenOver,
            Ok(None) => Ended::Deleted,
            Err(error) => error.into(),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.events.closed(&self.consumer.row.name, self.consumer.row.holder);
    }
}
