//! What a commit reads and removes by more than a table's key.

use super::row::{entry_columns, invite_columns, member_columns, room_columns};
use super::table::Kind;

/// Rows under the keys of a batch, in one statement.
#[derive(Debug)]
pub(in crate::store) struct Find {
    pub(in crate::store) columns: &'static str,
    /// With its alias.
    pub(in crate::store) from: &'static str,
    /// The columns that the keys are compared with, and what the rows have to be beside that.
    pub(in crate::store) on: &'static [(&'static str, Kind)],
    pub(in crate::store) and: &'static str,
    /// Whether they are locked until the commit, in the order of their keys.
    pub(in crate::store) locks: bool,
}

/// Whether anybody listens to what happens. No name is empty; saying so makes it a look into an index.
macro_rules! has_listeners {
    () => {
        "(SELECT count(*) FROM (SELECT 1 FROM consumers AS c WHERE c.name > '' LIMIT 1) AS c) AS listeners"
    };
}

pub(super) static ROOMS: Find = Find {
    columns: concat!(room_columns!(), ", ", has_listeners!()),
    from: "rooms AS r",
    on: &[("r.id", Kind::Text)],
    and: "",
    locks: true,
};

pub(super) static INVITES: Find =
    Find { columns: invite_columns!(), from: "invites AS i", on: &[("i.name", Kind::Text)], and: "", locks: false };

pub(super) static MEMBERS: Find = Find {
    columns: concat!("m.room AS room_key, ", member_columns!()),
    from: "members AS m",
    on: &[("m.room", Kind::Number), ("m.member", Kind::Text)],
    and: "",
    locks: false,
};

pub(super) static SENT: Find = Find {
    columns: concat!("e.room AS room_key, ", entry_columns!()),
    from: "entries AS e",
    on: &[("e.room", Kind::Number), ("e.author", Kind::Text), ("e.cmid", Kind::Text)],
    // The index has only those.
    and: "e.cmid IS NOT NULL",
    locks: false,
};

pub(super) static ENTRIES: Find = Find {
    columns: concat!("e.room AS room_key, ", entry_columns!()),
    from: "entries AS e",
    on: &[("e.room", Kind::Number), ("e.seq", Kind::Number)],
    and: "",
    locks: false,
};

pub(super) static EDITS: Find = Find {
    columns: "e.room AS room_key, e.seq, e.detail",
    from: "entries AS e",
    on: &[("e.room", Kind::Number), ("e.target", Kind::Number)],
    and: "e.kind = 2",
    locks: false,
};

pub(super) static REACTIONS: Find = Find {
    columns: "t.room AS room_key, t.seq, t.emoji, t.member, t.entry, t.at_ms",
    from: "reactions AS t",
    on: &[("t.room", Kind::Number), ("t.seq", Kind::Number), ("t.emoji", Kind::Text), ("t.member", Kind::Text)],
    and: "",
    locks: false,
};

pub(super) static TOTALS: Find = Find {
    columns: "t.room AS room_key, t.seq, t.emoji, t.count",
    from: "totals AS t",
    on: &[("t.room", Kind::Number), ("t.seq", Kind::Number)],
    and: "",
    locks: false,
};

pub(super) static PINS: Find = Find {
    columns: "t.room AS room_key, t.seq, t.entry, t.at_ms",
    from: "pins AS t",
    on: &[("t.room", Kind::Number)],
    and: "",
    locks: false,
};

pub(super) static OWNERS: Find = Find {
    columns: concat!("m.room AS room_key, ", member_columns!()),
    from: "members AS m",
    on: &[("m.room", Kind::Number)],
    and: "m.role = 5",
    locks: false,
};

pub(super) static CALLS: Find = Find {
    columns: "c.service, c.name, c.digest, c.made, c.at_ms",
    from: "calls AS c",
    on: &[("c.service", Kind::Text), ("c.name", Kind::Text)],
    and: "",
    locks: false,
};

/// As in [`ROOMS`], for a batch that has found no room.
pub(super) static LISTENERS: Find = Find {
    columns: has_listeners!(),
    from: "outbox_state AS s",
    on: &[("s.one", Kind::Number)],
    and: "",
    locks: false,
};

/// Every look-up of a batch.
#[cfg(test)]
pub(in crate::store) static ALL: [&Find; 12] =
    [&ROOMS, &INVITES, &MEMBERS, &SENT, &ENTRIES, &EDITS, &REACTIONS, &TOTALS, &PINS, &OWNERS, &CALLS, &LISTENERS];

/// Keys that are remembered no more.
pub(in crate::store) const FORGET_CALLS: &str = "DELETE FROM calls WHERE at_ms <= $1";

/// Everything of a room up to an entry.
pub(in crate::store) const EXPIRE: [&str; 6] = [
    "DELETE FROM entries WHERE room = $1 AND seq <= $2",
    "DELETE FROM reactions WHERE room = $1 AND seq <= $2",
    "DELETE FROM totals WHERE room = $1 AND seq <= $2",
    "DELETE FROM pins WHERE room = $1 AND seq <= $2",
    "DELETE FROM revisions WHERE room = $1 AND seq <= $2",
    "DELETE FROM mentions WHERE room = $1 AND seq <= $2",
];
