-- Streams and reviews as the gateway's schema writes them; the columns beside a record are what lists look for.
CREATE TABLE streams (
    id TEXT NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL,
    category INTEGER NOT NULL,
    listed INTEGER NOT NULL,
    state INTEGER NOT NULL,
    started_ms INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    record BLOB NOT NULL,
    effects BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX streams_live ON streams (started_ms DESC, id) WHERE state = 2;

-- report is who reported what, so that the same report is filed once; pending is a decision that is being carried out.
CREATE TABLE reviews (
    id TEXT NOT NULL PRIMARY KEY,
    created_ms INTEGER NOT NULL,
    state INTEGER NOT NULL,
    category INTEGER NOT NULL,
    room TEXT NOT NULL,
    account TEXT NOT NULL,
    report TEXT UNIQUE,
    revision INTEGER NOT NULL,
    record BLOB NOT NULL,
    pending BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX reviews_by_time ON reviews (created_ms, id);
CREATE INDEX reviews_by_room ON reviews (room, created_ms, id);

-- Idempotency keys of services, as in calls, for what is no write of a room. made is the record's id.
CREATE TABLE record_calls (
    service TEXT NOT NULL,
    name TEXT NOT NULL,
    digest INTEGER NOT NULL,
    made TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (service, name)
) WITHOUT ROWID;
CREATE INDEX record_calls_by_time ON record_calls (at_ms);
