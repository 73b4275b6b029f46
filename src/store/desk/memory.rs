use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::ready;
use veza_engine::ledger::KEPT_MS;
use veza_engine::streams;
use veza_proto::gateway::v1::StreamState;

use super::{Desk, Live, Queue, ReviewRow, StreamRow, Used};
use crate::store::{Answered, MemoryStore};

/// The desk as a sentence.
#[derive(Debug, Default)]
pub(in crate::store) struct Kept {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    streams: BTreeMap<String, StreamRow>,
    reviews: BTreeMap<String, ReviewRow>,
    used: BTreeMap<(String, String), Used>,
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something that is not the desk's under a key, which is kept when that is done. What it locks is locked after
    /// the desk.
    pub(in crate::store) fn under(&self, used: Option<&Used>, done: impl FnOnce() -> bool) -> bool {
        let mut inner = self.lock();
        let done = done();
        if done {
            inner.remember(used);
        }
        done
    }

    /// As [`Kept::under`], unless the key is used already.
    pub(in crate::store) fn once_under(&self, used: Option<&Used>, done: impl FnOnce() -> bool) -> bool {
        let mut inner = self.lock();
        let done = !used.is_some_and(|used| inner.knows(used)) && done();
        if done {
            inner.remember(used);
        }
        done
    }
}

impl Inner {
    fn knows(&self, used: &Used) -> bool {
        let before = self.used.get(&(used.service.clone(), used.key.clone()));
        before.is_some_and(|before| before.at_ms.saturating_add(KEPT_MS) > used.at_ms)
    }

    fn remember(&mut self, used: Option<&Used>) {
        if let Some(used) = used {
            self.used.retain(|_, old| old.at_ms.saturating_add(KEPT_MS) > used.at_ms);
            self.used.insert((used.service.clone(), used.key.clone()), used.clone());
        }
    }
}

fn follows(kept: Option<u64>, fresh: u64) -> bool {
    kept.unwrap_or(0) + 1 == fresh
}

impl Desk for MemoryStore {
    fn stream<'a>(&'a self, id: &'a str) -> Answered<'a, Option<StreamRow>> {
        ready(Ok(self.kept.lock().streams.get(id).cloned())).boxed()
    }

    fn keep_stream<'a>(&'a self, row: &'a StreamRow, used: Option<&'a Used>, at_ms: u64) -> Answered<'a, bool> {
        let mut inner = self.kept.lock();
        let kept = inner.streams.get(&row.stream.id).map(|row| row.stream.revision);
        let follows = follows(kept, row.stream.revision);
        if follows {
            inner.streams.insert(row.stream.id.clone(), row.clone());
            inner.remember(used);
            self.outbox().tell([row.told(at_ms)]);
        }
        ready(Ok(follows)).boxed()
    }

    fn live<'a>(&'a self, which: &'a Live, limit: u32) -> Answered<'a, Vec<StreamRow>> {
        let inner = self.kept.lock();
        let meant = |row: &&StreamRow| {
            let stream = &row.stream;
            stream.state() == StreamState::Live
                && which.category.is_none_or(|category| stream.category() == category)
                && which.owner.as_ref().is_none_or(|owner| stream.owner == *owner)
                && (streams::is_listed(stream.visibility())
                    || which.viewer.as_ref().is_none_or(|viewer| stream.owner == *viewer))
                && which.after.as_ref().is_none_or(|(started_ms, id)| {
                    stream.started_ms < *started_ms || (stream.started_ms == *started_ms && stream.id > *id)
                })
        };
        let mut found: Vec<StreamRow> = inner.streams.values().filter(meant).cloned().collect();
        found.sort_by(|a, b| (b.stream.started_ms, &a.stream.id).cmp(&(a.stream.started_ms, &b.stream.id)));
        found.truncate(limit as usize);
        ready(Ok(found)).boxed()
    }

    fn review<'a>(&'a self, id: &'a str) -> Answered<'a, Option<ReviewRow>> {
        ready(Ok(self.kept.lock().reviews.get(id).cloned())).boxed()
    }

    fn reported<'a>(&'a self, report: &'a str) -> Answered<'a, Option<ReviewRow>> {
        let inner = self.kept.lock();
        let found = inner.reviews.values().find(|row| row.report == report).filter(|_| !report.is_empty());
        ready(Ok(found.cloned())).boxed()
    }

    fn keep_review<'a>(&'a self, row: &'a ReviewRow, used: Option<&'a Used>, at_ms: u64) -> Answered<'a, bool> {
        let mut inner = self.kept.lock();
        let kept = inner.reviews.get(&row.review.id).map(|row| row.review.revision);
        let twice = |other: &ReviewRow| other.report == row.report && other.review.id != row.review.id;
        let twice = !row.report.is_empty() && inner.reviews.values().any(twice);
        let follows = follows(kept, row.review.revision) && !twice;
        if follows {
            inner.reviews.insert(row.review.id.clone(), row.clone());
            inner.remember(used);
            self.outbox().tell(row.told(at_ms));
        }
        ready(Ok(follows)).boxed()
    }

    fn reviews<'a>(&'a self, which: &'a Queue, limit: u32) -> Answered<'a, Vec<ReviewRow>> {
        let inner = self.kept.lock();
        let meant = |row: &&ReviewRow| {
            let review = &row.review;
            which.state.is_none_or(|state| review.state() == state)
                && which.category.is_none_or(|category| review.category() == category)
                && which.room.as_ref().is_none_or(|room| review.room == *room)
                && which.user.as_ref().is_none_or(|user| review.user == *user)
                && which.after.as_ref().is_none_or(|(at_ms, id)| (review.created_ms, &review.id) > (*at_ms, id))
        };
        let mut found: Vec<ReviewRow> = inner.reviews.values().filter(meant).cloned().collect();
        found.sort_by(|a, b| (a.review.created_ms, &a.review.id).cmp(&(b.review.created_ms, &b.review.id)));
        found.truncate(limit as usize);
        ready(Ok(found)).boxed()
    }

    fn used<'a>(&'a self, service: &'a str, key: &'a str) -> Answered<'a, Option<Used>> {
        ready(Ok(self.kept.lock().used.get(&(service.to_owned(), key.to_owned())).cloned())).boxed()
    }
}
