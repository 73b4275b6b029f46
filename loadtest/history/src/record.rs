use serde::{Deserialize, Serialize};
use veza_proto::v1::{ErrorCode, GapReason, Message, message};

use crate::digest::{Digest, digest};

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Microseconds on the one clock of the run.
    pub at: u64,
    /// Who did or saw it: a device that keeps its name over all its links. Empty for the run itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client: String,
    pub event: Event,
}

/// What was done or seen. `call` is a number that the client uses once: it ties a command to its outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A link was welcomed.
    Connected { user: String, transport: String },
    /// The link is gone, and with it every subscription of this client.
    Lost,

    /// A command that makes an entry is on its way. A retry is sent again: the same cmid, another call.
    Sent { call: u64, room: String, cmid: String, said: Said },
    Acknowledged {
        call: u64,
        epoch: u64,
        seq: u64,
        #[serde(default)]
        duplicate: bool,
    },
    /// Refused for certain: nothing of it was stored. See [`is_definite`].
    Refused { call: u64, code: String },
    /// No answer, or one that leaves it open.
    Unknown { call: u64 },

    /// A subscription begins: the answer to a join, or a room's verdict after a resume.
    Joined {
        room: String,
        epoch: u64,
        head: u64,
        /// When the join or the hello was sent. Microseconds.
        asked: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cursor: Option<Cursor>,
        verdict: Verdict,
    },
    /// The client left or unsubscribed, and was told so.
    Left { room: String },
    /// The server took the room away from this client.
    Evicted { room: String },
    /// The server dropped deliveries after `last_delivered` because this client reads too slowly.
    Lagging { room: String, epoch: u64, last_delivered: u64 },
    /// An entry was pushed. `loose`: by a subscription that allows datagrams, which may come late, twice, or not at all.
    Delivered {
        room: String,
        #[serde(flatten)]
        entry: Entry,
        #[serde(default, skip_serializing_if = "is_false")]
        loose: bool,
    },

    /// Entries were asked for.
    Reading { call: u64, room: String },
    /// They came.
    Page {
        call: u64,
        #[serde(flatten)]
        page: Page,
    },

    /// A moderator's kick or ban was acknowledged: `user` may hear nothing more of the room. `asked`: when it was sent,
    /// for who joined since then may have joined after it.
    Removed { room: String, user: String, asked: u64 },
    /// A user's tokens were revoked, acknowledged; `asked` as above.
    Revoked { user: String, asked: u64 },

    /// Something was said that must not be stored.
    SaidVolatile { room: String, what: Volatile },
    /// Something like it was heard.
    HeardVolatile { room: String, user: String, what: Volatile },

    /// A process was killed, a network cut: what, in a word.
    Fault { what: String },
    /// It is back.
    Healed { what: String },
    /// What the server's process has: bytes, descriptors, tasks. For the reader; no verdict.
    Sample { memory: u64, descriptors: u64 },

    /// One entry of the final history, in order, from the database itself or by the protocol.
    Stored {
        source: String,
        room: String,
        #[serde(flatten)]
        entry: Entry,
    },
    /// The end of one room's final history from that source.
    Final { source: String, room: String, epoch: u64, first_available: u64, head: u64 },
}

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Said {
    pub kind: Kind,
    /// The entry it is about; of a text the root of its thread. 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub target: u64,
    /// Of a text and an edit the body, of a reaction the emoji and whether it is taken back, of a pin whether it is
    /// taken back. `None` where nothing is said: deletions, tombstones, edits of what was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Digest>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Text,
    Edit,
    Deletion,
    Reaction,
    Pin,
    /// A note of the system: nobody sent it as such, and its cmid is its own.
    Note,
}

/// An entry as somebody saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub epoch: u64,
    pub seq: u64,
    pub cmid: String,
    pub author: String,
    #[serde(flatten)]
    pub said: Said,
    /// Of a text: how often it had been edited.
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    pub edits: u32,
    /// Of a text: it is a tombstone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub deleted: bool,
}

/// Up to where a client held a room's log when it asked to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    pub epoch: u64,
    pub last: u64,
}

/// The server's answer to a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Live,
    Recovered { entries: u64 },
    HistoryExpired { first_available: u64 },
    EpochChanged { first_available: u64 },
    CursorAhead { first_available: u64 },
    TooFarBehind { first_available: u64 },
}

/// An answer with entries: a history page, a repair, a search.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    pub view: View,
    pub anchor: Anchor,
    pub epoch: u64,
    /// The log's end as the answer tells it; 0 where it does not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub head: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub first_available: u64,
    #[serde(default, skip_serializing_if = "is_false")]
    pub more_after: bool,
    pub entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum View {
    /// What stands in the room itself.
    Room,
    /// Every entry: history with everything, and repairs.
    Everything,
    /// One thread, with its root first.
    Thread,
    /// A selection: search, pins.
    Found,
}

