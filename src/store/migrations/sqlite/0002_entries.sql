-- Rooms of every kind, with what their managers set. Those that are here were public; what their settings are stands in
-- the schema's encoding of veza.v1.RoomSettings: listed, and who joins becomes a member.
ALTER TABLE rooms ADD COLUMN topic TEXT NOT NULL DEFAULT '';
ALTER TABLE rooms ADD COLUMN kind INTEGER NOT NULL DEFAULT 1;
ALTER TABLE rooms ADD COLUMN settings BLOB NOT NULL DEFAULT x'08012802';
-- Whether others than members see it in lists.
ALTER TABLE rooms ADD COLUMN listed INTEGER NOT NULL DEFAULT 1;
-- Whether its retention has a bound.
ALTER TABLE rooms ADD COLUMN limited INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rooms ADD COLUMN retention_seconds INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rooms ADD COLUMN retention_entries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rooms ADD COLUMN archived INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rooms ADD COLUMN messages INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rooms ADD COLUMN messages_expired INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rooms ADD COLUMN last_message_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rooms ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rooms ADD COLUMN audit INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rooms ADD COLUMN direct_one TEXT;
ALTER TABLE rooms ADD COLUMN direct_other TEXT;

UPDATE rooms SET messages = head, last_message_ms = coalesce((
    SELECT at_ms FROM messages WHERE messages.room = rooms.key AND messages.epoch = rooms.epoch AND messages.seq = rooms.head
), 0);

CREATE INDEX rooms_listed ON rooms (listed, id) WHERE listed = 1;
CREATE INDEX rooms_limited ON rooms (limited, id) WHERE limited = 1;

-- Whoever has anything to do with a room: role 0 is somebody who is no member (any more).
DROP INDEX members_by_user;
ALTER TABLE members RENAME TO members_before;
CREATE TABLE members (
    room            INTEGER NOT NULL REFERENCES rooms (key),
    member          TEXT    NOT NULL,
    role            INTEGER NOT NULL,
    joined_ms       INTEGER NOT NULL,
    muted_until_ms  INTEGER,
    banned_until_ms INTEGER,
    reason          TEXT    NOT NULL,
    delivered_seq   INTEGER NOT NULL,
    read_seq        INTEGER NOT NULL,
    read_messages   INTEGER NOT NULL,
    said_ms         INTEGER NOT NULL,
    PRIMARY KEY (room, member)
) STRICT, WITHOUT ROWID;

-- Who was in a room first has made it. What was said before counts as read.
INSERT INTO members
SELECT m.room, m.user,
    CASE WHEN m.user = (
        SELECT f.user FROM members_before AS f WHERE f.room = m.room ORDER BY f.joined_ms, f.user LIMIT 1
    ) THEN 5 ELSE 2 END,
    m.joined_ms, NULL, NULL, '', r.head, r.head, r.head, 0
FROM members_before AS m JOIN rooms AS r ON r.key = m.room;
DROP TABLE members_before;

CREATE INDEX members_by_name ON members (member, room) WHERE role > 0;
CREATE INDEX members_staff ON members (room, member) WHERE role >= 3;
CREATE INDEX members_muted ON members (room, member) WHERE muted_until_ms > 0;
CREATE INDEX members_banned ON members (room, member) WHERE banned_until_ms > 0;

-- The log, clustered as it is read: one room in order. It has no epoch: a room has one log, and the epoch is the room's.
-- kind: 0 message, 1 note, 2 edit, 3 deletion, 4 reaction, 5 pin. place: 0 in the room itself, a thread's first message, or
-- NULL for what is shown nowhere. Numbers that nearly every row lacks are NULL instead of 0.
CREATE TABLE entries (
    room           INTEGER NOT NULL REFERENCES rooms (key),
    seq            INTEGER NOT NULL,
    kind           INTEGER NOT NULL,
    place          INTEGER,
    target         INTEGER,
    author         TEXT    NOT NULL,
    cmid           TEXT,
    at_ms          INTEGER NOT NULL,
    digest         INTEGER NOT NULL,
    messages       INTEGER NOT NULL,
    body           TEXT    NOT NULL,
    detail         BLOB    NOT NULL,
    edits          INTEGER NOT NULL,
    edited_ms      INTEGER,
    deleted_seq    INTEGER,
    deleted_by     TEXT,
    deleted_ms     INTEGER,
    pinned         INTEGER NOT NULL,
    reacted        INTEGER NOT NULL,
    replies        INTEGER NOT NULL,
    last_reply_seq INTEGER,
    last_reply_ms  INTEGER,
    PRIMARY KEY (room, seq)
) STRICT, WITHOUT ROWID;

