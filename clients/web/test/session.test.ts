import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "../src/sdk/client";
import { DEAD_AFTER_MS, PROBE_AFTER_MS, REPLY_TIMEOUT_MS, Session, type SessionEnd } from "../src/sdk/session";
import { FakeClock, FakeLink, FakeOpener, type ReplyInit, type Said, settle, wireMessage } from "./fakes";

function story(answer?: (said: Said) => ReplyInit | undefined) {
  const clock = new FakeClock();
  const link = new FakeLink("webtransport", answer);
  const ends: SessionEnd[] = [];
  const rtts: number[] = [];
  const session = new Session(link, clock, { push: () => {}, media: () => {}, rtt: (ms) => rtts.push(ms), ended: (end) => ends.push(end) });
  return { clock, link, session, ends, rtts };
}

test("each command takes its lane and finds its reply, in whatever order they come", async () => {
  const { link, session } = story();
  const publish = session.call({ case: "publish", value: { room: "lobby", cmid: "c", body: "b" } }, "published");
  const history = session.call({ case: "history", value: { room: "lobby" } }, "historyPage");
  session.tell({ case: "typing", value: { room: "lobby", active: true } });
  assert.deepEqual(link.said.map(({ lane, id }) => [lane, id]), [["chat", 1], ["bulk", 2], ["volatile", 0]]);
  link.reply(2, { case: "historyPage", value: { head: 3n } });
  link.reply(1, { case: "published", value: { seq: 4n } });
  link.reply(99, { case: "pong", value: {} });
  assert.equal((await history).head, 3n);
  assert.equal((await publish).seq, 4n);
});

test("the round trip is measured after the welcome and every ten seconds", async () => {
  const { clock, session, rtts } = story(({ command }): ReplyInit | undefined => {
    if (command.case === "hello") return { case: "welcome", value: { user: "alice" } };
    return command.case === "ping" ? { case: "pong", value: {} } : undefined;
  });
  await session.hello({ token: "t" });
  await settle();
  assert.equal(rtts.length, 1);
  await clock.pass(30_000);
  assert.equal(rtts.length, 4);
});

test("silence while an answer is due is probed, then ends the link", async () => {
  const { clock, link, session, ends } = story();
  const lost = assert.rejects(session.call({ case: "publish", value: {} }, "published"), { code: "connection_lost" });
  await clock.pass(PROBE_AFTER_MS);
  assert.equal(link.of("ping").length, 1);
  await clock.pass(DEAD_AFTER_MS - 1);
  assert.equal(ends.length, 0);
  await clock.pass(1);
  assert.equal(ends.length, 1);
  assert.equal(link.closed, 4410);
  await lost;
});

test("a slow answer is no silence as long as the probe is answered", async () => {
  const { clock, session, ends } = story(({ command }) => (command.case === "ping" ? { case: "pong", value: {} } : undefined));
  const slow = assert.rejects(session.call({ case: "publish", value: {} }, "published"), { code: "timeout" });
  await clock.pass(REPLY_TIMEOUT_MS);
  await slow;
  assert.equal(ends.length, 0);
});

test("the closing push says the code, whatever the transport says after it", async () => {
  const { clock, link, ends } = story();
  link.push({ case: "closing", value: { code: 4013, reason: "overloaded", retryAfterMs: 700 } });
  link.end(0, "connection reset");
  assert.deepEqual(ends, [{ code: 4013, reason: "overloaded", retryAfterMs: 700 }]);
  await clock.pass(5_000);
  assert.equal(ends.length, 1);
});

test("a link that should be heard and is not has less time than others, and one that says anything has more", async () => {
  const { clock, link, session, ends } = story();
  session.probe(1_500);
  session.probe(1_500);
  assert.equal(link.of("ping").length, 1);
  await clock.pass(1_000);
  link.hear(Uint8Array.of(2));
  await clock.pass(1_000);
  assert.equal(ends.length, 0);
  session.probe(1_500);
  await clock.pass(1_499);
  assert.equal(ends.length, 0);
  await clock.pass(1);
  assert.deepEqual([ends.length, link.closed], [1, 4410]);
});

const welcome = (said: Said): ReplyInit | undefined => {
  switch (said.command.case) {
    case "hello":
      return { case: "welcome", value: { user: "alice", sessionId: "s", resumeToken: "r", tokenExpiresMs: 10n ** 15n } };
    case "ping":
      return { case: "pong", value: {} };
    case "joinRoom":
      return { case: "roomJoined", value: { room: { id: "lobby", epoch: 1n, head: 4n }, verdict: { outcome: { case: "live", value: {} } } } };
    default:
      return undefined;
  }
};

test("on WebSocket, WebTransport is tried again in the background and takes the session over", async () => {
  const clock = new FakeClock();
  const slow = new FakeOpener("webtransport", clock, "silent");
  const ws = new FakeOpener("websocket", clock, { opensAfterMs: 10 });
  const wt = new FakeOpener("webtransport", clock, { opensAfterMs: 10 });
  for (const { link } of [ws, wt]) link.answer = welcome;
  let offered = [slow, ws];
  const client = connect({ token: async () => "t", clock, openers: () => [...offered] });
  await clock.pass(500);
  assert.equal(client.status.state === "online" && client.status.transport, "websocket");
  const room = await client.join("lobby");
  const outgoing = room.publish("on its way");
  await settle();
  const first = ws.link.of("publish")[0];

  offered = [wt, ws];
  await clock.pass(5_100);
  assert.equal(client.status.state === "online" && client.status.transport, "webtransport");
  const hello = wt.link.of("hello")[0];
  assert.equal(hello?.resumeToken, "r");
  assert.deepEqual(hello?.rooms.map(({ room: id, epoch, lastSeq }) => `${id} ${epoch} ${lastSeq}`), ["lobby 1 4"]);
  assert.equal(wt.link.of("publish")[0]?.cmid, first?.cmid, "what was not acknowledged is sent again as the same message");
  wt.link.push({ case: "message", value: { message: { ...wireMessage(5), author: "alice", cmid: outgoing.cmid } } });
  assert.equal((await outgoing.stored).seq, 5);
  client.close();
  assert.equal(wt.link.of("bye").length, 1);
});

test("deliveries that overtake the answer to a join are kept for it", async () => {
  const clock = new FakeClock();
  const wt = new FakeOpener("webtransport", clock, { opensAfterMs: 1 });
  wt.link.answer = (said, link) => {
    if (said.command.case === "joinRoom") for (const seq of [5, 6]) link.push({ case: "message", value: { message: wireMessage(seq) } });
    return welcome(said);
  };
  const client = connect({ token: async () => "t", clock, openers: () => [wt] });
  await clock.pass(10);
  const room = await client.join("lobby");
  assert.deepEqual(room.messages.map(({ seq }) => seq), [5, 6]);
  client.close();
});
