// Everything that happens to messages, rooms and members, over a real WebSocket against the small server.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Role, type SystemKind } from "../src/gen/veza/v1/chat_pb";
import type { Message } from "../src/sdk/index";
import { TIMELINE_MAX } from "../src/sdk/timeline";
import { setStage, until } from "./stage";

const stage = setStage();

const seqs = (messages: readonly { seq: number }[]) => messages.map(({ seq }) => seq);
const bodies = (messages: readonly Message[]) => messages.map(({ body, deleted }) => (deleted ? "†" : body));
const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, at) => from + at);
const edit = (target: number, body: string, revision: number) => ({ case: "edit", value: { target: BigInt(target), body, revision } }) as const;
const deletion = (target: number) => ({ case: "deletion", value: { target: BigInt(target) } }) as const;

test("an edit, a reaction, a pin and a deletion show on both sides, and are no messages", async () => {
  const alice = await stage.join("alice");
  const bob = await stage.join("bob");
  await alice.room.publish("helo").stored;
  await bob.room.publish("what?").stored;
  await alice.room.edit(1, "hello").stored;
  await bob.room.react(1, "👍").stored;
  await alice.room.react(1, "👍").stored;
  await bob.room.react(1, "👍", true).stored;
  await alice.room.pin(1).stored;
  await bob.room.delete(2).stored;
  for (const { room, heard } of [alice, bob]) {
    await until(() => room.head === 8);
    assert.deepEqual(seqs(heard), [1, 2]);
    assert.deepEqual(bodies(room.messages), ["hello", "†"]);
    const first = room.messages[0];
    assert.deepEqual([first?.edits, first?.pinned, room.messages[1]?.deleted?.by], [1, true, "bob"]);
    assert.deepEqual(first?.reactions, [{ emoji: "👍", count: 1, mine: room === alice.room }]);
    assert.deepEqual(room.pending, [], "what was done needs no place among what is on its way");
  }
  assert.deepEqual((await bob.room.listRevisions(1)).map(({ revision, body }) => `${revision} ${body}`), ["0 helo", "1 hello"]);
  assert.deepEqual(await bob.room.listReactions(1, "👍"), { users: ["alice"], total: 1 });
  assert.deepEqual(seqs(await bob.room.listPins()), [1]);
});

test("a newcomer's pages have holes where changes stand, and lack nothing", async () => {
  const { server } = stage;
  for (let at = 1; at <= 90; at++) {
    const { seq } = server.say("lobby", "bob", `m${at}`);
    server.change("lobby", "bob", edit(seq, `e${at}`, 1));
    server.say("lobby", "bob", `reply ${at}`, Date.now(), undefined, { thread: BigInt(seq) });
  }
  const { room } = await stage.join("alice");
  while (await room.loadOlder());
  assert.deepEqual(bodies(room.messages), numbers(1, 90).map((at) => `e${at}`));
  assert.deepEqual(seqs(room.messages), numbers(0, 89).map((at) => 1 + 3 * at));
  assert.ok(room.messages.every(({ replies }) => replies?.count === 1));
});

test("what is changed while the link is away is changed when it is back", async () => {
  const { server } = stage;
  const { room } = await stage.join("alice");
  for (const body of ["one", "two", "three"]) server.say("lobby", "bob", body);
  await until(() => room.messages.length === 3);
  server.drop();
  server.change("lobby", "bob", edit(1, "ONE", 1));
  server.change("lobby", "bob", deletion(2));
  server.say("lobby", "bob", "four");
  server.change("lobby", "bob", edit(6, "FOUR", 1));
  await until(() => room.head === 7);
  assert.deepEqual(bodies(room.messages), ["ONE", "†", "three", "FOUR"]);
});

test("a page that is overtaken by a deletion does not bring the text back", async () => {
  const { server } = stage;
  for (let at = 1; at <= 60; at++) server.say("lobby", "bob", `m${at}`);
  const { room } = await stage.join("alice");
  server.historyDelayMs = 40;
  const loading = room.loadOlder();
  await new Promise((resolve) => setTimeout(resolve, 10)); // The page has been read, and is on its way.
  server.change("lobby", "bob", deletion(60));
  server.change("lobby", "bob", edit(59, "edited", 1));
  await loading;
  assert.deepEqual(bodies(room.messages).slice(-2), ["edited", "†"]);
});

