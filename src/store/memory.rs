use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use veza_engine::ledger::{
    AuditRow, EntryRow, InviteKey, InviteRow, Kind, Ledger, MemberRow, RevisionRow, RoomRow, Write, Written,
};
use veza_proto::limits::MENTIONS_COUNTED_MAX;
use veza_proto::v1::{Reaction, Role};
use veza_proto::{RoomId, UserId};

use super::analysis::{Query, document};
use super::desk::Kept;
use super::hooks::Hooked;
use super::outbox::Outboxed;
use super::records::Remembered;
use super::{
    Anchor, Entry, Invites, Members, Rooms, Scope, Search, Store, StoreError, Unread, UnreadRow, View, overdue_up_to,
};

/// The store as a sentence: a ledger that has everything. For tests and simulation, and the reference the others are
/// compared with. Nothing is kept.
#[derive(Debug, Default)]
pub struct MemoryStore {
    ledger: Mutex<Ledger>,
    pub(super) remembered: Remembered,
    pub(super) kept: Kept,
    /// Taken after all others.
    outbox: Mutex<Outboxed>,
    pub(super) hooked: Hooked,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }

    fn read<'a, T: Send + 'a>(&self, read: impl FnOnce(&Ledger) -> T) -> BoxFuture<'a, Result<T, StoreError>> {
        ready(Ok(read(&self.ledger()))).boxed()
    }

    pub(super) fn outbox(&self) -> MutexGuard<'_, Outboxed> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn commit<'a>(&'a self, batch: &'a [Write]) -> BoxFuture<'a, Result<Vec<Written>, StoreError>> {
        let mut ledger = self.ledger();
        let written = batch.iter().map(|write| ledger.apply(write)).collect();
        self.outbox().keep(ledger.happened());
        ledger.settle();
        ready(Ok(written)).boxed()
    }

    fn room<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, Result<Option<RoomRow>, StoreError>> {
        self.read(|ledger| ledger.rooms.get(room).cloned())
    }

    fn membership<'a>(
        &'a self,
        room: &'a RoomId,
        user: &'a UserId,
    ) -> BoxFuture<'a, Result<Option<(RoomRow, Option<MemberRow>)>, StoreError>> {
        self.read(|ledger| Some((ledger.rooms.get(room)?.clone(), member_of(ledger, room, user).cloned())))
    }

    fn rooms<'a>(
        &'a self,
        viewer: &'a UserId,
        which: Rooms,
        after: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<(RoomRow, Option<MemberRow>)>, StoreError>> {
        self.read(|ledger| {
            let rooms = ledger.rooms.iter().filter(|(id, _)| after.is_none_or(|after| id.as_str() > after));
            let rooms = rooms.map(|(id, room)| (room, member_of(ledger, id, viewer))).filter(|(room, member)| {
                let mine = member.is_some_and(|member| member.joined.is_some());
                match which {
                    Rooms::Mine => mine,
                    Rooms::Visible => mine || room.is_listed(),
                    Rooms::All => true,
                }
            });
            rooms.take(limit as usize).map(|(room, member)| (room.clone(), member.cloned())).collect()
        })
    }

    fn entries<'a>(
        &'a self,
        room: &'a RoomId,
        epoch: u64,
        view: View,
        anchor: Anchor,
        limit: u32,
        viewer: Option<&'a UserId>,
    ) -> BoxFuture<'a, Result<Vec<Entry>, StoreError>> {
        self.read(|ledger| {
            let shown = |entry: &&EntryRow| entry.epoch == epoch && view.shows(entry);
            let limit = limit as usize;
            let mut page: Vec<Entry> = match anchor {
                Anchor::After(seq) => log(ledger, room, seq.saturating_add(1), u64::MAX)
                    .filter(shown)
                    .filter(|entry| entry.seq > seq)
                    .take(limit)
                    .map(|entry| with_reactions(ledger, entry, viewer))
                    .collect(),
                Anchor::Before(seq) => log(ledger, room, 0, seq)
                    .rev()
                    .filter(shown)
                    .filter(|entry| entry.seq < seq)
                    .take(limit)
                    .map(|entry| with_reactions(ledger, entry, viewer))
                    .collect(),
            };
            page.sort_by_key(|entry| entry.row.seq);
            page
        })
    }

    fn members<'a>(
        &'a self,
        room: &'a RoomId,
        which: Members,
        after: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<(UserId, MemberRow)>, StoreError>> {
        self.read(|ledger| {
            let members = ledger.members.iter().filter(|((of, user), member)| {
                of == room && after.is_none_or(|after| user.as_str() > after) && which.has(member)
            });
            members.take(limit as usize).map(|((_, user), member)| (user.clone(), member.clone())).collect()
        })
    }

    fn members_of<'a>(
        &'a self,
        room: &'a RoomId,
        users: &'a [UserId],
    ) -> BoxFuture<'a, Result<Vec<(UserId, MemberRow)>, StoreError>> {
        self.read(|ledger| {
            let users: BTreeSet<&UserId> = users.iter().collect();
            let found = users.into_iter().map(|user| (user, member_of(ledger, room, user)));
            found.filter_map(|(user, member)| Some((user.clone(), member?.clone()))).collect()
        })
    }

    fn invites<'a>(
        &'a self,
        which: Invites<'a>,
        now_ms: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<(InviteKey, InviteRow, String)>, StoreError>> {
        self.read(|ledger| {
            let asked = |invite: &InviteRow| match which {
                Invites::Of(room) => invite.room == *room,
                Invites::For(user) => invite.user.as_ref() == Some(user),
            };
            let holds = |invite: &InviteRow| {
                invite.expires_ms > now_ms && (invite.uses_max == 0 || invite.uses < invite.uses_max)
            };
            let mut found: Vec<_> =
                ledger.invites.iter().filter(|(_, invite)| asked(invite) && holds(invite)).collect();
            found.sort_by_key(|(_, invite)| std::cmp::Reverse(invite.created_ms));
            let title = |invite: &InviteRow| ledger.rooms.get(&invite.room).map(|room| room.title.clone());
            let found = found.into_iter().take(limit as usize);
            found.map(|(key, invite)| (key.clone(), invite.clone(), title(invite).unwrap_or_default())).collect()
        })
    }

    fn revisions<'a>(
        &'a self,
        room: &'a RoomId,
        epoch: u64,
        seq: u64,
    ) -> BoxFuture<'a, Result<Vec<RevisionRow>, StoreError>> {
        self.read(|ledger| {
            let (from, to) = ((room.clone(), seq, 0), (room.clone(), seq, u32::MAX));
            let revisions = ledger.revisions.range(from, to).filter(|_| has_epoch(ledger, room, epoch));
            revisions.map(|(_, revision)| revision.clone()).collect()
        })
    }

    fn reactors<'a>(
        &'a self,
        room: &'a RoomId,
        epoch: u64,
        seq: u64,
        emoji: &'a str,
        limit: u32,
    ) -> BoxFuture<'a, Result<(Vec<UserId>, u32), StoreError>> {
        self.read(|ledger| {
            let of = |(of, at, with, _): &(RoomId, u64, String, UserId)| (of, *at, with.as_str()) == (room, seq, emoji);
            let reactions = ledger.reactions.iter().filter(|(key, _)| of(key) && has_epoch(ledger, room, epoch));
            let users: Vec<UserId> = reactions.map(|((_, _, _, user), _)| user.clone()).collect();
            let total = u32::try_from(users.len()).unwrap_or(u32::MAX);
            (users.into_iter().take(limit as usize).collect(), total)
        })
    }

    fn pins<'a>(&'a self, room: &'a RoomId, viewer: &'a UserId) -> BoxFuture<'a, Result<Vec<Entry>, StoreError>> {
        self.read(|ledger| {
            let mut pins: Vec<_> = ledger.pins.range((room.clone(), 0), (room.clone(), u64::MAX)).collect();
            pins.sort_by_key(|(_, marker)| std::cmp::Reverse(marker.seq));
            let entries = pins.into_iter().filter_map(|(key, _)| ledger.entries.get(key));
            entries.map(|entry| with_reactions(ledger, entry, Some(viewer))).collect()
        })
    }

    fn audit<'a>(
        &'a self,
        room: &'a RoomId,
        before: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<(u64, AuditRow)>, StoreError>> {
        self.read(|ledger| {
            let rows = ledger.audit.range((room.clone(), 0), (room.clone(), before)).rev();
            let rows = rows.filter(|((_, number), _)| *number < before).take(limit as usize);
            rows.map(|((_, number), row)| (*number, row.clone())).collect()
        })
    }

    fn unread<'a>(
        &'a self,
        user: &'a UserId,
        which: Unread<'a>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<UnreadRow>, StoreError>> {
        self.read(|ledger| {
            let asked = |room: &RoomId| match which {
                Unread::After(after) => after.is_none_or(|after| room.as_str() > after),
                Unread::In(one) => one == room,
            };
            let rooms = ledger.rooms.iter().filter(|(id, _)| asked(id)).filter_map(|(id, room)| {
                let member = member_of(ledger, id, user).filter(|member| member.joined.is_some())?;
                Some(UnreadRow::of(room, member, mentions_after(ledger, id, user, member.read_seq)))
            });
            rooms.take(limit as usize).collect()
        })
    }

    fn search<'a>(&'a self, search: &'a Search, limit: u32) -> BoxFuture<'a, Result<Vec<Entry>, StoreError>> {
        self.read(|ledger| {
            let author = search.author.as_ref().map(UserId::as_str);
            let Some(query) = Query::parse(&search.query, author) else { return Vec::new() };
            let mut hits: Vec<&EntryRow> = ledger.entries.iter().map(|(_, entry)| entry).collect();
            hits.retain(|entry| entry.detail.kind() == Kind::Text && entry.deleted.is_none());
            hits.retain(|entry| search.scope.has(ledger, entry));
            hits.retain(|entry| query.finds(&document(&entry.body, entry.author.as_str())));
            hits.sort_by(|one, other| place(other).cmp(&place(one)));
            let (Scope::Room { viewer, .. } | Scope::Mine { member: viewer, .. }) = &search.scope;
            hits.into_iter().take(limit as usize).map(|entry| with_reactions(ledger, entry, Some(viewer))).collect()
        })
    }

    fn overdue<'a>(
        &'a self,
        now_ms: u64,
        entries_max: u32,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<(RoomId, u64)>, StoreError>> {
        self.read(|ledger| {
            let overdue = ledger.rooms.iter().filter_map(|(id, room)| {
                let age_ms = room.settings.retention_seconds.saturating_mul(1_000);
                let fresh = log(ledger, id, room.first_available, u64::MAX)
                    .find(|entry| entry.at_ms >= now_ms.saturating_sub(age_ms))
                    .map(|entry| entry.seq);
                Some((id.clone(), overdue_up_to(room, fresh, entries_max)?))
            });
            overdue.take(limit as usize).collect()
        })
    }

    fn check<'a>(&'a self) -> BoxFuture<'a, Result<String, StoreError>> {
        ready(Ok("in memory, not durable".into())).boxed()
    }

    fn close<'a>(&'a self) -> BoxFuture<'a, ()> {
        ready(()).boxed()
    }
}

