//! Background work: every task has a name, is counted, survives nobody's panic and is waited for at shutdown.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The server's tasks; clones share them. The only place that may spawn.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    token: CancellationToken,
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

/// What was still running when a shutdown's deadline passed, as `name × count`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tasks did not end in time: {0}")]
pub struct Unfinished(pub String);

impl Tasks {
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `future` until it ends. A panic in it is logged with `name` and ends nothing else. What must stop at
    /// shutdown listens to [`Tasks::token`].
    pub fn spawn<F>(&self, name: &'static str, future: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(self.watched(name, future)).abort_handle()
    }

    /// As [`Tasks::spawn`], on a thread and a runtime of its own: for what answers everybody and must not wait for its turn
    /// behind them.
    ///
    /// # Errors
    /// When the system gives no thread or no runtime.
    pub fn spawn_apart<F>(&self, name: &'static str, future: F) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tracked = self.tracker.track_future(self.watched(name, future));
        std::thread::Builder::new().name(name.into()).spawn(move || runtime.block_on(tracked)).map(drop)
    }

    /// Runs what blocks, as long as it goes on, on a thread of its own: the pool for blocking calls is for short ones.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn_thread(&self, name: &'static str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let tracked = self.tracker.token();
        let counted = Counted::new(name, Arc::clone(&self.running));
        let work = move || {
            let _held = (tracked, counted);
            if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(work)) {
                tracing::error!(task = name, panic = panic_message(panic.as_ref()), "a thread panicked and was ended");
            }
        };
        std::thread::Builder::new().name(name.into()).spawn(work).map(drop)
    }

    fn watched<F>(&self, name: &'static str, future: F) -> impl Future<Output = ()> + Send + 'static
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let counted = Counted::new(name, Arc::clone(&self.running));
        async move {
            let _counted = counted;
            if let Err(panic) = AssertUnwindSafe(future).catch_unwind().await {
                tracing::error!(task = name, panic = panic_message(panic.as_ref()), "a task panicked and was ended");
            }
        }
    }

    /// Cancelled when the shutdown begins.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// How many tasks are running now.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Cancels the token and waits for every task, at most `deadline`.
    ///
    /// # Errors
    /// [`Unfinished`] names what was still running then; it goes on until the runtime ends.
    pub async fn shutdown(&self, deadline: Duration) -> Result<(), Unfinished> {
        self.token.cancel();
        self.tracker.close();
        match tokio::time::timeout(deadline, self.tracker.wait()).await {
            Ok(()) => Ok(()),
            Err(_elapsed) => {
                let names: Vec<String> =
                    lock(&self.running).iter().map(|(name, count)| format!("{name} × {count}")).collect();
                Err(Unfinished(names.join(", ")))
            }
        }
    }
}

/// Counts a task from its spawn to its end, however it ends.
struct Counted {
    name: &'static str,
    running: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Counted {
    fn new(name: &'static str, running: Arc<Mutex<BTreeMap<&'static str, usize>>>) -> Self {
        *lock(&running).entry(name).or_default() += 1;
        Self { name, running }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut running = lock(&self.running);
        if let Some(count) = running.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                running.remove(self.name);
            }
        }
    }
}

/// A count is whole after every statement, so a panic elsewhere leaves nothing half-done behind the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "(without a message)"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_only_its_own_task() {
        let tasks = Tasks::new();
        let (sent, received) = tokio::sync::oneshot::channel();
        tasks.spawn("broken", async { panic!("on purpose") });
        tasks.spawn("whole", async move {
            tokio::task::yield_now().await;
            sent.send(7).unwrap();
        });
        assert_eq!(received.await, Ok(7));
        assert_eq!(tasks.shutdown(Duration::from_secs(5)).await, Ok(()));
        assert!(tasks.is_empty());
        assert!(lock(&tasks.running).is_empty(), "a panicked task is counted out too");
    }

    #[tokio::test]
    async fn shutdown_wakes_who_listens_to_the_token() {
        let tasks = Tasks::new();
        let token = tasks.token();
        tasks.spawn("listener", async move { token.cancelled().await });
        assert_eq!(tasks.len(), 1);
        assert_eq!(tasks.shutdown(Duration::from_secs(5)).await, Ok(()));
    }

    #[tokio::test]
    async fn shutdown_names_who_does_not_end() {
        let tasks = Tasks::new();
        let stubborn = tasks.spawn("stubborn", std::future::pending());
        tasks.spawn("stubborn", std::future::pending());
        let unfinished = tasks.shutdown(Duration::from_millis(20)).await;
        assert_eq!(unfinished, Err(Unfinished("stubborn × 2".into())));
        stubborn.abort();
        assert_eq!(tasks.shutdown(Duration::from_millis(20)).await, Err(Unfinished("stubborn × 1".into())));
    }
}
