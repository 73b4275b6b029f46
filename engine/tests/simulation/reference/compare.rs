//! The naive rooms beside the ledger's rows.

use std::collections::{BTreeMap, BTreeSet};

use veza_engine::ledger::{Content, Detail, EntryRow, Kind, Ledger};
use veza_proto::{RoomId, UserId};

use super::says::{Now, What};
use super::{Reference, Room};

impl Reference {
    /// Whether the ledger holds of this room what it should. `Err` says in a sentence what differs.
    pub(crate) fn compare(&self, id: &RoomId, ledger: &Ledger) -> Result<(), String> {
        let (room, row) = match (self.rooms.get(id.as_str()), ledger.rooms.get(id)) {
            (None, None) => return Ok(()),
            (Some(room), Some(row)) => (room, row),
            (expected, found) => return Err(differ(id, "the room", &expected.is_some(), &found.is_some())),
        };
        same(id, "title", &room.title, &row.title)?;
        same(id, "topic", &room.topic, &row.topic)?;
        same(id, "kind", &room.kind, &row.kind)?;
        same(id, "settings", &room.settings, &row.settings.to_wire())?;
        same(id, "archived", &room.archived, &row.archived)?;
        same(id, "head", &room.head(), &row.head)?;
        same(id, "first available", &(room.expired + 1), &row.first_available)?;
        same(id, "last message", &room.last_text_ms(), &row.last_message_ms)?;
        room.compare_entries(id, ledger)?;
        room.compare_members(id, ledger)
    }

    /// Every room.
    pub(crate) fn compare_all(&self, ledger: &Ledger) -> Result<(), String> {
        let known: BTreeSet<RoomId> = ledger.rooms.iter().map(|(id, _)| id.clone()).collect();
        if known.len() != self.rooms.len() {
            return Err(format!("the ledger has the rooms {known:?}, expected {:?}", self.rooms.keys()));
        }
        known.iter().try_for_each(|id| self.compare(id, ledger))
    }
}

impl Room {
    fn compare_entries(&self, id: &RoomId, ledger: &Ledger) -> Result<(), String> {
        let found: Vec<&EntryRow> =
            ledger.entries.range((id.clone(), 0), (id.clone(), u64::MAX)).map(|(_, entry)| entry).collect();
        let numbers: Vec<u64> = self.kept().map(|(seq, _)| seq).collect();
        same(id, "numbers", &numbers, &found.iter().map(|entry| entry.seq).collect::<Vec<_>>())?;
        for ((seq, said), entry) in self.kept().zip(found) {
            let at = format!("entry {seq}");
            same(id, &at, &said.author.as_str(), &entry.author.as_str())?;
            same(id, &at, &said.cmid.as_deref(), &entry.cmid.as_ref().map(veza_proto::Cmid::as_str))?;
            same(id, &at, &said.at_ms, &entry.at_ms)?;
            match &said.what {
                What::Note(note) => same(id, &at, &Detail::Note(note.clone()), &entry.detail)?,
                What::By(content) => self.compare_said(id, seq, content, entry, ledger)?,
            }
        }
        Ok(())
    }

    fn compare_said(
        &self,
        id: &RoomId,
        seq: u64,
        content: &Content,
        entry: &EntryRow,
        ledger: &Ledger,
    ) -> Result<(), String> {
        let at = format!("entry {seq}");
        match content {
            Content::Text { thread, reply_to, attachments, .. } => {
                let now = self.now(seq);
                let attachments = if now.deleted.is_some() { Vec::new() } else { attachments.clone() };
                let mentions = now.mentions.clone();
                let detail = Detail::Text { thread: *thread, reply_to: *reply_to, mentions, attachments };
                same(id, &at, &detail, &entry.detail)?;
                same(id, &at, &now, &as_now(id, entry, ledger))
            }
            Content::Edit { target, body, mentions } => {
                let gone = self.now(*target).deleted.is_some();
                let (body, mentions) =
                    if gone { (String::new(), Vec::new()) } else { (body.clone(), mentions.clone()) };
                let before = self.all().filter(|(number, said)| {
                    *number <= seq && matches!(&said.what, What::By(Content::Edit { target: of, .. }) if of == target)
                });
                let revision = u32::try_from(before.count()).unwrap_or(u32::MAX);
                same(id, &at, &Detail::Edit { target: *target, mentions, revision }, &entry.detail)?;
                same(id, &at, &body, &entry.body)
            }
            Content::Delete { target, .. } => same(id, &at, &Detail::Deletion { target: *target }, &entry.detail),
            Content::React { target, emoji, remove } => {
                let count = self.reacted_at(*target, emoji, seq);
                let (target, emoji, removed) = (*target, emoji.clone(), *remove);
                same(id, &at, &Detail::Reaction { target, emoji, removed, count }, &entry.detail)
            }
            Content::Pin { target, remove } => {
                same(id, &at, &Detail::Pin { target: *target, removed: *remove }, &entry.detail)
            }
        }
    }

