//! What the services about tokens and devices work on, and what they have in common.

use std::sync::Arc;

use tonic::{Code, Status};
use veza_engine::Timestamp;
use veza_engine::ledger::Actor;
use veza_engine::room::unavailable;
use veza_proto::gateway::v1::Reason;
use veza_proto::{Cmid, DeviceId, UserId, limits as wire};

use super::fields::At;
use super::status::{bad_field, because, refused};
use crate::auth::Auth;
use crate::clock::Clock;
use crate::session::devices::Devices;
use crate::session::registry::Registry;
use crate::session::revocation::{Revocations, RevokeError};
use crate::store::records::{DEVICES_PER_USER_MAX, DeviceRow, Records, Subject};
use crate::store::{Store, StoreError};

/// The parts of the node that decide whom it believes. Clones share them.
#[derive(Clone)]
pub struct Trust {
    pub auth: Auth,
    pub revocations: Revocations,
    pub devices: Devices,
    pub registry: Arc<Registry>,
    pub records: Arc<dyn Records>,
    pub store: Arc<dyn Store>,
    pub clock: Clock,
}

impl Trust {
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A user's devices behind one, in the order of their ids, those that came by just now among them.
    pub(super) async fn devices_of(&self, user: &UserId, after: Option<&DeviceId>) -> Result<Vec<DeviceRow>, Status> {
        self.devices.store().await;
        self.records.devices(user, after, DEVICES_PER_USER_MAX).await.map_err(failed)
    }

    /// When a device was revoked, if it has not come by with a newer token since.
    pub(super) fn revoked_ms(&self, user: &UserId, row: &DeviceRow) -> u64 {
        let now_ms = self.now().as_millis();
        let of = |subject| self.auth.revoked_until(&subject, now_ms).unwrap_or(0);
        let device = Subject::Device(user.clone(), row.device.clone());
        let revoked_ms = of(device).max(of(Subject::User(user.clone())));
        if revoked_ms >= row.last_seen_ms { revoked_ms } else { 0 }
    }

    /// Revokes a device's tokens up to now: how many sessions that closed here.
    pub(super) async fn revoke_device(&self, user: UserId, device: DeviceId, by: &Actor) -> Result<u32, Status> {
        let subject = Subject::Device(user, device);
        let closed = self.revocations.revoke_issued(subject, self.now(), by).await;
        closed.map(count).map_err(|error| not_revoked(&error))
    }
}

pub(super) fn count(sessions: usize) -> u32 {
    u32::try_from(sessions).unwrap_or(u32::MAX)
}

pub(super) fn device(field: &str, text: &str) -> Result<DeviceId, Status> {
    DeviceId::parse(text).at(field)
}

/// Revocations happen once however often they are asked for, so a key only has to be one.
pub(super) fn key(text: &str) -> Result<(), Status> {
    if text.is_empty() { Ok(()) } else { Cmid::parse(text).at("idempotency_key").map(drop) }
}

pub(super) fn reason(text: &str) -> Result<(), Status> {
    let max = wire::REASON_BYTES_MAX;
    if text.len() > max {
        return Err(bad_field("reason", format!("at most {max} bytes, this has {}", text.len())));
    }
    Ok(())
}

pub(super) fn failed(error: StoreError) -> Status {
    tracing::error!(%error, "the database did not answer a call about tokens or devices");
    refused(&unavailable())
}

pub(super) fn not_revoked(error: &RevokeError) -> Status {
    tracing::error!(%error, "nothing was revoked");
    match error {
        RevokeError::Store(_) => refused(&unavailable()),
        RevokeError::Full(full) => because(Code::ResourceExhausted, Reason::Overloaded, full.to_string()),
    }
}
