// The page's logic that needs no DOM.

import assert from "node:assert/strict";
import { test } from "node:test";
import { countdown, dayLabel, linkPieces, rttText, slug, typingText } from "../src/app/format";
import { buildRows, NODES_MAX, type RowsInput, Span } from "../src/app/rows";
import type { Message } from "../src/sdk/message";
import { message } from "./fakes";

const at = (hour: number, minute: number, day = 10) => new Date(2026, 2, day, hour, minute).getTime();
const rows = (messages: Message[], more: Partial<RowsInput> = {}) =>
  buildRows({ messages, from: 0, to: messages.length, pending: [], me: "alice", readSeq: undefined, hasOlder: false, nowMs: at(20, 0), ...more }).map((row) => {
    if (row.kind === "message") return `${row.opens ? "» " : ""}${row.author}: ${row.body}${row.state === "delivered" ? "" : ` (${row.state})`}`;
    return row.kind === "day" ? `— ${row.label} —` : row.kind === "new" ? "— new —" : row.loading ? "…" : "begin";
  });

test("messages stand in groups under their author, with days between", () => {
  const log = [
    message(1, { author: "bob", body: "a", atMs: at(9, 0, 9) }),
    message(2, { author: "bob", body: "b", atMs: at(9, 1, 9) }),
    message(3, { author: "bob", body: "c", atMs: at(9, 30, 9) }),
    message(4, { author: "bob", body: "d", atMs: at(8, 0) }),
    message(5, { author: "alice", body: "e", atMs: at(8, 1) }),
  ];
  assert.deepEqual(rows(log), ["begin", "— Yesterday —", "» bob: a", "bob: b", "» bob: c", "— Today —", "» bob: d", "» alice: e"]);
  assert.deepEqual(rows(log, { from: 1, to: 3 }), ["bob: b", "» bob: c"], "a stretch knows what stands before it");
  assert.equal(rows(log, { hasOlder: true })[0], "…");
});

test("the mark stands before the first new message of somebody else", () => {
  const log = [1, 2, 3, 4].map((seq) => message(seq, { author: seq === 3 ? "alice" : "bob", body: String(seq), atMs: at(8, 0) }));
  assert.deepEqual(rows(log, { readSeq: 2 }).slice(2), ["» bob: 1", "bob: 2", "» alice: 3", "— new —", "» bob: 4"]);
  assert.ok(!rows(log, { readSeq: 4 }).includes("— new —"));
});

test("what is on its way stands at the end, and only there", () => {
  const pending = [{ room: "lobby", cmid: "x", body: "later", createdMs: at(8, 2), state: "queued" as const, stored: Promise.reject(new Error("unused")) }];
  pending[0]?.stored.catch(() => undefined);
  const log = [message(1, { author: "alice", body: "now", atMs: at(8, 0) })];
  assert.deepEqual(rows(log, { pending }).slice(2), ["» alice: now", "alice: later (queued)"]);
  assert.equal(rows([...log, message(2, { atMs: at(8, 1) })], { pending, to: 1 }).length, 3);
});

test("the DOM holds at most so many messages, wherever one scrolls", () => {
  const log = Array.from({ length: 2_000 }, (_, index) => message(index + 1_001));
  const span = new Span();
  assert.deepEqual(span.range(log), { from: 1_900, to: 2_000 });
  const seen = new Set<number>();
  for (let step = 0; step < 60; step++) {
    span.growUp(log);
    const { from, to } = span.range(log);
    assert.ok(to - from <= NODES_MAX, `${to - from} nodes`);
    seen.add(from);
  }
  assert.equal(span.range(log).from, 0);
  assert.ok(!span.followsEnd);
  // An older page arrives: what is in sight stays in the stretch.
  const older = [...Array.from({ length: 50 }, (_, index) => message(index + 951)), ...log];
  assert.deepEqual(span.range(older), { from: 50, to: 550 });
  for (let step = 0; step < 60; step++) span.growDown(older);
  assert.ok(span.followsEnd);
  assert.deepEqual(span.range(older), { from: 2_050 - NODES_MAX, to: 2_050 });
  span.toEnd();
  assert.deepEqual(span.range([...older, message(3_001)]), { from: 1_951, to: 2_051 });
  assert.deepEqual(new Span().range([]), { from: 0, to: 0 });
});

test("only http addresses become links, without the sentence around them", () => {
  const links = (text: string) => linkPieces(text).flatMap(({ href }) => href ?? []);
  assert.deepEqual(links("see https://a.org/x?y=1#z, or (https://b.org/q_(1)). http://c.org!"), ["https://a.org/x?y=1#z", "https://b.org/q_(1)", "http://c.org"]);
  assert.deepEqual(links("javascript:alert(1) data:text/html,x ftp://x.org http:// https://"), []);
  const text = 'a <b>bold</b> "https://x.org" end';
  assert.equal(linkPieces(text).map((piece) => piece.text).join(""), text, "nothing is lost");
  assert.deepEqual(links(text), ["https://x.org"]);
});

test("small texts", () => {
  assert.equal(typingText([]), "");
  assert.equal(typingText(["a", "b"]), "a and b are typing…");
  assert.equal(typingText(["a", "b", "c"]), "3 people are typing…");
  assert.deepEqual([undefined, 0.4, 12.4].map(rttText), ["", "<1 ms", "12 ms"]);
  assert.equal(countdown(2_001, 1_000), "2 s");
  assert.equal(countdown(500, 1_000), "1 s");
  assert.equal(slug("  Čaj & Jazz: Petak! "), "caj-jazz-petak");
  assert.equal(dayLabel(at(0, 0), at(23, 59)), "Today");
  assert.match(dayLabel(at(1, 1, 2), at(1, 1)), /2/);
});
