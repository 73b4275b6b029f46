//! What authors add to a room's log.

use veza_proto::limits as wire;
use veza_proto::v1::{Action, Role, SystemNote};
use veza_proto::{Cmid, RoomId, UserId};

use super::actor::{Actor, Standing};
use super::content::{Content, Detail, Kind};
use super::rows::{AuditRow, Deleted, EntryRow, FOREVER, Marker, RevisionRow};
use super::{Ledger, Refusal, Written};

type Decided = Result<Written, Refusal>;

/// Who says what, when and under which name.
#[derive(Clone, Copy)]
struct Saying<'a> {
    room: &'a RoomId,
    author: &'a Actor,
    cmid: &'a Cmid,
    digest: u64,
    at_ms: u64,
}

impl Ledger {
    pub(super) fn append(
        &mut self,
        room: &RoomId,
        author: &Actor,
        cmid: &Cmid,
        content: &Content,
        at_ms: u64,
    ) -> Decided {
        let (row, standing) = self.standing(room, author)?;
        let archived = row.archived;
        let muted_until = self.members.get(&(room.clone(), author.id().clone())).map_or(0, |row| row.muted_until_ms);
        let saying = Saying { room, author, cmid, digest: content.digest(), at_ms };
        if let Some(before) = self.said_before(&saying)? {
            return Ok(before);
        }
        if archived {
            return Err(Refusal::Forbidden("this room is archived"));
        }
        if muted_until > at_ms && !matches!(content, Content::Delete { .. }) {
            return Err(Refusal::Muted { wait_ms: wait(muted_until, at_ms) });
        }
        match content {
            Content::Text { body, thread, reply_to, mentions, attachments } => {
                self.may_say(&saying, mentions, !attachments.is_empty(), *thread != 0)?;
                self.slow_mode(&saying, standing)?;
                let detail = Detail::Text {
                    thread: *thread,
                    reply_to: *reply_to,
                    mentions: mentions.clone(),
                    attachments: attachments.clone(),
                };
                self.say(&saying, body, detail)
            }
            Content::Edit { target, body, mentions } => {
                self.may_say(&saying, mentions, false, false)?;
                self.edit(&saying, *target, body, mentions)
            }
            Content::Delete { target, reason } => self.delete(&saying, *target, reason),
            Content::React { target, emoji, remove } => {
                self.may(room, author, Action::React)?;
                if *remove { self.take_back(&saying, *target, emoji) } else { self.react(&saying, *target, emoji) }
            }
            Content::Pin { target, remove } => {
                self.may(room, author, Action::Pin)?;
                if *remove { self.unpin(&saying, *target) } else { self.pin(&saying, *target) }
            }
        }
    }

    /// The entry that this cmid made.
    fn said_before(&self, saying: &Saying<'_>) -> Result<Option<Written>, Refusal> {
        let key = (saying.room.clone(), saying.author.id().clone(), saying.cmid.clone());
        let Some(seq) = self.sent.get(&key) else { return Ok(None) };
        let entry = self.entries.get(&(saying.room.clone(), *seq)).expect("the entry of a cmid is loaded with it");
        if entry.digest != saying.digest {
            return Err(Refusal::CmidConflict);
        }
        Ok(Some(Written::Duplicate { epoch: entry.epoch, seq: entry.seq, at_ms: entry.at_ms }))
    }

    fn may_say(
        &self,
        saying: &Saying<'_>,
        mentions: &[String],
        attaches: bool,
        in_thread: bool,
    ) -> Result<(), Refusal> {
        self.may(saying.room, saying.author, Action::Publish)?;
        if attaches {
            self.may(saying.room, saying.author, Action::Attach)?;
        }
        if in_thread {
            self.may(saying.room, saying.author, Action::Thread)?;
        }
        if mentions.iter().any(|user| user == "*") {
            self.may(saying.room, saying.author, Action::MentionAll)?;
        }
        Ok(())
    }

    fn slow_mode(&self, saying: &Saying<'_>, standing: Standing) -> Result<(), Refusal> {
        let Actor::User(author) = saying.author else { return Ok(()) };
        let (row, member, _) = self.member(saying.room, author)?;
        let gap_ms = u64::from(row.settings.slow_mode_seconds) * 1_000;
        if gap_ms == 0 || standing >= Standing::Member(Role::Moderator) || member.last_message_ms == 0 {
            return Ok(());
        }
        match (member.last_message_ms + gap_ms).saturating_sub(saying.at_ms) {
            0 => Ok(()),
            wait_ms => Err(Refusal::SlowMode { wait_ms }),
        }
    }