test("an edit keeps its cmid and its place over a lost acknowledgement", async () => {
  const { server } = stage;
  const { room, heard } = await stage.join("alice");
  await room.publish("helo").stored;
  server.breakBeforeAck = 1;
  const edited = room.edit(1, "hello");
  const next = room.publish("and more");
  const again = room.edit(1, "hello!");
  await Promise.all([edited.stored, next.stored, again.stored]);
  await until(() => room.head === 4);
  assert.equal((await edited.stored).seq, 2);
  assert.equal(server.room("lobby").head, 4, "written once each");
  assert.deepEqual(bodies(room.messages), ["hello!", "and more"]);
  assert.deepEqual(bodies(heard), ["helo", "and more"], "heard as it was said");
});

test("what may not be changed says why", async () => {
  const { room } = await stage.join("alice");
  stage.server.say("lobby", "bob", "mine");
  await until(() => room.head === 1);
  await assert.rejects(room.edit(1, "yours").stored, { code: "permission_denied" });
  await assert.rejects(room.react(99, "👍").stored, { code: "not_found" });
  stage.server.change("lobby", "bob", deletion(1));
  await assert.rejects(room.react(1, "👍").stored, { code: "gone" });
  assert.equal(room.pending.length, 3, "until they are discarded");
});

test("all pins are had, however they fit in answers", async () => {
  const { room } = await stage.join("alice");
  for (let at = 1; at <= 5; at++) stage.server.say("lobby", "bob", `m${at}`);
  for (const seq of [1, 3, 5]) stage.server.change("lobby", "bob", { case: "pin", value: { target: BigInt(seq) } });
  assert.deepEqual(seqs(await room.listPins()), [5, 3, 1]);
});

test("a thread: replies stand beside the room, and its first message counts them", async () => {
  const alice = await stage.join("alice");
  const bob = await stage.join("bob");
  await alice.room.publish("topic").stored;
  await bob.room.publish("before anybody looks", { thread: 1 }).stored;
  const thread = alice.room.openThread(1);
  await thread.load();
  assert.deepEqual([thread.root?.body, ...bodies(thread.replies)], ["topic", "before anybody looks"]);
  await bob.room.publish("live", { thread: 1 }).stored;
  await alice.room.edit(1, "the topic").stored;
  await bob.room.edit(3, "alive").stored;
  await until(() => alice.room.head === 5);
  assert.deepEqual([thread.root?.body, ...bodies(thread.replies)], ["the topic", "before anybody looks", "alive"]);
  assert.deepEqual(bodies(alice.room.messages), ["the topic"]);
  assert.equal(alice.room.messages[0]?.replies?.count, 2);
  assert.equal((await alice.room.entry(3))?.thread, 1, "a link to a reply says where it stands");
  thread.close();
  await bob.room.publish("nobody looks", { thread: 1 }).stored;
  await until(() => alice.room.head === 6);
  assert.equal(thread.replies.length, 2);
});

test("replies that come while a thread loads are there once", async () => {
  const { server } = stage;
  const { room } = await stage.join("alice");
  server.say("lobby", "bob", "topic");
  await until(() => room.head === 1);
  server.historyDelayMs = 40;
  const thread = room.openThread(1);
  const loading = thread.load();
  await new Promise((resolve) => setTimeout(resolve, 10));
  server.say("lobby", "bob", "late", Date.now(), undefined, { thread: 1n });
  await loading;
  assert.deepEqual(bodies(thread.replies), ["late"]);
});

