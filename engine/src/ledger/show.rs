//! Rows as the protocol's messages.

use veza_proto::v1;

use super::rows::{AuditRow, EntryRow, InviteKey, InviteRow};

impl EntryRow {
    /// As it was said, for a row that was appended just now.
    pub fn to_live(&self) -> v1::Message {
        let message = v1::Message {
            room: String::from(&self.room),
            epoch: self.epoch,
            seq: self.seq,
            cmid: self.cmid.as_ref().map(String::from).unwrap_or_default(),
            author: String::from(&self.author),
            at_ms: self.at_ms,
            ..v1::Message::default()
        };
        self.detail.clone().into_wire(message, self.body.clone())
    }

    /// As it is now, with the reactions that stand on it.
    pub fn to_page(&self, reactions: Vec<v1::Reaction>) -> v1::Message {
        let deleted =
            self.deleted.as_ref().map(|deleted| v1::Tombstone { by: String::from(&deleted.by), at_ms: deleted.at_ms });
        let replies = (self.replies > 0).then_some(v1::ThreadSummary {
            count: self.replies,
            last_seq: self.last_reply_seq,
            last_at_ms: self.last_reply_ms,
        });
        v1::Message {
            edits: self.edits,
            edited_ms: self.edited_ms,
            deleted,
            pinned: self.pinned,
            reactions,
            replies,
            ..self.to_live()
        }
    }
}

impl InviteRow {
    /// `title` is the room's.
    pub fn to_wire(&self, key: &InviteKey, title: &str) -> v1::Invite {
        let code = match key {
            InviteKey::Code(code) => code.clone(),
            InviteKey::User(..) => String::new(),
        };
        v1::Invite {
            room: String::from(&self.room),
            code,
            user: self.user.as_ref().map(String::from).unwrap_or_default(),
            creator: String::from(&self.creator),
            created_ms: self.created_ms,
            expires_ms: self.expires_ms,
            uses_max: self.uses_max,
            uses: self.uses,
            title: title.to_owned(),
        }
    }
}

impl AuditRow {
    pub fn to_wire(&self, number: u64) -> v1::AuditEntry {
        v1::AuditEntry {
            number,
            at_ms: self.at_ms,
            actor: String::from(&self.actor),
            action: self.action.to_string(),
            user: self.user.as_ref().map(String::from).unwrap_or_default(),
            seq: self.seq,
            reason: self.reason.clone(),
            detail: self.detail.clone(),
        }
    }
}
