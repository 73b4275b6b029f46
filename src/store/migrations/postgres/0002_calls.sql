-- Idempotency keys of services: what a key was used for, for a day. made is the invitation that was made, as invites.name.
CREATE TABLE calls (
    service text   COLLATE "C" NOT NULL,
    name    text   COLLATE "C" NOT NULL,
    digest  bigint NOT NULL,
    made    text   COLLATE "C",
    at_ms   bigint NOT NULL,
    PRIMARY KEY (service, name)
);
CREATE INDEX calls_by_time ON calls (at_ms);
-- Who owns a room, where a service gives it to somebody else.
CREATE INDEX members_owners ON members (room, member) WHERE role = 5;
