//! In whose name something is done, and how high that stands in a room.

use veza_proto::v1::{Action, Role};
use veza_proto::{RoomId, UserId};

use super::rows::{MemberRow, RoomRow};
use super::{Ledger, Refusal, refused_sentence};

/// How the ids of services begin, and no user's.
const SERVICE_PREFIX: &str = "service:";

/// Who does something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    /// Role and sanctions decide.
    User(UserId),
    /// A service of the platform by itself, above every owner. The id is what logs and audits call it. Nobody becomes a
    /// service by the id alone.
    Service(UserId),
}

/// What somebody is to a room they act in. A service stands above every role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Member(Role),
    Service,
}

impl Actor {
    /// A service of this name: 1 to 32 bytes without control characters.
    pub fn service(name: &str) -> Self {
        let id = UserId::parse(&format!("{SERVICE_PREFIX}{name}"));
        Actor::Service(id.expect("a service's name was checked where it was read, and is short"))
    }

    /// What the log and the audit call it.
    pub fn id(&self) -> &UserId {
        match self {
            Actor::User(user) | Actor::Service(user) => user,
        }
    }

    pub fn as_str(&self) -> &str {
        self.id().as_str()
    }

    /// The user, where it is one.
    pub fn user(&self) -> Option<&UserId> {
        match self {
            Actor::User(user) => Some(user),
            Actor::Service(_) => None,
        }
    }

    /// Whether an id is a service's, so that no user may have it.
    pub fn is_service_id(id: &UserId) -> bool {
        id.as_str().starts_with(SERVICE_PREFIX)
    }
}

impl From<UserId> for Actor {
    fn from(user: UserId) -> Self {
        Actor::User(user)
    }
}

impl From<&UserId> for Actor {
    fn from(user: &UserId) -> Self {
        Actor::User(user.clone())
    }
}

impl Ledger {
    /// The room, for somebody who is a member of it.
    pub(super) fn member(&self, room: &RoomId, user: &UserId) -> Result<(&RoomRow, &MemberRow, Role), Refusal> {
        let row = self.rooms.get(room).ok_or(Refusal::NoSuchRoom)?;
        let member = self.members.get(&(room.clone(), user.clone())).ok_or(Refusal::NoSuchRoom)?;
        let role = member.role().ok_or(Refusal::NoSuchRoom)?;
        Ok((row, member, role))
    }

    /// The room, for a member of it or a service.
    pub(super) fn standing(&self, room: &RoomId, actor: &Actor) -> Result<(&RoomRow, Standing), Refusal> {
        match actor {
            Actor::User(user) => self.member(room, user).map(|(row, _, role)| (row, Standing::Member(role))),
            Actor::Service(_) => Ok((self.rooms.get(room).ok_or(Refusal::NoSuchRoom)?, Standing::Service)),
        }
    }

    /// How high the actor stands, if it may do this.
    pub(super) fn may(&self, room: &RoomId, actor: &Actor, action: Action) -> Result<Standing, Refusal> {
        let (row, standing) = self.standing(room, actor)?;
        if standing < Standing::Member(row.settings.at_least(action, row.kind)) {
            return Err(Refusal::Forbidden(refused_sentence(action)));
        }
        Ok(standing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_stands_above_every_role_and_is_no_user() {
        assert!(Standing::Service > Standing::Member(Role::Owner));
        assert!(Standing::Member(Role::Admin) > Standing::Member(Role::Moderator));
        let service = Actor::service("gateway");
        assert_eq!(service.id().as_str(), "service:gateway");
        assert!(service.user().is_none() && Actor::is_service_id(service.id()));
        let alice = Actor::from(UserId::parse("alice").expect("an id"));
        assert!(alice.user().is_some() && !Actor::is_service_id(alice.id()));
    }
}
