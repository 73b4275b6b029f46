-- What is not believed any more although its signature is right, until it would have ended anyway.
-- kind: 0 a token (name is its jti), 1 a device of a user (name is its id), 2 a user. Numbers rise with every change, so
-- that whoever has read up to one finds the rest behind it.
CREATE TABLE revocations (
    number INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    revoked_ms INTEGER NOT NULL,
    drop_at_ms INTEGER NOT NULL,
    UNIQUE (kind, account, name)
);

-- Where a user has been seen, by the token's claim `device`.
CREATE TABLE devices (
    account TEXT NOT NULL,
    device TEXT NOT NULL,
    client TEXT NOT NULL,
    first_seen_ms INTEGER NOT NULL,
    last_seen_ms INTEGER NOT NULL,
    PRIMARY KEY (account, device)
) WITHOUT ROWID;
