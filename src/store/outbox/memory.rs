use std::collections::BTreeMap;

use futures_util::FutureExt;
use futures_util::future::ready;
use veza_engine::ledger::{Happened, KEPT_MS, Ledger, OnceKey, What};
use veza_proto::RoomId;
use veza_proto::gateway::v1::{Event, EventFilter, event};

use super::{CONSUMERS_MAX, ConsumerRow, Outbox, Registration, Removed, Span, Start, Told, stored};
use crate::store::hooks::CONSUMER_PREFIX;
use crate::store::{Answered, MemoryStore};

/// The outbox as a sentence.
#[derive(Debug, Default)]
pub(in crate::store) struct Outboxed {
    events: BTreeMap<u64, Kept>,
    head: u64,
    expired: u64,
    /// Webhooks among them.
    pub(in crate::store) consumers: BTreeMap<String, ConsumerRow>,
    calls: BTreeMap<(String, String), (u64, u64)>,
}

#[derive(Debug, Clone)]
struct Kept {
    at_ms: u64,
    room: Option<RoomId>,
    user: String,
    what: What,
}

impl Outboxed {
    /// Keeps what a commit did, if anybody listens.
    pub(in crate::store) fn keep(&mut self, happened: &[Happened]) {
        for Happened { at_ms, room, user, what } in happened {
            let user = user.as_ref().map(String::from).unwrap_or_default();
            self.push(Kept { at_ms: *at_ms, room: Some(room.clone()), user, what: what.clone() });
        }
    }

    /// Keeps what else has happened, in the same way.
    pub(in crate::store) fn tell(&mut self, events: impl IntoIterator<Item = Told>) {
        for Told { at_ms, room, user, kind } in events {
            let user = user.as_ref().map(String::from).unwrap_or_default();
            self.push(Kept { at_ms, room, user, what: What::Told(Box::new(kind)) });
        }
    }

    fn push(&mut self, kept: Kept) {
        if !self.consumers.is_empty() {
            self.head += 1;
            self.events.insert(self.head, kept);
        }
    }

    pub(in crate::store) fn span(&self) -> Span {
        Span { expired: self.expired, head: self.head }
    }
}

fn event(ledger: &Ledger, position: u64, kept: &Kept) -> Event {
    let kind = match (&kept.what, &kept.room) {
        (What::Entry(seq), Some(room)) => Some(entry(ledger, room, *seq, kept.at_ms)),
        (What::Entry(_), None) => None,
        (What::Told(kind), _) => Some((**kind).clone()),
    };
    let room = kept.room.as_ref().map(String::from).unwrap_or_default();
    Event { position, at_ms: kept.at_ms, room, user: kept.user.clone(), kind }
}

/// An event about a message, with the message as it is now.
pub(in crate::store) fn renewed(ledger: &Ledger, event: &mut Event) {
    if let (Ok(room), Some(event::Kind::Message(told))) = (RoomId::parse(&event.room), &event.kind) {
        let seq = told.message.as_ref().map_or(0, |message| message.seq);
        event.kind = Some(entry(ledger, &room, seq, event.at_ms));
    }
}

/// Whether callers may see it.
fn is_named(row: &ConsumerRow) -> bool {
    !row.name.starts_with(CONSUMER_PREFIX)
}

fn entry(ledger: &Ledger, room: &RoomId, seq: u64, at_ms: u64) -> event::Kind {
    let epoch = ledger.rooms.get(room).map_or(0, |row| row.epoch);
    stored(room, epoch, seq, at_ms, ledger.entries.get(&(room.clone(), seq)))
}

impl Outbox for MemoryStore {
    fn append<'a>(&'a self, events: &'a [Told]) -> Answered<'a, ()> {
        self.outbox().tell(events.iter().cloned());
        ready(Ok(())).boxed()
    }