test("a jump into the past: what is said meanwhile is not put behind it, and the way back has no hole", async () => {
  const { server } = stage;
  for (let at = 1; at <= 400; at++) server.say("lobby", "bob", `m${at}`);
  const { room, heard } = await stage.join("alice");
  await room.loadOlder();
  assert.equal(await room.loadAround(100), true);
  assert.ok(room.hasNewer && room.hasOlder);
  assert.ok(room.find(100) && !room.find(400));
  server.say("lobby", "bob", "meanwhile");
  server.change("lobby", "bob", edit(100, "edited", 1));
  await until(() => room.head === 402);
  assert.equal(room.find(401), undefined);
  assert.equal(room.find(100)?.body, "edited");
  assert.deepEqual(seqs(heard), [401], "it is told all the same");
  while (await room.loadNewer());
  const first = room.messages[0]?.seq ?? 0;
  assert.deepEqual(seqs(room.messages), numbers(first, 401));
  server.say("lobby", "bob", "and on");
  await until(() => room.find(403) !== undefined);
  await room.loadAround(50);
  await room.loadNewest();
  assert.equal(room.hasNewer, false);
  assert.equal(room.messages.at(-1)?.seq, 403);
  const before = seqs(room.messages);
  assert.equal(await room.loadAround(402), false, "a change stands nowhere");
  assert.deepEqual(seqs(room.messages), before, "and what is around it is loaded already");
});

test("what is said while the last page is on its way belongs to the room too", async () => {
  const { server } = stage;
  for (let at = 1; at <= 130; at++) server.say("lobby", "bob", `m${at}`);
  const { room } = await stage.join("alice");
  await room.loadAround(20);
  server.historyDelayMs = 30;
  const speaking = setInterval(() => server.room("lobby").head < 140 && server.say("lobby", "bob", "meanwhile"), 10);
  while (await room.loadNewer());
  clearInterval(speaking);
  await until(() => room.head === server.room("lobby").head);
  assert.deepEqual(seqs(room.messages), numbers(room.messages[0]?.seq ?? 0, server.room("lobby").head));
});

test("memory is bounded: whoever scrolls far up drops the end, and finds it again", async () => {
  const { server } = stage;
  for (let at = 1; at <= TIMELINE_MAX + 300; at++) server.room("lobby").append("bob", `c${at}`, `m${at}`);
  const { room } = await stage.join("alice");
  while (await room.loadOlder());
  assert.equal(room.messages.length, TIMELINE_MAX);
  assert.equal(room.messages[0]?.seq, 1);
  assert.ok(room.hasNewer);
  while (await room.loadNewer());
  assert.deepEqual(seqs(room.messages), numbers(301, TIMELINE_MAX + 300));
});

test("unread and mentions are counted over all rooms, and read by a mark", async () => {
  const { server } = stage;
  server.room("jazz");
  const alice = await stage.join("alice");
  const jazz = await alice.client.join("jazz");
  const bob = await stage.join("bob");
  await bob.room.publish("hello").stored;
  await bob.room.publish("@alice, are you there?").stored;
  await until(() => alice.client.unread.of("lobby")?.unread === 2);
  assert.equal(alice.client.unread.of("lobby")?.mentions, 1);
  await bob.room.edit(1, "hello @alice").stored;
  await until(() => alice.room.head === 3);
  assert.equal(alice.client.unread.of("lobby")?.unread, 2, "an edit is nothing new");
  await alice.client.refreshUnread();
  assert.deepEqual([alice.client.unread.of("lobby")?.unread, alice.client.unread.of("jazz")?.unread], [2, 0], "the server counts the same");
  alice.room.markRead(1);
  await until(() => alice.client.unread.of("lobby")?.unread === 1);
  alice.room.markRead(alice.room.head);
  await until(() => alice.client.unread.of("lobby")?.unread === 0);
  await bob.room.publish("and now?").stored;
  await until(() => alice.client.unread.of("lobby")?.unread === 1);
  await alice.room.publish("now").stored;
  await until(() => alice.client.unread.of("lobby")?.unread === 0, "who answers has read");
  assert.equal(jazz.state, "live");
});

test("others learn how far one has read", async () => {
  const alice = await stage.join("alice");
  const bob = await stage.join("bob");
  await alice.room.publish("read me").stored;
  await until(() => bob.room.head === 1);
  bob.room.markRead(1);
  await until(() => alice.room.people.receipts.get("bob")?.readSeq === 1);
  const carol = await stage.join("carol");
  assert.equal(carol.room.people.receipts.get("bob")?.readSeq, 1, "told at the join too");
});

