//! What a client shows of a room: every message it holds, with what has become of it.

use std::collections::BTreeMap;

use veza_proto::v1::{Message, message::Change};

#[derive(Debug, Default)]
pub(crate) struct View {
    rows: BTreeMap<u64, Row>,
}

/// A message as it is shown.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) author: String,
    pub(crate) body: String,
    pub(crate) thread: u64,
    pub(crate) edits: u32,
    pub(crate) deleted: bool,
    pub(crate) pinned: bool,
    pub(crate) reactions: BTreeMap<String, u32>,
    /// How many, and the last one's number.
    pub(crate) replies: (u32, u64),
}

impl Row {
    pub(crate) fn of(message: &Message) -> Self {
        let replies = message.replies.as_ref().map_or((0, 0), |replies| (replies.count, replies.last_seq));
        Self {
            author: message.author.clone(),
            body: message.body.clone(),
            thread: message.thread,
            edits: message.edits,
            deleted: message.deleted.is_some(),
            pinned: message.pinned,
            reactions: message.reactions.iter().map(|reaction| (reaction.emoji.clone(), reaction.count)).collect(),
            replies,
        }
    }
}

impl View {
    /// Takes the next entry. Rows of a replay show what came after them already, so nothing is done twice.
    pub(super) fn apply(&mut self, message: &Message) {
        let target = |rows: &mut BTreeMap<u64, Row>, seq: u64, change: &dyn Fn(&mut Row)| {
            rows.get_mut(&seq).filter(|row| !row.deleted).map(change);
        };
        match &message.change {
            None => {
                self.rows.insert(message.seq, Row::of(message));
                if let Some(root) = self.rows.get_mut(&message.thread)
                    && message.seq > root.replies.1
                {
                    root.replies = (root.replies.0 + 1, message.seq);
                }
            }
            // A tombstone counts its edits too; their bodies are gone.
            Some(Change::Edit(edit)) => {
                if let Some(row) = self.rows.get_mut(&edit.target).filter(|row| edit.revision > row.edits) {
                    row.edits = edit.revision;
                    row.body = if row.deleted { String::new() } else { edit.body.clone() };
                }
            }
            Some(Change::Deletion(deletion)) => target(&mut self.rows, deletion.target, &|row| {
                row.body.clear();
                row.reactions.clear();
                (row.deleted, row.pinned) = (true, false);
            }),
            Some(Change::Reaction(change)) => target(&mut self.rows, change.target, &|row| {
                if change.count == 0 {
                    row.reactions.remove(&change.emoji);
                } else {
                    row.reactions.insert(change.emoji.clone(), change.count);
                }
            }),
            Some(Change::Pin(pin)) => target(&mut self.rows, pin.target, &|row| row.pinned = !pin.removed),
            Some(Change::System(_)) => {}
        }
    }

    pub(crate) fn rows(&self) -> impl DoubleEndedIterator<Item = (u64, &Row)> {
        self.rows.iter().map(|(seq, row)| (*seq, row))
    }

    /// After a gap: what was held may have changed unseen.
    pub(super) fn forget(&mut self) {
        self.rows.clear();
    }
}
