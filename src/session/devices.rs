//! Where users were seen: gathered as they connect and stored together, so that no connect waits for a commit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use veza_proto::{DeviceId, UserId};

use crate::store::records::{Records, Sighting};
use crate::telemetry::metrics;

/// How long a sighting may wait.
const STORE_EVERY: Duration = Duration::from_secs(5);
/// Devices that may wait to be stored; what comes past it is lost, and counted.
const WAITING_MAX: usize = 20_000;
/// In one transaction, which messages wait behind.
const BATCH: usize = 256;

/// Clones share everything.
#[derive(Clone)]
pub struct Devices {
    records: Arc<dyn Records>,
    waiting: Arc<Mutex<HashMap<(UserId, DeviceId), Sighting>>>,
}

impl Devices {
    pub fn new(records: Arc<dyn Records>) -> Self {
        Self { records, waiting: Arc::default() }
    }

    /// Somebody came by this device.
    pub fn see(&self, user: &UserId, device: &DeviceId, client: &str, at_ms: u64) {
        let key = (user.clone(), device.clone());
        let mut waiting = self.lock();
        if waiting.len() >= WAITING_MAX && !waiting.contains_key(&key) {
            metrics::devices_seen_total("dropped").increment(1);
            return;
        }
        let sighting = Sighting { user: user.clone(), device: device.clone(), client: client.to_owned(), at_ms };
        waiting.insert(key, sighting);
    }

    /// Stores what has gathered. What could not be stored waits on, unless it was seen again meanwhile.
    pub async fn store(&self) {
        let gathered: Vec<Sighting> = std::mem::take(&mut *self.lock()).into_values().collect();
        for batch in gathered.chunks(BATCH) {
            match self.records.see_devices(batch).await {
                Ok(()) => metrics::devices_seen_total("stored").increment(batch.len() as u64),
                Err(error) => {
                    tracing::warn!(%error, devices = batch.len(), "devices that were seen could not be stored yet");
                    metrics::devices_seen_total("failed").increment(batch.len() as u64);
                    let mut waiting = self.lock();
                    for sighting in batch {
                        let key = (sighting.user.clone(), sighting.device.clone());
                        waiting.entry(key).or_insert_with(|| sighting.clone());
                    }
                }
            }
        }
    }

    /// Stores from time to time, and once more at the end. Spawn it as a task.
    pub async fn keep(self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(STORE_EVERY)).await.is_some() {
            self.store().await;
        }
        self.store().await;
    }

    /// Every statement leaves the map whole, so a panic elsewhere harms nothing behind the lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<(UserId, DeviceId), Sighting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    fn device(name: &str) -> DeviceId {
        DeviceId::parse(name).unwrap()
    }

    #[tokio::test]
    async fn a_device_that_comes_by_often_is_stored_once_as_it_was_last() {
        let records: Arc<dyn Records> = Arc::new(MemoryStore::new());
        let devices = Devices::new(Arc::clone(&records));
        let alice = UserId::parse("alice").unwrap();
        devices.see(&alice, &device("phone"), "app/1", 1_000);
        devices.see(&alice, &device("phone"), "app/2", 2_000);
        assert_eq!(devices.lock().len(), 1);
        devices.store().await;
        devices.see(&alice, &device("phone"), "app/2", 3_000);
        devices.store().await;
        let rows = records.devices(&alice, None, 10).await.unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].first_seen_ms, rows[0].last_seen_ms, rows[0].client.as_str()), (2_000, 3_000, "app/2"));
    }

    #[tokio::test]
    async fn the_bound_at_its_limit_and_one_past() {
        let records: Arc<dyn Records> = Arc::new(MemoryStore::new());
        let devices = Devices::new(records);
        let user = |n: usize| UserId::parse(&n.to_string()).unwrap();
        for n in 0..WAITING_MAX {
            devices.see(&user(n), &device("phone"), "", 1);
        }
        devices.see(&user(WAITING_MAX), &device("phone"), "", 1);
        devices.see(&user(0), &device("phone"), "", 2);
        assert_eq!(devices.lock().len(), WAITING_MAX);
        assert_eq!(devices.lock()[&(user(0), device("phone"))].at_ms, 2, "who waits already may be seen again");
    }
}
