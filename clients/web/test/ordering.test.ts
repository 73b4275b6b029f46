import assert from "node:assert/strict";
import { test } from "node:test";
import { HELD_MAX, Ordering } from "../src/sdk/ordering";
import { message } from "./fakes";

const seqs = (messages: { seq: number }[]) => messages.map(({ seq }) => seq);

test("what comes in order is applied at once, what comes twice is not", () => {
  const log = new Ordering(1n, 0);
  assert.deepEqual(seqs(log.accept(message(1))), [1]);
  assert.deepEqual(seqs(log.accept(message(1))), []);
  assert.deepEqual(seqs(log.accept(message(2))), [2]);
  assert.deepEqual(seqs(log.accept(message(1))), []);
  assert.equal(log.last, 2);
  assert.equal(log.hole, undefined);
});

test("what overtakes is held until the missing ones are there", () => {
  const log = new Ordering(1n, 3);
  assert.deepEqual(seqs(log.accept(message(6))), []);
  assert.deepEqual(log.hole, { after: 3, upTo: 5 });
  assert.deepEqual(seqs(log.accept(message(5))), []);
  assert.deepEqual(log.hole, { after: 3, upTo: 4 });
  assert.deepEqual(seqs(log.accept(message(5))), []);
  assert.deepEqual(seqs(log.accept(message(4))), [4, 5, 6]);
  assert.equal(log.hole, undefined);
});

test("a head beyond the last message is a hole without an end", () => {
  const log = new Ordering(1n, 3);
  log.noteHead(1n, 3);
  assert.equal(log.hole, undefined);
  log.noteHead(2n, 9);
  assert.equal(log.hole, undefined, "another epoch's head says nothing");
  log.noteHead(1n, 4);
  assert.deepEqual(log.hole, { after: 3, upTo: 0 });
  assert.deepEqual(seqs(log.accept(message(4))), [4]);
  assert.equal(log.hole, undefined);
});

test("another epoch's messages are not applied", () => {
  const log = new Ordering(1n, 3);
  assert.deepEqual(log.accept(message(4, { epoch: 2n })), []);
  assert.equal(log.hole, undefined);
});

test("a restart keeps what is held after its head", () => {
  const log = new Ordering(1n, 3);
  for (const seq of [7, 11, 12]) log.accept(message(seq));
  assert.deepEqual(seqs(log.restart(1n, 10)), [11, 12]);
  assert.equal(log.last, 12);
  log.accept(message(20));
  assert.deepEqual(seqs(log.restart(2n, 0)), []);
  assert.deepEqual(seqs(log.accept(message(1, { epoch: 2n }))), [1]);
});

test("any order of arrival gives the same log", () => {
  for (let seed = 1; seed <= 50; seed++) {
    let state = seed;
    const next = () => (state = (state * 48_271) % 2_147_483_647);
    const arrivals = Array.from({ length: 40 }, (_, at) => at + 1).sort(() => (next() % 2 === 0 ? -1 : 1));
    const log = new Ordering(1n, 0);
    const applied = arrivals.flatMap((seq) => log.accept(message(seq)).concat(next() % 3 === 0 ? log.accept(message(seq)) : []));
    assert.deepEqual(seqs(applied), Array.from({ length: 40 }, (_, at) => at + 1), `seed ${seed}`);
  }
});

test("as many are held as the bound says, and one more is dropped", () => {
  const log = new Ordering(1n, 0);
  for (let seq = 2; seq <= HELD_MAX + 2; seq++) log.accept(message(seq));
  const applied = log.accept(message(1));
  assert.equal(applied.length, HELD_MAX + 1);
  assert.deepEqual(log.hole, { after: HELD_MAX + 1, upTo: 0 }, "the dropped one is known to be missing");
});
