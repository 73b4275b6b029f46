use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use veza_proto::{DeviceId, UserId};

use super::Identity;
use crate::store::records::{Revocation, Subject};

/// Entries of each kind. At the bound a new revocation is refused with an error rather than an old one forgotten.
const REVOCATIONS_MAX: usize = 100_000;

/// What must not be believed any more although its signature is right.
#[derive(Debug, Default)]
pub(super) struct Revoked {
    lists: Mutex<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    tokens: HashMap<String, Until>,
    devices: HashMap<(UserId, DeviceId), Until>,
    users: HashMap<UserId, Until>,
}

#[derive(Debug, Clone, Copy)]
struct Until {
    /// Tokens issued up to here are refused; one by its id whenever it was issued.
    revoked_ms: u64,
    /// Then they have all ended.
    drop_at_ms: u64,
}

/// There is no room for another revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{REVOCATIONS_MAX} revocations are remembered already")]
pub struct RevocationsFull;

impl Revoked {
    /// Takes over a revocation; one of the same subject never covers less than before. What others have written is taken
    /// over the bound too: to believe a revoked token would be worse.
    pub(super) fn add(&self, revocation: &Revocation, now_ms: u64) {
        if now_ms >= revocation.drop_at_ms {
            return;
        }
        let until = Until { revoked_ms: revocation.revoked_ms, drop_at_ms: revocation.drop_at_ms };
        let mut lists = self.lock();
        match &revocation.subject {
            Subject::Token(id) => widen(&mut lists.tokens, id.clone(), until),
            Subject::Device(user, device) => widen(&mut lists.devices, (user.clone(), device.clone()), until),
            Subject::User(user) => widen(&mut lists.users, user.clone(), until),
        }
    }

    pub(super) fn has_room_for(&self, subject: &Subject, now_ms: u64) -> Result<(), RevocationsFull> {
        let mut lists = self.lock();
        let room = match subject {
            Subject::Token(id) => has_room(&mut lists.tokens, id, now_ms),
            Subject::Device(user, device) => has_room(&mut lists.devices, &(user.clone(), device.clone()), now_ms),
            Subject::User(user) => has_room(&mut lists.users, user, now_ms),
        };
        if room { Ok(()) } else { Err(RevocationsFull) }
    }

    pub(super) fn until(&self, subject: &Subject, now_ms: u64) -> Option<u64> {
        let lists = self.lock();
        let until = match subject {
            Subject::Token(id) => lists.tokens.get(id),
            Subject::Device(user, device) => lists.devices.get(&(user.clone(), device.clone())),
            Subject::User(user) => lists.users.get(user),
        };
        until.filter(|until| now_ms < until.drop_at_ms).map(|until| until.revoked_ms)
    }

    pub(super) fn covers(&self, identity: &Identity, now_ms: u64) -> bool {
        self.covers_since(identity, identity.issued_ms, now_ms)
    }

    /// For an identity that was believed at `verified_ms`: its issuer's clock does not make it younger than that.
    pub(super) fn covers_checked(&self, identity: &Identity, verified_ms: u64, now_ms: u64) -> bool {
        let since = identity.issued_ms.map_or(verified_ms, |issued| issued.min(verified_ms));
        self.covers_since(identity, Some(since), now_ms)
    }

    fn covers_since(&self, identity: &Identity, since: Option<u64>, now_ms: u64) -> bool {
        let lists = self.lock();
        let holds = |until: &&Until| now_ms < until.drop_at_ms;
        let earlier = |until: &Until| since.is_none_or(|issued| issued <= until.revoked_ms);
        let by_token = identity.token_id.as_ref().and_then(|id| lists.tokens.get(id)).filter(holds);
        let by_user = lists.users.get(&identity.user).filter(holds);
        let by_device = || {
            let device = identity.device.as_ref().filter(|_| !lists.devices.is_empty())?;
            lists.devices.get(&(identity.user.clone(), device.clone())).filter(holds)
        };
        by_token.is_some() || by_user.is_some_and(earlier) || by_device().is_some_and(earlier)
    }

