-- Where events are delivered by HTTP. The filter and the position are those of the consumer webhook:<id>. Deliveries are
-- signed with secret, and until old_until_ms with old_secret too. revision counts the changes that somebody made, rewound
-- how often it was set back; holder is the node that delivers and beat its last sign of life, letters the last number that
-- a dead letter was given, tries, first_try_ms and due_ms the event behind the position.
CREATE TABLE webhooks (
    id              TEXT    PRIMARY KEY,
    url             TEXT    NOT NULL,
    paused          INTEGER NOT NULL,
    created_ms      INTEGER NOT NULL,
    secret          TEXT    NOT NULL,
    old_secret      TEXT    NOT NULL,
    old_until_ms    INTEGER NOT NULL,
    revision        INTEGER NOT NULL,
    rewound         INTEGER NOT NULL,
    holder          INTEGER NOT NULL,
    beat            INTEGER NOT NULL,
    letters         INTEGER NOT NULL,
    last_outcome    TEXT    NOT NULL,
    last_attempt_ms INTEGER NOT NULL,
    failures        INTEGER NOT NULL,
    tries           INTEGER NOT NULL,
    first_try_ms    INTEGER NOT NULL,
    due_ms          INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Events that could not be delivered, as the outbox has them: a message by its room and number. requeued_ms is not 0 while
-- one is to be delivered again.
CREATE TABLE dead_letters (
    webhook          TEXT    NOT NULL,
    number           INTEGER NOT NULL,
    delivery         TEXT    NOT NULL,
    position         INTEGER NOT NULL,
    at_ms            INTEGER NOT NULL,
    room             INTEGER,
    seq              INTEGER,
    whom             TEXT    NOT NULL,
    payload          BLOB    NOT NULL,
    attempts         INTEGER NOT NULL,
    first_attempt_ms INTEGER NOT NULL,
    last_attempt_ms  INTEGER NOT NULL,
    outcome          TEXT    NOT NULL,
    requeued_ms      INTEGER NOT NULL,
    tries            INTEGER NOT NULL,
    due_ms           INTEGER NOT NULL,
    PRIMARY KEY (webhook, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX dead_letters_requeued ON dead_letters (webhook, number) WHERE requeued_ms > 0;
