//! How far those who are here have read: known at their coming, told when it rises, gathered for a while.

use std::collections::{BTreeMap, BTreeSet};

use veza_proto::UserId;
use veza_proto::limits::PRESENT_NAMES_MAX;
use veza_proto::v1::{Receipt, ReceiptsChanged};

use crate::Timestamp;
use crate::limits::PRESENCE_GATHER;

#[derive(Debug, Default)]
pub(super) struct Receipts {
    marks: BTreeMap<UserId, Marks>,
    /// Whose marks rose since the last telling.
    risen: BTreeSet<UserId>,
    due: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marks {
    delivered: u64,
    read: u64,
}

impl Receipts {
    /// Takes a mark without telling it: it is told otherwise (by the welcome, by the author's message).
    pub(super) fn know(&mut self, user: &UserId, delivered: u64, read: u64) {
        let marks = self.marks.entry(user.clone()).or_insert(Marks { delivered, read });
        *marks = Marks { delivered: marks.delivered.max(delivered), read: marks.read.max(read) };
    }

    pub(super) fn rise(&mut self, user: &UserId, delivered: u64, read: u64, now: Timestamp) {
        let before = self.marks.get(user).copied();
        self.know(user, delivered, read);
        if self.marks.get(user).copied() != before {
            self.risen.insert(user.clone());
            self.due.get_or_insert(now + PRESENCE_GATHER);
        }
    }

    pub(super) fn forget(&mut self, user: &UserId) {
        self.marks.remove(user);
        self.risen.remove(user);
    }

    /// Of these; nothing when more are here than are told.
    pub(super) fn of(&self, present: &[String]) -> Vec<Receipt> {
        if self.marks.len() > PRESENT_NAMES_MAX {
            return Vec::new();
        }
        let shown = self.marks.iter().filter(|(user, _)| present.iter().any(|name| name == user.as_str()));
        shown.map(|(user, marks)| receipt(user, *marks)).collect()
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        self.due
    }

    /// What rose since the last telling; nothing in a large room.
    pub(super) fn tell(&mut self, room: &str) -> Option<ReceiptsChanged> {
        self.due = None;
        let risen = std::mem::take(&mut self.risen);
        if self.marks.len() > PRESENT_NAMES_MAX {
            return None;
        }
        let receipts: Vec<_> = risen.iter().filter_map(|user| Some(receipt(user, *self.marks.get(user)?))).collect();
        (!receipts.is_empty()).then(|| ReceiptsChanged { room: room.to_owned(), receipts })
    }
}

fn receipt(user: &UserId, marks: Marks) -> Receipt {
    Receipt { user: String::from(user), delivered_seq: marks.delivered, read_seq: marks.read }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    #[test]
    fn what_rises_is_told_once_and_what_does_not_is_not() {
        let (mut receipts, now) = (Receipts::default(), Timestamp::from_millis(0));
        receipts.know(&user("alice"), 5, 5);
        receipts.rise(&user("alice"), 5, 4, now);
        assert_eq!(receipts.due(), None, "marks never fall");
        receipts.rise(&user("alice"), 9, 7, now);
        receipts.rise(&user("alice"), 9, 8, now);
        let told = receipts.tell("lobby").unwrap().receipts;
        assert_eq!(told, [Receipt { user: "alice".into(), delivered_seq: 9, read_seq: 8 }]);
        assert_eq!(receipts.tell("lobby"), None);
    }

    #[test]
    fn a_large_room_tells_nothing() {
        let (mut receipts, now) = (Receipts::default(), Timestamp::from_millis(0));
        for n in 0..PRESENT_NAMES_MAX {
            receipts.know(&user(&format!("u{n}")), 1, 1);
        }
        receipts.rise(&user("u0"), 2, 2, now);
        assert!(receipts.tell("lobby").is_some(), "at the limit");
        receipts.know(&user("one-more"), 1, 1);
        receipts.rise(&user("u0"), 3, 3, now);
        assert_eq!(receipts.tell("lobby"), None, "one past it");
        assert!(receipts.of(&["u0".to_owned()]).is_empty());
    }
}
