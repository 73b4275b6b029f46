use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::ready;
use veza_proto::gateway::v1::event;

use super::{
    Change, Course, DeadLetter, Fresh, Hooks, Lease, Letter, Settlement, WEBHOOKS_MAX, WebhookRow, consumer_name,
};
use crate::store::desk::Used;
use crate::store::outbox::{ConsumerRow, renewed};
use crate::store::{Answered, MemoryStore};

/// The webhooks as a sentence. Taken after the outbox, which has their filters and positions.
#[derive(Debug, Default)]
pub(in crate::store) struct Hooked {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    webhooks: BTreeMap<String, Kept>,
    letters: BTreeMap<(String, u64), DeadLetter>,
}

#[derive(Debug)]
struct Kept {
    row: WebhookRow,
    /// The last number that a dead letter was given.
    last: u64,
}

impl Hooked {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of(id: &str) -> std::ops::RangeInclusive<(String, u64)> {
    (id.to_owned(), 0)..=(id.to_owned(), u64::MAX)
}

impl MemoryStore {
    /// As it is with what the outbox knows.
    fn whole(&self, row: &WebhookRow) -> WebhookRow {
        let outbox = self.outbox();
        let consumer = outbox.consumers.get(&consumer_name(&row.id));
        let (filter, position) = consumer.map(|it| (it.filter.clone(), it.position)).unwrap_or_default();
        WebhookRow { filter, position, ..row.clone() }
    }

    /// Changes the row, if its revision is this one.
    fn changed(&self, id: &str, revision: u64, change: impl FnOnce(&mut WebhookRow)) -> bool {
        let mut inner = self.hooked.lock();
        let Some(kept) = inner.webhooks.get_mut(id).filter(|kept| kept.row.revision == revision) else { return false };
        change(&mut kept.row);
        kept.row.revision += 1;
        true
    }

    fn add(&self, fresh: &Fresh) -> bool {
        let mut outbox = self.outbox();
        let mut inner = self.hooked.lock();
        if inner.webhooks.len() >= WEBHOOKS_MAX as usize {
            return false;
        }
        let Fresh { id, url, filter, paused, secret, created_ms } = fresh.clone();
        let consumer = ConsumerRow {
            name: consumer_name(&id),
            filter: filter.clone(),
            position: outbox.span().head,
            holder: 0,
            created_ms,
            acknowledged_ms: 0,
        };
        outbox.consumers.insert(consumer.name.clone(), consumer);
        let row = WebhookRow {
            id: id.clone(),
            url,
            filter,
            paused,
            created_ms,
            secret,
            former: None,
            revision: 1,
            rewound: 0,
            position: 0,
            dead_letters: 0,
            course: Course::default(),
            lease: Lease::default(),
        };
        inner.webhooks.insert(id, Kept { row, last: 0 });
        true
    }

    fn change(&self, id: &str, revision: u64, change: &Change) -> bool {
        let mut outbox = self.outbox();
        let Change { url, filter, paused, secret, rewind_to } = change.clone();
        let changed = self.changed(id, revision, |row| {
            row.url = url.unwrap_or(std::mem::take(&mut row.url));
            row.paused = paused.unwrap_or(row.paused);
            if let Some((secret, former)) = secret {
                (row.secret, row.former) = (secret, Some(former));
            }
            row.rewound += u64::from(rewind_to.is_some());
            (row.course.tries, row.course.first_try_ms, row.course.due_ms) = (0, 0, 0);
        });
        if let Some(consumer) = outbox.consumers.get_mut(&consumer_name(id)).filter(|_| changed) {
            consumer.filter = filter.unwrap_or(std::mem::take(&mut consumer.filter));
            consumer.position = consumer.position.min(rewind_to.unwrap_or(u64::MAX));
        }
        changed
    }

    fn remove(&self, id: &str) -> bool {
        let mut outbox = self.outbox();
        let mut inner = self.hooked.lock();
        outbox.consumers.remove(&consumer_name(id));
        inner.letters.retain(|(webhook, _), _| webhook != id);
        inner.webhooks.remove(id).is_some()
    }

