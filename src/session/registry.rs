//! The sessions of this node: who they are, how many a user has, and how to reach them all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use veza_engine::SessionKey;
use veza_proto::{CloseCode, UserId};

use crate::hub::mailbox::{Mailbox, Order};

/// A session's id, which survives reconnects.
pub type SessionId = [u8; 16];

/// Every welcomed session.
#[derive(Debug)]
pub struct Registry {
    per_user_max: usize,
    keys: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<SessionKey, Entry>,
    by_id: HashMap<SessionId, SessionKey>,
    per_user: HashMap<UserId, usize>,
}

#[derive(Debug)]
struct Entry {
    id: SessionId,
    user: UserId,
    mailbox: Arc<Mailbox>,
}

/// The user has as many connections as allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a user may have {max} connections")]
pub struct TooMany {
    pub max: usize,
}

/// A session's place; dropping it gives the place back.
#[derive(Debug)]
pub struct Place {
    key: SessionKey,
    registry: Arc<Registry>,
}

impl Registry {
    pub fn new(per_user_max: usize) -> Arc<Self> {
        Arc::new(Self { per_user_max, keys: AtomicU64::new(1), state: Mutex::default() })
    }

    /// A key no other session of this process has.
    pub fn next_key(&self) -> SessionKey {
        SessionKey(self.keys.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes a place. A session of the same id on another link is closed as superseded and does not count.
    ///
    /// # Errors
    /// [`TooMany`] when the user's other sessions fill the bound.
    pub fn enter(
        self: &Arc<Self>,
        key: SessionKey,
        id: SessionId,
        user: &UserId,
        mailbox: &Arc<Mailbox>,
    ) -> Result<Place, TooMany> {
        let mut state = self.lock();
        if let Some(old) = state.by_id.get(&id).copied()
            && let Some(entry) = state.remove(old)
        {
            let reason = "this session goes on over another link".to_owned();
            entry.mailbox.order(Order::Close { code: CloseCode::Superseded, reason });
        }
        let count = state.per_user.entry(user.clone()).or_insert(0);
        if *count >= self.per_user_max {
            return Err(TooMany { max: self.per_user_max });
        }
        *count += 1;
        state.by_id.insert(id, key);
        state.sessions.insert(key, Entry { id, user: user.clone(), mailbox: Arc::clone(mailbox) });
        drop(state);
        Ok(Place { key, registry: Arc::clone(self) })
    }

    pub fn len(&self) -> usize {
        self.lock().sessions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells every session to come back after its own time, given by its position among them.
    pub fn drain(&self, after: impl Fn(usize) -> Duration) {
        for (at, entry) in self.lock().sessions.values().enumerate() {
            entry.mailbox.order(Order::Drain { after: after(at) });
        }
    }

    /// Closes every session.
    pub fn close_all(&self, code: CloseCode, reason: &str) {
        for entry in self.lock().sessions.values() {
            entry.mailbox.order(Order::Close { code, reason: reason.to_owned() });
        }
    }

    /// Closes the sessions with the most bytes waiting, `count` of them: how many there were.
    pub fn shed(&self, count: usize) -> usize {
        let state = self.lock();
        let mut entries: Vec<&Entry> = state.sessions.values().collect();
        entries.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.mailbox.weight()));
        entries.truncate(count);
        for entry in &entries {
            let reason = "the server is short of memory".to_owned();
            entry.mailbox.order(Order::Close { code: CloseCode::Overloaded, reason });
        }
        entries.len()
    }

    /// Closes every session of a user: how many there were.
    pub fn close_user(&self, user: &UserId, code: CloseCode, reason: &str) -> usize {
        let state = self.lock();
        let theirs = state.sessions.values().filter(|entry| entry.user == *user);
        theirs.map(|entry| entry.mailbox.order(Order::Close { code, reason: reason.to_owned() })).count()
    }

    /// Every statement leaves the maps whole, so a panic elsewhere harms nothing behind the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, key: SessionKey) -> Option<Entry> {
        let entry = self.sessions.remove(&key)?;
        if self.by_id.get(&entry.id) == Some(&key) {
            self.by_id.remove(&entry.id);
        }
        if let Some(count) = self.per_user.get_mut(&entry.user) {
            *count -= 1;
            if *count == 0 {
                self.per_user.remove(&entry.user);
            }
        }
        Some(entry)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.registry.lock().remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};

    use crate::hub::mailbox::Letter;

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn closed_with(mailbox: &Mailbox) -> Option<CloseCode> {
        let Poll::Ready(Letter::Order(order)) = mailbox.poll_next(&mut Context::from_waker(Waker::noop())) else {
            return None;
        };
        match *order {
            Order::Close { code, .. } => Some(code),
            Order::Drain { .. } => None,
        }
    }

    #[test]
    fn the_bound_per_user_at_its_limit_and_one_past() {
        let registry = Registry::new(2);
        let mailbox = Arc::default();
        let first = registry.enter(SessionKey(1), [1; 16], &user("alice"), &mailbox).unwrap();
        let _second = registry.enter(SessionKey(2), [2; 16], &user("alice"), &mailbox).unwrap();
        assert_eq!(registry.enter(SessionKey(3), [3; 16], &user("alice"), &mailbox).unwrap_err(), TooMany { max: 2 });
        let _other = registry.enter(SessionKey(4), [4; 16], &user("bob"), &mailbox).unwrap();
        drop(first);
        assert!(registry.enter(SessionKey(5), [5; 16], &user("alice"), &mailbox).is_ok());
    }

    #[test]
    fn the_same_session_on_a_new_link_supersedes_the_old_one_and_counts_once() {
        let registry = Registry::new(1);
        let (old, new) = (Arc::default(), Arc::default());
        let old_place = registry.enter(SessionKey(1), [1; 16], &user("alice"), &old).unwrap();
        let _place = registry.enter(SessionKey(2), [1; 16], &user("alice"), &new).unwrap();
        assert_eq!(closed_with(&old), Some(CloseCode::Superseded));
        drop(old_place);
        assert_eq!(registry.len(), 1, "the old link's end takes nothing from the new one");
        assert_eq!(registry.shed(5), 1);
        assert_eq!(closed_with(&new), Some(CloseCode::Overloaded));
    }
}
