// The whole client over a real WebSocket, against the small stage.server.

import assert from "node:assert/strict";
import { test } from "node:test";
import { connect, VezaError } from "../src/sdk/index";
import { FakeServer } from "./fakeserver";
import { setStage, until } from "./stage";

const stage = setStage();

const seqs = (messages: readonly { seq: number }[]) => messages.map(({ seq }) => seq);
const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, at) => from + at);

test("two people talk, and each hears both in the same order", async () => {
  const alice = await stage.join("alice");
  const bob = await stage.join("bob");
  await alice.room.publish("hello bob").stored;
  await bob.room.publish("hello alice").stored;
  await until(() => alice.heard.length === 2 && bob.heard.length === 2);
  for (const { heard } of [alice, bob]) assert.deepEqual(heard.map(({ author, body }) => `${author}: ${body}`), ["alice: hello bob", "bob: hello alice"]);
  assert.deepEqual(alice.room.pending, []);
  await until(() => alice.room.people.total === 2);
  assert.deepEqual(alice.room.people.present, ["alice", "bob"]);
  await until(() => alice.client.rttMs !== undefined);
});

test("typing is heard and ends", async () => {
  const alice = await stage.join("alice");
  const bob = await stage.join("bob");
  alice.room.setTyping(true);
  alice.room.setTyping(true);
  await until(() => bob.room.people.typing[0] === "alice");
  alice.room.setTyping(false);
  await until(() => bob.room.people.typing.length === 0);
  alice.room.setTyping(true);
  await until(() => bob.room.people.typing[0] === "alice");
  await alice.room.publish("done").stored;
  await until(() => bob.heard.length === 1);
  assert.deepEqual(bob.room.people.typing, [], "who has spoken has stopped typing");
});

test("history comes page by page without holes", async () => {
  for (let at = 1; at <= 120; at++) stage.server.say("lobby", "bob", `old ${at}`);
  const { room, heard } = await stage.join("alice");
  assert.ok(room.hasOlder);
  assert.equal(await room.loadOlder(), true);
  assert.deepEqual(seqs(room.messages), numbers(71, 120));
  stage.server.say("lobby", "bob", "new");
  assert.equal(await room.loadOlder(), true);
  assert.equal(await room.loadOlder(), false);
  assert.deepEqual(seqs(room.messages), numbers(1, 121));
  assert.deepEqual(seqs(heard), [121]);
});

test("a lost delivery is repaired, in order", async () => {
  const { room, heard } = await stage.join("alice");
  stage.server.lose.add(2).add(5);
  for (let at = 1; at <= 5; at++) stage.server.say("lobby", "bob", `m${at}`);
  await until(() => heard.length === 5);
  assert.deepEqual(seqs(heard), numbers(1, 5));
  assert.deepEqual(seqs(room.messages), numbers(1, 5));
});

test("a lagging mark is caught up with", async () => {
  const { heard } = await stage.join("alice");
  const lobby = stage.server.room("lobby");
  for (let seq = 1; seq <= 230; seq++) lobby.log.push({ seq, cmid: `c${seq}`, author: "bob", body: `m${seq}`, atMs: seq });
  stage.server.toAll("lobby", { case: "roomLagging", value: { room: "lobby", epoch: 1n, lastDelivered: 0n } });
  await until(() => heard.length === 230);
  assert.deepEqual(seqs(heard), numbers(1, 230));
});

test("a broken link comes back by itself: nothing missed, nothing twice, and the acknowledgement that was lost", async () => {
  const alice = await stage.join("alice");
  const bob = await stage.join("bob");
  await alice.room.publish("one").stored;
  stage.server.breakBeforeAck = 1;
  const two = alice.room.publish("two");
  const three = alice.room.publish("three");
  assert.equal((await two.stored).seq, 2);
  await three.stored;
  await until(() => alice.heard.length === 3 && bob.heard.length === 3);
  assert.deepEqual(alice.heard.map(({ body }) => body), ["one", "two", "three"]);
  assert.deepEqual(seqs(alice.heard), [1, 2, 3]);
  assert.equal(stage.server.room("lobby").log.length, 3, "stored once each");
  assert.equal(stage.server.sessions, 2, "the session was resumed");
});

test("messages written while the server is away are kept and sent in order", async () => {
  const { client, room, heard } = await stage.join("alice");
  const { port, rooms } = stage.server;
  await stage.server.stop();
  await until(() => client.status.state !== "online");
  const written = numbers(1, 25).map((at) => room.publish(`offline ${at}`));
  assert.equal(client.unacknowledged, 25);
  stage.server = await FakeServer.start(port);
  for (const [id, kept] of rooms) stage.server.rooms.set(id, kept);
  client.reconnectNow();
  await Promise.all(written.map(({ stored }) => stored));
  await until(() => heard.length === 25);
  assert.deepEqual(heard.map(({ body }) => body), numbers(1, 25).map((at) => `offline ${at}`));
});

