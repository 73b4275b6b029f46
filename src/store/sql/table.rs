//! The tables as a commit writes them: their names, their columns, and rows on their way.

use std::borrow::Cow;

/// A table, or the part of its key by which rows are found or removed.
#[derive(Debug)]
pub(in crate::store) struct Table {
    pub(in crate::store) name: &'static str,
    pub(in crate::store) keys: &'static [Column],
    pub(in crate::store) values: &'static [Column],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Column {
    pub(in crate::store) name: &'static str,
    pub(in crate::store) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Kind {
    /// Or NULL.
    Number,
    /// 0 in nearly every row, where it is NULL and takes no space.
    Sparse,
    /// Or NULL.
    Text,
    Bytes,
}

/// One value on its way to a database.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::store) enum Cell<'a> {
    Null,
    Number(i64),
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
}

/// Rows of one table, cell after cell.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::store) struct Rows<'a> {
    width: usize,
    cells: Vec<Cell<'a>>,
}

const fn number(name: &'static str) -> Column {
    Column { name, kind: Kind::Number }
}

const fn sparse(name: &'static str) -> Column {
    Column { name, kind: Kind::Sparse }
}

const fn text(name: &'static str) -> Column {
    Column { name, kind: Kind::Text }
}

const fn bytes(name: &'static str) -> Column {
    Column { name, kind: Kind::Bytes }
}

pub(in crate::store) static ROOMS: Table = Table {
    name: "rooms",
    keys: &[number("key")],
    values: &[
        text("id"),
        text("title"),
        text("topic"),
        number("kind"),
        bytes("settings"),
        number("listed"),
        number("limited"),
        number("retention_seconds"),
        number("retention_entries"),
        number("archived"),
        number("epoch"),
        number("head"),
        number("first_available"),
        number("messages"),
        number("messages_expired"),
        number("members"),
        number("created_ms"),
        number("last_message_ms"),
        number("revision"),
        number("audit"),
        text("direct_one"),
        text("direct_other"),
    ],
};

/// What a message changes of its room.
pub(in crate::store) static ROOM_COUNTS: Table = Table {
    name: "rooms",
    keys: &[number("key")],
    values: &[number("head"), number("messages"), number("last_message_ms")],
};

pub(in crate::store) static MEMBERS: Table = Table {
    name: "members",
    keys: &[number("room"), text("member")],
    values: &[
        number("role"),
        number("joined_ms"),
        sparse("muted_until_ms"),
        sparse("banned_until_ms"),
        text("reason"),
        number("delivered_seq"),
        number("read_seq"),
        number("read_messages"),
        number("said_ms"),
    ],
};

pub(in crate::store) static ENTRIES: Table = Table {
    name: "entries",
    keys: &[number("room"), number("seq")],
    values: &[
        number("kind"),
        number("place"),
        sparse("target"),
        text("author"),
        text("cmid"),
        number("at_ms"),
        number("digest"),
        number("messages"),
        text("body"),
        bytes("detail"),
        number("edits"),
        sparse("edited_ms"),
        sparse("deleted_seq"),
        text("deleted_by"),
        sparse("deleted_ms"),
        number("pinned"),
        number("reacted"),
        number("replies"),
        sparse("last_reply_seq"),
        sparse("last_reply_ms"),
    ],
};

/// What becomes of an entry after it was said.
pub(in crate::store) static ENTRY_STATE: Table = Table {
    name: "entries",
    keys: &[number("room"), number("seq")],
    values: &[
        text("body"),
        bytes("detail"),
        number("edits"),
        sparse("edited_ms"),
        sparse("deleted_seq"),
        text("deleted_by"),
        sparse("deleted_ms"),
        number("pinned"),
        number("reacted"),
        number("replies"),
        sparse("last_reply_seq"),
        sparse("last_reply_ms"),
    ],
};

/// What a deletion blanks of the edits of its message.
pub(in crate::store) static ENTRY_CONTENT: Table =
    Table { name: "entries", keys: &[number("room"), number("seq")], values: &[text("body"), bytes("detail")] };

/// What hangs on a message and goes with it.
pub(in crate::store) static OF_MESSAGE: [Table; 5] = [
    of_message("reactions"),
    of_message("totals"),
    of_message("pins"),
    of_message("revisions"),
    of_message("mentions"),
];

const fn of_message(name: &'static str) -> Table {
    const MESSAGE: &[Column] = &[number("room"), number("seq")];
    Table { name, keys: MESSAGE, values: &[] }
}

pub(in crate::store) static REACTIONS: Table = Table {
    name: "reactions",
    keys: &[number("room"), number("seq"), text("emoji"), text("member")],
    values: &[number("entry"), number("at_ms")],
};

pub(in crate::store) static TOTALS: Table =
    Table { name: "totals", keys: &[number("room"), number("seq"), text("emoji")], values: &[number("count")] };

