//! In whose name a call is made, and under which key.

use std::sync::Arc;

use aws_lc_rs::digest;
use prost::Message;
use tonic::{Request, Status};
use veza_engine::ledger::{Actor, OnceKey};
use veza_proto::UserId;

use super::access::Service;
use super::fields::{self, KEY_BYTES_MAX};
use super::scope::Scope;
use super::status::{bad_field, scope_missing};
use crate::hub::Call;

/// The service that makes a call.
pub(super) struct Caller {
    service: Arc<Service>,
}

impl Caller {
    /// Takes a request apart: who makes it, and what is asked.
    pub(super) fn take<R>(request: Request<R>) -> Result<(Self, R), Status> {
        let service = request.extensions().get::<Arc<Service>>().cloned();
        let service = service.ok_or_else(|| Status::internal("a call came past the door"))?;
        Ok((Self { service }, request.into_inner()))
    }

    /// Who acts: the user that is named, or the service itself, which needs the scope for it.
    pub(super) fn actor(&self, name: &str) -> Result<Actor, Status> {
        if !name.is_empty() {
            return fields::user("actor", name).map(Actor::User);
        }
        if !self.service.may(Scope::Service) {
            return Err(scope_missing(&[Scope::Service.name()]));
        }
        Ok(self.itself())
    }

    /// Who acts where only `user` or the service itself may: another actor is a mistake.
    pub(super) fn actor_for(&self, name: &str, user: &UserId) -> Result<Actor, Status> {
        let actor = self.actor(name)?;
        match &actor {
            Actor::User(actor) if actor != user => Err(bad_field("actor", "the user whom this is about, or empty")),
            Actor::User(_) | Actor::Service(_) => Ok(actor),
        }
    }

    /// The service as an actor.
    pub(super) fn itself(&self) -> Actor {
        Actor::service(&self.service.name)
    }

    /// A call without a key.
    pub(super) fn call(actor: Actor) -> Call {
        Call { actor, once: None }
    }

    /// A write that is to happen once, where it has a key: `method` and the whole request tell it from another.
    pub(super) fn once<R: Message>(&self, actor: Actor, method: &str, key: &str, request: &R) -> Result<Call, Status> {
        if key.is_empty() {
            return Ok(Self::call(actor));
        }
        if key.len() > KEY_BYTES_MAX || key.chars().any(char::is_control) {
            let sentence = format!("an idempotency_key has 1 to {KEY_BYTES_MAX} bytes without control characters");
            return Err(bad_field("idempotency_key", sentence));
        }
        let mut bytes = method.as_bytes().to_vec();
        bytes.push(0);
        bytes.extend(request.encode_to_vec());
        let digest = digest::digest(&digest::SHA256, &bytes);
        let digest = digest.as_ref().first_chunk().copied().map(u64::from_le_bytes).unwrap_or_default();
        let once = OnceKey { service: self.service.name.clone(), key: key.to_owned(), digest };
        Ok(Call { actor, once: Some(once) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;
    use veza_proto::gateway::v1::ArchiveRoomRequest;

    fn caller(scopes: &[Scope]) -> Caller {
        Caller { service: Arc::new(Service::for_tests("bot", scopes)) }
    }

    #[test]
    fn a_service_acts_by_itself_only_with_the_scope() {
        let limited = caller(&[Scope::RoomsWrite]);
        assert_eq!(limited.actor("alice").unwrap().as_str(), "alice");
        assert_eq!(limited.actor("").unwrap_err().code(), Code::PermissionDenied);
        assert_eq!(limited.actor("service:gateway").unwrap_err().code(), Code::InvalidArgument);
        let free = caller(&[Scope::Service]);
        assert_eq!(free.actor("").unwrap(), Actor::service("bot"));
        let alice = UserId::parse("alice").unwrap();
        assert!(free.actor_for("", &alice).is_ok() && free.actor_for("alice", &alice).is_ok());
        assert_eq!(free.actor_for("bob", &alice).unwrap_err().code(), Code::InvalidArgument);
    }

    #[test]
    fn a_key_at_its_limit_and_one_past_and_what_belongs_to_it() {
        let caller = caller(&[Scope::Service]);
        let request = |room: &str| ArchiveRoomRequest { room: room.into(), ..Default::default() };
        let once = |method: &str, key: &str, room: &str| {
            caller.once(caller.itself(), method, key, &request(room)).map(|call| call.once)
        };
        assert!(once("ArchiveRoom", "", "a").unwrap().is_none());
        let long = "k".repeat(KEY_BYTES_MAX);
        let kept = once("ArchiveRoom", &long, "a").unwrap().unwrap();
        assert_eq!((kept.service.as_str(), kept.key.len()), ("bot", KEY_BYTES_MAX));
        assert!(once("ArchiveRoom", &format!("{long}k"), "a").is_err() && once("ArchiveRoom", "a\nb", "a").is_err());
        assert_eq!(once("ArchiveRoom", &long, "a").unwrap().unwrap(), kept);
        assert_ne!(once("ArchiveRoom", &long, "b").unwrap().unwrap(), kept, "another request");
        assert_ne!(once("UpdateRoom", &long, "a").unwrap().unwrap(), kept, "another call");
    }
}
