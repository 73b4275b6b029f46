use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tokio::sync::broadcast;

use super::{Announcement, Bus, BusError};

/// Announcements that a slow receiver may be behind before it misses some and has to repair from the store.
pub const ANNOUNCEMENTS_MAX: usize = 4_096;

/// A bus inside one process: for a node alone, and for several hubs in one test.
#[derive(Debug)]
pub struct MemoryBus {
    announcements: broadcast::Sender<Announcement>,
}

impl MemoryBus {
    pub fn new() -> Self {
        Self { announcements: broadcast::Sender::new(ANNOUNCEMENTS_MAX) }
    }
}

impl Default for MemoryBus {
    fn default() -> Self {
        Self::new()
    }
}

impl Bus for MemoryBus {
    fn publish(&self, announcement: Announcement) {
        // It fails only when nobody listens, and then nobody misses it.
        let _nobody = self.announcements.send(announcement);
    }

    fn subscribe(&self) -> broadcast::Receiver<Announcement> {
        self.announcements.subscribe()
    }

    fn check(&self) -> BoxFuture<'_, Result<String, BusError>> {
        ready(Ok("in this process".into())).boxed()
    }
}
