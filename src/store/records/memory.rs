use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::ready;
use std::collections::BTreeMap;
use veza_proto::{DeviceId, UserId};

use super::{DEVICES_PER_USER_MAX, DeviceRow, Records, Revocation, Sighting};
use crate::store::outbox::Told;
use crate::store::{Answered, MemoryStore};

/// The records as a sentence.
#[derive(Debug, Default)]
pub(in crate::store) struct Remembered {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    revocations: BTreeMap<u64, Revocation>,
    last: u64,
    devices: BTreeMap<(UserId, DeviceId), DeviceRow>,
}

impl Remembered {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Records for MemoryStore {
    fn revoke<'a>(&'a self, revocation: &'a Revocation, told: &'a Told) -> Answered<'a, ()> {
        let mut inner = self.remembered.lock();
        let old = inner.revocations.iter().find(|(_, old)| old.subject == revocation.subject);
        let old = old.map(|(number, _)| *number).and_then(|number| inner.revocations.remove(&number));
        let mut fresh = revocation.clone();
        if let Some(old) = old {
            fresh.revoked_ms = fresh.revoked_ms.max(old.revoked_ms);
            fresh.drop_at_ms = fresh.drop_at_ms.max(old.drop_at_ms);
        }
        inner.last += 1;
        let number = inner.last;
        inner.revocations.insert(number, fresh);
        self.outbox().tell([told.clone()]);
        ready(Ok(())).boxed()
    }

    fn revocations<'a>(&'a self, after: u64, limit: u32) -> Answered<'a, Vec<(u64, Revocation)>> {
        let inner = self.remembered.lock();
        let behind = inner.revocations.range(after.saturating_add(1)..).take(limit as usize);
        ready(Ok(behind.map(|(number, revocation)| (*number, revocation.clone())).collect())).boxed()
    }

    fn forget_revocations<'a>(&'a self, now_ms: u64) -> Answered<'a, ()> {
        self.remembered.lock().revocations.retain(|_, revocation| now_ms < revocation.drop_at_ms);
        ready(Ok(())).boxed()
    }

    fn see_devices<'a>(&'a self, seen: &'a [Sighting]) -> Answered<'a, ()> {
        let mut inner = self.remembered.lock();
        for sighting in seen {
            let Sighting { user, device, client, at_ms } = sighting.clone();
            let row = inner.devices.entry((user.clone(), device.clone())).or_insert_with(|| DeviceRow {
                device,
                client: String::new(),
                first_seen_ms: at_ms,
                last_seen_ms: at_ms,
            });
            row.last_seen_ms = row.last_seen_ms.max(at_ms);
            if !client.is_empty() {
                row.client = client;
            }
            let of_user = |key: &&(UserId, DeviceId)| key.0 == user;
            while inner.devices.keys().filter(of_user).count() > DEVICES_PER_USER_MAX as usize {
                let theirs = inner.devices.iter().filter(|(key, _)| of_user(key));
                let stalest =
                    theirs.min_by(|(_, a), (_, b)| (a.last_seen_ms, &a.device).cmp(&(b.last_seen_ms, &b.device)));
                let Some(key) = stalest.map(|(key, _)| key.clone()) else { break };
                inner.devices.remove(&key);
            }
        }
        ready(Ok(())).boxed()
    }

    fn devices<'a>(
        &'a self,
        user: &'a UserId,
        after: Option<&'a DeviceId>,
        limit: u32,
    ) -> Answered<'a, Vec<DeviceRow>> {
        let inner = self.remembered.lock();
        let theirs = inner.devices.iter().filter(|((of, device), _)| of == user && after.is_none_or(|it| device > it));
        ready(Ok(theirs.take(limit as usize).map(|(_, row)| row.clone()).collect())).boxed()
    }
}
