//! Group commit: what arrives while one commit runs is the next one. There is no timer, so a lone write does not wait.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use metrics::{Gauge, Histogram};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use veza_engine::ledger::{Content, Write, Written};

use super::{Store, StoreError};
use crate::crash;
use crate::telemetry::metrics as declared;

/// Writes that may wait; the next is refused with [`Busy`].
pub const QUEUED_WRITES_MAX: usize = 8_192;
/// Bytes that may wait; a write that does not fit is refused with [`Busy`].
const QUEUED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Writes in one commit; more wait for the next.
const BATCH_WRITES_MAX: usize = 512;
/// Bytes in one commit; more wait for the next.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

const _: () = assert!(BATCH_WRITES_MAX <= QUEUED_WRITES_MAX && BATCH_BYTES_MAX <= QUEUED_BYTES_MAX);
const _: () = assert!(veza_proto::limits::BODY_BYTES_MAX * 2 < BATCH_BYTES_MAX, "any write fits in a batch");

/// The queue is at its bound, or the writer has stopped: the client is told `unavailable` and may retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many writes are waiting for the database")]
pub struct Busy;

/// Why a queued write was not answered by the database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// It waited longer than DATABASE_TIMEOUT_MS. Nothing was written.
    #[error("the write waited too long for the database")]
    Expired,
    /// The writer stopped before its turn. Nothing was written.
    #[error("the server is stopping")]
    Stopped,
    /// Its batch failed. With [`StoreError::Unavailable`] it may have been written all the same, and the room's head
    /// may have moved: a retry with the same cmid finds out.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Called once, in the order of the queue, after the commit that holds the write has returned. It runs in the writer's
/// task, so it must hand over and return.
type Reply = Box<dyn FnOnce(Result<Written, WriteError>) + Send>;

/// The task that commits. One per store.
pub struct Writer {
    store: Arc<dyn Store>,
    queue: mpsc::Receiver<Job>,
    queued_bytes: Arc<AtomicUsize>,
    /// Taken from the queue, and too large for the batch that was being gathered.
    held: Option<Job>,
    timeout: Duration,
    meters: Meters,
    committed: Arc<Notify>,
}

/// Queues writes. Cheap to clone.
#[derive(Clone)]
pub struct WriterHandle {
    queue: mpsc::Sender<Job>,
    queued_bytes: Arc<AtomicUsize>,
    waiting: Gauge,
    committed: Arc<Notify>,
}

struct Job {
    write: Write,
    bytes: usize,
    queued: Instant,
    reply: Reply,
}

struct Meters {
    waiting: Gauge,
    commit_seconds: Histogram,
}

impl Writer {
    /// `timeout` is how long a write may wait for its commit to begin, and how long a stop may take.
    pub fn new(store: Arc<dyn Store>, timeout: Duration) -> (Self, WriterHandle) {
        let (sender, queue) = mpsc::channel(QUEUED_WRITES_MAX);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let meters = Meters { waiting: declared::commit_queue(), commit_seconds: declared::commit_seconds() };
        let committed = Arc::new(Notify::new());
        let handle = WriterHandle {
            queue: sender,
            queued_bytes: Arc::clone(&queued_bytes),
            waiting: meters.waiting.clone(),
            committed: Arc::clone(&committed),
        };
        (Self { store, queue, queued_bytes, held: None, timeout, meters, committed }, handle)
    }

    /// Commits until `stop` is cancelled or every handle is gone; then finishes what is queued, at most for the
    /// timeout, and answers the rest with [`WriteError::Stopped`].
    pub async fn run(mut self, stop: CancellationToken) {
        while let Some(first) = stop.run_until_cancelled(self.next()).await.flatten() {
            self.commit(first).await;
        }
        self.queue.close();
        let deadline = Instant::now() + self.timeout;
        while let Some(job) = self.next().await {
            if Instant::now() < deadline {
                self.commit(job).await;
            } else {
                answer(job.reply, Err(WriteError::Stopped));
            }
        }
    }

    async fn next(&mut self) -> Option<Job> {
        match self.held.take() {
            Some(held) => Some(held),
            None => {
                let job = self.queue.recv().await?;
                self.left_the_queue(&job);
                Some(job)
            }
        }
    }

    fn try_next(&mut self) -> Option<Job> {
        let job = self.queue.try_recv().ok()?;
        self.left_the_queue(&job);
        Some(job)
    }

    fn left_the_queue(&self, job: &Job) {
        self.queued_bytes.fetch_sub(job.bytes, Ordering::Relaxed);
        self.meters.waiting.decrement(1);
    }

    async fn commit(&mut self, first: Job) {
        let (writes, replies, bytes) = self.gather(first);
        if writes.is_empty() {
            return;
        }
        let span = tracing::info_span!("commit", writes = writes.len(), bytes);
        crash::point("before_commit");
        let begun = Instant::now();
        let result = self.store.commit(&writes).instrument(span).await.and_then(|written| complete(&writes, written));
        crash::point("after_commit");
        self.meters.commit_seconds.record(begun.elapsed());
        declared::commits_total(outcome(&result)).increment(1);
        match result {
            Ok(written) => {
                self.committed.notify_one();
                count(&writes);
                replies.into_iter().zip(written).for_each(|(reply, written)| answer(reply, Ok(written)));
            }
            Err(error) => {
                tracing::warn!(%error, writes = writes.len(), "a batch was not committed");
                replies.into_iter().for_each(|reply| answer(reply, Err(error.clone().into())));
            }
        }
    }

