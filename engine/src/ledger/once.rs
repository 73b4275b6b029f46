//! Writes of services that happen once however often they are asked for: idempotency keys.

use veza_proto::{RoomId, UserId};

use super::rows::{InviteKey, MemberRow, RoomRow};
use super::{Ledger, Refusal, Write, Written};

/// How long a key is remembered.
pub const KEPT_MS: u64 = 24 * 3_600 * 1_000;

/// A service's key for one deed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnceKey {
    pub service: String,
    pub key: String,
    /// Of the whole request: another one under the same key is a mistake.
    pub digest: u64,
}

/// Service and key.
pub type CallKey = (String, String);

/// What a key was used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRow {
    pub digest: u64,
    /// The invitation that was made, whose name nobody but the answer knew.
    pub made: Option<InviteKey>,
    pub at_ms: u64,
}

impl OnceKey {
    pub fn id(&self) -> CallKey {
        (self.service.clone(), self.key.clone())
    }
}

impl Ledger {
    /// Does what was not done under this key yet. A refusal uses up no key.
    pub(super) fn once(&mut self, key: &OnceKey, write: &Write, at_ms: u64) -> Written {
        let kept = self.calls.get(&key.id()).filter(|row| row.at_ms.saturating_add(KEPT_MS) > at_ms);
        if let Some(row) = kept {
            if row.digest != key.digest {
                return Written::Refused(Refusal::KeyReused);
            }
            let made = row.made.clone();
            return match self.present(write, made) {
                Ok(written) => Written::Repeated(Box::new(written)),
                Err(refusal) => Written::Refused(refusal),
            };
        }
        let written = self.apply(write);
        let made = match &written {
            Written::Refused(_) => return written,
            Written::RoomExists(_) if matches!(write, Write::CreateRoom { .. }) => return written,
            Written::Invited(key, _) => Some(key.clone()),
            Written::Room { .. }
            | Written::RoomExists(_)
            | Written::Joined { .. }
            | Written::Left { .. }
            | Written::Member { .. }
            | Written::InviteRevoked
            | Written::Appended(_)
            | Written::Duplicate { .. }
            | Written::Marked { .. }
            | Written::Expired { .. }
            | Written::Repeated(_) => None,
        };
        self.calls.put(key.id(), CallRow { digest: key.digest, made, at_ms });
        self.calls_expired = self.calls_expired.max(at_ms.saturating_sub(KEPT_MS));
        written
    }

    /// What a write made that was done before, as it is by now.
    fn present(&self, write: &Write, made: Option<InviteKey>) -> Result<Written, Refusal> {
        Ok(match write {
            Write::CreateRoom { room, .. } | Write::UpdateRoom { room, .. } | Write::Audit { room, .. } => {
                Written::Room { room: self.found(room)?, notes: Vec::new() }
            }
            Write::OpenDirect { room, .. } => Written::RoomExists(self.found(room)?),
            Write::Join { room, user, .. } => {
                Written::Joined { room: self.found(room)?, member: self.found_member(room, user) }
            }
            Write::Leave { room, .. } => Written::Left { room: self.found(room)? },
            Write::SetRole { room, user, .. } | Write::Moderate { room, user, .. } => Written::Member {
                room: self.found(room)?,
                user: user.clone(),
                member: self.found_member(room, user),
                note: None,
            },
            Write::Invite { .. } => {
                let gone = Refusal::NotFound("the invitation of this key is not there any more");
                let key = made.ok_or_else(|| gone.clone())?;
                let row = self.invites.get(&key).cloned().ok_or(gone)?;
                Written::Invited(key, row)
            }
            Write::RevokeInvite { .. } => Written::InviteRevoked,
            Write::Append { .. } | Write::Mark { .. } | Write::Expire { .. } | Write::Once { .. } => {
                return Err(Refusal::Invalid("this has a key of its own"));
            }
        })
    }

    fn found(&self, room: &RoomId) -> Result<RoomRow, Refusal> {
        self.rooms.get(room).cloned().ok_or(Refusal::NoSuchRoom)
    }

    fn found_member(&self, room: &RoomId, user: &UserId) -> MemberRow {
        self.members.get(&(room.clone(), user.clone())).cloned().unwrap_or_else(MemberRow::stranger)
    }
}
