use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use veza_proto::UserId;

use super::Identity;

/// Entries of each kind. At the bound a new revocation is refused with an error rather than an old one forgotten.
const REVOCATIONS_MAX: usize = 100_000;
/// A token stays usable this long after its `exp` for the sake of skew, and so does its revocation.
const SKEW_MS: u64 = 60_000;

/// What must not be believed any more although its signature is right.
#[derive(Debug, Default)]
pub(super) struct Revoked {
    lists: Mutex<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    /// Token id → when the entry may be dropped.
    tokens: HashMap<String, u64>,
    users: HashMap<UserId, RevokedUser>,
}

#[derive(Debug, Clone, Copy)]
struct RevokedUser {
    /// Tokens issued up to here are refused.
    issued_until_ms: u64,
    drop_at_ms: u64,
}

/// There is no room for another revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{REVOCATIONS_MAX} revocations are remembered already")]
pub struct RevocationsFull;

impl Revoked {
    pub(super) fn token(&self, id: &str, expires_ms: u64, now_ms: u64) -> Result<(), RevocationsFull> {
        let mut lists = self.lock();
        let Lists { tokens, .. } = &mut *lists;
        if tokens.len() >= REVOCATIONS_MAX && !tokens.contains_key(id) {
            tokens.retain(|_, drop_at_ms| now_ms < *drop_at_ms);
            if tokens.len() >= REVOCATIONS_MAX {
                return Err(RevocationsFull);
            }
        }
        tokens.insert(id.into(), expires_ms.saturating_add(SKEW_MS));
        Ok(())
    }

    pub(super) fn user(&self, user: &UserId, until_ms: u64, now_ms: u64) -> Result<(), RevocationsFull> {
        let mut lists = self.lock();
        let Lists { users, .. } = &mut *lists;
        if users.len() >= REVOCATIONS_MAX && !users.contains_key(user) {
            users.retain(|_, revoked| now_ms < revoked.drop_at_ms);
            if users.len() >= REVOCATIONS_MAX {
                return Err(RevocationsFull);
            }
        }
        let fresh = RevokedUser { issued_until_ms: now_ms, drop_at_ms: until_ms.saturating_add(SKEW_MS) };
        let entry = users.entry(user.clone()).or_insert(fresh);
        entry.issued_until_ms = entry.issued_until_ms.max(fresh.issued_until_ms);
        entry.drop_at_ms = entry.drop_at_ms.max(fresh.drop_at_ms);
        Ok(())
    }

    pub(super) fn covers(&self, identity: &Identity, issued_ms: Option<u64>, now_ms: u64) -> bool {
        let lists = self.lock();
        let by_token = identity.token_id.as_ref().and_then(|id| lists.tokens.get(id));
        let by_user = lists.users.get(&identity.user);
        by_token.is_some_and(|drop_at_ms| now_ms < *drop_at_ms)
            || by_user.is_some_and(|revoked| {
                now_ms < revoked.drop_at_ms && issued_ms.is_none_or(|issued| issued <= revoked.issued_until_ms)
            })
    }

    /// Every statement leaves the lists whole, so a panic elsewhere does no harm to them.
    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(user: &str, token_id: Option<&str>) -> Identity {
        let user = UserId::parse(user).unwrap();
        Identity { user, expires_ms: 10_000, token_id: token_id.map(str::to_owned), entitlements: Vec::new() }
    }

    #[test]
    fn a_revoked_token_stays_refused_until_it_cannot_be_used_anyway() {
        let revoked = Revoked::default();
        revoked.token("t1", 10_000, 0).unwrap();
        assert!(revoked.covers(&identity("alice", Some("t1")), None, 69_999));
        assert!(!revoked.covers(&identity("alice", Some("t1")), None, 70_000));
        assert!(!revoked.covers(&identity("alice", Some("t2")), None, 0));
        assert!(!revoked.covers(&identity("alice", None), None, 0));
    }

    #[test]
    fn a_revoked_user_may_come_back_with_a_newer_token() {
        let revoked = Revoked::default();
        let alice = UserId::parse("alice").unwrap();
        revoked.user(&alice, 10_000, 5_000).unwrap();
        assert!(revoked.covers(&identity("alice", None), Some(5_000), 6_000));
        assert!(!revoked.covers(&identity("alice", None), Some(5_001), 6_000));
        assert!(revoked.covers(&identity("alice", None), None, 6_000), "without iat it may be an old one");
        assert!(!revoked.covers(&identity("bob", None), None, 6_000));
        assert!(!revoked.covers(&identity("alice", None), Some(5_000), 70_000));
        revoked.user(&alice, 8_000, 4_000).unwrap();
        assert!(revoked.covers(&identity("alice", None), Some(5_000), 69_999), "an earlier entry takes nothing back");
    }

    #[test]
    fn the_lists_are_bounded_and_forget_only_what_has_expired() {
        let revoked = Revoked::default();
        for n in 0..REVOCATIONS_MAX {
            revoked.token(&n.to_string(), 1_000, 0).unwrap();
            revoked.user(&UserId::parse(&n.to_string()).unwrap(), 1_000, 0).unwrap();
        }
        let one_more = UserId::parse("one more").unwrap();
        assert_eq!(revoked.token("one more", 1_000, 0), Err(RevocationsFull));
        assert_eq!(revoked.user(&one_more, 1_000, 0), Err(RevocationsFull));
        assert_eq!(revoked.token("7", 2_000, 0), Ok(()), "what is there may be renewed");
        assert_eq!(revoked.token("one more", 100_000, 61_000), Ok(()));
        assert_eq!(revoked.user(&one_more, 100_000, 61_000), Ok(()));
        assert_eq!(revoked.lock().tokens.len(), 2);
    }
}