    fn say(&mut self, saying: &Saying<'_>, body: &str, detail: Detail) -> Decided {
        let Detail::Text { thread, reply_to, .. } = &detail else { unreachable!("only messages are said") };
        let (thread, reply_to) = (*thread, *reply_to);
        if reply_to != 0 {
            self.message(saying.room, reply_to)?;
        }
        if thread != 0 && self.message(saying.room, thread)?.detail.thread() != 0 {
            return Err(Refusal::Invalid("a thread begins at a message of the room, not of another thread"));
        }
        let entry = self.push(saying, body.to_owned(), detail);
        if thread != 0 {
            let root = self.entry_mut(saying.room, thread);
            root.replies = root.replies.saturating_add(1);
            (root.last_reply_seq, root.last_reply_ms) = (entry.seq, entry.at_ms);
        }
        for user in entry.detail.mentions() {
            self.mentions.put((saying.room.clone(), entry.seq, user.clone()), ());
        }
        if let Actor::User(author) = saying.author {
            let member = self.members.edit(&(saying.room.clone(), author.clone())).expect("the author is a member");
            member.last_message_ms = saying.at_ms;
            (member.delivered_seq, member.read_seq, member.read_messages) = (entry.seq, entry.seq, entry.messages);
        }
        Ok(Written::Appended(entry))
    }

    fn edit(&mut self, saying: &Saying<'_>, target: u64, body: &str, mentions: &[String]) -> Decided {
        let message = self.message(saying.room, target)?;
        if message.author != *saying.author.id() {
            return Err(Refusal::Forbidden("you may edit only your own messages"));
        }
        if message.edits >= wire::EDITS_MAX {
            return Err(Refusal::Limit("this message was edited as often as one may be"));
        }
        let revision = message.edits + 1;
        let before: Vec<String> = message.detail.mentions().to_vec();
        let detail = Detail::Edit { target, mentions: mentions.to_vec(), revision };
        let entry = self.push(saying, body.to_owned(), detail);
        let message = self.entry_mut(saying.room, target);
        let said_ms = if message.edits == 0 { message.at_ms } else { message.edited_ms };
        let old = RevisionRow { body: std::mem::replace(&mut message.body, body.to_owned()), at_ms: said_ms };
        (message.edits, message.edited_ms) = (revision, entry.at_ms);
        if let Detail::Text { mentions: kept, .. } = &mut message.detail {
            *kept = mentions.to_vec();
        }
        self.revisions.put((saying.room.clone(), target, revision - 1), old);
        let key = |user: &String| (saying.room.clone(), target, user.clone());
        for user in before.iter().filter(|user| !mentions.contains(user)) {
            // Mentions are not loaded, but every name that the message has is one; those of this batch are at hand.
            if self.mentions.get(&key(user)).is_none() {
                self.mentions.load(key(user), ());
            }
            self.mentions.remove(&key(user));
        }
        for user in mentions.iter().filter(|user| !before.contains(user)) {
            self.mentions.put(key(user), ());
        }
        Ok(Written::Appended(entry))
    }

    fn delete(&mut self, saying: &Saying<'_>, target: u64, reason: &str) -> Decided {
        let found = self.entries.get(&(saying.room.clone(), target)).filter(|entry| entry.detail.kind() == Kind::Text);
        let message = found.ok_or(Refusal::NotFound(NO_SUCH_MESSAGE))?;
        let foreign = (message.author != *saying.author.id()).then(|| message.author.clone());
        if foreign.is_some() {
            self.may(saying.room, saying.author, Action::DeleteAny)?;
        }
        if let Some(deleted) = &message.deleted {
            return Ok(Written::Duplicate { epoch: message.epoch, seq: deleted.seq, at_ms: deleted.at_ms });
        }
        let entry = self.push(saying, String::new(), Detail::Deletion { target });
        let message = self.entry_mut(saying.room, target);
        message.body.clear();
        message.detail.erase();
        message.deleted = Some(Deleted { seq: entry.seq, by: saying.author.id().clone(), at_ms: entry.at_ms });
        (message.pinned, message.reacted) = (false, 0);
        self.erase(saying.room, target);
        if let Some(author) = foreign {
            self.note_audit(
                saying.room,
                AuditRow {
                    at_ms: saying.at_ms,
                    actor: saying.author.id().clone(),
                    action: "delete".into(),
                    user: Some(author),
                    seq: target,
                    reason: reason.to_owned(),
                    detail: String::new(),
                },
            );
        }
        Ok(Written::Appended(entry))
    }