    /// How many had this emoji on a message once this entry was said.
    fn reacted_at(&self, message: u64, wanted: &str, up_to: u64) -> u32 {
        let mut by = BTreeSet::new();
        for (_, said) in self.all().take_while(|(seq, _)| *seq <= up_to) {
            match &said.what {
                What::By(Content::React { target, emoji, remove }) if *target == message && emoji == wanted => {
                    if *remove {
                        by.remove(&said.author);
                    } else {
                        by.insert(&said.author);
                    }
                }
                What::By(_) | What::Note(_) => {}
            }
        }
        u32::try_from(by.len()).unwrap_or(u32::MAX)
    }

    fn compare_members(&self, id: &RoomId, ledger: &Ledger) -> Result<(), String> {
        let row = ledger.rooms.get(id).ok_or("the room was there just now")?;
        let joined = self.people.values().filter(|person| person.role.is_some()).count();
        same(id, "members", &joined, &(row.members as usize))?;
        for (name, person) in &self.people {
            let user = UserId::parse(name).map_err(|error| error.to_string())?;
            let Some(member) = ledger.members.get(&(id.clone(), user.clone())) else {
                if person.role.is_some() || person.banned_until > 0 {
                    return Err(format!("{id}: {name} has no row"));
                }
                continue;
            };
            same(id, name, &person.role, &member.role())?;
            same(id, name, &person.muted_until, &member.muted_until_ms)?;
            same(id, name, &person.banned_until, &member.banned_until_ms)?;
            if person.role.is_some() {
                same(id, name, &(person.delivered, person.read), &(member.delivered_seq, member.read_seq))?;
                let first = (id.clone(), person.read + 1, String::new());
                let last = (id.clone(), u64::MAX, String::new());
                let named = ledger.mentions.range(first, last).map(|((_, seq, user), ())| (*seq, user));
                let named: BTreeSet<u64> =
                    named.filter(|(_, user)| *user == name || *user == "*").map(|(seq, _)| seq).collect();
                let unread = (u64::from(row.unread(member)), named.len() as u64);
                same(id, &format!("unread of {name}"), &self.unread(name), &unread)?;
            }
        }
        Ok(())
    }
}

/// A message's row in the words of the naive room.
fn as_now(id: &RoomId, entry: &EntryRow, ledger: &Ledger) -> Now {
    let seq = entry.seq;
    let last = (id.clone(), seq + 1, String::new(), entry.author.clone());
    let first = (id.clone(), seq, String::new(), entry.author.clone());
    let standing = ledger.reactions.range(first, last).filter(|((_, of, _, _), _)| *of == seq);
    let reactions: BTreeMap<(String, String), u64> =
        standing.map(|((_, _, emoji, user), marker)| ((emoji.clone(), String::from(user)), marker.seq)).collect();
    // The rows that count are held against those that they count.
    let counted = ledger.totals.range((id.clone(), seq, String::new()), (id.clone(), seq + 1, String::new()));
    let counted: u32 = counted.filter(|((_, of, _), _)| *of == seq).map(|(_, count)| *count).sum();
    let pin = ledger.pins.get(&(id.clone(), seq)).map(|marker| marker.seq);
    let consistent = counted as usize == reactions.len() && entry.reacted == counted && entry.pinned == pin.is_some();
    let sound = entry.detail.kind() == Kind::Text && consistent;
    Now {
        body: if sound { entry.body.clone() } else { format!("counts do not agree with what they count: {entry:?}") },
        mentions: entry.detail.mentions().to_vec(),
        edits: entry.edits,
        edited_ms: entry.edited_ms,
        deleted: entry.deleted.as_ref().map(|deleted| (String::from(&deleted.by), deleted.at_ms, deleted.seq)),
        pinned: pin,
        reactions,
        replies: (entry.replies, entry.last_reply_seq, entry.last_reply_ms),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(id: &RoomId, what: &str, expected: &T, found: &T) -> Result<(), String> {
    if expected == found { Ok(()) } else { Err(differ(id, what, expected, found)) }
}

fn differ(id: &RoomId, what: &str, expected: &impl std::fmt::Debug, found: &impl std::fmt::Debug) -> String {
    format!("{id}, {what}: the naive room has {expected:?}, the ledger {found:?}")
}
