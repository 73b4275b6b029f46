-- Up to which entry a room's words are in the index. What is missing is taken in before the next search, or when enough
-- has come together: a commit of one message would write more for the index than for the message.
ALTER TABLE rooms ADD COLUMN indexed INTEGER NOT NULL DEFAULT 0;
UPDATE rooms SET indexed = head;
CREATE INDEX rooms_unindexed ON rooms (head) WHERE indexed < head;