    /// Takes out every trace of a message beside its tombstone.
    fn erase(&mut self, room: &RoomId, target: u64) {
        self.entries.edit_range((room.clone(), target), (room.clone(), u64::MAX), |_, entry| {
            let edits = matches!(entry.detail, Detail::Edit { target: of, .. } if of == target);
            if edits {
                entry.body.clear();
                entry.detail.erase();
            }
            edits
        });
        self.revisions.forget(|(of, seq, _), _| of == room && *seq == target);
        self.reactions.forget(|(of, seq, _, _), _| of == room && *seq == target);
        self.totals.forget(|(of, seq, _), _| of == room && *seq == target);
        self.mentions.forget(|(of, seq, _), ()| of == room && *seq == target);
        self.pins.forget(|(of, seq), _| of == room && *seq == target);
        self.erased.push((room.clone(), target));
    }

    fn react(&mut self, saying: &Saying<'_>, target: u64, emoji: &str) -> Decided {
        let epoch = self.message(saying.room, target)?.epoch;
        let key = (saying.room.clone(), target, emoji.to_owned(), saying.author.id().clone());
        if let Some(marker) = self.reactions.get(&key) {
            return Ok(Written::Duplicate { epoch, seq: marker.seq, at_ms: marker.at_ms });
        }
        let total = (saying.room.clone(), target, emoji.to_owned());
        let count = self.totals.get(&total).copied().unwrap_or(0) + 1;
        if count == 1 && self.emoji_on(saying.room, target) >= wire::EMOJI_PER_MESSAGE_MAX {
            return Err(Refusal::Limit("this message has as many different reactions as one may have"));
        }
        let detail = Detail::Reaction { target, emoji: emoji.to_owned(), removed: false, count };
        let entry = self.push(saying, String::new(), detail);
        self.totals.put(total, count);
        self.reactions.put(key, Marker { seq: entry.seq, at_ms: entry.at_ms });
        self.entry_mut(saying.room, target).reacted += 1;
        Ok(Written::Appended(entry))
    }

    fn take_back(&mut self, saying: &Saying<'_>, target: u64, emoji: &str) -> Decided {
        self.message(saying.room, target)?;
        let key = (saying.room.clone(), target, emoji.to_owned(), saying.author.id().clone());
        self.reactions.remove(&key).ok_or(Refusal::NotFound("there is no such reaction of yours"))?;
        let total = (saying.room.clone(), target, emoji.to_owned());
        let count = self.totals.get(&total).copied().unwrap_or(1).saturating_sub(1);
        if count == 0 {
            self.totals.remove(&total);
        } else {
            self.totals.put(total, count);
        }
        let detail = Detail::Reaction { target, emoji: emoji.to_owned(), removed: true, count };
        let entry = self.push(saying, String::new(), detail);
        let message = self.entry_mut(saying.room, target);
        message.reacted = message.reacted.saturating_sub(1);
        Ok(Written::Appended(entry))
    }

    fn pin(&mut self, saying: &Saying<'_>, target: u64) -> Decided {
        let epoch = self.message(saying.room, target)?.epoch;
        let key = (saying.room.clone(), target);
        if let Some(marker) = self.pins.get(&key) {
            return Ok(Written::Duplicate { epoch, seq: marker.seq, at_ms: marker.at_ms });
        }
        let pinned = self.pins.range((saying.room.clone(), 0), (saying.room.clone(), u64::MAX)).count();
        if pinned >= wire::PINS_MAX {
            return Err(Refusal::Limit("this room has as many pinned messages as one may have"));
        }
        let entry = self.push(saying, String::new(), Detail::Pin { target, removed: false });
        self.pins.put(key, Marker { seq: entry.seq, at_ms: entry.at_ms });
        self.entry_mut(saying.room, target).pinned = true;
        self.note_pin(saying, target, "pin");
        Ok(Written::Appended(entry))
    }