    /// The first write and what has arrived behind it, up to a batch. Those which waited too long are answered here.
    fn gather(&mut self, first: Job) -> (Vec<Write>, Vec<Reply>, usize) {
        let (mut writes, mut replies, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut next = Some(first);
        while let Some(job) = next {
            if bytes + job.bytes > BATCH_BYTES_MAX && !writes.is_empty() {
                self.held = Some(job);
                break;
            }
            if job.queued.elapsed() > self.timeout {
                answer(job.reply, Err(WriteError::Expired));
            } else {
                bytes += job.bytes;
                writes.push(job.write);
                replies.push(job.reply);
            }
            next = if writes.len() < BATCH_WRITES_MAX { self.try_next() } else { None };
        }
        (writes, replies, bytes)
    }
}

impl WriterHandle {
    /// Told after every commit, for one who looks at what was committed.
    pub fn committed(&self) -> Arc<Notify> {
        Arc::clone(&self.committed)
    }

    /// Queues the write; `reply` is called later, from the writer's task.
    ///
    /// # Errors
    /// [`Busy`] at the queue's bound or after a stop; then `reply` is dropped without a call.
    pub fn try_submit(
        &self,
        write: Write,
        reply: impl FnOnce(Result<Written, WriteError>) + Send + 'static,
    ) -> Result<(), Busy> {
        let place = self.queue.try_reserve().map_err(|_| Busy)?;
        let bytes = bytes_of(&write);
        let fits = |queued: usize| Some(queued + bytes).filter(|after| *after <= QUEUED_BYTES_MAX);
        self.queued_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).map_err(|_| Busy)?;
        self.waiting.increment(1);
        place.send(Job { write, bytes, queued: Instant::now(), reply: Box::new(reply) });
        Ok(())
    }
}

/// A panic in one reply must not end the only task that can commit.
fn answer(reply: Reply, result: Result<Written, WriteError>) {
    if catch_unwind(AssertUnwindSafe(|| reply(result))).is_err() {
        tracing::error!("the reply to a write panicked; the write itself is as it was answered");
    }
}

/// What a write takes in the queue: its longer strings, and a flat sum for the rest.
fn bytes_of(write: &Write) -> usize {
    const REST: usize = 256;
    REST + match write {
        Write::CreateRoom { title, topic, .. } => title.len() + topic.len(),
        Write::UpdateRoom { update, .. } => {
            let len = |text: &Option<String>| text.as_ref().map_or(0, String::len);
            len(&update.title) + len(&update.topic)
        }
        Write::Join { entitlements, .. } => entitlements.iter().map(String::len).sum(),
        Write::Moderate { reason, .. } => reason.len(),
        Write::Append { content, .. } => content.len(),
        Write::Audit { row, .. } => row.reason.len() + row.detail.len(),
        Write::Once { write, .. } => bytes_of(write),
        Write::OpenDirect { .. }
        | Write::Leave { .. }
        | Write::SetRole { .. }
        | Write::Invite { .. }
        | Write::RevokeInvite { .. }
        | Write::Mark { .. }
        | Write::Expire { .. } => 0,
    }
}

/// A store that answers another number of writes than it was given cannot be believed for any of them.
fn complete(writes: &[Write], written: Vec<Written>) -> Result<Vec<Written>, StoreError> {
    if written.len() == writes.len() {
        return Ok(written);
    }
    Err(StoreError::Damaged(format!("{} answers to {} writes", written.len(), writes.len())))
}

fn outcome(result: &Result<Vec<Written>, StoreError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(StoreError::Unavailable(_)) => "unavailable",
        Err(StoreError::Conflict(_)) => "conflict",
        Err(StoreError::Full(_)) => "full",
        Err(StoreError::Damaged(_)) => "damaged",
    }
}

fn count(writes: &[Write]) {
    let mut kinds: BTreeMap<&'static str, u64> = BTreeMap::new();
    for write in writes {
        *kinds.entry(kind_of(write)).or_default() += 1;
    }
    for (kind, written) in kinds {
        declared::committed_writes_total(kind).increment(written);
    }
}

fn kind_of(write: &Write) -> &'static str {
    match write {
        Write::CreateRoom { .. } => "create_room",
        Write::OpenDirect { .. } => "open_direct",
        Write::UpdateRoom { .. } => "update_room",
        Write::Join { .. } => "join",
        Write::Leave { .. } => "leave",
        Write::SetRole { .. } => "set_role",
        Write::Moderate { .. } => "moderate",
        Write::Invite { .. } => "invite",
        Write::RevokeInvite { .. } => "revoke_invite",
        Write::Append { content, .. } => match content {
            Content::Text { .. } => "append",
            Content::Edit { .. } => "edit",
            Content::Delete { .. } => "delete",
            Content::React { .. } => "react",
            Content::Pin { .. } => "pin",
        },
        Write::Mark { .. } => "mark",
        Write::Expire { .. } => "expire",
        Write::Audit { .. } => "audit",
        Write::Once { write, .. } => kind_of(write),
    }
}
