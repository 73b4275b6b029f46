//! The thread that writes. A batch crosses over to it once and its answer back once, however many statements it takes: on
//! a busy machine every crossing waits for its turn, and a commit of ten statements waited longer than it worked.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::super::StoreError;
use super::checkpoint::Checkpoints;
use super::connection::Connected;
use crate::telemetry::metrics;

/// Jobs that may wait in the channel; more wait before it.
const WAITING_MAX: usize = 8;

type Job = Box<dyn FnOnce(&mut Place) + Send>;

#[derive(Debug)]
pub(super) struct Writer {
    open: Mutex<Option<Open>>,
    behind: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Open {
    jobs: mpsc::Sender<Job>,
    ended: oneshot::Receiver<Result<(), StoreError>>,
}

/// The connection, and how to have another. One that failed is never used again: dropping it rolls back.
struct Place {
    path: PathBuf,
    patience: Duration,
    behind: Arc<AtomicBool>,
    connected: Option<Connected>,
    checkpoints: Checkpoints,
}

impl Writer {
    /// Opens `path` and starts the thread.
    ///
    /// # Errors
    /// Those of opening it, and [`StoreError::Unavailable`] when the system gives no thread.
    pub(super) fn start(path: &Path, patience: Duration) -> Result<Self, StoreError> {
        let behind = Arc::new(AtomicBool::new(true));
        let connected = Some(Connected::open(path, patience, Arc::clone(&behind))?);
        let (jobs, mut waiting) = mpsc::channel::<Job>(WAITING_MAX);
        let (end, ended) = oneshot::channel();
        let checkpoints = Checkpoints::start(path)?;
        let mut place = Place { path: path.to_owned(), patience, behind: Arc::clone(&behind), connected, checkpoints };
        let thread = std::thread::Builder::new().name("sqlite-writer".into()).spawn(move || {
            while let Some(job) = waiting.blocking_recv() {
                job(&mut place);
            }
            place.catch_up_if(|_| true);
            place.checkpoints.end();
            // Nobody may be waiting for it.
            let _told = end.send(place.connected.map_or(Ok(()), Connected::close));
        });
        thread.map_err(|error| StoreError::Unavailable(format!("no thread can be started for it: {error}")))?;
        Ok(Self { open: Mutex::new(Some(Open { jobs, ended })), behind })
    }

    /// Runs `work` on the connection. Who gives up before its turn has come has nothing done; after that it is done
    /// whether somebody still waits or not.
    ///
    /// # Errors
    /// Those of `work`, after which the connection is another one, and [`StoreError::Unavailable`] when there is none.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connected) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let jobs = self.open().as_ref().map(|open| open.jobs.clone()).ok_or_else(closed)?;
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |place| {
            if !answer.is_closed() {
                // Nobody may be waiting for it any more.
                let _told = answer.send(place.run(work));
                place.keep_up();
            }
        });
        jobs.send(job).await.map_err(|_| closed())?;
        answered.await.map_err(|_| StoreError::Unavailable("the thread that writes has ended".into()))?
    }

    /// Waits until everything that was committed can be found by its words.
    pub(super) async fn catch_up(&self) -> Result<(), StoreError> {
        if self.behind.load(Ordering::Acquire) { self.run(Connected::catch_up).await } else { Ok(()) }
    }

    /// Ends the thread after what it was given, and closes the connection.
    pub(super) async fn close(&self) -> Result<(), StoreError> {
        let open = self.open().take();
        let Some(Open { jobs, ended }) = open else { return Ok(()) };
        drop(jobs);
        ended.await.unwrap_or(Ok(()))
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn run<T>(&mut self, work: impl FnOnce(&mut Connected) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut connected = match self.connected.take() {
            Some(connected) => connected,
            None => Connected::open(&self.path, self.patience, Arc::clone(&self.behind))?,
        };
        let done = work(&mut connected)?;
        self.connected = Some(connected);
        Ok(done)
    }

    /// After the answer, so that nobody waits for it.
    fn keep_up(&mut self) {
        self.catch_up_if(Connected::is_far_behind);
        if self.connected.as_ref().is_some_and(Connected::has_a_long_log) {
            if self.checkpoints.have_copied() {
                self.maintain("fold", Connected::fold);
            } else {
                self.checkpoints.ask();
            }
        }
    }

    fn catch_up_if(&mut self, due: impl FnOnce(&Connected) -> bool) {
        if self.connected.as_ref().is_some_and(due) {
            self.maintain("index", Connected::catch_up);
        }
    }

    /// What can be done later as well, and is tried again then.
    fn maintain(&mut self, what: &'static str, work: impl FnOnce(&mut Connected) -> Result<(), StoreError>) {
        let begun = Instant::now();
        if let Err(error) = self.run(work) {
            tracing::warn!(%error, what, "the database's upkeep failed and is tried again");
        }
        metrics::store_upkeep_seconds(what).record(begun.elapsed());
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("it was closed".into())
}
