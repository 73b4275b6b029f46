// What has become of messages: changes applied to what is loaded, pages that were overtaken, the stretch in memory.

import assert from "node:assert/strict";
import { test } from "node:test";
import { applyChange } from "../src/sdk/changes";
import { findMentions, mentionsIn } from "../src/sdk/mentions";
import type { Change, Message } from "../src/sdk/message";
import { needed } from "../src/sdk/permissions";
import { Recent } from "../src/sdk/recent";
import { Timeline, TIMELINE_MAX } from "../src/sdk/timeline";
import { message } from "./fakes";

const change = (seq: number, made: Change, author = "bob") => message(seq, { author, body: "", change: made, atMs: seq });
const said = message(1, { author: "bob", body: "helo", mentions: ["alice"] });
const edit = (seq: number, revision: number, body: string) => change(seq, { kind: "edit", target: 1, body, mentions: [], revision });
const reaction = (seq: number, count: number, author: string, removed = false) => change(seq, { kind: "reaction", target: 1, emoji: "👍", removed, count }, author);
const apply = (...entries: Message[]) => entries.reduce((now, entry) => applyChange(now, entry, "alice"), said);

test("edits, reactions, pins, replies and a deletion", () => {
  const edited = apply(edit(2, 1, "hello"));
  assert.deepEqual([edited.body, edited.edits, edited.editedMs, edited.mentions], ["hello", 1, 2, []]);
  assert.deepEqual(apply(reaction(2, 1, "carol"), reaction(3, 2, "alice")).reactions, [{ emoji: "👍", count: 2, mine: true }]);
  assert.deepEqual(apply(reaction(2, 1, "alice"), reaction(3, 0, "alice", true)).reactions, []);
  assert.deepEqual(apply(reaction(2, 2, "alice"), reaction(3, 1, "alice", true)).reactions, [{ emoji: "👍", count: 1, mine: false }]);
  const rocket = change(3, { kind: "reaction", target: 1, emoji: "🚀", removed: false, count: 1 });
  const clap = change(4, { kind: "reaction", target: 1, emoji: "👏", removed: false, count: 1 });
  assert.deepEqual(apply(rocket, clap).reactions, apply(clap, rocket).reactions, "whoever comes first, they stand in one order");
  assert.equal(apply(change(2, { kind: "pin", target: 1, removed: false })).pinned, true);
  assert.deepEqual(apply(message(4, { thread: 1, atMs: 9 }), message(6, { thread: 1, atMs: 11 })).replies, { count: 2, lastSeq: 6, lastAtMs: 11 });
  const deleted = apply(change(2, { kind: "pin", target: 1, removed: false }), change(3, { kind: "deletion", target: 1 }, "mod"));
  assert.deepEqual([deleted.body, deleted.mentions, deleted.pinned, deleted.deleted], ["", [], false, { by: "mod", atMs: 3 }]);
});

test("what is not about a message leaves it as it is, the very same", () => {
  for (const other of [change(2, { kind: "edit", target: 9, body: "x", mentions: [], revision: 1 }), message(3), message(4, { thread: 9 })]) assert.equal(apply(other), said);
});

test("a change that a page has brought already changes nothing, and nothing comes back after a deletion", () => {
  const page = { ...said, body: "third", edits: 2, editedMs: 5, replies: { count: 3, lastSeq: 8, lastAtMs: 8 } };
  assert.equal(applyChange(page, edit(3, 1, "second"), "alice"), page);
  assert.equal(applyChange(page, edit(5, 2, "third"), "alice"), page);
  assert.equal(applyChange(page, message(8, { thread: 1 }), "alice"), page);
  const deleted = apply(change(2, { kind: "deletion", target: 1 }));
  for (const late of [edit(3, 1, "hello"), reaction(4, 1, "carol"), change(5, { kind: "pin", target: 1, removed: false })]) assert.equal(applyChange(deleted, late, "alice"), deleted);
});

test("a page that was read before a change and comes after it shows the change", () => {
  const recent = new Recent();
  for (const entry of [edit(7, 1, "hello"), message(8, { thread: 1 }), reaction(9, 1, "alice"), change(10, { kind: "deletion", target: 2 })]) recent.add(entry);
  const settled = recent.settle(said, "alice");
  assert.deepEqual([settled.body, settled.replies?.count, settled.reactions[0]?.mine], ["hello", 1, true]);
  assert.equal(recent.settle(message(2), "alice").body, "", "a deleted text does not come back by a late page");
  assert.deepEqual(recent.replies(1, 0).map(({ seq }) => seq), [8]);
});

test("the stretch in memory is bounded at both ends", () => {
  const timeline = new Timeline();
  timeline.replace([message(5_001)], true, true);
  for (let first = 4_951; first > 5_000 - TIMELINE_MAX - 200; first -= 50) timeline.prepend(Array.from({ length: 50 }, (_, at) => message(first + at)));
  assert.equal(timeline.messages.length, TIMELINE_MAX);
  assert.equal(timeline.attached, false, "the end was dropped");
  timeline.live(message(5_002), true);
  assert.equal(timeline.find(5_002), undefined, "what is said now does not belong behind it");
  const last = timeline.last?.seq ?? 0;
  timeline.append(Array.from({ length: 50 }, (_, at) => message(last + 1 + at)));
  assert.equal(timeline.messages.length, TIMELINE_MAX);
  assert.equal(timeline.hasOlder, true);
  assert.equal(timeline.last?.seq, last + 50);
  assert.equal(timeline.find(last)?.seq, last);
});

test("a reader in the past keeps their place when much is said; one at the end sees the newest", () => {
  for (const following of [true, false]) {
    const timeline = new Timeline();
    timeline.replace([], true, false);
    for (let seq = 1; seq <= 3 * TIMELINE_MAX; seq++) timeline.live(message(seq), following);
    assert.ok(timeline.messages.length <= 1.1 * TIMELINE_MAX);
    assert.equal(timeline.attached, following);
    assert.equal(following ? timeline.last?.seq : timeline.first?.seq, following ? 3 * TIMELINE_MAX : 1);
  }
});

test("mentions are read from a text, and from nothing else", () => {
  assert.deepEqual(mentionsIn("@bob and @Zoë-2, (@carol): thanks @bob. @all!"), ["bob", "Zoë-2", "carol", "*"]);
  assert.deepEqual(mentionsIn("ann@example.org `@code` ```\n@block\n``` https://x.org/@path @ x"), []);
  assert.deepEqual(findMentions("hi @bob."), [{ from: 3, to: 7, user: "bob" }]);
  assert.equal(mentionsIn(Array.from({ length: 80 }, (_, at) => `@u${at}`).join(" ")).length, 50);
});

test("who may do what: the defaults, and what a room says instead", () => {
  assert.equal(needed("pin", "public", { permissions: {} }), "moderator");
  assert.equal(needed("pin", "public", { permissions: { pin: "guest" } }), "guest");
  assert.equal(needed("invite", "public", { permissions: {} }), "member");
  assert.equal(needed("invite", "private", { permissions: {} }), "moderator");
});
