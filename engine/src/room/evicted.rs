use std::collections::BTreeMap;
use std::time::Duration;

use veza_proto::UserId;

use crate::Timestamp;

/// A subscription that was asked for before this is answered or forgotten by now: longer than any read of the store takes.
const REMEMBERED: Duration = Duration::from_secs(600);

/// Whose membership has ended lately, so that a subscription which was read from the store just before does not let them
/// in just after.
#[derive(Debug, Default)]
pub(super) struct Evicted {
    users: BTreeMap<UserId, (u64, Timestamp)>,
}

impl Evicted {
    pub(super) fn note(&mut self, user: &UserId, revision: u64, now: Timestamp) {
        self.users.retain(|_, (_, at)| now.since(*at) < REMEMBERED);
        self.users.insert(user.clone(), (revision, now));
    }

    /// Whether the membership has ended after the room was at `revision`.
    pub(super) fn since(&self, user: &UserId, revision: u64) -> bool {
        self.users.get(user).is_some_and(|(ended, _)| *ended > revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_read_before_the_end_is_void() {
        let (user, now) = (UserId::parse("eve").unwrap(), Timestamp::from_millis(0));
        let mut evicted = Evicted::default();
        evicted.note(&user, 7, now);
        assert!(evicted.since(&user, 6));
        assert!(!evicted.since(&user, 7), "read after it: the user was let in again");
        evicted.note(&UserId::parse("mal").unwrap(), 9, now + REMEMBERED);
        assert!(!evicted.since(&user, 6), "forgotten");
    }
}
