//! Retention: what is older than its room keeps is removed, in small bites, so that nobody waits for it.

use std::time::Duration;

use veza_engine::ledger::{Write, Written};

use super::Hub;
use super::worker::Command;
use crate::tasks::Tasks;
use crate::telemetry::metrics as declared;

/// How often it is looked for what is overdue.
const EVERY: Duration = Duration::from_secs(2);
/// Entries that one write removes of one room; a writer's batch waits this long at most.
const ENTRIES_MAX: u32 = 2_000;
/// Rooms that one look takes up.
const ROOMS_MAX: u32 = 32;

impl Hub {
    pub(super) async fn keep_retention(self, tasks: Tasks) {
        let stop = tasks.token();
        loop {
            if stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
                return;
            }
            self.expire_overdue().await;
        }
    }

    async fn expire_overdue(&self) {
        let now_ms = self.shared.clock.now().as_millis();
        let overdue = match self.shared.store.overdue(now_ms, ENTRIES_MAX, ROOMS_MAX).await {
            Ok(overdue) => overdue,
            Err(error) => {
                tracing::warn!(%error, "what is past its retention could not be found; it is looked for again");
                return;
            }
        };
        for (room, up_to) in overdue {
            let hub = self.clone();
            let reply = move |written| match written {
                Ok(Written::Expired { room: row }) => {
                    declared::expired_total().increment(1);
                    hub.worker(&row.id.clone()).send_surely(Command::Row(Box::new(row)));
                }
                Ok(other) => tracing::warn!(?other, "a room was not cut to its retention"),
                Err(error) => tracing::warn!(%error, "a room was not cut to its retention; it is tried again"),
            };
            // A full queue is left alone: the next look finds the same.
            let _busy = self.shared.writer.try_submit(Write::Expire { room, up_to, at_ms: now_ms }, reply);
        }
    }
}
