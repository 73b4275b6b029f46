//! Who is here: users with at least one session in the room, and their changes gathered for a while.

use std::collections::BTreeMap;

use veza_proto::UserId;
use veza_proto::limits::PRESENT_NAMES_MAX;
use veza_proto::v1::PresenceChanged;

use crate::Timestamp;
use crate::limits::PRESENCE_GATHER;

#[derive(Debug, Default)]
pub(super) struct Presence {
    /// Sessions of each user.
    here: BTreeMap<UserId, u32>,
    /// Users whose presence changed since the last telling, and whether they were here then.
    before: BTreeMap<UserId, bool>,
    due: Option<Timestamp>,
}

impl Presence {
    pub(super) fn enter(&mut self, user: &UserId, now: Timestamp) {
        let sessions = self.here.entry(user.clone()).or_insert(0);
        *sessions += 1;
        if *sessions == 1 {
            self.changed(user, false, now);
        }
    }

    pub(super) fn exit(&mut self, user: &UserId, now: Timestamp) {
        let Some(sessions) = self.here.get_mut(user) else { return };
        *sessions -= 1;
        if *sessions == 0 {
            self.here.remove(user);
            self.changed(user, true, now);
        }
    }

    /// At most [`PRESENT_NAMES_MAX`] names in their order, and how many there are.
    pub(super) fn names(&self) -> (Vec<String>, u32) {
        let names = self.here.keys().take(PRESENT_NAMES_MAX).map(String::from).collect();
        (names, self.total())
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        self.due
    }

    /// What changed since the last telling; nothing when it cancelled out. A large room is told its count only.
    pub(super) fn tell(&mut self, room: &str) -> Option<PresenceChanged> {
        self.due = None;
        let (mut joined, mut left) = (Vec::new(), Vec::new());
        for (user, was_here) in std::mem::take(&mut self.before) {
            match (was_here, self.here.contains_key(&user)) {
                (false, true) => joined.push(String::from(&user)),
                (true, false) => left.push(String::from(&user)),
                (true, true) | (false, false) => {}
            }
        }
        if joined.is_empty() && left.is_empty() {
            return None;
        }
        let present_total = self.total();
        if present_total as usize > PRESENT_NAMES_MAX || joined.len() + left.len() > PRESENT_NAMES_MAX {
            (joined, left) = (Vec::new(), Vec::new());
        }
        Some(PresenceChanged { room: room.to_owned(), joined, left, present_total })
    }

    fn changed(&mut self, user: &UserId, was_here: bool, now: Timestamp) {
        self.before.entry(user.clone()).or_insert(was_here);
        self.due.get_or_insert(now + PRESENCE_GATHER);
    }

    fn total(&self) -> u32 {
        u32::try_from(self.here.len()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    #[test]
    fn two_sessions_of_one_user_are_one_presence() {
        let (mut presence, now) = (Presence::default(), Timestamp::from_millis(0));
        presence.enter(&user("alice"), now);
        presence.enter(&user("alice"), now);
        assert_eq!(presence.tell("lobby").unwrap().joined, ["alice"]);
        presence.exit(&user("alice"), now);
        assert_eq!(presence.tell("lobby"), None);
        presence.exit(&user("alice"), now);
        assert_eq!(presence.tell("lobby").unwrap().left, ["alice"]);
    }

    #[test]
    fn a_reconnect_within_the_gathering_time_is_nothing() {
        let (mut presence, now) = (Presence::default(), Timestamp::from_millis(0));
        presence.enter(&user("alice"), now);
        presence.tell("lobby");
        presence.exit(&user("alice"), now);
        presence.enter(&user("alice"), now);
        assert_eq!(presence.tell("lobby"), None);
    }

    #[test]
    fn names_are_told_up_to_the_limit_and_only_counted_past_it() {
        let (mut presence, now) = (Presence::default(), Timestamp::from_millis(0));
        for n in 0..PRESENT_NAMES_MAX {
            presence.enter(&user(&format!("u{n:03}")), now);
        }
        assert_eq!(presence.tell("lobby").unwrap().joined.len(), PRESENT_NAMES_MAX);
        presence.enter(&user("one-more"), now);
        let told = presence.tell("lobby").unwrap();
        assert_eq!((told.joined.len(), told.present_total), (0, 101));
        assert_eq!(presence.names().0.len(), PRESENT_NAMES_MAX);
    }
}