    fn unpin(&mut self, saying: &Saying<'_>, target: u64) -> Decided {
        self.message(saying.room, target)?;
        let key = (saying.room.clone(), target);
        self.pins.remove(&key).ok_or(Refusal::NotFound("this message is not pinned"))?;
        let entry = self.push(saying, String::new(), Detail::Pin { target, removed: true });
        self.entry_mut(saying.room, target).pinned = false;
        self.note_pin(saying, target, "unpin");
        Ok(Written::Appended(entry))
    }

    fn note_pin(&mut self, saying: &Saying<'_>, target: u64, action: &'static str) {
        self.note_audit(
            saying.room,
            AuditRow {
                at_ms: saying.at_ms,
                actor: saying.author.id().clone(),
                action: action.into(),
                user: None,
                seq: target,
                reason: String::new(),
                detail: String::new(),
            },
        );
    }

    /// A note of the system: `actor` did what it tells of.
    pub(super) fn push_note(&mut self, room: &RoomId, actor: &UserId, note: SystemNote, at_ms: u64) -> EntryRow {
        self.push_entry(room, actor, None, String::new(), Detail::Note(note), 0, at_ms)
    }

    fn push(&mut self, saying: &Saying<'_>, body: String, detail: Detail) -> EntryRow {
        let Saying { room, author, cmid, digest, at_ms } = *saying;
        let author = author.id();
        let entry = self.push_entry(room, author, Some(cmid.clone()), body, detail, digest, at_ms);
        self.sent.put((room.clone(), author.clone(), cmid.clone()), entry.seq);
        entry
    }

    #[expect(clippy::too_many_arguments, reason = "an entry has that many parts, and two callers give them")]
    fn push_entry(
        &mut self,
        room: &RoomId,
        author: &UserId,
        cmid: Option<Cmid>,
        body: String,
        detail: Detail,
        digest: u64,
        at_ms: u64,
    ) -> EntryRow {
        let row = self.room_mut(room);
        row.head += 1;
        // Clocks differ between nodes and go back; the times of a room's messages never do, so that their order by time is
        // their order by number.
        let at_ms = at_ms.max(row.last_message_ms);
        if detail.kind() == Kind::Text {
            row.messages += 1;
            row.last_message_ms = at_ms;
        }
        let entry = EntryRow {
            room: room.clone(),
            epoch: row.epoch,
            seq: row.head,
            author: author.clone(),
            cmid,
            at_ms,
            digest,
            messages: row.messages,
            body,
            detail,
            edits: 0,
            edited_ms: 0,
            deleted: None,
            pinned: false,
            reacted: 0,
            replies: 0,
            last_reply_seq: 0,
            last_reply_ms: 0,
        };
        self.entries.put((room.clone(), entry.seq), entry.clone());
        self.tell_entry(room, author, entry.seq, at_ms);
        entry
    }

    /// A message that can still be acted on.
    fn message(&self, room: &RoomId, seq: u64) -> Result<&EntryRow, Refusal> {
        let found = self.entries.get(&(room.clone(), seq)).filter(|entry| entry.detail.kind() == Kind::Text);
        let entry = found.ok_or(Refusal::NotFound(NO_SUCH_MESSAGE))?;
        if entry.deleted.is_some() { Err(Refusal::Gone) } else { Ok(entry) }
    }

    fn entry_mut(&mut self, room: &RoomId, seq: u64) -> &mut EntryRow {
        self.entries.edit(&(room.clone(), seq)).expect("the write has found this message")
    }

    fn emoji_on(&self, room: &RoomId, target: u64) -> usize {
        // No emoji comes before the empty string, and none is longer than its bound.
        let last = char::MAX.to_string().repeat(wire::EMOJI_BYTES_MAX / 4 + 1);
        self.totals.range((room.clone(), target, String::new()), (room.clone(), target, last)).count()
    }
}

const NO_SUCH_MESSAGE: &str = "no such message";

/// Milliseconds until then, `None` when it is until somebody lifts it.
pub(super) fn wait(until_ms: u64, now_ms: u64) -> Option<u64> {
    (until_ms != FOREVER).then(|| until_ms.saturating_sub(now_ms))
}
