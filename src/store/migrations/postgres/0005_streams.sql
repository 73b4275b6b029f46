-- Streams and reviews as the gateway's schema writes them; the columns beside a record are what lists look for.
CREATE TABLE streams (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    owner text COLLATE "C" NOT NULL,
    category bigint NOT NULL,
    listed bigint NOT NULL,
    state bigint NOT NULL,
    started_ms bigint NOT NULL,
    revision bigint NOT NULL,
    record bytea NOT NULL,
    effects bytea NOT NULL
);
CREATE INDEX streams_live ON streams (started_ms DESC, id) WHERE state = 2;

-- report is who reported what, so that the same report is filed once; pending is a decision that is being carried out.
CREATE TABLE reviews (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    created_ms bigint NOT NULL,
    state bigint NOT NULL,
    category bigint NOT NULL,
    room text COLLATE "C" NOT NULL,
    account text COLLATE "C" NOT NULL,
    report text COLLATE "C" UNIQUE,
    revision bigint NOT NULL,
    record bytea NOT NULL,
    pending bytea NOT NULL
);
CREATE INDEX reviews_by_time ON reviews (created_ms, id);
CREATE INDEX reviews_by_room ON reviews (room, created_ms, id);

-- Idempotency keys of services, as in calls, for what is no write of a room. made is the record's id.
CREATE TABLE record_calls (
    service text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    digest bigint NOT NULL,
    made text COLLATE "C" NOT NULL,
    at_ms bigint NOT NULL,
    PRIMARY KEY (service, name)
);
CREATE INDEX record_calls_by_time ON record_calls (at_ms);
