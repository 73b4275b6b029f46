use std::collections::{BTreeMap, VecDeque};

use veza_proto::v1::{HistoryPage, Message, Reaction, ThreadSummary, Tombstone, message::Change};

use super::{Hole, Step};

/// Changes kept for pages that were read before them and came after them.
const RECENT_MAX: usize = 512;

/// What there is to show of one room: its messages as they are now, out of the entries of its log and pages of its
/// history. No I/O and no clock.
///
/// Entries go in as [`super::RoomLog`] lets them out, pages as they come; their order among each other does not matter.
/// It grows with what is put in: [`Timeline::forget_before`] is for whoever shows only the end.
#[derive(Debug, Default)]
pub struct Timeline {
    me: String,
    epoch: u64,
    messages: BTreeMap<u64, Shown>,
    /// The latest changes, in order.
    recent: VecDeque<Message>,
    /// The last change that `recent` holds no more.
    forgotten: u64,
}

/// What an entry or a page did to what is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A message or a note that was not there.
    New(u64),
    /// A message is not what it was.
    Changed(u64),
    /// Nothing: known already, or about a message that is not held.
    None,
}

#[derive(Debug)]
struct Shown {
    message: Message,
    /// Every change up to this entry is in it.
    as_of: u64,
}

impl Timeline {
    /// `me` is the user whose own reactions count as mine.
    pub fn new(me: impl Into<String>) -> Self {
        Self { me: me.into(), ..Self::default() }
    }

    /// What the log let out. After a hole nothing that was held can be trusted, for it may have been edited or deleted in
    /// there: everything is forgotten, and pages bring it anew.
    pub fn step(&mut self, step: Step) -> Effect {
        match step {
            Step::Message(message) => self.apply(message),
            Step::Hole(hole) => {
                self.hole(&hole);
                Effect::None
            }
        }
    }

    /// The next entry of the log.
    pub fn apply(&mut self, entry: Message) -> Effect {
        self.follow(entry.epoch);
        if !is_change(&entry) {
            return self.insert(entry);
        }
        let effect = self.change(&entry);
        if let Some(Change::Deletion(deletion)) = &entry.change {
            self.blank_edits(deletion.target);
        }
        self.remember(entry);
        effect
    }

    /// A page of history in any view, as of its head. False when it cannot be placed, because the log was replaced or
    /// more has changed since than is remembered: ask again.
    pub fn fill(&mut self, page: HistoryPage) -> bool {
        if self.epoch == 0 {
            self.epoch = page.epoch;
        }
        if page.epoch != self.epoch || page.head < self.forgotten {
            return false;
        }
        self.forget_before(page.first_available);
        for message in page.messages {
            if is_change(&message) || self.messages.get(&message.seq).is_some_and(|shown| shown.as_of > page.head) {
                continue;
            }
            self.messages.insert(message.seq, Shown { message, as_of: page.head });
        }
        let recent = std::mem::take(&mut self.recent);
        for entry in recent.iter().filter(|entry| entry.seq > page.head) {
            self.change(entry);
        }
        self.recent = recent;
        true
    }

    pub fn get(&self, seq: u64) -> Option<&Message> {
        self.messages.get(&seq).map(|shown| &shown.message)
    }

    /// What stands in the room itself, in order: messages outside of threads, and notes.
    pub fn messages(&self) -> impl DoubleEndedIterator<Item = &Message> {
        self.messages.values().map(|shown| &shown.message).filter(|message| message.thread == 0)
    }

    /// A thread: its first message, where it is held, and what was answered.
    pub fn thread(&self, root: u64) -> impl DoubleEndedIterator<Item = &Message> {
        let of = move |message: &&Message| message.seq == root || message.thread == root;
        self.messages.range(root..).map(|(_, shown)| &shown.message).filter(of)
    }

    /// Drops what is older than this entry.
    pub fn forget_before(&mut self, seq: u64) {
        if self.messages.first_key_value().is_some_and(|(first, _)| *first < seq) {
            self.messages = self.messages.split_off(&seq);
        }
    }

    /// Another log begins an empty timeline.
    fn follow(&mut self, epoch: u64) {
        if epoch != self.epoch {
            *self = Self { me: std::mem::take(&mut self.me), epoch, ..Self::default() };
        }
    }

    fn hole(&mut self, hole: &Hole) {
        self.follow(hole.epoch);
        if hole.from <= hole.to {
            self.messages.clear();
            self.recent.clear();
            self.forgotten = self.forgotten.max(hole.to);
        }
    }

