-- What is not believed any more although its signature is right, until it would have ended anyway.
-- kind: 0 a token (name is its jti), 1 a device of a user (name is its id), 2 a user. Numbers rise with every change, so
-- that whoever has read up to one finds the rest behind it.
CREATE TABLE revocations (
    number bigint PRIMARY KEY,
    kind bigint NOT NULL,
    account text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    revoked_ms bigint NOT NULL,
    drop_at_ms bigint NOT NULL,
    UNIQUE (kind, account, name)
);

-- Where a user has been seen, by the token's claim `device`.
CREATE TABLE devices (
    account text COLLATE "C" NOT NULL,
    device text COLLATE "C" NOT NULL,
    client text NOT NULL,
    first_seen_ms bigint NOT NULL,
    last_seen_ms bigint NOT NULL,
    PRIMARY KEY (account, device)
);
