//! What one user may say in a second over all connections of this node.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use veza_engine::{Timestamp, TokenBucket};
use veza_proto::UserId;
use veza_proto::v1::{Error, ErrorCode};

/// Users are spread over this many locks.
const SHARDS: usize = 64;
/// A shard is swept when it has grown to this many users since the last sweep.
const SWEEP_AT: usize = 1_024;
/// Who said nothing for this long has a full bucket again, and none is kept for them.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// Messages (and edits, deletions, reactions, pins) of one user.
#[derive(Debug, Clone, Copy)]
pub struct UserRate {
    pub per_second: u32,
    pub burst: u32,
}

#[derive(Debug)]
pub(super) struct Quotas {
    rate: UserRate,
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
}

#[derive(Debug, Default)]
struct Shard {
    users: HashMap<UserId, (TokenBucket, Timestamp)>,
    sweep_at: usize,
}

impl Quotas {
    pub(super) fn new(rate: UserRate) -> Self {
        let shard = |_| Mutex::new(Shard { users: HashMap::new(), sweep_at: SWEEP_AT });
        Self { rate, hasher: RandomState::new(), shards: (0..SHARDS).map(shard).collect() }
    }

    /// Takes one from the user's quota.
    ///
    /// # Errors
    /// What the user is told when there is none left.
    pub(super) fn take(&self, user: &UserId, now: Timestamp) -> Result<(), Error> {
        let at = usize::try_from(self.hasher.hash_one(user) % SHARDS as u64).unwrap_or(0);
        let mut shard = self.shards[at].lock().unwrap_or_else(PoisonError::into_inner);
        if shard.users.len() >= shard.sweep_at {
            shard.users.retain(|_, (_, last)| now.since(*last) < FORGET_AFTER);
            shard.sweep_at = shard.users.len() * 2 + SWEEP_AT;
        }
        let fresh = || (TokenBucket::new(self.rate.per_second, self.rate.burst, now), now);
        let (bucket, last) = shard.users.entry(user.clone()).or_insert_with(fresh);
        *last = now;
        bucket.take(now).map_err(|wait| {
            let wait = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1);
            Error::temporary(ErrorCode::RateLimited, "you write faster than one user may, over all connections", wait)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn a_user_has_one_quota_and_the_others_theirs() {
        let quotas = Quotas::new(UserRate { per_second: 2, burst: 3 });
        let (alice, bob) = (UserId::parse("alice").unwrap(), UserId::parse("bob").unwrap());
        for _ in 0..3 {
            quotas.take(&alice, at(0)).unwrap();
        }
        let error = quotas.take(&alice, at(0)).unwrap_err();
        assert_eq!((error.code(), error.retry_after_ms), (ErrorCode::RateLimited, 500));
        quotas.take(&bob, at(0)).unwrap();
        quotas.take(&alice, at(500)).unwrap();
    }

    #[test]
    fn who_is_silent_is_forgotten() {
        let quotas = Quotas::new(UserRate { per_second: 1, burst: 1 });
        for n in 0..SHARDS * SWEEP_AT * 3 {
            let now = at(n as u64 * 10);
            quotas.take(&UserId::parse(&format!("u{n}")).unwrap(), now).unwrap();
        }
        let kept: usize = quotas.shards.iter().map(|shard| shard.lock().unwrap().users.len()).sum();
        assert!(kept < SHARDS * SWEEP_AT * 2, "{kept} users are kept");
    }
}