    /// A message of a dead letter as it is now.
    fn fresh(&self, letter: &DeadLetter) -> DeadLetter {
        let mut letter = letter.clone();
        if let Some(event::Kind::Message(_)) = &letter.event.kind {
            renewed(&self.ledger(), &mut letter.event);
        }
        letter
    }
}

impl Hooks for MemoryStore {
    fn add_webhook<'a>(&'a self, fresh: &'a Fresh, used: Option<&'a Used>) -> Answered<'a, bool> {
        ready(Ok(self.kept.once_under(used, || self.add(fresh)))).boxed()
    }

    fn webhook<'a>(&'a self, id: &'a str) -> Answered<'a, Option<WebhookRow>> {
        let row = self.hooked.lock().webhooks.get(id).map(|kept| kept.row.clone());
        ready(Ok(row.map(|row| self.whole(&row)))).boxed()
    }

    fn webhooks<'a>(&'a self, after: &'a str, limit: u32) -> Answered<'a, Vec<WebhookRow>> {
        let rows: Vec<WebhookRow> = {
            let inner = self.hooked.lock();
            let behind = inner.webhooks.values().filter(|kept| kept.row.id.as_str() > after);
            behind.take(limit as usize).map(|kept| kept.row.clone()).collect()
        };
        ready(Ok(rows.iter().map(|row| self.whole(row)).collect())).boxed()
    }

    fn change_webhook<'a>(
        &'a self,
        id: &'a str,
        revision: u64,
        change: &'a Change,
        used: Option<&'a Used>,
    ) -> Answered<'a, bool> {
        ready(Ok(self.kept.under(used, || self.change(id, revision, change)))).boxed()
    }

    fn remove_webhook<'a>(&'a self, id: &'a str, used: Option<&'a Used>) -> Answered<'a, bool> {
        ready(Ok(self.kept.under(used, || self.remove(id)))).boxed()
    }

    fn dead_letters<'a>(&'a self, id: &'a str, after: u64, limit: u32) -> Answered<'a, Vec<DeadLetter>> {
        let letters: Vec<DeadLetter> = {
            let inner = self.hooked.lock();
            let behind = inner.letters.range(of(id)).filter(|((_, number), _)| *number > after);
            behind.take(limit as usize).map(|(_, letter)| letter.clone()).collect()
        };
        ready(Ok(letters.iter().map(|letter| self.fresh(letter)).collect())).boxed()
    }

    fn requeue<'a>(
        &'a self,
        id: &'a str,
        revision: u64,
        number: Option<u64>,
        at_ms: u64,
        used: Option<&'a Used>,
    ) -> Answered<'a, bool> {
        let changed = self.kept.under(used, || self.changed(id, revision, |_| {}));
        if changed {
            let mut inner = self.hooked.lock();
            let meant =
                inner.letters.range_mut(of(id)).filter(|((_, it), _)| number.is_none_or(|number| *it == number));
            for (_, letter) in meant {
                (letter.requeued_ms, letter.tries, letter.due_ms) = (at_ms, 0, 0);
            }
        }
        ready(Ok(changed)).boxed()
    }

    fn next_requeued<'a>(&'a self, id: &'a str) -> Answered<'a, Option<DeadLetter>> {
        let next = {
            let inner = self.hooked.lock();
            inner.letters.range(of(id)).find(|(_, letter)| letter.requeued_ms > 0).map(|(_, letter)| letter.clone())
        };
        ready(Ok(next.map(|letter| self.fresh(&letter)))).boxed()
    }

    fn take_webhook<'a>(&'a self, id: &'a str, from: Lease, holder: u64) -> Answered<'a, bool> {
        let mut inner = self.hooked.lock();
        let kept = inner.webhooks.get_mut(id).filter(|kept| kept.row.lease == from);
        let taken = kept.map(|kept| kept.row.lease = Lease { holder, beat: from.beat + 1 });
        ready(Ok(taken.is_some())).boxed()
    }

    fn renew_leases<'a>(&'a self, _: u64) -> Answered<'a, ()> {
        ready(Ok(())).boxed()
    }

    fn leave_webhooks<'a>(&'a self, holder: u64) -> Answered<'a, ()> {
        for kept in self.hooked.lock().webhooks.values_mut().filter(|kept| kept.row.lease.holder == holder) {
            kept.row.lease.holder = 0;
        }
        ready(Ok(())).boxed()
    }

    fn settle<'a>(&'a self, settlement: &'a Settlement) -> Answered<'a, bool> {
        let Settlement { webhook, holder, revision, position, course, pauses, letter, at_ms } = settlement.clone();
        let mut outbox = self.outbox();
        let mut inner = self.hooked.lock();
        let Inner { webhooks, letters } = &mut *inner;
        let held = |kept: &&mut Kept| kept.row.lease.holder == holder && kept.row.revision == revision;
        let Some(kept) = webhooks.get_mut(&webhook).filter(held) else { return ready(Ok(false)).boxed() };
        kept.row.course = course;
        kept.row.paused |= pauses;
        kept.row.revision += u64::from(pauses);
        if let Some(consumer) = outbox.consumers.get_mut(&consumer_name(&webhook))
            && consumer.position < position
        {
            (consumer.position, consumer.acknowledged_ms) = (position, at_ms);
        }
        match letter {
            Letter::None => {}
            Letter::Aside { letter, letters_max } => {
                kept.last += 1;
                letters.insert((webhook.clone(), kept.last), DeadLetter { number: kept.last, ..letter });
                while letters.range(of(&webhook)).count() > letters_max as usize {
                    let oldest = letters.range(of(&webhook)).next().map(|(key, _)| key.clone());
                    oldest.and_then(|key| letters.remove(&key));
                }
            }
            Letter::Delivered(number) => {
                letters.remove(&(webhook.clone(), number));
            }
            Letter::Failed(letter) => {
                if let Some(kept) = letters.get_mut(&(webhook.clone(), letter.number)) {
                    *kept = letter;
                }
            }
        }
        kept.row.dead_letters = u32::try_from(letters.range(of(&webhook)).count()).unwrap_or(u32::MAX);
        ready(Ok(true)).boxed()
    }
}
