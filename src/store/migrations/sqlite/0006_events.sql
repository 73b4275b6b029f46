-- What happened, in the order of the commits, while somebody listens. kind: veza.gateway.v1.EventKind. A message is told by
-- its room and number and read when it is delivered; everything else carries a veza.gateway.v1.Event with its kind alone.
CREATE TABLE outbox (
    position INTEGER PRIMARY KEY,
    at_ms    INTEGER NOT NULL,
    kind     INTEGER NOT NULL,
    room     INTEGER,
    seq      INTEGER,
    whom     TEXT,
    payload  BLOB    NOT NULL
) STRICT;

-- One row: up to which position events were removed.
CREATE TABLE outbox_state (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    expired INTEGER NOT NULL
) STRICT;
INSERT INTO outbox_state (one, expired) VALUES (1, 0);

-- Who listens: consumers by their names. filter: veza.gateway.v1.EventFilter, encoded. holder is
-- the stream that has it.
CREATE TABLE consumers (
    name            TEXT    PRIMARY KEY,
    filter          BLOB    NOT NULL,
    position        INTEGER NOT NULL,
    holder          INTEGER NOT NULL,
    created_ms      INTEGER NOT NULL,
    acknowledged_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
