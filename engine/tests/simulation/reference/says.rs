//! What is said in a room, and what has become of it.

use std::collections::BTreeMap;

use veza_engine::ledger::Content;
use veza_proto::limits::{EDITS_MAX, EMOJI_PER_MESSAGE_MAX, PINS_MAX};
use veza_proto::v1::{Action, Role, RoomKind, SystemNote};

use super::{Expected, Room, Why};

/// One entry as it was accepted.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(super) author: String,
    pub(super) cmid: Option<String>,
    pub(super) at_ms: u64,
    pub(super) what: What,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    By(Content),
    Note(SystemNote),
}

/// A message as it is by now.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Now {
    pub(super) body: String,
    pub(super) mentions: Vec<String>,
    pub(super) edits: u32,
    pub(super) edited_ms: u64,
    /// By whom, when, and the entry that did it.
    pub(super) deleted: Option<(String, u64, u64)>,
    /// The entry that pinned it.
    pub(super) pinned: Option<u64>,
    /// Emoji and user, with the entry that set it.
    pub(super) reactions: BTreeMap<(String, String), u64>,
    /// How many, the last one's number and time.
    pub(super) replies: (u32, u64, u64),
}

type Decided = Result<Expected, Vec<Why>>;

impl Room {
    pub(super) fn append(&mut self, author: &str, cmid: &str, content: &Content, at_ms: u64) -> Decided {
        let role = self.role(author).ok_or(vec![Why::NotFound])?;
        if let Some((seq, said)) =
            self.kept().find(|(_, said)| said.author == author && said.cmid.as_deref() == Some(cmid))
        {
            let What::By(before) = &said.what else { return Err(vec![Why::Conflict]) };
            return if same(before, content) { Ok(Expected::Again(seq)) } else { Err(vec![Why::Conflict]) };
        }
        let mut reasons = Vec::new();
        if self.archived {
            reasons.push(Why::Forbidden);
        }
        if self.people[author].muted_until > at_ms && !matches!(content, Content::Delete { .. }) {
            reasons.push(Why::Muted);
        }
        let mut again = None;
        match content {
            Content::Text { thread, reply_to, mentions, attachments, .. } => {
                self.may_write(role, mentions, &mut reasons);
                if !attachments.is_empty() && !self.allows(role, Action::Attach) {
                    reasons.push(Why::Forbidden);
                }
                if *thread != 0 && !self.allows(role, Action::Thread) {
                    reasons.push(Why::Forbidden);
                }
                self.slow_mode(author, role, at_ms, &mut reasons);
                if *reply_to != 0 {
                    self.alive(*reply_to, &mut reasons);
                }
                if *thread != 0 && self.alive(*thread, &mut reasons) && self.thread_of(*thread) != Some(0) {
                    reasons.push(Why::Invalid);
                }
            }
            Content::Edit { target, mentions, .. } => {
                self.may_write(role, mentions, &mut reasons);
                if self.alive(*target, &mut reasons) {
                    if self.author_of(*target) != Some(author) {
                        reasons.push(Why::Forbidden);
                    } else if self.now(*target).edits >= EDITS_MAX {
                        reasons.push(Why::Limit);
                    }
                }
            }
            Content::Delete { target, .. } => match self.thread_of(*target) {
                None => reasons.push(Why::NotFound),
                Some(_) => {
                    if self.author_of(*target) != Some(author) && !self.allows(role, Action::DeleteAny) {
                        reasons.push(Why::Forbidden);
                    }
                    again = self.now(*target).deleted.map(|(_, _, seq)| seq);
                }
            },
            Content::React { target, emoji, remove } => {
                if !self.allows(role, Action::React) {
                    reasons.push(Why::Forbidden);
                }
                if self.alive(*target, &mut reasons) {
                    let reactions = self.now(*target).reactions;
                    let mine = reactions.get(&(emoji.clone(), author.to_owned())).copied();
                    let mut different: Vec<&String> = reactions.keys().map(|(emoji, _)| emoji).collect();
                    different.dedup();
                    match (remove, mine) {
                        (true, None) => reasons.push(Why::NotFound),
                        (true, Some(_)) => {}
                        (false, Some(_)) => again = mine,
                        (false, None) if !different.contains(&emoji) && different.len() >= EMOJI_PER_MESSAGE_MAX => {
                            reasons.push(Why::Limit);
                        }
                        (false, None) => {}
                    }
                }
            }
            Content::Pin { target, remove } => {
                if !self.allows(role, Action::Pin) {
                    reasons.push(Why::Forbidden);
                }
                if self.alive(*target, &mut reasons) {
                    match (remove, self.now(*target).pinned) {
                        (true, None) => reasons.push(Why::NotFound),
                        (true, Some(_)) => {}
                        (false, Some(seq)) => again = Some(seq),
                        (false, None) if self.pins() >= PINS_MAX => reasons.push(Why::Limit),
                        (false, None) => {}
                    }
                }
            }
        }
        if !reasons.is_empty() {
            return Err(reasons);
        }
        if let Some(seq) = again {
            return Ok(Expected::Again(seq));
        }
        let (cmid, what) = (Some(cmid.to_owned()), What::By(content.clone()));
        let stored_ms = at_ms.max(self.last_text_ms());
        self.log.push(Said { author: author.to_owned(), cmid, at_ms: stored_ms, what });
        let head = self.head();
        if matches!(content, Content::Text { .. }) {
            let person = self.people.entry(author.to_owned()).or_default();
            (person.delivered, person.read, person.last_text_ms) = (head, head, Some(at_ms));
        }
        Ok(Expected::Stored(head))
    }