impl View {
    fn shows(self, entry: &EntryRow) -> bool {
        let thread = entry.detail.thread();
        match self {
            View::Everything => true,
            View::Timeline => match entry.detail.kind() {
                Kind::Text => thread == 0,
                Kind::Note => true,
                Kind::Edit | Kind::Deletion | Kind::Reaction | Kind::Pin => false,
            },
            View::Thread(root) => entry.detail.kind() == Kind::Text && (thread == root || entry.seq == root),
        }
    }
}

impl Members {
    fn has(self, member: &MemberRow) -> bool {
        match self {
            Members::All => member.joined.is_some(),
            Members::Staff => member.role().is_some_and(|role| role >= Role::Moderator),
            Members::Muted { now_ms } => member.joined.is_some() && member.muted_until_ms > now_ms,
            Members::Banned { now_ms } => member.is_banned(now_ms),
        }
    }
}

impl Scope {
    fn has(&self, ledger: &Ledger, entry: &EntryRow) -> bool {
        match self {
            Scope::Room { room, before, .. } => entry.room == *room && entry.seq < *before,
            Scope::Mine { member, before } => {
                let mine = member_of(ledger, &entry.room, member).is_some_and(|member| member.joined.is_some());
                let before = before.as_ref().is_none_or(|(at_ms, room, seq)| place(entry) < (*at_ms, room, *seq));
                mine && before
            }
        }
    }
}