test("what was read while the link was away is told when it is back", async () => {
  const { server } = stage;
  const alice = await stage.join("alice");
  for (let at = 1; at <= 3; at++) server.say("lobby", "bob", `m${at}`);
  await until(() => alice.room.head === 3);
  server.drop();
  alice.room.markRead(3);
  await until(() => server.room("lobby").members.get("alice")?.readSeq === 3);
  assert.equal(alice.room.marks.readSeq, 3);
});

test("who answers has read, and a word for everybody calls everybody only where one may", async () => {
  const alice = await stage.join("alice");
  const bob = await stage.join("bob");
  await alice.room.publish("hello @all").stored;
  await bob.room.publish("hello").stored;
  await until(() => alice.room.people.receipts.get("bob")?.readSeq === 2);
  assert.deepEqual(bob.room.messages[0]?.mentions, [], "members may not call everybody");
  await alice.client.leave("lobby");
  stage.server.room("lobby").members.set("alice", { role: Role.MODERATOR, joinedMs: 0, mutedUntilMs: 0, reason: "", deliveredSeq: 0, readSeq: 0 });
  const again = await alice.client.join("lobby");
  await again.publish("now @all").stored;
  await until(() => bob.room.messages.at(-1)?.mentions[0] === "*");
});

test("status is told to those who are there and to those who come", async () => {
  const alice = await stage.join("alice");
  const bob = await stage.join("bob");
  await alice.client.setPresence("away", "gone fishing");
  await until(() => bob.room.people.status("alice").text === "gone fishing");
  const carol = await stage.join("carol");
  assert.deepEqual(carol.room.people.status("alice"), { state: "away", text: "gone fishing" });
  assert.deepEqual(carol.room.people.status("bob"), { state: "online", text: "" });
  stage.server.drop();
  await until(() => carol.client.status.state === "online" && carol.room.people.status("alice").state === "away", "told again on the new session");
  await alice.client.setPresence("online");
  await until(() => bob.room.people.status("alice").state === "online");
});

test("private rooms are nowhere for strangers, and open by an invitation", async () => {
  const alice = stage.connect("alice");
  await alice.createRoom("vault", "Vault", { kind: "private", topic: "hush" });
  const vault = await alice.join("vault");
  assert.deepEqual([vault.info?.kind, vault.info?.topic, vault.membership?.role], ["private", "hush", "owner"]);
  const bob = stage.connect("bob");
  await assert.rejects(bob.join("vault"), { code: "not_found" });
  const { code } = await vault.createInvite({ usesMax: 1 });
  assert.equal((await bob.join("vault", code)).state, "live");
  await vault.createInvite({ user: "carol" });
  const carol = stage.connect("carol");
  assert.deepEqual((await carol.listInvites()).map(({ room, creator }) => `${room} by ${creator}`), ["vault by alice"]);
  assert.equal((await carol.join("vault")).state, "live");
  const invites = await vault.listInvites();
  assert.deepEqual(invites.map(({ user, uses }) => `${user || "link"} ${uses}`), ["carol 1", "link 1"]);
  for (const one of invites) await vault.revokeInvite(one);
  await assert.rejects(stage.connect("dave").join("vault", code), { code: "not_found" });
});

test("a direct room is the same from both sides", async () => {
  const alice = stage.connect("alice");
  const bob = stage.connect("bob");
  const [hers, his] = [await alice.openDirect("bob"), await bob.openDirect("alice")];
  assert.equal(hers.id, his.id);
  assert.deepEqual([hers.kind, [...hers.direct].sort()], ["direct", ["alice", "bob"]]);
});

test("roles decide what one may do, from the moment they change", async () => {
  const { server } = stage;
  const alice = stage.connect("alice");
  await alice.createRoom("hall", "Hall");
  const hall = await alice.join("hall");
  const bob = await (await stage.join("bob")).client.join("hall");
  assert.deepEqual([hall.can("manage"), bob.can("publish"), bob.can("pin"), bob.can("moderate")], [true, true, false, false]);
  await hall.setRole("bob", "moderator");
  await until(() => bob.membership?.role === "moderator");
  assert.ok(bob.can("pin"));
  await hall.update({ title: "Great hall", topic: "echo", archived: true });
  await until(() => bob.title === "Great hall");
  assert.deepEqual([bob.info?.topic, bob.membership?.role, bob.can("publish")], ["echo", "moderator", false], "what we are in it is not forgotten");
  assert.equal(server.room("hall").head, 2, "both changes are notes");
  assert.deepEqual(bob.messages.map(({ change }) => (change?.kind === "note" ? change.what : "")), ["role_changed", "title_changed"]);
  assert.deepEqual((await hall.listMembers()).members.map(({ user, role }) => `${user} ${role}`), ["alice owner", "bob moderator"]);
});

