//! The sessions of this node: who they are, how many a user has, and how to reach them all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use veza_engine::SessionKey;
use veza_proto::{CloseCode, UserId};

use super::attendance::Attendance;
use crate::auth::Identity;
use crate::hub::mailbox::{Mailbox, Order};
use crate::store::records::Subject;

/// A session's id, which survives reconnects.
pub type SessionId = [u8; 16];

/// Every welcomed session.
#[derive(Debug)]
pub struct Registry {
    per_user_max: usize,
    keys: AtomicU64,
    state: Mutex<State>,
    /// Noted while the state is held, so that comings and goings are told in their order.
    attendance: Attendance,
}

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<SessionKey, Entry>,
    by_id: HashMap<SessionId, SessionKey>,
    of_user: HashMap<UserId, Vec<SessionKey>>,
}

#[derive(Debug)]
struct Entry {
    seat: Seat,
    mailbox: Arc<Mailbox>,
}

/// Who has a session, and by which token.
#[derive(Debug, Clone)]
pub struct Holder {
    pub identity: Identity,
    /// When the token was checked.
    pub verified_ms: u64,
    /// When the session was welcomed on this link.
    pub since_ms: u64,
    pub transport: &'static str,
    /// What the client says of itself.
    pub client: Arc<str>,
}

/// A session as others may know it.
#[derive(Debug, Clone)]
pub struct Seat {
    pub id: SessionId,
    pub holder: Holder,
}

/// The user has as many connections as allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a user may have {max} connections")]
pub struct TooMany {
    pub max: usize,
}

/// A session's place; dropping it gives the place back, as after a mistake of ours.
#[derive(Debug)]
pub struct Place {
    key: SessionKey,
    /// How it is left.
    code: u16,
    registry: Arc<Registry>,
}

impl Registry {
    pub fn new(per_user_max: usize, attendance: Attendance) -> Arc<Self> {
        Arc::new(Self { per_user_max, keys: AtomicU64::new(1), state: Mutex::default(), attendance })
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
        holder: Holder,
        mailbox: &Arc<Mailbox>,
    ) -> Result<Place, TooMany> {
        let (mut state, mut goes_on) = (self.lock(), false);
        if let Some(old) = state.by_id.get(&id).copied()
            && let Some(Entry { seat, mailbox }) = state.remove(old)
        {
            let (code, reason) = (CloseCode::Superseded, "this session goes on over another link".to_owned());
            mailbox.order(Order::Close { code, reason });
            self.attendance.went(&seat, code.code(), false);
            goes_on = true;
        }
        let user = holder.identity.user.clone();
        let others = state.of_user.get(&user).map_or(0, Vec::len);
        if others >= self.per_user_max {
            return Err(TooMany { max: self.per_user_max });
        }
        let seat = Seat { id, holder };
        self.attendance.came(&seat, others == 0 && !goes_on);
        state.of_user.entry(user).or_default().push(key);
        state.by_id.insert(id, key);
        state.sessions.insert(key, Entry { seat, mailbox: Arc::clone(mailbox) });
        drop(state);
        Ok(Place { key, code: CloseCode::Internal.code(), registry: Arc::clone(self) })
    }

    /// A user's sessions on this node.
    pub fn of_user(&self, user: &UserId) -> Vec<Seat> {
        let state = self.lock();
        let keys = state.of_user.get(user).map(Vec::as_slice).unwrap_or_default();
        keys.iter().filter_map(|key| state.sessions.get(key)).map(|entry| entry.seat.clone()).collect()
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

    /// Closes the sessions that a revocation of this subject ends, as `ended` judges them: how many there were. A user's are
    /// found by their name; one token's by looking at everybody.
    pub fn close_revoked(&self, subject: &Subject, ended: impl Fn(&Holder) -> bool) -> usize {
        let state = self.lock();
        let close = |entry: &Entry| {
            let over = ended(&entry.seat.holder);
            if over {
                let reason = "access was revoked".to_owned();
                entry.mailbox.order(Order::Close { code: CloseCode::Revoked, reason });
            }
            usize::from(over)
        };
        match subject {
            Subject::Token(_) => state.sessions.values().map(close).sum(),
            Subject::Device(user, _) | Subject::User(user) => {
                let keys = state.of_user.get(user).map(Vec::as_slice).unwrap_or_default();
                keys.iter().filter_map(|key| state.sessions.get(key)).map(close).sum()
            }
        }
    }

    /// Every statement leaves the maps whole, so a panic elsewhere harms nothing behind the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, key: SessionKey) -> Option<Entry> {
        let entry = self.sessions.remove(&key)?;
        if self.by_id.get(&entry.seat.id) == Some(&key) {
            self.by_id.remove(&entry.seat.id);
        }
        let user = &entry.seat.holder.identity.user;
        if let Some(theirs) = self.of_user.get_mut(user) {
            theirs.retain(|other| *other != key);
            if theirs.is_empty() {
                self.of_user.remove(user);
            }
        }
        Some(entry)
    }
}

impl Place {
    /// Gives the place back. `code` is that of the close, 0 for a link that was lost.
    pub fn leave(mut self, code: u16) {
        self.code = code;
    }

