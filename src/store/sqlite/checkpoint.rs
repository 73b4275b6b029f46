//! Folds the log into the file beside the commits. SQLite does it inside of every hundredth commit or so, which then takes
//! ten times as long; here a thread copies and syncs what is there, and the connection that writes only copies the few
//! pages that came meanwhile, so that its next commit begins the log anew.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::{Connection, OpenFlags};

use super::super::StoreError;

/// Copies what no reader needs in the log any more, and waits for nobody.
const COPY: &str = "PRAGMA wal_checkpoint(PASSIVE)";

pub(super) struct Checkpoints {
    /// One is asked for at a time.
    ask: SyncSender<()>,
    copied: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Checkpoints {
    pub(super) fn start(path: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let (ask, asked) = sync_channel(1);
        let copied = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&copied);
        let work = move || {
            while asked.recv().is_ok() {
                match copy(&connection) {
                    Ok(()) => done.store(true, Ordering::Release),
                    Err(error) => tracing::warn!(%error, "the log could not be folded into the database; it grows"),
                }
            }
        };
        let thread = std::thread::Builder::new().name("sqlite-fold".into()).spawn(work);
        let thread = thread.map_err(|error| StoreError::Unavailable(format!("no thread can be started: {error}")))?;
        Ok(Self { ask, copied, thread })
    }

    /// Asks for a copy, unless one is asked for already.
    pub(super) fn ask(&self) {
        let _asked = self.ask.try_send(());
    }

    /// Whether a copy has been made since the last call.
    pub(super) fn have_copied(&self) -> bool {
        self.copied.swap(false, Ordering::Acquire)
    }

    pub(super) fn end(self) {
        drop(self.ask);
        // A panic there has been reported, and what was not copied stands in the log.
        let _ended = self.thread.join();
    }
}

pub(super) fn copy(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.query_row(COPY, [], |_| Ok(()))?)
}
