-- Texts are compared byte by byte, as everywhere else in the server, so that pages and orders are the same on every database.
-- There are no foreign keys: whoever writes holds the lock of its room, and a check per row would cost more than the row.

CREATE SEQUENCE room_keys AS bigint;

-- A room is known outside by its id and inside by its key. Its row is the room's lock and changes with every message, so a
-- page keeps space for that.
CREATE TABLE rooms (
    key               bigint   PRIMARY KEY,
    id                text     COLLATE "C" NOT NULL UNIQUE,
    title             text     NOT NULL,
    topic             text     NOT NULL,
    kind              smallint NOT NULL,
    -- veza.v1.RoomSettings, encoded.
    settings          bytea    NOT NULL,
    listed            smallint NOT NULL,
    limited           smallint NOT NULL,
    retention_seconds bigint   NOT NULL,
    retention_entries bigint   NOT NULL,
    archived          smallint NOT NULL,
    epoch             bigint   NOT NULL,
    head              bigint   NOT NULL,
    first_available   bigint   NOT NULL,
    messages          bigint   NOT NULL,
    messages_expired  bigint   NOT NULL,
    members           bigint   NOT NULL,
    created_ms        bigint   NOT NULL,
    last_message_ms   bigint   NOT NULL,
    revision          bigint   NOT NULL,
    audit             bigint   NOT NULL,
    direct_one        text     COLLATE "C",
    direct_other      text     COLLATE "C"
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX rooms_listed ON rooms (listed, id) WHERE listed = 1;
CREATE INDEX rooms_limited ON rooms (limited, id) WHERE limited = 1;

-- Whoever has anything to do with a room: role 0 is somebody who is no member (any more).
CREATE TABLE members (
    room            bigint   NOT NULL,
    member          text     COLLATE "C" NOT NULL,
    role            smallint NOT NULL,
    joined_ms       bigint   NOT NULL,
    muted_until_ms  bigint,
    banned_until_ms bigint,
    reason          text     NOT NULL,
    delivered_seq   bigint   NOT NULL,
    read_seq        bigint   NOT NULL,
    read_messages   bigint   NOT NULL,
    said_ms         bigint   NOT NULL,
    PRIMARY KEY (room, member)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX members_by_name ON members (member, room) WHERE role > 0;
CREATE INDEX members_staff ON members (room, member) WHERE role >= 3;
CREATE INDEX members_muted ON members (room, member) WHERE muted_until_ms > 0;
CREATE INDEX members_banned ON members (room, member) WHERE banned_until_ms > 0;

-- The log. It has no epoch: a room has one log, and the epoch is the room's. kind: 0 message, 1 note, 2 edit, 3 deletion,
-- 4 reaction, 5 pin. place: 0 in the room itself, a thread's first message, or NULL for what is shown nowhere. Numbers that
-- nearly every row lacks are NULL instead of 0.
CREATE TABLE entries (
    room           bigint   NOT NULL,
    seq            bigint   NOT NULL,
    place          bigint,
    target         bigint,
    at_ms          bigint   NOT NULL,
    digest         bigint   NOT NULL,
    messages       bigint   NOT NULL,
    edited_ms      bigint,
    deleted_seq    bigint,
    deleted_ms     bigint,
    last_reply_seq bigint,
    last_reply_ms  bigint,
    edits          integer  NOT NULL,
    reacted        integer  NOT NULL,
    replies        integer  NOT NULL,
    kind           smallint NOT NULL,
    pinned         smallint NOT NULL,
    author         text     COLLATE "C" NOT NULL,
    cmid           text     COLLATE "C",
    deleted_by     text     COLLATE "C",
    detail         bytea    NOT NULL,
    body           text     NOT NULL,
    PRIMARY KEY (room, seq)
) WITH (fillfactor = 95, autovacuum_vacuum_insert_scale_factor = 0.05);
-- A client's retry finds its first attempt here.
CREATE UNIQUE INDEX entries_by_cmid ON entries (room, author, cmid) WHERE cmid IS NOT NULL;
-- What stands in a room, or in a thread, in order.
CREATE INDEX entries_by_place ON entries (room, place, seq) WHERE place IS NOT NULL;
-- A deletion blanks the edits of its message.
CREATE INDEX entries_edits ON entries (room, target) WHERE kind = 2;

CREATE TABLE reactions (
    room   bigint NOT NULL,
    seq    bigint NOT NULL,
    emoji  text   COLLATE "C" NOT NULL,
    member text   COLLATE "C" NOT NULL,
    entry  bigint NOT NULL,
    at_ms  bigint NOT NULL,
    PRIMARY KEY (room, seq, emoji, member)
);

CREATE TABLE totals (
    room  bigint NOT NULL,
    seq   bigint NOT NULL,
    emoji text   COLLATE "C" NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (room, seq, emoji)
) WITH (fillfactor = 70);

CREATE TABLE pins (
    room  bigint NOT NULL,
    seq   bigint NOT NULL,
    entry bigint NOT NULL,
    at_ms bigint NOT NULL,
    PRIMARY KEY (room, seq)
);

CREATE TABLE revisions (
    room     bigint  NOT NULL,
    seq      bigint  NOT NULL,
    revision integer NOT NULL,
    body     text    NOT NULL,
    at_ms    bigint  NOT NULL,
    PRIMARY KEY (room, seq, revision)
);

CREATE TABLE mentions (
    member text   COLLATE "C" NOT NULL,
    room   bigint NOT NULL,
    seq    bigint NOT NULL,
    PRIMARY KEY (member, room, seq)
);
CREATE INDEX mentions_by_message ON mentions (room, seq);

-- name: c:<code>, or u:<room> <user> for an invitation of one user.
CREATE TABLE invites (
    name       text   COLLATE "C" PRIMARY KEY,
    room       text   COLLATE "C" NOT NULL,
    invited    text   COLLATE "C",
    creator    text   NOT NULL,
    created_ms bigint NOT NULL,
    expires_ms bigint NOT NULL,
    uses_max   bigint NOT NULL,
    uses       bigint NOT NULL
);
CREATE INDEX invites_by_room ON invites (room, created_ms DESC);
CREATE INDEX invites_by_user ON invites (invited, created_ms DESC) WHERE invited IS NOT NULL;

CREATE TABLE audit (
    room   bigint NOT NULL,
    number bigint NOT NULL,
    at_ms  bigint NOT NULL,
    actor  text   NOT NULL,
    action text   NOT NULL,
    whom   text,
    seq    bigint,
    reason text   NOT NULL,
    detail text   NOT NULL,
    PRIMARY KEY (room, number)
);

-- Words as src/store/analysis.rs makes them, and the room's key among them, so that the index answers for one room.
CREATE TABLE search (
    room  bigint   NOT NULL,
    seq   bigint   NOT NULL,
    words tsvector NOT NULL,
    PRIMARY KEY (room, seq)
);
CREATE INDEX search_words ON search USING gin (words);
