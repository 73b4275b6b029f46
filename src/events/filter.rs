use std::collections::BTreeSet;

use veza_engine::ledger::kind_of;
use veza_proto::gateway::v1::{Event, EventFilter, EventKind};
use veza_proto::{RoomId, UserId};

/// Kinds that a filter names.
const KINDS_MAX: usize = 12;
/// Rooms, and users, that a filter names.
const NAMES_MAX: usize = 100;

/// Which events a consumer wants: what is empty lets everything through, what is not must agree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    kinds: BTreeSet<i32>,
    rooms: BTreeSet<String>,
    users: BTreeSet<String>,
}

impl Filter {
    /// # Errors
    /// The field that is wrong, and what it may hold.
    pub fn parse(filter: &EventFilter) -> Result<Self, (&'static str, String)> {
        let known = |kind: &i32| EventKind::try_from(*kind).is_ok_and(|kind| kind != EventKind::Unspecified);
        if filter.kinds.len() > KINDS_MAX || !filter.kinds.iter().all(known) {
            return Err(("filter.kinds", format!("at most {KINDS_MAX} kinds that there are")));
        }
        if filter.rooms.len() > NAMES_MAX || filter.rooms.iter().any(|id| RoomId::parse(id).is_err()) {
            return Err(("filter.rooms", format!("at most {NAMES_MAX} ids of rooms")));
        }
        if filter.users.len() > NAMES_MAX || filter.users.iter().any(|id| UserId::parse(id).is_err()) {
            return Err(("filter.users", format!("at most {NAMES_MAX} ids of users")));
        }
        Ok(Self::of(filter))
    }

    /// A filter that was parsed before.
    pub fn of(filter: &EventFilter) -> Self {
        Self {
            kinds: filter.kinds.iter().copied().collect(),
            rooms: filter.rooms.iter().cloned().collect(),
            users: filter.users.iter().cloned().collect(),
        }
    }

    pub fn to_wire(&self) -> EventFilter {
        EventFilter {
            kinds: self.kinds.iter().copied().collect(),
            rooms: self.rooms.iter().cloned().collect(),
            users: self.users.iter().cloned().collect(),
        }
    }

    pub fn wants(&self, event: &Event) -> bool {
        // What this version cannot name is for those who want everything.
        let kind = event.kind.as_ref().map_or(0, |kind| kind_of(kind).into());
        (self.kinds.is_empty() || self.kinds.contains(&kind))
            && (self.rooms.is_empty() || self.rooms.contains(&event.room))
            && (self.users.is_empty() || self.users.contains(&event.user))
    }
}

#[cfg(test)]
mod tests {
    use veza_proto::gateway::v1::{MemberLeft, event};

    use super::*;

    #[test]
    fn every_part_that_is_set_must_agree() {
        let left = Event {
            room: "lobby".into(),
            user: "bob".into(),
            kind: Some(event::Kind::MemberLeft(MemberLeft::default())),
            ..Event::default()
        };
        let wants = |kinds: &[EventKind], rooms: &[&str], users: &[&str]| {
            let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            let kinds = kinds.iter().map(|kind| i32::from(*kind)).collect();
            let filter = EventFilter { kinds, rooms: strings(rooms), users: strings(users) };
            Filter::parse(&filter).unwrap().wants(&left)
        };
        assert!(wants(&[], &[], &[]) && wants(&[EventKind::MemberLeft], &["den", "lobby"], &["bob"]));
        assert!(!wants(&[EventKind::Message], &[], &[]));
        assert!(!wants(&[EventKind::MemberLeft], &["den"], &[]) && !wants(&[], &["lobby"], &["alice"]));
    }

    #[test]
    fn filters_at_their_limits_and_one_past() {
        let rooms = |count: usize| EventFilter {
            rooms: (0..count).map(|nth| format!("r{nth}")).collect(),
            ..EventFilter::default()
        };
        assert!(Filter::parse(&rooms(NAMES_MAX)).is_ok());
        assert_eq!(Filter::parse(&rooms(NAMES_MAX + 1)).unwrap_err().0, "filter.rooms");
        let kinds = |kinds: Vec<i32>| EventFilter { kinds, ..EventFilter::default() };
        assert!(Filter::parse(&kinds((1..=12).collect())).is_ok());
        assert_eq!(Filter::parse(&kinds(vec![1; KINDS_MAX + 1])).unwrap_err().0, "filter.kinds");
        assert!(Filter::parse(&kinds(vec![0])).is_err() && Filter::parse(&kinds(vec![13])).is_err());
        let users = EventFilter { users: vec![String::new()], ..EventFilter::default() };
        assert_eq!(Filter::parse(&users).unwrap_err().0, "filter.users");
    }
}