INSERT INTO entries
SELECT room, seq, 0, 0, NULL, author, cmid, at_ms, 0, seq, body, x'', 0, NULL, NULL, NULL, NULL, 0, 0, 0, NULL, NULL
FROM messages ORDER BY room, seq;

-- Rows of before whose digest and words the server has still to make.
CREATE TABLE unfilled (
    room INTEGER NOT NULL,
    seq  INTEGER NOT NULL,
    PRIMARY KEY (room, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO unfilled SELECT room, seq FROM messages ORDER BY room, seq;
DROP TABLE messages;

-- A client's retry finds its first attempt here.
CREATE UNIQUE INDEX entries_by_cmid ON entries (room, author, cmid) WHERE cmid IS NOT NULL;
-- What stands in a room, or in a thread, in order.
CREATE INDEX entries_by_place ON entries (room, place, seq) WHERE place IS NOT NULL;
-- A deletion blanks the edits of its message.
CREATE INDEX entries_edits ON entries (room, target) WHERE kind = 2;

CREATE TABLE reactions (
    room   INTEGER NOT NULL REFERENCES rooms (key),
    seq    INTEGER NOT NULL,
    emoji  TEXT    NOT NULL,
    member TEXT    NOT NULL,
    entry  INTEGER NOT NULL,
    at_ms  INTEGER NOT NULL,
    PRIMARY KEY (room, seq, emoji, member)
) STRICT, WITHOUT ROWID;

CREATE TABLE totals (
    room  INTEGER NOT NULL REFERENCES rooms (key),
    seq   INTEGER NOT NULL,
    emoji TEXT    NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (room, seq, emoji)
) STRICT, WITHOUT ROWID;

CREATE TABLE pins (
    room  INTEGER NOT NULL REFERENCES rooms (key),
    seq   INTEGER NOT NULL,
    entry INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (room, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE revisions (
    room     INTEGER NOT NULL REFERENCES rooms (key),
    seq      INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    body     TEXT    NOT NULL,
    at_ms    INTEGER NOT NULL,
    PRIMARY KEY (room, seq, revision)
) STRICT, WITHOUT ROWID;

CREATE TABLE mentions (
    member TEXT    NOT NULL,
    room   INTEGER NOT NULL REFERENCES rooms (key),
    seq    INTEGER NOT NULL,
    PRIMARY KEY (member, room, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX mentions_by_message ON mentions (room, seq);

-- name: c:<code>, or u:<room> <user> for an invitation of one user.
CREATE TABLE invites (
    name       TEXT    NOT NULL PRIMARY KEY,
    room       TEXT    NOT NULL REFERENCES rooms (id),
    invited    TEXT,
    creator    TEXT    NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    uses_max   INTEGER NOT NULL,
    uses       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX invites_by_room ON invites (room, created_ms DESC);
CREATE INDEX invites_by_user ON invites (invited, created_ms DESC) WHERE invited IS NOT NULL;

CREATE TABLE audit (
    room   INTEGER NOT NULL REFERENCES rooms (key),
    number INTEGER NOT NULL,
    at_ms  INTEGER NOT NULL,
    actor  TEXT    NOT NULL,
    action TEXT    NOT NULL,
    whom   TEXT,
    seq    INTEGER,
    reason TEXT    NOT NULL,
    detail TEXT    NOT NULL,
    PRIMARY KEY (room, number)
) STRICT, WITHOUT ROWID;

-- Words as src/store/analysis.rs makes them; a document's rowid is its room's key and its sequence number (40 bits), so one
-- room is one range and the newest come first when it is walked backwards. Nothing but the index is kept.
CREATE VIRTUAL TABLE search USING fts5 (words, content = '', contentless_delete = 1, detail = none, tokenize = 'ascii');
