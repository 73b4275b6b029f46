-- Idempotency keys of services: what a key was used for, for a day. made is the invitation that was made, as invites.name.
CREATE TABLE calls (
    service TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    digest  INTEGER NOT NULL,
    made    TEXT,
    at_ms   INTEGER NOT NULL,
    PRIMARY KEY (service, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX calls_by_time ON calls (at_ms);
-- Who owns a room, where a service gives it to somebody else.
CREATE INDEX members_owners ON members (room, member) WHERE role = 5;