test("too far behind: the hole is filled when it is small, else the log starts anew at its end", async () => {
  const { room, heard } = await stage.join("alice");
  stage.server.say("lobby", "bob", "first");
  await until(() => heard.length === 1);
  const lobby = stage.server.room("lobby");
  const add = (upTo: number) => {
    for (let seq = lobby.log.length + 1; seq <= upTo; seq++) lobby.log.push({ seq, cmid: `c${seq}`, author: "bob", body: `m${seq}`, atMs: seq });
  };
  add(200);
  stage.server.drop();
  await until(() => heard.length === 200);
  assert.deepEqual(seqs(heard), numbers(1, 200));

  let gaps = 0;
  room.on("gap", () => (gaps += 1));
  add(900);
  stage.server.drop();
  await until(() => gaps === 1 && room.messages.length === 50);
  assert.deepEqual(seqs(room.messages), numbers(851, 900));
  assert.equal(room.hasOlder, true);
  stage.server.say("lobby", "bob", "next");
  await until(() => heard.at(-1)?.seq === 901);
});

test("another epoch is another log", async () => {
  const { client, room, heard } = await stage.join("alice");
  for (const body of ["a", "b", "c"]) stage.server.say("lobby", "bob", body);
  await until(() => heard.length === 3);
  const lobby = stage.server.room("lobby");
  lobby.epoch = 2n;
  lobby.log.length = 1;
  stage.server.drop();
  await until(() => room.messages[0]?.epoch === 2n);
  assert.deepEqual(seqs(room.messages), [1]);
  stage.server.say("lobby", "bob", "in the new log");
  await until(() => heard.length === 4);
  assert.equal(heard[3]?.seq, 2);
  assert.deepEqual([client.unread.of("lobby")?.head, client.unread.of("lobby")?.unread], [2, 1], "and counted anew");
});

test("being told to slow down costs time, not messages", async () => {
  const { room, heard } = await stage.join("alice");
  stage.server.rateLimited = 3;
  const written = numbers(1, 5).map((at) => room.publish(`m${at}`));
  await Promise.all(written.map(({ stored }) => stored));
  await until(() => heard.length === 5);
  assert.equal(stage.server.room("lobby").log.length, 5);
});

test("a refused message fails, stays, and may be discarded", async () => {
  const { room } = await stage.join("alice");
  const refused = room.publish("/fail");
  await assert.rejects(refused.stored, (error) => error instanceof VezaError && error.code === "permission_denied");
  assert.equal(room.pending[0]?.state, "failed");
  room.discard(refused.cmid);
  assert.equal(room.pending.length, 0);
});

test("bodies have a bound, in bytes of UTF-8", async () => {
  const { room } = await stage.join("alice");
  assert.throws(() => room.publish(""), { code: "invalid_argument" });
  assert.throws(() => room.publish("ž".repeat(16_385)), { code: "too_large" });
  await room.publish("ž".repeat(16_384)).stored;
});

test("a drain moves us to a new link; a kick ends it for good", async () => {
  const { client, heard } = await stage.join("alice");
  const hellos = stage.server.hellos;
  for (const peer of stage.server.peers) peer.push({ case: "reconnect", value: { afterMs: 30, reason: "drain" } });
  await until(() => stage.server.hellos === hellos + 1 && client.status.state === "online");
  stage.server.say("lobby", "bob", "still here");
  await until(() => heard.length === 1);
  for (const peer of stage.server.peers) {
    peer.push({ case: "closing", value: { code: 4503, reason: "kicked", retryAfterMs: 0 } });
    peer.socket.close(4503, "kicked");
  }
  await until(() => client.status.state === "stopped");
  assert.equal(client.status.state === "stopped" && client.status.error?.closeCode, 4503);
  await assert.rejects(client.listRooms(), { code: "closed" });
});

test("a refused token is replaced; when the new ones are refused too, that is the end", async () => {
  stage.server.refuseTokens = 1;
  let asked = 0;
  const client = connect({ websocketUrl: stage.server.websocketUrl, token: async () => `user${++asked}` });
  stage.clients.push(client);
  await until(() => client.status.state === "online");
  assert.equal(client.me, "user2");

  stage.server.refuseTokens = 100;
  const unwanted = stage.connect("mallory");
  await until(() => unwanted.status.state === "stopped");
  assert.equal(unwanted.status.state === "stopped" && unwanted.status.error?.code, "unauthenticated");
});

test("unknown rooms, rooms made and left", async () => {
  const { client, room } = await stage.join("alice");
  await assert.rejects(client.join("nowhere"), { code: "not_found" });
  assert.equal(client.rooms.has("nowhere"), false);
  await client.createRoom("jazz", "Jazz");
  await assert.rejects(client.createRoom("jazz", "Jazz"), { code: "already_exists" });
  await client.join("jazz");
  assert.deepEqual((await client.listRooms({ mine: true })).rooms.map(({ id, title }) => `${id}: ${title}`), ["jazz: Jazz", "lobby: Lobby"]);
  await client.leave("lobby");
  assert.equal(room.state, "gone");
  assert.deepEqual((await client.listRooms({ mine: true })).rooms.map(({ id }) => id), ["jazz"]);
});