test("the muted hear why, and speak again", async () => {
  const mod = await stage.join("mod");
  const bob = await stage.join("bob");
  await mod.room.moderate("bob", "mute", "too loud", 600);
  await until(() => (bob.room.membership?.mutedUntilMs ?? 0) > Date.now());
  const refused = bob.room.publish("but");
  await assert.rejects(refused.stored, { code: "muted" });
  bob.room.discard(refused.cmid);
  await mod.room.moderate("bob", "unmute");
  await until(() => bob.room.membership?.mutedUntilMs === 0);
  await bob.room.publish("thank you").stored;
  assert.deepEqual((await mod.room.listAudit()).entries.map(({ action, user, reason }) => `${action} ${user} ${reason}`), ["unmute bob ", "mute bob too loud"]);
});

test("the banned are out at once: nothing more is heard, nothing waits, and there is no way back", async () => {
  const { server } = stage;
  const mod = await stage.join("mod");
  const bob = await stage.join("bob");
  await mod.room.publish("before").stored;
  await until(() => bob.heard.length === 1);
  server.rateLimited = 1;
  const waiting = bob.room.publish("still on its way");
  await mod.room.moderate("bob", "ban", "spam", 3_600);
  await assert.rejects(waiting.stored);
  await until(() => bob.room.state === "gone");
  assert.deepEqual([bob.room.error?.code, bob.room.error?.message], ["banned", "You were banned from Lobby: spam"]);
  assert.ok((bob.room.error?.retryAfterMs ?? 0) > 3_500_000);
  assert.equal(bob.client.rooms.has("lobby"), false);
  assert.equal(bob.client.unacknowledged, 0);
  await mod.room.publish("after").stored;
  server.drop();
  await until(() => bob.client.status.state === "online" && mod.room.head === server.room("lobby").head);
  assert.deepEqual(bodies(bob.heard), ["before"]);
  await assert.rejects(bob.client.join("lobby"), { code: "banned" });
  assert.deepEqual((await mod.room.listMembers({ filter: "banned" })).members.map(({ user, reason }) => `${user} ${reason}`), ["bob spam"]);
  await mod.room.moderate("bob", "unban");
  assert.equal((await bob.client.join("lobby")).state, "live");
});

test("the removed may come back to a public room", async () => {
  const mod = await stage.join("mod");
  const bob = await stage.join("bob");
  await mod.room.moderate("bob", "kick", "cool down");
  await until(() => bob.room.state === "gone");
  assert.match(bob.room.error?.message ?? "", /removed.*cool down/);
  assert.equal((await bob.client.join("lobby")).state, "live");
});

test("search, in the room and everywhere, finds what is there now", async () => {
  const { server } = stage;
  server.room("jazz");
  const { client, room } = await stage.join("alice");
  await client.join("jazz");
  server.say("lobby", "bob", "a quiet morning");
  server.say("lobby", "bob", "a loud morning");
  server.say("jazz", "bob", "Morning again");
  server.change("lobby", "bob", deletion(2));
  assert.deepEqual(bodies((await room.search("morning")).messages), ["a quiet morning"]);
  assert.deepEqual((await client.search("morn*")).messages.map(({ room, body }) => `${room}: ${body}`), ["jazz: Morning again", "lobby: a quiet morning"]);
  assert.equal((await room.search("nothing")).messages.length, 0);
});

test("a kind of note this version does not know is not in the way", async () => {
  stage.server.say("lobby", "bob", "", Date.now(), "n", { change: { case: "system", value: { kind: 99 as SystemKind } } });
  const { room } = await stage.join("alice");
  await room.loadOlder();
  assert.equal(room.messages[0]?.change?.kind === "note" && room.messages[0].change.what, "unspecified");
});