    /// What is still kept, with its numbers.
    pub(super) fn kept(&self) -> impl Iterator<Item = (u64, &Said)> {
        self.all().filter(|(seq, _)| *seq > self.expired)
    }

    /// Everything that was ever said.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, &Said)> {
        (1..).zip(&self.log)
    }

    /// When the last message was stored. Clocks may go back; what comes after it is not stored before it.
    pub(super) fn last_text_ms(&self) -> u64 {
        let texts = self.log.iter().rev().find(|said| matches!(said.what, What::By(Content::Text { .. })));
        texts.map_or(0, |said| said.at_ms)
    }

    /// What has become of a message.
    pub(super) fn now(&self, seq: u64) -> Now {
        let mut now = Now::default();
        for (at, said) in self.all() {
            let What::By(content) = &said.what else { continue };
            match content {
                Content::Text { body, mentions, .. } if at == seq => {
                    (now.body, now.mentions) = (body.clone(), mentions.clone());
                }
                Content::Text { thread, .. } if *thread == seq => {
                    now.replies = (now.replies.0 + 1, at, said.at_ms);
                }
                Content::Edit { target, body, mentions } if *target == seq => {
                    (now.body, now.mentions) = (body.clone(), mentions.clone());
                    (now.edits, now.edited_ms) = (now.edits + 1, said.at_ms);
                }
                Content::Delete { target, .. } if *target == seq => {
                    let (edits, edited_ms, replies) = (now.edits, now.edited_ms, now.replies);
                    let deleted = Some((said.author.clone(), said.at_ms, at));
                    now = Now { edits, edited_ms, replies, deleted, ..Now::default() };
                }
                Content::React { target, emoji, remove } if *target == seq => {
                    let key = (emoji.clone(), said.author.clone());
                    if *remove {
                        now.reactions.remove(&key);
                    } else {
                        now.reactions.insert(key, at);
                    }
                }
                Content::Pin { target, remove } if *target == seq => now.pinned = (!remove).then_some(at),
                Content::Text { .. }
                | Content::Edit { .. }
                | Content::Delete { .. }
                | Content::React { .. }
                | Content::Pin { .. } => {}
            }
        }
        now
    }

    /// Messages of others after this person's watermark, and those of them that mention it or everybody.
    pub(super) fn unread(&self, user: &str) -> (u64, u64) {
        let read = self.people.get(user).map_or(0, |person| person.read);
        let after = self.kept().filter(|(seq, said)| *seq > read && said.author != user);
        let texts: Vec<u64> = after.filter(|(seq, _)| self.thread_of(*seq).is_some()).map(|(seq, _)| seq).collect();
        let names_me = |seq: &&u64| self.now(**seq).mentions.iter().any(|name| name == user || name == "*");
        (texts.len() as u64, texts.iter().filter(names_me).count() as u64)
    }

    /// The thread a message belongs to, 0 for none; nothing where there is no such message.
    pub(super) fn thread_of(&self, seq: u64) -> Option<u64> {
        let said = self.log.get(usize::try_from(seq.checked_sub(1)?).ok()?).filter(|_| seq > self.expired)?;
        match &said.what {
            What::By(Content::Text { thread, .. }) => Some(*thread),
            What::By(_) | What::Note(_) => None,
        }
    }

    fn author_of(&self, seq: u64) -> Option<&str> {
        let at = usize::try_from(seq.checked_sub(1)?).ok()?;
        self.log.get(at).map(|said| said.author.as_str())
    }

    /// Whether there is such a message and it was not deleted.
    fn alive(&self, seq: u64, reasons: &mut Vec<Why>) -> bool {
        if self.thread_of(seq).is_none() {
            reasons.push(Why::NotFound);
            return false;
        }
        if self.now(seq).deleted.is_some() {
            reasons.push(Why::Gone);
            return false;
        }
        true
    }

    fn pins(&self) -> usize {
        let messages = self.kept().filter(|(seq, _)| self.thread_of(*seq).is_some());
        messages.filter(|(seq, _)| self.now(*seq).pinned.is_some()).count()
    }

    fn may_write(&self, role: Role, mentions: &[String], reasons: &mut Vec<Why>) {
        let everybody = mentions.iter().any(|name| name == "*");
        if !self.allows(role, Action::Publish) || (everybody && !self.allows(role, Action::MentionAll)) {
            reasons.push(Why::Forbidden);
        }
    }

    fn slow_mode(&self, author: &str, role: Role, at_ms: u64, reasons: &mut Vec<Why>) {
        let gap_ms = u64::from(self.settings.slow_mode_seconds) * 1_000;
        let last = self.people[author].last_text_ms;
        if gap_ms > 0 && role < Role::Moderator && last.is_some_and(|last| at_ms < last + gap_ms) {
            reasons.push(Why::SlowMode);
        }
    }

    /// The table of `chat.proto`.
    pub(super) fn allows(&self, role: Role, action: Action) -> bool {
        let set = self.settings.permissions.iter().find(|permission| permission.action() == action);
        let at_least = set.map_or_else(|| default_of(action, self.kind), |permission| permission.at_least());
        role >= at_least
    }
}

fn default_of(action: Action, kind: RoomKind) -> Role {
    match (action, kind) {
        (Action::React, _) => Role::Guest,
        (Action::Publish | Action::Attach | Action::Thread, _) | (Action::Pin, RoomKind::Direct) => Role::Member,
        (Action::Invite, RoomKind::Private) => Role::Moderator,
        (Action::Invite, _) => Role::Member,
        (Action::MentionAll | Action::Pin | Action::DeleteAny | Action::Moderate, _) => Role::Moderator,
        (Action::Manage, _) => Role::Admin,
        (Action::Unspecified, _) => Role::Owner,
    }
}

/// Whether a retry says the same. Why something is deleted is no part of it.
fn same(one: &Content, other: &Content) -> bool {
    match (one, other) {
        (Content::Delete { target, .. }, Content::Delete { target: of, .. }) => target == of,
        (one, other) => one == other,
    }
}