    fn insert(&mut self, message: Message) -> Effect {
        let seq = message.seq;
        let mut counted = Effect::None;
        if message.thread != 0 {
            counted = self.count_reply(&message);
            self.remember(Message { body: String::new(), attachments: Vec::new(), ..message.clone() });
        }
        if self.messages.contains_key(&seq) {
            return counted;
        }
        self.messages.insert(seq, Shown { message, as_of: seq });
        Effect::New(seq)
    }

    fn remember(&mut self, entry: Message) {
        if self.recent.back().is_some_and(|last| last.seq >= entry.seq) {
            return;
        }
        self.recent.push_back(entry);
        if self.recent.len() > RECENT_MAX
            && let Some(oldest) = self.recent.pop_front()
        {
            self.forgotten = oldest.seq;
        }
    }

    /// What was deleted is not kept in earlier edits either.
    fn blank_edits(&mut self, of: u64) {
        for entry in &mut self.recent {
            if let Some(Change::Edit(edit)) = &mut entry.change
                && edit.target == of
            {
                edit.body.clear();
                edit.mentions.clear();
            }
        }
    }

    /// Applies a change, or a reply to its root, unless the target is newer than it.
    fn change(&mut self, entry: &Message) -> Effect {
        let target = match &entry.change {
            Some(Change::Edit(edit)) => edit.target,
            Some(Change::Deletion(deletion)) => deletion.target,
            Some(Change::Reaction(reaction)) => reaction.target,
            Some(Change::Pin(pin)) => pin.target,
            Some(Change::System(_)) => return Effect::None,
            None => return self.count_reply(entry),
        };
        let Some(shown) = self.messages.get_mut(&target).filter(|shown| shown.as_of < entry.seq) else {
            return Effect::None;
        };
        shown.as_of = entry.seq;
        let message = &mut shown.message;
        if message.deleted.is_some() {
            return Effect::None;
        }
        match &entry.change {
            Some(Change::Edit(edit)) => {
                // A replayed message shows its latest body before the edits that made it are replayed.
                if edit.revision <= message.edits {
                    return Effect::None;
                }
                message.body.clone_from(&edit.body);
                message.mentions.clone_from(&edit.mentions);
                (message.edits, message.edited_ms) = (edit.revision, entry.at_ms);
            }
            Some(Change::Deletion(_)) => {
                message.deleted = Some(Tombstone { by: entry.author.clone(), at_ms: entry.at_ms });
                message.body.clear();
                message.mentions.clear();
                message.attachments.clear();
                message.reactions.clear();
                message.pinned = false;
            }
            Some(Change::Reaction(changed)) => {
                let mine = (entry.author == self.me).then_some(!changed.removed);
                react(&mut message.reactions, &changed.emoji, changed.count, mine);
            }
            Some(Change::Pin(pin)) => message.pinned = !pin.removed,
            Some(Change::System(_)) | None => {}
        }
        Effect::Changed(target)
    }

    fn count_reply(&mut self, reply: &Message) -> Effect {
        let Some(root) = self.messages.get_mut(&reply.thread) else { return Effect::None };
        let replies = root.message.replies.get_or_insert_default();
        // A page's count, or a replay's, has it already.
        if reply.seq <= replies.last_seq {
            return Effect::None;
        }
        *replies = ThreadSummary { count: replies.count + 1, last_seq: reply.seq, last_at_ms: reply.at_ms };
        Effect::Changed(reply.thread)
    }
}

fn is_change(message: &Message) -> bool {
    match &message.change {
        Some(Change::Edit(_) | Change::Deletion(_) | Change::Reaction(_) | Change::Pin(_)) => true,
        Some(Change::System(_)) | None => false,
    }
}

fn react(reactions: &mut Vec<Reaction>, emoji: &str, count: u32, mine: Option<bool>) {
    match reactions.iter().position(|reaction| reaction.emoji == emoji) {
        Some(at) if count == 0 => drop(reactions.remove(at)),
        Some(at) => {
            let reaction = &mut reactions[at];
            (reaction.count, reaction.mine) = (count, mine.unwrap_or(reaction.mine));
        }
        None if count == 0 => {}
        None => reactions.push(Reaction { emoji: emoji.to_owned(), count, mine: mine.unwrap_or(false) }),
    }
}

#[cfg(test)]
mod tests;
