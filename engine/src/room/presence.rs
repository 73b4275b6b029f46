//! Who is here: users with at least one session in the room, and their changes gathered for a while.

use std::collections::{BTreeMap, BTreeSet};

use veza_proto::UserId;
use veza_proto::limits::PRESENT_NAMES_MAX;
use veza_proto::v1::{PresenceChanged, PresenceState, UserStatus};

use crate::Timestamp;
use crate::ask::Status;
use crate::limits::PRESENCE_GATHER;

#[derive(Debug, Default)]
pub(super) struct Presence {
    /// Sessions of each user.
    here: BTreeMap<UserId, u32>,
    /// Users whose presence changed since the last telling, and whether they were here then.
    before: BTreeMap<UserId, bool>,
    /// What those who are here say of themselves, where it is not simply that they are online.
    statuses: BTreeMap<UserId, Status>,
    /// Whose status changed since the last telling.
    restated: BTreeSet<UserId>,
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
            self.statuses.remove(user);
            self.restated.remove(user);
            self.changed(user, true, now);
        }
    }

    /// At most [`PRESENT_NAMES_MAX`] names in their order, and how many there are.
    pub(super) fn names(&self) -> (Vec<String>, u32) {
        let names = self.here.keys().take(PRESENT_NAMES_MAX).map(String::from).collect();
        (names, self.total())
    }

    pub(super) fn is_here(&self, user: &UserId) -> bool {
        self.here.contains_key(user)
    }

    pub(super) fn users(&self) -> impl Iterator<Item = &UserId> {
        self.here.keys()
    }

    /// What a user who is here says of themselves.
    pub(super) fn say(&mut self, user: &UserId, status: Status, now: Timestamp) {
        let plain = status.text.is_empty() && is_online(status.state);
        let before =
            if plain { self.statuses.remove(user) } else { self.statuses.insert(user.clone(), status.clone()) };
        let changed = if plain { before.is_some() } else { before != Some(status) };
        if changed {
            self.restated.insert(user.clone());
            self.due.get_or_insert(now + PRESENCE_GATHER);
        }
    }

    /// Of the names that [`Presence::names`] gives.
    pub(super) fn statuses(&self) -> Vec<UserStatus> {
        let named = self.here.keys().take(PRESENT_NAMES_MAX);
        named.filter(|user| self.statuses.contains_key(*user)).map(|user| self.status(user)).collect()
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
                // Who came and went was named to those who came in between.
                (true | false, false) => left.push(String::from(&user)),
                (true, true) => {}
            }
        }
        let restated = std::mem::take(&mut self.restated);
        let mut statuses: Vec<UserStatus> = restated.iter().map(|user| self.status(user)).collect();
        if joined.is_empty() && left.is_empty() && statuses.is_empty() {
            return None;
        }
        let present_total = self.total();
        if present_total as usize > PRESENT_NAMES_MAX || joined.len() + left.len() > PRESENT_NAMES_MAX {
            if joined.is_empty() && left.is_empty() {
                return None;
            }
            (joined, left, statuses) = (Vec::new(), Vec::new(), Vec::new());
        }
        Some(PresenceChanged { room: room.to_owned(), joined, left, present_total, statuses })
    }

    fn status(&self, user: &UserId) -> UserStatus {
        let status = self.statuses.get(user).cloned().unwrap_or_default();
        let state = if is_online(status.state) { PresenceState::Online } else { status.state };
        UserStatus { user: String::from(user), state: state.into(), text: status.text }
    }

    fn changed(&mut self, user: &UserId, was_here: bool, now: Timestamp) {
        self.before.entry(user.clone()).or_insert(was_here);
        self.due.get_or_insert(now + PRESENCE_GATHER);
    }

    fn total(&self) -> u32 {
        u32::try_from(self.here.len()).unwrap_or(u32::MAX)
    }
}

fn is_online(state: PresenceState) -> bool {
    match state {
        PresenceState::Unspecified | PresenceState::Online => true,
        PresenceState::Away | PresenceState::DoNotDisturb => false,
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
    fn who_comes_and_goes_unseen_is_taken_back_from_those_who_came_between() {
        let (mut presence, now) = (Presence::default(), Timestamp::from_millis(0));
        presence.enter(&user("eve"), now);
        presence.enter(&user("alice"), now);
        assert_eq!(presence.names().0, ["alice", "eve"]);
        presence.exit(&user("eve"), now);
        let told = presence.tell("lobby").unwrap();
        assert_eq!((told.joined, told.left), (vec!["alice".to_owned()], vec!["eve".to_owned()]));
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

    #[test]
    fn a_status_is_told_when_it_changes_and_goes_with_its_user() {
        let (mut presence, now) = (Presence::default(), Timestamp::from_millis(0));
        let away = Status { state: PresenceState::Away, text: "lunch".into() };
        presence.enter(&user("alice"), now);
        presence.tell("lobby");
        presence.say(&user("alice"), away.clone(), now);
        let told = presence.tell("lobby").unwrap().statuses;
        assert_eq!((told[0].state(), told[0].text.as_str()), (PresenceState::Away, "lunch"));
        presence.say(&user("alice"), away, now);
        assert_eq!(presence.tell("lobby"), None, "said before");
        assert_eq!(presence.statuses().len(), 1);
        presence.say(&user("alice"), Status::default(), now);
        assert_eq!(presence.tell("lobby").unwrap().statuses[0].state(), PresenceState::Online);
        assert!(presence.statuses().is_empty());
    }
}
