//! What clients do and see, written down as `docs/HISTORY.md` tells, on one clock.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use veza_history::{Event, Record};

use crate::Failure;

/// Writes the log of a run. Cloning counts a reference: all clients write into the same file, so that its lines are in the
/// order of their times.
#[derive(Clone)]
pub(crate) struct Recorder {
    begun: Instant,
    log: Arc<Mutex<Log>>,
}

struct Log {
    out: BufWriter<File>,
    /// The first failure; what comes after it is not written.
    failed: Option<std::io::Error>,
    closed: bool,
}

impl Recorder {
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let file = File::create(path).map_err(Failure::io(path.display().to_string()))?;
        let log = Log { out: BufWriter::with_capacity(1 << 20, file), failed: None, closed: false };
        Ok(Self { begun: Instant::now(), log: Arc::new(Mutex::new(log)) })
    }

    /// Microseconds since the run began.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(crate) fn record(&self, client: &str, event: Event) {
        let mut log = self.log.lock().expect("no holder panics");
        if log.closed || log.failed.is_some() {
            return;
        }
        // The time is taken with the lock held: that is what keeps the lines in order.
        let record = Record { at: self.now(), client: client.to_owned(), event };
        let written = serde_json::to_writer(&mut log.out, &record).map_err(std::io::Error::from);
        if let Err(error) = written.and_then(|()| log.out.write_all(b"\n")) {
            log.failed = Some(error);
        }
    }

    /// Ends the log: what the clients do from now on, leaving, is not part of the run.
    pub(crate) fn close(&self) -> Result<(), Failure> {
        let mut log = self.log.lock().expect("no holder panics");
        log.closed = true;
        match log.failed.take() {
            Some(error) => Err(error),
            None => log.out.flush(),
        }
        .map_err(Failure::io("the run's log"))
    }
}