    /// Every statement leaves the lists whole, so a panic elsewhere does no harm to them.
    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn widen<K: Eq + Hash>(list: &mut HashMap<K, Until>, key: K, by: Until) {
    let entry = list.entry(key).or_insert(by);
    entry.revoked_ms = entry.revoked_ms.max(by.revoked_ms);
    entry.drop_at_ms = entry.drop_at_ms.max(by.drop_at_ms);
}

fn has_room<K: Eq + Hash>(list: &mut HashMap<K, Until>, key: &K, now_ms: u64) -> bool {
    if list.len() >= REVOCATIONS_MAX && !list.contains_key(key) {
        list.retain(|_, until| now_ms < until.drop_at_ms);
    }
    list.len() < REVOCATIONS_MAX || list.contains_key(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn identity(name: &str, issued_ms: Option<u64>) -> Identity {
        let (device, entitlements) = (None, Vec::new());
        Identity { user: user(name), device, expires_ms: 10_000, issued_ms, token_id: None, entitlements }
    }

    fn with_token(id: &str) -> Identity {
        Identity { token_id: Some(id.into()), ..identity("alice", Some(1)) }
    }

    fn revocation(subject: Subject, revoked_ms: u64, drop_at_ms: u64) -> Revocation {
        Revocation { subject, revoked_ms, drop_at_ms }
    }

    #[test]
    fn a_revoked_token_stays_refused_until_it_cannot_be_used_anyway() {
        let revoked = Revoked::default();
        revoked.add(&revocation(Subject::Token("t1".into()), 0, 70_000), 0);
        assert!(revoked.covers(&with_token("t1"), 69_999));
        assert!(!revoked.covers(&with_token("t1"), 70_000));
        assert!(!revoked.covers(&with_token("t2"), 0));
        assert!(!revoked.covers(&identity("alice", None), 0));
    }

    #[test]
    fn a_revoked_user_may_come_back_with_a_newer_token() {
        let revoked = Revoked::default();
        revoked.add(&revocation(Subject::User(user("alice")), 5_000, 70_000), 5_000);
        assert!(revoked.covers(&identity("alice", Some(5_000)), 6_000));
        assert!(!revoked.covers(&identity("alice", Some(5_001)), 6_000));
        assert!(revoked.covers(&identity("alice", None), 6_000), "without iat it may be an old one");
        assert!(!revoked.covers(&identity("bob", None), 6_000));
        assert!(!revoked.covers(&identity("alice", Some(5_000)), 70_000));
        revoked.add(&revocation(Subject::User(user("alice")), 4_000, 60_000), 5_000);
        assert!(revoked.covers(&identity("alice", Some(5_000)), 69_999), "an earlier entry takes nothing back");
        assert_eq!(revoked.until(&Subject::User(user("alice")), 6_000), Some(5_000));
    }

    #[test]
    fn a_session_is_as_old_as_its_check_though_its_token_says_later() {
        let revoked = Revoked::default();
        revoked.add(&revocation(Subject::User(user("alice")), 5_000, 70_000), 5_000);
        let ahead = identity("alice", Some(30_000));
        assert!(revoked.covers_checked(&ahead, 4_000, 6_000), "its issuer's clock runs ahead");
        assert!(!revoked.covers_checked(&ahead, 5_500, 6_000));
        assert!(revoked.covers_checked(&identity("alice", None), 4_000, 6_000));
    }

    #[test]
    fn a_revoked_device_is_one_user_s() {
        let revoked = Revoked::default();
        let phone = DeviceId::parse("phone").unwrap();
        revoked.add(&revocation(Subject::Device(user("alice"), phone.clone()), 5_000, 70_000), 5_000);
        let on = |name: &str, device: Option<&str>, issued| Identity {
            device: device.map(|device| DeviceId::parse(device).unwrap()),
            ..identity(name, Some(issued))
        };
        assert!(revoked.covers(&on("alice", Some("phone"), 5_000), 6_000));
        assert!(!revoked.covers(&on("alice", Some("phone"), 5_001), 6_000));
        assert!(!revoked.covers(&on("alice", Some("laptop"), 5_000), 6_000));
        assert!(!revoked.covers(&on("alice", None, 5_000), 6_000));
        assert!(!revoked.covers(&on("bob", Some("phone"), 5_000), 6_000));
    }

    #[test]
    fn the_lists_are_bounded_and_forget_only_what_has_expired() {
        let revoked = Revoked::default();
        let device = |name: &str| Subject::Device(user(name), DeviceId::parse("phone").unwrap());
        let subjects = |name: &str| [Subject::Token(name.into()), Subject::User(user(name)), device(name)];
        for n in 0..REVOCATIONS_MAX {
            for subject in subjects(&n.to_string()) {
                assert_eq!(revoked.has_room_for(&subject, 0), Ok(()));
                revoked.add(&revocation(subject, 0, 61_000), 0);
            }
        }
        for subject in subjects("one more") {
            assert_eq!(revoked.has_room_for(&subject, 0), Err(RevocationsFull));
            assert_eq!(revoked.has_room_for(&subject, 61_000), Ok(()), "the others have ended");
        }
        revoked.add(&revocation(Subject::Token("7".into()), 0, 200_000), 61_000);
        assert_eq!(revoked.has_room_for(&Subject::Token("7".into()), 61_000), Ok(()), "what is there may be renewed");
    }
}