/// Where an entry stands in the order over all rooms.
fn place(entry: &EntryRow) -> (u64, &RoomId, u64) {
    (entry.at_ms, &entry.room, entry.seq)
}

fn member_of<'a>(ledger: &'a Ledger, room: &RoomId, user: &UserId) -> Option<&'a MemberRow> {
    ledger.members.get(&(room.clone(), user.clone()))
}

fn log<'a>(ledger: &'a Ledger, room: &RoomId, from: u64, to: u64) -> impl DoubleEndedIterator<Item = &'a EntryRow> {
    ledger.entries.range((room.clone(), from), (room.clone(), to)).map(|(_, entry)| entry)
}

fn has_epoch(ledger: &Ledger, room: &RoomId, epoch: u64) -> bool {
    ledger.rooms.get(room).is_some_and(|room| room.epoch == epoch)
}

fn with_reactions(ledger: &Ledger, entry: &EntryRow, viewer: Option<&UserId>) -> Entry {
    let (room, seq) = (&entry.room, entry.seq);
    let totals = ledger.totals.range((room.clone(), seq, String::new()), (room.clone(), seq + 1, String::new()));
    let totals = totals.filter(|((_, at, _), _)| *at == seq);
    let mine = |emoji: &String| {
        viewer.is_some_and(|me| ledger.reactions.get(&(room.clone(), seq, emoji.clone(), me.clone())).is_some())
    };
    let reaction = |emoji: &String, count: u32| Reaction { emoji: emoji.clone(), count, mine: mine(emoji) };
    Entry { row: entry.clone(), reactions: totals.map(|((_, _, emoji), count)| reaction(emoji, *count)).collect() }
}

fn mentions_after(ledger: &Ledger, room: &RoomId, user: &UserId, read_seq: u64) -> u32 {
    let from = (room.clone(), read_seq.saturating_add(1), String::new());
    let mentions = ledger.mentions.range(from, (room.clone(), u64::MAX, String::new()));
    let mine = mentions.filter(|((_, _, who), ())| who == "*" || who == user.as_str());
    let messages: BTreeSet<u64> = mine.map(|((_, seq, _), ())| *seq).collect();
    u32::try_from(messages.len()).unwrap_or(u32::MAX).min(MENTIONS_COUNTED_MAX)
}