pub(in crate::store) static PINS: Table =
    Table { name: "pins", keys: &[number("room"), number("seq")], values: &[number("entry"), number("at_ms")] };

pub(in crate::store) static REVISIONS: Table = Table {
    name: "revisions",
    keys: &[number("room"), number("seq"), number("revision")],
    values: &[text("body"), number("at_ms")],
};

pub(in crate::store) static MENTIONS: Table =
    Table { name: "mentions", keys: &[text("member"), number("room"), number("seq")], values: &[] };

pub(in crate::store) static INVITES: Table = Table {
    name: "invites",
    keys: &[text("name")],
    values: &[
        text("room"),
        text("invited"),
        text("creator"),
        number("created_ms"),
        number("expires_ms"),
        number("uses_max"),
        number("uses"),
    ],
};

pub(in crate::store) static AUDIT: Table = Table {
    name: "audit",
    keys: &[number("room"), number("number")],
    values: &[
        number("at_ms"),
        text("actor"),
        text("action"),
        text("whom"),
        sparse("seq"),
        text("reason"),
        text("detail"),
    ],
};

pub(in crate::store) static CALLS: Table = Table {
    name: "calls",
    keys: &[text("service"), text("name")],
    values: &[number("digest"), text("made"), number("at_ms")],
};

/// What happened, for whoever listens; rows are only added.
pub(in crate::store) static OUTBOX: Table = Table {
    name: "outbox",
    keys: &[],
    values: &[number("at_ms"), number("kind"), number("room"), sparse("seq"), text("whom"), bytes("payload")],
};

/// Every table whose rows a commit writes or removes.
#[cfg(test)]
pub(in crate::store) static ALL: [&Table; 19] = [
    &ROOMS,
    &ROOM_COUNTS,
    &MEMBERS,
    &ENTRIES,
    &ENTRY_STATE,
    &ENTRY_CONTENT,
    &REACTIONS,
    &TOTALS,
    &PINS,
    &REVISIONS,
    &MENTIONS,
    &INVITES,
    &AUDIT,
    &CALLS,
    &OF_MESSAGE[0],
    &OF_MESSAGE[1],
    &OF_MESSAGE[2],
    &OF_MESSAGE[3],
    &OF_MESSAGE[4],
];

impl Table {
    pub(in crate::store) fn width(&self) -> usize {
        self.keys.len() + self.values.len()
    }

    pub(in crate::store) fn columns(&self) -> impl Iterator<Item = &'static Column> {
        self.keys.iter().chain(self.values)
    }
}

impl<'a> Rows<'a> {
    pub(in crate::store) fn new(width: usize) -> Self {
        Self { width, cells: Vec::new() }
    }

    pub(in crate::store) fn push(&mut self, row: impl IntoIterator<Item = Cell<'a>>) {
        let before = self.cells.len();
        self.cells.extend(row);
        assert_eq!(self.cells.len(), before + self.width, "a row has a cell for every column");
    }

    pub(in crate::store) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    pub(in crate::store) fn iter(&self) -> impl ExactSizeIterator<Item = &[Cell<'a>]> {
        self.cells.chunks_exact(self.width)
    }

    /// One column from top to bottom.
    pub(in crate::store) fn column(&self, at: usize) -> impl Iterator<Item = &Cell<'a>> {
        self.cells.iter().skip(at).step_by(self.width)
    }
}

impl Cell<'_> {
    /// For another thread.
    pub(in crate::store) fn into_owned(self) -> Cell<'static> {
        match self {
            Cell::Null => Cell::Null,
            Cell::Number(number) => Cell::Number(number),
            Cell::Text(text) => Cell::Text(Cow::Owned(text.into_owned())),
            Cell::Bytes(bytes) => Cell::Bytes(Cow::Owned(bytes.into_owned())),
        }
    }
}

impl From<u64> for Cell<'_> {
    /// Databases count to 2⁶³ − 1; what lies beyond is as far away.
    fn from(number: u64) -> Self {
        Cell::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u32> for Cell<'_> {
    fn from(number: u32) -> Self {
        Cell::Number(number.into())
    }
}

impl From<i64> for Cell<'_> {
    fn from(number: i64) -> Self {
        Cell::Number(number)
    }
}

impl From<bool> for Cell<'_> {
    fn from(flag: bool) -> Self {
        Cell::Number(flag.into())
    }
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(text: &'a str) -> Self {
        Cell::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Cell<'_> {
    fn from(text: String) -> Self {
        Cell::Text(Cow::Owned(text))
    }
}

impl From<Vec<u8>> for Cell<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Cell::Bytes(Cow::Owned(bytes))
    }
}

impl<'a, T: Into<Cell<'a>>> From<Option<T>> for Cell<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Cell::Null, Into::into)
    }
}
