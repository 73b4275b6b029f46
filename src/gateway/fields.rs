//! Fields of requests, checked once: what comes out of here can be used.

use tonic::Status;
use veza_engine::ledger::Actor;
use veza_proto::v1::Error;
use veza_proto::{Cmid, InvalidId, RoomId, UserId};

use super::status::{at_field, bad_field};

/// An idempotency key, bytes.
pub(super) const KEY_BYTES_MAX: usize = veza_proto::limits::CMID_BYTES_MAX;
/// What a plan gives one user: names of entitlements.
pub(super) const ENTITLEMENTS_MAX: usize = 32;

/// Says which field it was that a check found wrong.
pub(super) trait At<T> {
    fn at(self, field: &str) -> Result<T, Status>;
}

impl<T> At<T> for Result<T, Error> {
    fn at(self, field: &str) -> Result<T, Status> {
        self.map_err(|error| at_field(field, &error))
    }
}

impl<T> At<T> for Result<T, InvalidId> {
    fn at(self, field: &str) -> Result<T, Status> {
        self.map_err(|error| bad_field(field, error.to_string()))
    }
}

pub(super) fn room(field: &str, text: &str) -> Result<RoomId, Status> {
    RoomId::parse(text).at(field)
}

pub(super) fn some_room(field: &str, text: &str) -> Result<Option<RoomId>, Status> {
    if text.is_empty() { Ok(None) } else { room(field, text).map(Some) }
}

/// One of the platform's users; a service is none.
pub(super) fn user(field: &str, text: &str) -> Result<UserId, Status> {
    let user = UserId::parse(text).at(field)?;
    if Actor::is_service_id(&user) {
        return Err(bad_field(field, "ids that begin with service: are no users"));
    }
    Ok(user)
}

pub(super) fn some_user(field: &str, text: &str) -> Result<Option<UserId>, Status> {
    if text.is_empty() { Ok(None) } else { user(field, text).map(Some) }
}

/// The idempotency key of a message, which it cannot be without.
pub(super) fn cmid(text: &str) -> Result<Cmid, Status> {
    if text.is_empty() {
        return Err(bad_field("idempotency_key", "a message needs its idempotency_key, 1 to 64 bytes"));
    }
    Cmid::parse(text).at("idempotency_key")
}

pub(super) fn entitlements(names: Vec<String>) -> Result<Vec<String>, Status> {
    const FIELD: &str = "entitlements";
    if names.len() > ENTITLEMENTS_MAX {
        return Err(bad_field(FIELD, format!("at most {ENTITLEMENTS_MAX}, these are {}", names.len())));
    }
    let max = veza_proto::limits::ENTITLEMENT_BYTES_MAX;
    if names.iter().any(|name| name.is_empty() || name.len() > max || name.chars().any(char::is_control)) {
        return Err(bad_field(FIELD, format!("an entitlement has 1 to {max} bytes without control characters")));
    }
    Ok(names)
}
