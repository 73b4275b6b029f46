import assert from "node:assert/strict";
import { test } from "node:test";
import { HEAD_START_MS, OPEN_TIMEOUT_MS, race, REMEMBER_MS, WinnerMemory } from "../src/sdk/race";
import { FakeClock, FakeOpener } from "./fakes";

test("WebTransport that opens in its head start wins alone", async () => {
  const clock = new FakeClock();
  const wt = new FakeOpener("webtransport", clock, { opensAfterMs: HEAD_START_MS - 1 });
  const ws = new FakeOpener("websocket", clock, { opensAfterMs: 5 });
  const winner = race([wt, ws], clock);
  await clock.pass(1_000);
  assert.equal((await winner).transport, "webtransport");
  assert.equal(ws.openedAtMs, undefined, "nobody needed the fallback");
});

test("silence costs the head start, not a timeout", async () => {
  const clock = new FakeClock();
  const start = clock.now();
  const wt = new FakeOpener("webtransport", clock, "silent");
  const ws = new FakeOpener("websocket", clock, { opensAfterMs: 20 });
  const winner = race([wt, ws], clock);
  await clock.pass(HEAD_START_MS + 20);
  assert.equal((await winner).transport, "websocket");
  assert.equal(ws.openedAtMs, start + HEAD_START_MS);
  assert.ok(wt.aborted, "the loser is cancelled");
});

test("a refusal starts the fallback at once", async () => {
  const clock = new FakeClock();
  const start = clock.now();
  const ws = new FakeOpener("websocket", clock, { opensAfterMs: 5 });
  const winner = race([new FakeOpener("webtransport", clock, { failsAfterMs: 3 }), ws], clock);
  await clock.pass(10);
  assert.equal((await winner).transport, "websocket");
  assert.equal(ws.openedAtMs, start + 3);
});

test("a loser that opens after all is closed", async () => {
  const clock = new FakeClock();
  const wt = new FakeOpener("webtransport", clock, { opensAfterMs: HEAD_START_MS + 100 });
  const ws = new FakeOpener("websocket", clock, { opensAfterMs: 50 });
  const winner = race([wt, ws], clock);
  await clock.pass(1_000);
  assert.equal(await winner, ws.link);
  assert.equal(wt.link.closed, 4000);
  assert.deepEqual(wt.link.said, [], "it never carried credentials");
});

test("all refused, all silent, aborted", async () => {
  const clock = new FakeClock();
  const refused = race([new FakeOpener("webtransport", clock, { failsAfterMs: 1 }), new FakeOpener("websocket", clock, { failsAfterMs: 1 })], clock);
  const rejection = assert.rejects(refused, /refused/);
  await clock.pass(10);
  await rejection;

  const silent = assert.rejects(race([new FakeOpener("webtransport", clock, "silent")], clock));
  await clock.pass(OPEN_TIMEOUT_MS);
  await silent;

  const abort = new AbortController();
  const opener = new FakeOpener("webtransport", clock, "silent");
  const aborted = assert.rejects(race([opener], clock, abort.signal));
  abort.abort();
  await aborted;
  assert.ok(opener.aborted);
});

test("the winner is remembered for a day", () => {
  const clock = new FakeClock();
  const kept = new Map<string, string>();
  const storage = { getItem: (key: string) => kept.get(key) ?? null, setItem: (key: string, value: string) => void kept.set(key, value) };
  const memory = new WinnerMemory("https://a:1/wt", clock, storage);
  assert.equal(memory.recall(), undefined);
  memory.remember("websocket");
  assert.equal(memory.recall(), "websocket");
  assert.equal(new WinnerMemory("https://b:1/wt", clock, storage).recall(), undefined, "per server");
  clock.ms += REMEMBER_MS - 1;
  assert.equal(memory.recall(), "websocket");
  clock.ms += 1;
  assert.equal(memory.recall(), undefined);
  kept.set("veza.transport:https://a:1/wt", "{ broken");
  assert.equal(memory.recall(), undefined);
});