    fn arrange<'a>(&'a self) -> Answered<'a, bool> {
        ready(Ok(true)).boxed()
    }

    fn events<'a>(&'a self, after: u64, limit: u32) -> Answered<'a, Vec<Event>> {
        let ledger = self.ledger();
        let outbox = self.outbox();
        let behind = outbox.events.range(after.saturating_add(1)..).take(limit as usize);
        ready(Ok(behind.map(|(position, kept)| event(&ledger, *position, kept)).collect())).boxed()
    }

    fn span<'a>(&'a self) -> Answered<'a, Span> {
        ready(Ok(self.outbox().span())).boxed()
    }

    fn forget<'a>(&'a self, before_ms: u64, rows_max: u64) -> Answered<'a, Span> {
        let mut outbox = self.outbox();
        let young = outbox.events.iter().find(|(_, kept)| kept.at_ms >= before_ms).map(|(position, _)| position - 1);
        let old = young.unwrap_or(outbox.head).max(outbox.head.saturating_sub(rows_max));
        let up_to = old.min(outbox.head.saturating_sub(1));
        if up_to > outbox.expired {
            outbox.events.retain(|position, _| *position > up_to);
            outbox.expired = up_to;
        }
        ready(Ok(outbox.span())).boxed()
    }

    fn register<'a>(&'a self, wanted: &'a Registration) -> Answered<'a, Option<ConsumerRow>> {
        let mut outbox = self.outbox();
        let Span { expired, head } = outbox.span();
        let full = outbox.consumers.values().filter(|row| is_named(row)).count() >= CONSUMERS_MAX as usize;
        if full && !outbox.consumers.contains_key(&wanted.name) {
            return ready(Ok(None)).boxed();
        }
        let row = outbox.consumers.entry(wanted.name.clone()).or_insert_with(|| ConsumerRow {
            name: wanted.name.clone(),
            filter: EventFilter::default(),
            position: match wanted.start {
                Start::Now => head,
                Start::Earliest => expired,
                Start::After(position) => position.min(head),
            },
            holder: 0,
            created_ms: wanted.at_ms,
            acknowledged_ms: 0,
        });
        row.holder = wanted.holder;
        if let Some(filter) = &wanted.filter {
            row.filter = filter.clone();
        }
        ready(Ok(Some(row.clone()))).boxed()
    }

    fn consumer<'a>(&'a self, name: &'a str) -> Answered<'a, Option<ConsumerRow>> {
        ready(Ok(self.outbox().consumers.get(name).cloned())).boxed()
    }

    fn consumers<'a>(&'a self, after: &'a str, limit: u32) -> Answered<'a, Vec<ConsumerRow>> {
        let outbox = self.outbox();
        let rows = outbox.consumers.values().filter(|row| row.name.as_str() > after && is_named(row));
        let rows = rows.take(limit as usize);
        ready(Ok(rows.cloned().collect())).boxed()
    }

    fn acknowledge<'a>(&'a self, name: &'a str, position: u64, at_ms: u64) -> Answered<'a, Option<u64>> {
        let mut outbox = self.outbox();
        let position = position.min(outbox.head);
        let row = outbox.consumers.get_mut(name).map(|row| {
            if row.position < position {
                (row.position, row.acknowledged_ms) = (position, at_ms);
            }
            row.position
        });
        ready(Ok(row)).boxed()
    }

    fn remove<'a>(&'a self, name: &'a str, once: Option<&'a OnceKey>, at_ms: u64) -> Answered<'a, Removed> {
        let mut outbox = self.outbox();
        let used = once.and_then(|key| outbox.calls.get(&key.id()).map(|used| (key, *used)));
        if let Some((key, (digest, _))) = used.filter(|(_, (_, used_ms))| used_ms.saturating_add(KEPT_MS) > at_ms) {
            return ready(Ok(if digest == key.digest { Removed::Before } else { Removed::KeyReused })).boxed();
        }
        if outbox.consumers.remove(name).is_none() {
            return ready(Ok(Removed::NotThere)).boxed();
        }
        if let Some(key) = once {
            outbox.calls.insert(key.id(), (key.digest, at_ms));
        }
        ready(Ok(Removed::Now)).boxed()
    }

    fn waiting_since<'a>(&'a self, position: u64) -> Answered<'a, Option<u64>> {
        let outbox = self.outbox();
        ready(Ok(outbox.events.range(position.saturating_add(1)..).next().map(|(_, kept)| kept.at_ms))).boxed()
    }
}
