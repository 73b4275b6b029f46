import assert from "node:assert/strict";
import { test } from "node:test";
import { VezaError } from "../src/sdk/errors";
import { IN_FLIGHT_MAX, Outbox, OUTBOX_MAX, type Receipt } from "../src/sdk/outbox";
import { FakeClock, settle, text } from "./fakes";

/** An outbox whose publishes are answered by hand. */
function story(burst = 1_000) {
  const clock = new FakeClock();
  const outbox = new Outbox(clock, () => {});
  const sent: { cmid: string; resolve(receipt: Receipt): void; reject(error: VezaError): void }[] = [];
  let seq = 0;
  return {
    clock,
    outbox,
    sent,
    cmids: () => sent.map(({ cmid }) => cmid),
    online: () => outbox.online(({ cmid }) => new Promise((resolve, reject) => sent.push({ cmid, resolve, reject })), { perSecond: 20, burst }),
    ack: async (cmid: string) => {
      sent.findLast((one) => one.cmid === cmid)?.resolve({ epoch: 1n, seq: ++seq, atMs: 0 });
      await settle();
    },
    refuse: async (cmid: string, error: VezaError) => {
      sent.findLast((one) => one.cmid === cmid)?.reject(error);
      await settle();
    },
  };
}

test("what is not acknowledged goes out again on the next connection, in order, as the same messages", async () => {
  const { outbox, online, sent, cmids, ack } = story();
  for (const cmid of ["a", "b", "c"]) outbox.add("lobby", cmid, text(cmid));
  assert.deepEqual(cmids(), [], "nothing to send over");
  online();
  assert.deepEqual(cmids(), ["a", "b", "c"]);
  await ack("a");
  const late = sent[1];
  outbox.offline();
  online();
  assert.deepEqual(cmids(), ["a", "b", "c", "b", "c"]);
  late?.reject(new VezaError("permission_denied", "an answer of the old connection"));
  await settle();
  assert.deepEqual(outbox.of("lobby").map(({ cmid, state }) => `${cmid} ${state}`), ["a stored", "b sending", "c sending"]);
});

test("changes keep their place among messages, over a reconnect too", async () => {
  const { outbox, online, cmids, ack } = story();
  outbox.add("lobby", "say", text("helo"));
  online();
  await ack("say");
  outbox.add("lobby", "edit", { kind: "edit", seq: 1, body: "hello", mentions: [] });
  outbox.add("lobby", "more", text("and more"));
  outbox.add("lobby", "react", { kind: "reaction", seq: 1, emoji: "👍", remove: false });
  outbox.add("lobby", "away", { kind: "deletion", seq: 1, reason: "" });
  assert.deepEqual(cmids(), ["say", "edit", "more", "react", "away"]);
  await ack("edit");
  outbox.offline();
  online();
  assert.deepEqual(cmids().slice(5), ["more", "react", "away"]);
});

test("what one room refuses for a while does not hold up the others", async () => {
  const { outbox, online, cmids, refuse, ack } = story();
  const slow = outbox.add("slow", "a", text("too soon"));
  online();
  await refuse("a", new VezaError("slow_mode", "wait", true, 30_000));
  assert.equal(slow.state, "failed");
  const fine = outbox.add("lobby", "b", text("hello"));
  assert.deepEqual(cmids(), ["a", "b"]);
  await ack("b");
  await fine.stored;
});

test("what had been done before leaves with its answer: nothing will be delivered for it", async () => {
  const { outbox, online, ack } = story();
  online();
  outbox.add("lobby", "again", { kind: "pin", seq: 1, remove: false });
  await ack("again");
  outbox.settled("lobby", 1n, 7);
  assert.deepEqual(outbox.of("lobby"), []);
});

test("rate limited: everything waits as long as it is told, then goes on in order", async () => {
  const { clock, outbox, online, cmids, ack, refuse } = story();
  outbox.add("lobby", "a", text("a"));
  outbox.add("lobby", "b", text("b"));
  online();
  await refuse("a", new VezaError("rate_limited", "slower", true, 500));
  await refuse("b", new VezaError("rate_limited", "slower", true, 500));
  outbox.add("lobby", "c", text("c"));
  await clock.pass(499);
  assert.deepEqual(cmids(), ["a", "b"]);
  await clock.pass(200);
  assert.deepEqual(cmids(), ["a", "b", "a", "b", "c"]);
  await ack("a");
});

test("a temporary failure waits longer each time", async () => {
  const { clock, outbox, online, cmids, refuse } = story();
  outbox.add("lobby", "a", text("a"));
  online();
  for (const [waits, attempts] of [[500, 2], [1_000, 3], [2_000, 4]] as const) {
    await refuse("a", new VezaError("unavailable", "the store is away", true));
    await clock.pass(waits - 1);
    assert.equal(cmids().length, attempts - 1);
    await clock.pass(1);
    assert.equal(cmids().length, attempts);
  }
});

test("a refusal for good fails that message only, and it may be tried again", async () => {
  const { outbox, online, cmids, refuse, ack } = story();
  const refused = outbox.add("lobby", "a", text("a"));
  const fine = outbox.add("lobby", "b", text("b"));
  online();
  await refuse("a", new VezaError("permission_denied", "no"));
  await ack("b");
  assert.equal((await fine.stored).seq, 1);
  await assert.rejects(refused.stored, { code: "permission_denied" });
  outbox.retry("lobby", "a");
  assert.deepEqual(cmids(), ["a", "b", "a"]);
});

test("its own rate keeps below the server's, so that nothing is refused", async () => {
  const { clock, outbox, online, cmids, ack } = story(10);
  online();
  for (let at = 0; at < 12; at++) outbox.add("lobby", `m${at}`, text("x"));
  assert.equal(cmids().length, 9, "nine tenths of the burst");
  for (let at = 0; at < 9; at++) await ack(`m${at}`);
  await clock.pass(55);
  assert.equal(cmids().length, 9);
  await clock.pass(1);
  assert.equal(cmids().length, 10, "then eighteen a second");
});

test("in flight and waiting are bounded", async () => {
  const { outbox, online, cmids, ack } = story();
  online();
  for (let at = 0; at < OUTBOX_MAX; at++) outbox.add("lobby", `m${at}`, text("x"));
  assert.equal(cmids().length, IN_FLIGHT_MAX);
  assert.throws(() => outbox.add("lobby", "one more", text("x")), { code: "limit" });
  await ack("m0");
  assert.equal(cmids().length, IN_FLIGHT_MAX + 1);
});

test("a delivery is as good as an acknowledgement", async () => {
  const { outbox, online, ack } = story();
  online();
  const outgoing = outbox.add("lobby", "a", text("a"));
  outbox.delivered("lobby", "a", { epoch: 1n, seq: 7, atMs: 1 });
  assert.equal((await outgoing.stored).seq, 7);
  assert.deepEqual(outbox.of("lobby"), []);
  await ack("a");
  assert.deepEqual(outbox.of("lobby"), [], "the answer that comes later changes nothing");
});