/// Where a page begins, as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anchor {
    Before(u64),
    After(u64),
    Around(u64),
    /// After the first, up to and with the second; 0 for the log's end. As repairs ask.
    Between(u64, u64),
    Nothing,
}

/// Typing, or a presence with its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Volatile {
    Typing,
    Presence(Digest),
}

impl Said {
    pub fn text(body: &str, thread: u64) -> Self {
        Self { kind: Kind::Text, target: thread, content: Some(digest(body)) }
    }

    pub fn edit(target: u64, body: &str) -> Self {
        Self { kind: Kind::Edit, target, content: Some(digest(body)) }
    }

    pub fn deletion(target: u64) -> Self {
        Self { kind: Kind::Deletion, target, content: None }
    }

    pub fn reaction(target: u64, emoji: &str, removed: bool) -> Self {
        Self { kind: Kind::Reaction, target, content: Some(taken_back(emoji, removed)) }
    }

    pub fn pin(target: u64, removed: bool) -> Self {
        Self { kind: Kind::Pin, target, content: Some(taken_back("pin", removed)) }
    }
}

fn taken_back(what: &str, removed: bool) -> Digest {
    digest(&format!("{}{what}", if removed { '-' } else { '+' }))
}

impl From<&Message> for Entry {
    fn from(message: &Message) -> Self {
        let said = match &message.change {
            None => {
                let blank = message.body.is_empty() && message.mentions.is_empty() && message.attachments.is_empty();
                let content = (!blank).then(|| digest(&message.body));
                Said { kind: Kind::Text, target: message.thread, content }
            }
            Some(message::Change::Edit(edit)) => {
                let blank = edit.body.is_empty() && edit.mentions.is_empty();
                Said { kind: Kind::Edit, target: edit.target, content: (!blank).then(|| digest(&edit.body)) }
            }
            Some(message::Change::Deletion(deletion)) => Said::deletion(deletion.target),
            Some(message::Change::Reaction(change)) => Said::reaction(change.target, &change.emoji, change.removed),
            Some(message::Change::Pin(pin)) => Said::pin(pin.target, pin.removed),
            Some(message::Change::System(note)) => {
                let told = format!("{} {} {} {} {}", note.kind, note.user, note.role, note.until_ms, note.text);
                Said { kind: Kind::Note, target: 0, content: Some(digest(&told)) }
            }
        };
        Self {
            epoch: message.epoch,
            seq: message.seq,
            cmid: message.cmid.clone(),
            author: message.author.clone(),
            said,
            edits: message.edits,
            deleted: message.deleted.is_some(),
        }
    }
}

impl From<&veza_proto::v1::Verdict> for Verdict {
    /// What a later server may answer counts as live: nothing is promised by it.
    fn from(verdict: &veza_proto::v1::Verdict) -> Self {
        use veza_proto::v1::verdict::Outcome;
        match &verdict.outcome {
            None | Some(Outcome::Live(_)) => Self::Live,
            Some(Outcome::Recovered(recovered)) => Self::Recovered { entries: recovered.messages },
            Some(Outcome::Gap(gap)) => {
                let first_available = gap.first_available;
                match gap.reason() {
                    GapReason::HistoryExpired => Self::HistoryExpired { first_available },
                    GapReason::EpochChanged => Self::EpochChanged { first_available },
                    GapReason::CursorAhead => Self::CursorAhead { first_available },
                    GapReason::TooFarBehind | GapReason::Unspecified => Self::TooFarBehind { first_available },
                }
            }
        }
    }
}

/// Whether this refusal means that nothing was stored. The others leave it open: the commit may have happened.
pub fn is_definite(code: ErrorCode) -> bool {
    match code {
        ErrorCode::Unspecified | ErrorCode::Unavailable | ErrorCode::Internal => false,
        ErrorCode::Malformed
        | ErrorCode::InvalidArgument
        | ErrorCode::OutOfOrder
        | ErrorCode::Unauthenticated
        | ErrorCode::PermissionDenied
        | ErrorCode::NotFound
        | ErrorCode::AlreadyExists
        | ErrorCode::CmidConflict
        | ErrorCode::TooLarge
        | ErrorCode::RateLimited
        | ErrorCode::Limit
        | ErrorCode::StorageFull
        | ErrorCode::WrongLane
        | ErrorCode::SlowMode
        | ErrorCode::Muted
        | ErrorCode::Banned
        | ErrorCode::Gone => true,
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero_u32(value: &u32) -> bool {
    *value == 0
}
