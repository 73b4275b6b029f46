//! The people of a room: who they are, what they may do, and what was done to them.

use veza_proto::v1::client_frame::Command;
use veza_proto::v1::{
    AuditList, ListAudit, ListMembers, MemberFilter, MemberList, Membership, Moderate, Role, SetRole, reply,
};

use super::Client;
use crate::error::Error;

impl Client {
    /// One page of a room's members; pass `next` of the last page as `after`.
    ///
    /// # Errors
    /// As [`Client::join`]; `PERMISSION_DENIED` for the muted and the banned without the right to.
    pub async fn members(&self, room: &str, filter: MemberFilter, after: &str) -> Result<MemberList, Error> {
        let (room, after) = (room.to_owned(), after.to_owned());
        let list = ListMembers { room, after, limit: 0, filter: filter.into() };
        Ok(answer!(self.ask(Command::ListMembers(list)).await?, MemberList))
    }

    /// Gives a member another role.
    ///
    /// # Errors
    /// As [`Client::join`]; `PERMISSION_DENIED` unless both roles are below one's own.
    pub async fn set_role(&self, room: &str, user: &str, role: Role) -> Result<Membership, Error> {
        let set = SetRole { room: room.to_owned(), user: user.to_owned(), role: role.into() };
        answer!(self.ask(Command::SetRole(set)).await?, MemberUpdated).member.ok_or(Error::Unexpected)
    }

    /// Mutes, kicks or bans a member, or takes it back.
    ///
    /// # Errors
    /// As [`Client::join`]; `PERMISSION_DENIED` over one's equals. A kick that a lost link hid may be answered with
    /// `NOT_FOUND`.
    pub async fn moderate(&self, moderate: Moderate) -> Result<Membership, Error> {
        answer!(self.ask(Command::Moderate(moderate)).await?, MemberUpdated).member.ok_or(Error::Unexpected)
    }

    /// One page of what was done in a room and by whom, newest first; pass `next` of the last page as `before`.
    ///
    /// # Errors
    /// As [`Client::join`]; `PERMISSION_DENIED` without the right to moderate.
    pub async fn audit(&self, room: &str, before: u64) -> Result<AuditList, Error> {
        let list = ListAudit { room: room.to_owned(), before, limit: 0 };
        Ok(answer!(self.ask(Command::ListAudit(list)).await?, AuditList))
    }
}
