-- A room is known outside by its id and inside by its key, which keeps the messages' tree small.
CREATE TABLE rooms (
    key             INTEGER PRIMARY KEY,
    id              TEXT    NOT NULL UNIQUE,
    title           TEXT    NOT NULL,
    epoch           INTEGER NOT NULL,
    head            INTEGER NOT NULL,
    first_available INTEGER NOT NULL,
    members         INTEGER NOT NULL,
    created_ms      INTEGER NOT NULL
) STRICT;

CREATE TABLE members (
    room      INTEGER NOT NULL REFERENCES rooms (key),
    user      TEXT    NOT NULL,
    joined_ms INTEGER NOT NULL,
    PRIMARY KEY (room, user)
) STRICT, WITHOUT ROWID;

CREATE INDEX members_by_user ON members (user, room);

-- Clustered as it is read: one room's log in order.
CREATE TABLE messages (
    room   INTEGER NOT NULL REFERENCES rooms (key),
    epoch  INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    author TEXT    NOT NULL,
    cmid   TEXT    NOT NULL,
    at_ms  INTEGER NOT NULL,
    body   TEXT    NOT NULL,
    PRIMARY KEY (room, epoch, seq)
) STRICT, WITHOUT ROWID;

-- A client's retry finds its first attempt here; the index carries epoch and seq as part of the primary key.
CREATE UNIQUE INDEX messages_by_cmid ON messages (room, author, cmid);
