//! Which webhooks this node delivers for. A webhook is held by one node, which shows every few seconds that it lives. Others
//! watch: who has shown nothing for a while, by the watcher's own clock, is taken over. No clocks are compared.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::line::{ANSWER_WITHIN, REST_WITHIN};
use super::runner::Runner;
use super::{LABELS, Shared};
use crate::store::StoreError;
use crate::store::hooks::{Lease, WEBHOOKS_MAX, WebhookRow};
use crate::tasks::Tasks;
use crate::telemetry::metrics as declared;

/// How often a node shows that it lives, and looks for what others said about webhooks.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// Who has not shown so long that it lives is taken over.
const SILENT_FOR: Duration = Duration::from_secs(15);
/// Who could not show for so long that it lives begins no delivery.
pub(super) const BEGIN_WITHIN: Duration = Duration::from_secs(8);
const _: () = assert!(
    BEGIN_WITHIN.as_millis() + ANSWER_WITHIN.as_millis() + REST_WITHIN.as_millis() < SILENT_FOR.as_millis(),
    "a delivery is over before anybody else may begin"
);

pub(super) struct Keeper {
    shared: Arc<Shared>,
    tasks: Tasks,
    /// This node's name among the holders.
    holder: u64,
    /// When it was last known that our leases hold.
    renewed: watch::Sender<Instant>,
    /// What runs here, and the revision that it was told of; `None` to end.
    runners: BTreeMap<String, watch::Sender<Option<u64>>>,
    others: Others,
}

/// Leases of others, and since when they look like this.
#[derive(Debug, Default)]
struct Others(BTreeMap<String, (Lease, Instant)>);

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>, tasks: Tasks) -> Self {
        let (renewed, holder) = (watch::Sender::new(Instant::now()), rand::random::<u64>() | 1);
        Self { shared, tasks, holder, renewed, runners: BTreeMap::new(), others: Others::default() }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "webhooks were not looked at; it is tried again");
            }
            let shared = Arc::clone(&self.shared);
            let changed = tokio::time::timeout(LOOK_EVERY, shared.changed.notified());
            let _stopped_changed_or_time = stop.run_until_cancelled(changed).await;
        }
        // They hear of the stop themselves, and finish what they are at.
        for runner in self.runners.values() {
            runner.closed().await;
        }
        if let Err(error) = self.shared.hooks.leave_webhooks(self.holder).await {
            tracing::warn!(%error, "webhooks were not given up; others take them after a while");
        }
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        let begun = Instant::now();
        if !self.runners.is_empty() {
            self.shared.hooks.renew_leases(self.holder).await?;
        }
        self.renewed.send_replace(begun);
        let rows = self.shared.hooks.webhooks("", WEBHOOKS_MAX).await?;
        self.let_go(&rows);
        for row in &rows {
            if row.lease.holder == self.holder {
                self.tell(row);
            } else if self.others.is_free(row, Instant::now())
                // One that still finishes something here goes on afterwards.
                && !self.runners.contains_key(&row.id)
                && self.shared.hooks.take_webhook(&row.id, row.lease, self.holder).await?
            {
                // What its holder wrote last is in the row of now.
                if let Some(row) = self.shared.hooks.webhook(&row.id).await? {
                    self.tell(&row);
                }
            }
        }
        declared::webhooks_held().set(self.runners.len() as f64);
        self.measure(&rows).await
    }

    /// Ends what is not ours any more.
    fn let_go(&mut self, rows: &[WebhookRow]) {
        self.runners.retain(|id, runner| {
            let is_ours = rows.iter().any(|row| row.id == *id && row.lease.holder == self.holder);
            if !is_ours {
                runner.send_replace(None);
            }
            if !rows.iter().any(|row| row.id == *id) {
                show_lag(id, 0, 0);
            }
            !runner.is_closed()
        });
        self.others.0.retain(|id, _| rows.iter().any(|row| row.id == *id && row.lease.holder != self.holder));
    }

    /// Tells a webhook's runner what there is, or starts it.
    fn tell(&mut self, row: &WebhookRow) {
        match self.runners.get(&row.id) {
            Some(runner) => {
                runner.send_if_modified(|told| {
                    let is_news = told.is_some_and(|told| told != row.revision);
                    *told = told.map(|_| row.revision);
                    is_news
                });
            }
            None => {
                let (tell, told) = watch::channel(Some(row.revision));
                let runner = Runner::new(
                    Arc::clone(&self.shared),
                    self.holder,
                    row.clone(),
                    self.renewed.subscribe(),
                    told,
                    self.tasks.token(),
                );
                self.runners.insert(row.id.clone(), tell);
                self.tasks.spawn("webhook", runner.run());
            }
        }
    }

    async fn measure(&self, rows: &[WebhookRow]) -> Result<(), StoreError> {
        let head = self.shared.outbox.span().await?.head;
        for row in rows {
            let since = self.shared.outbox.waiting_since(row.position).await?;
            let lag_ms = since.map_or(0, |since| self.shared.now_ms().saturating_sub(since));
            show_lag(&row.id, head.saturating_sub(row.position), lag_ms);
        }
        Ok(())
    }
}

impl Others {
    /// Whether nobody delivers for it, as far as that can be seen.
    fn is_free(&mut self, row: &WebhookRow, now: Instant) -> bool {
        let (lease, since) = self.0.entry(row.id.clone()).or_insert((row.lease, now));
        if *lease != row.lease {
            (*lease, *since) = (row.lease, now);
        }
        lease.holder == 0 || now.duration_since(*since) >= SILENT_FOR
    }
}

fn show_lag(id: &str, positions: u64, lag_ms: u64) {
    let label = LABELS.label(id);
    declared::webhooks_lag(label).set(positions as f64);
    declared::webhooks_lag_seconds(label).set(lag_ms as f64 / 1_000.0);
}

#[cfg(test)]
mod tests {
    use veza_proto::gateway::v1::EventFilter;

    use super::*;
    use crate::config::Secret;
    use crate::store::hooks::Course;

    fn held(holder: u64, beat: u64) -> WebhookRow {
        WebhookRow {
            id: "one".into(),
            url: String::new(),
            filter: EventFilter::default(),
            paused: false,
            created_ms: 0,
            secret: Secret::new(""),
            former: None,
            revision: 1,
            rewound: 0,
            position: 0,
            course: Course::default(),
            lease: Lease { holder, beat },
        }
    }

    /// Who lives is left alone for ever, who is silent as long as it may be and no longer.
    #[test]
    fn who_is_silent_is_taken_over() {
        let (mut others, begun) = (Others::default(), Instant::now());
        for beat in 0..100 {
            let now = begun + LOOK_EVERY * u32::try_from(beat).unwrap();
            assert!(!others.is_free(&held(7, beat), now), "beat {beat}");
        }
        let last = begun + LOOK_EVERY * 99;
        let silent = held(7, 99);
        assert!(!others.is_free(&silent, last + SILENT_FOR - Duration::from_millis(1)));
        assert!(others.is_free(&silent, last + SILENT_FOR));
        let another = held(8, 99);
        assert!(!others.is_free(&another, last + SILENT_FOR), "somebody else was faster");
        assert!(others.is_free(&held(0, 99), last + SILENT_FOR), "what was given up is free at once");
    }
}
