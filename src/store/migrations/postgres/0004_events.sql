-- What happened, while somebody listens. kind: veza.gateway.v1.EventKind. A message is told by its room and number and read
-- when it is delivered; everything else carries a veza.gateway.v1.Event with its kind alone. Ids are given as rows are
-- written and become visible in another order; position is given to what is visible, see docs/design/outbox.md.
CREATE TABLE outbox (
    id       bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    position bigint,
    at_ms    bigint   NOT NULL,
    room     bigint,
    seq      bigint,
    kind     smallint NOT NULL,
    whom     text     COLLATE "C",
    payload  bytea    NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE UNIQUE INDEX outbox_by_position ON outbox (position);
CREATE INDEX outbox_fresh ON outbox (id) WHERE position IS NULL;

-- One row: the last position that was given, and up to which events were removed. Whoever gives positions holds it.
CREATE TABLE outbox_state (
    one     smallint PRIMARY KEY CHECK (one = 1),
    last    bigint   NOT NULL,
    expired bigint   NOT NULL
);
INSERT INTO outbox_state (one, last, expired) VALUES (1, 0, 0);

-- Who listens: consumers by their names. filter: veza.gateway.v1.EventFilter, encoded. holder is
-- the stream that has it.
CREATE TABLE consumers (
    name            text   COLLATE "C" PRIMARY KEY,
    filter          bytea  NOT NULL,
    position        bigint NOT NULL,
    holder          bigint NOT NULL,
    created_ms      bigint NOT NULL,
    acknowledged_ms bigint NOT NULL
) WITH (fillfactor = 50);
