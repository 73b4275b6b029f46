-- Where events are delivered by HTTP. The filter and the position are those of the consumer webhook:<id>. Deliveries are
-- signed with secret, and until old_until_ms with old_secret too. revision counts the changes that somebody made, rewound
-- how often it was set back; holder is the node that delivers and beat its last sign of life, letters the last number that
-- a dead letter was given, tries, first_try_ms and due_ms the event behind the position.
CREATE TABLE webhooks (
    id              text   COLLATE "C" PRIMARY KEY,
    url             text   NOT NULL,
    paused          bigint NOT NULL,
    created_ms      bigint NOT NULL,
    secret          text   NOT NULL,
    old_secret      text   NOT NULL,
    old_until_ms    bigint NOT NULL,
    revision        bigint NOT NULL,
    rewound         bigint NOT NULL,
    holder          bigint NOT NULL,
    beat            bigint NOT NULL,
    letters         bigint NOT NULL,
    last_outcome    text   NOT NULL,
    last_attempt_ms bigint NOT NULL,
    failures        bigint NOT NULL,
    tries           bigint NOT NULL,
    first_try_ms    bigint NOT NULL,
    due_ms          bigint NOT NULL
) WITH (fillfactor = 50);

-- Events that could not be delivered, as the outbox has them: a message by its room and number. requeued_ms is not 0 while
-- one is to be delivered again.
CREATE TABLE dead_letters (
    webhook          text   COLLATE "C" NOT NULL,
    number           bigint NOT NULL,
    delivery         text   NOT NULL,
    position         bigint NOT NULL,
    at_ms            bigint NOT NULL,
    room             bigint,
    seq              bigint,
    whom             text   NOT NULL,
    payload          bytea  NOT NULL,
    attempts         bigint NOT NULL,
    first_attempt_ms bigint NOT NULL,
    last_attempt_ms  bigint NOT NULL,
    outcome          text   NOT NULL,
    requeued_ms      bigint NOT NULL,
    tries            bigint NOT NULL,
    due_ms           bigint NOT NULL,
    PRIMARY KEY (webhook, number)
);
CREATE INDEX dead_letters_requeued ON dead_letters (webhook, number) WHERE requeued_ms > 0;