    /// The session goes on with another token of the same user.
    pub fn renew(&self, identity: Identity, verified_ms: u64) {
        if let Some(entry) = self.registry.lock().sessions.get_mut(&self.key) {
            let holder = &mut entry.seat.holder;
            (holder.identity, holder.verified_ms) = (identity, verified_ms);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        // Who goes on over another link has left already.
        if let Some(Entry { seat, .. }) = state.remove(self.key) {
            let last = !state.of_user.contains_key(&seat.holder.identity.user);
            self.registry.attendance.went(&seat, self.code, last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};

    use veza_proto::DeviceId;

    use crate::clock::Clock;
    use crate::hub::mailbox::Letter;

    fn holder(name: &str, device: Option<&str>, token_id: &str) -> Holder {
        let identity = Identity {
            user: UserId::parse(name).unwrap(),
            device: device.map(|device| DeviceId::parse(device).unwrap()),
            expires_ms: 10_000,
            issued_ms: Some(1_000),
            token_id: Some(token_id.into()),
            entitlements: Vec::new(),
        };
        Holder { identity, verified_ms: 1_000, since_ms: 1_000, transport: "quic", client: "".into() }
    }

    fn registry(per_user_max: usize) -> Arc<Registry> {
        Registry::new(per_user_max, Attendance::new(1, Clock::start()).0)
    }

    fn user(name: &str) -> Holder {
        holder(name, None, "t")
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
        let registry = registry(2);
        let mailbox = Arc::default();
        let first = registry.enter(SessionKey(1), [1; 16], user("alice"), &mailbox).unwrap();
        let _second = registry.enter(SessionKey(2), [2; 16], user("alice"), &mailbox).unwrap();
        assert_eq!(registry.enter(SessionKey(3), [3; 16], user("alice"), &mailbox).unwrap_err(), TooMany { max: 2 });
        let _other = registry.enter(SessionKey(4), [4; 16], user("bob"), &mailbox).unwrap();
        drop(first);
        assert!(registry.enter(SessionKey(5), [5; 16], user("alice"), &mailbox).is_ok());
    }

    #[test]
    fn the_same_session_on_a_new_link_supersedes_the_old_one_and_counts_once() {
        let registry = registry(1);
        let (old, new) = (Arc::default(), Arc::default());
        let old_place = registry.enter(SessionKey(1), [1; 16], user("alice"), &old).unwrap();
        let _place = registry.enter(SessionKey(2), [1; 16], user("alice"), &new).unwrap();
        assert_eq!(closed_with(&old), Some(CloseCode::Superseded));
        drop(old_place);
        assert_eq!(registry.len(), 1, "the old link's end takes nothing from the new one");
        assert_eq!(registry.shed(5), 1);
        assert_eq!(closed_with(&new), Some(CloseCode::Overloaded));
    }

    #[test]
    fn a_revocation_closes_whom_it_means_and_nobody_else() {
        let registry = registry(9);
        let people = [
            holder("alice", Some("phone"), "a1"),
            holder("alice", Some("laptop"), "a2"),
            holder("bob", Some("phone"), "b1"),
        ];
        let enter = || -> Vec<_> {
            let seat = |(at, holder): (usize, &Holder)| {
                let (at, mailbox) = (u8::try_from(at).unwrap(), Arc::default());
                let place = registry.enter(registry.next_key(), [at; 16], holder.clone(), &mailbox).unwrap();
                (place, mailbox)
            };
            people.iter().enumerate().map(seat).collect()
        };
        let alice = || UserId::parse("alice").unwrap();
        let phone = DeviceId::parse("phone").unwrap();
        for (subject, expected) in [
            (Subject::Token("b1".into()), [false, false, true]),
            (Subject::Device(alice(), phone), [true, false, false]),
            (Subject::User(alice()), [true, true, false]),
            (Subject::User(UserId::parse("carol").unwrap()), [false; 3]),
        ] {
            let seats = enter();
            let means = |holder: &Holder| match &subject {
                Subject::Token(id) => holder.identity.token_id.as_ref() == Some(id),
                Subject::Device(_, device) => holder.identity.device.as_ref() == Some(device),
                Subject::User(_) => true,
            };
            let closed = registry.close_revoked(&subject, means);
            let heard = seats.iter().map(|(_, mailbox)| closed_with(mailbox) == Some(CloseCode::Revoked));
            assert_eq!(heard.collect::<Vec<_>>(), expected, "{subject:?}");
            assert_eq!(closed, expected.iter().filter(|over| **over).count());
        }
        assert!(registry.is_empty());
    }

    #[test]
    fn a_session_that_took_another_token_goes_by_that_one() {
        let registry = registry(9);
        let mailbox = Arc::default();
        let place = registry.enter(SessionKey(1), [1; 16], holder("alice", None, "old"), &mailbox).unwrap();
        let fresh = holder("alice", Some("phone"), "new").identity;
        place.renew(fresh.clone(), 5_000);
        let seats = registry.of_user(&fresh.user);
        assert_eq!((seats.len(), &seats[0].holder.identity), (1, &fresh));
    }
}
