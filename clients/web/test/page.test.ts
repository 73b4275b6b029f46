// The page's logic that needs no DOM.

import assert from "node:assert/strict";
import { test } from "node:test";
import { countdown, dayLabel, linkPieces, rttText, slug, span, textPieces, typingText } from "../src/app/format";
import { History, sampleOf, SPAN_MS } from "../src/app/live/history";
import { clockText, ingestText, listeningText, qualityText, roomOfStream, streamOfRoom, streamText } from "../src/app/live/livetext";
import { buildRows, fateText, type RowsInput } from "../src/app/rows";
import { liveRouteTo, parseRoute, pastedRoute, routeTo } from "../src/app/route";
import { obstacle } from "../src/app/obstacle";
import { FOREVER_MS } from "../src/sdk/index";
import type { Message } from "../src/sdk/message";
import { message, outgoing, text } from "./fakes";
import { auditText } from "../src/app/auditpanel";

const at = (hour: number, minute: number, day = 10) => new Date(2026, 2, day, hour, minute).getTime();
const rows = (messages: Message[], more: Partial<RowsInput> = {}) =>
  buildRows({ messages, pending: [], me: "alice", readSeq: undefined, hasOlder: false, hasNewer: false, nowMs: at(20, 0), ...more }).map((row) => {
    switch (row.kind) {
      case "message":
        return `${row.opens ? "» " : ""}${row.author}: ${row.body}${row.state === "delivered" ? "" : ` (${row.state})`}`;
      case "note":
        return `(${row.text})`;
      case "day":
        return `— ${row.label} —`;
      case "new":
        return "— new —";
      case "top":
        return row.loading ? "…" : "begin";
      case "bottom":
        return "… more";
    }
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
  assert.equal(rows(log, { hasOlder: true })[0], "…");
});

test("the mark stands before the first new message of somebody else", () => {
  const log = [1, 2, 3, 4].map((seq) => message(seq, { author: seq === 3 ? "alice" : "bob", body: String(seq), atMs: at(8, 0) }));
  assert.deepEqual(rows(log, { readSeq: 2 }).slice(2), ["» bob: 1", "bob: 2", "» alice: 3", "— new —", "» bob: 4"]);
  assert.ok(!rows(log, { readSeq: 4 }).includes("— new —"));
});

test("what is on its way stands at the end, and only there", () => {
  const pending = [outgoing("x", text("later"), { createdMs: at(8, 2) })];
  const log = [message(1, { author: "alice", body: "now", atMs: at(8, 0) })];
  assert.deepEqual(rows(log, { pending }).slice(2), ["» alice: now", "alice: later (queued)"]);
  assert.deepEqual(rows(log, { pending, hasNewer: true }).slice(2), ["» alice: now", "… more"]);
});

test("what we have asked for shows before it is stored", () => {
  const log = [message(1, { author: "alice", body: "helo", atMs: at(8, 0), reactions: [{ emoji: "👍", count: 1, mine: false }] })];
  const pending = [
    outgoing("e", { kind: "edit", seq: 1, body: "hello", mentions: [] }),
    outgoing("r", { kind: "reaction", seq: 1, emoji: "👍", remove: false }),
    outgoing("f", { kind: "edit", seq: 1, body: "refused", mentions: [] }, { state: "failed" }),
  ];
  const row = buildRows({ messages: log, pending, me: "alice", readSeq: undefined, hasOlder: false, hasNewer: false, nowMs: at(9, 0) })[2];
  assert.ok(row?.kind === "message");
  assert.equal(row.body, "hello");
  assert.ok(row.changing);
  assert.deepEqual(row.reactions, [{ emoji: "👍", count: 2, mine: true }]);
});

test("notes stand between messages, and a quote says whom it answers", () => {
  const log = [
    message(1, { author: "bob", body: "what?", atMs: at(8, 0) }),
    message(2, { author: "mod", body: "", atMs: at(8, 1), change: { kind: "note", what: "muted", user: "bob", text: "", role: undefined, untilMs: at(9, 0) } }),
    message(5, { author: "bob", body: "that", atMs: at(8, 2), replyTo: 1 }),
  ];
  const built = buildRows({ messages: log, pending: [], me: "alice", readSeq: undefined, hasOlder: false, hasNewer: false, nowMs: at(8, 3), quoted: (seq) => log.find((one) => one.seq === seq) });
  const note = built[3];
  assert.ok(note?.kind === "note" && /^mod muted bob until /.test(note.text));
  const last = built[4];
  assert.ok(last?.kind === "message" && last.opens);
  assert.deepEqual(last.quote, { seq: 1, author: "bob", body: "what?", deleted: false });
});

test("the last message of ours says who has read it", () => {
  const receipts = new Map([["alice", { deliveredSeq: 9, readSeq: 9 }], ["bob", { deliveredSeq: 7, readSeq: 5 }], ["carol", { deliveredSeq: 5, readSeq: 4 }]]);
  assert.equal(fateText(8, "alice", receipts), "Sent");
  assert.equal(fateText(7, "alice", receipts), "Delivered");
  assert.equal(fateText(5, "alice", receipts), "Read by bob");
  assert.equal(fateText(4, "alice", receipts), "Read by bob, carol");
  assert.equal(fateText(4, "alice", new Map([["alice", { deliveredSeq: 9, readSeq: 9 }]])), undefined);
});

test("addresses of rooms, messages and invitations", () => {
  assert.deepEqual(parseRoute("#/room/lobby"), { room: "lobby" });
  assert.deepEqual(parseRoute("#/room/lobby/42"), { room: "lobby", seq: 42 });
  assert.deepEqual(parseRoute("#/room/vip?invite=Ab-_9"), { room: "vip", invite: "Ab-_9" });
  for (const wrong of ["", "#/room/", "#/room/Lobby", "#/room/a/0", "#/room/a/x", "#/room/a?invite=", "#/other/a"]) assert.equal(parseRoute(wrong), undefined, wrong);
  for (const route of [{ room: "a" }, { room: "a", seq: 7 }, { room: "a", invite: "c" }]) assert.deepEqual(parseRoute(routeTo(route)), route);
  assert.deepEqual(pastedRoute(" https://veza.example/#/room/vip?invite=abc \n"), { room: "vip", invite: "abc" });
  assert.equal(pastedRoute("hello"), undefined);
  assert.deepEqual(parseRoute(liveRouteTo("friday")), { room: "stream.friday" });
  assert.deepEqual(pastedRoute("https://veza.example/#/live/friday"), { room: "stream.friday" });
  assert.equal(parseRoute(`#/live/${"a".repeat(58)}`), undefined, "no room could be called like that");
  assert.deepEqual([streamOfRoom(roomOfStream("friday")), streamOfRoom("friday")], ["friday", undefined]);
});

test("why nothing can be said", () => {
  const room = { info: undefined, state: "live" as const, can: () => true, lastSaidMs: 0 };
  const info = { id: "a", title: "A", topic: "", kind: "public" as const, head: 0, members: 1, createdMs: 0, lastMessageMs: 0, archived: false, direct: [], revision: 1 };
  const settings = { listed: true, slowModeSeconds: 0, retentionSeconds: 0, retentionEntries: 0, defaultRole: "member" as const, permissions: {}, entitlement: "" };
  const me = { user: "alice", role: "member" as const, joinedMs: 0, mutedUntilMs: 0, bannedUntilMs: 0, reason: "", deliveredSeq: 0, readSeq: 0 };
  const as = (more: object, place: object = {}) => obstacle({ ...room, info: { ...info, settings, me, ...more }, ...place }, false, 100_000);
  assert.equal(as({}), undefined);
  assert.match(as({ archived: true })?.text ?? "", /archived/);
  assert.equal(as({ me: { ...me, mutedUntilMs: FOREVER_MS } })?.text, "You are muted.");
  assert.equal(as({ me: { ...me, mutedUntilMs: 99_999 } }), undefined, "the mute is over");
  assert.match(as({}, { can: () => false })?.text ?? "", /read/);
  const slow = { settings: { ...settings, slowModeSeconds: 30 } };
  assert.deepEqual(as(slow, { lastSaidMs: 80_000 }), { text: "Slow mode: you may write again in 10 s.", waiting: true });
  assert.equal(as(slow, { lastSaidMs: 70_000 }), undefined);
  assert.equal(as({ ...slow, me: { ...me, role: "moderator" } }, { lastSaidMs: 99_000 }), undefined, "moderators need not wait");
});

test("only http addresses become links, without the sentence around them", () => {
  const links = (text: string) => linkPieces(text).flatMap(({ href }) => href ?? []);
  assert.deepEqual(links("see https://a.org/x?y=1#z, or (https://b.org/q_(1)). http://c.org!"), ["https://a.org/x?y=1#z", "https://b.org/q_(1)", "http://c.org"]);
  assert.deepEqual(links("javascript:alert(1) data:text/html,x ftp://x.org http:// https://"), []);
  const text = 'a <b>bold</b> "https://x.org" end';
  assert.equal(linkPieces(text).map((piece) => piece.text).join(""), text, "nothing is lost");
  assert.deepEqual(links(text), ["https://x.org"]);
});

test("mentions and code are told apart from other text", () => {
  const pieces = textPieces("Hi @bob, see `@code` at https://x.org/@y");
  assert.deepEqual(pieces, [{ text: "Hi " }, { text: "@bob", user: "bob" }, { text: ", see " }, { text: "@code", code: true }, { text: " at " }, { text: "https://x.org/@y", href: "https://x.org/@y" }]);
  assert.deepEqual(textPieces("```\na\nb\n```"), [{ text: "a\nb", code: true }]);
  assert.deepEqual(textPieces("<img src=x onerror=alert(1)>"), [{ text: "<img src=x onerror=alert(1)>" }]);
});

test("small texts", () => {
  assert.equal(typingText([]), "");
  assert.equal(typingText(["a", "b"]), "a and b are typing…");
  assert.equal(typingText(["a", "b", "c"]), "3 people are typing…");
  assert.deepEqual([undefined, 0.4, 12.4].map(rttText), ["", "<1 ms", "12 ms"]);
  assert.equal(countdown(2_001, 1_000), "2 s");
  assert.deepEqual([30, 60, 7_200, 86_400].map(span), ["30 seconds", "1 minute", "2 hours", "1 day"]);
  assert.equal(countdown(500, 1_000), "1 s");
  assert.equal(slug("  Čaj & Jazz: Petak! "), "caj-jazz-petak");
  assert.equal(dayLabel(at(0, 0), at(23, 59)), "Today");
  assert.match(dayLabel(at(1, 1, 2), at(1, 1)), /2/);
});

test("what a show is, and how it is heard", () => {
  const stream = { id: "a", title: "A", description: "", owner: "alice", room: "stream.a", profile: "music" as const, state: "live" as const, onAir: true, listeners: 2, playing: "Song", startedMs: 0 };
  assert.equal(streamText(stream), "alice · 2 listening · ♪ Song");
  assert.equal(streamText({ ...stream, onAir: false, playing: "" }), "alice · silent now");
  assert.equal(streamText({ ...stream, state: "ended" }), "alice · over");
  const quality = { rung: 1, bitsPerSecond: 32_000, packetMs: 60, redundancy: 2, pin: "auto" as const, reason: "loss" as const };
  assert.equal(qualityText(quality), "32 kb/s: the network loses packets");
  assert.equal(qualityText({ ...quality, pin: "low", reason: "choice" }), "32 kb/s");
  assert.deepEqual(
    [listeningText("waiting", true, true, quality), listeningText("listening", false, true, quality), listeningText("listening", true, false, quality), listeningText("over", true, true, quality)],
    ["Reconnecting…", "Waiting for the publisher…", "Buffering…", "Over"],
  );
});

test("what becomes of what is sent", () => {
  const totals = { frames: 0, lost: 0, recovered: 0, late: 0, refused: 0, refusal: "", displaced: false };
  assert.equal(ingestText(totals), "Nothing has arrived yet");
  assert.equal(ingestText({ ...totals, frames: 3_250 }), "1:05 sent, nothing lost");
  assert.equal(ingestText({ ...totals, frames: 50, lost: 1, late: 2, recovered: 3 }), "0:01 sent, 1 frame lost, 2 late, 3 repaired");
  assert.equal(ingestText({ ...totals, frames: 50, refused: 1, refusal: "a frame is not 20 ms of Opus" }), "Refused: a frame is not 20 ms of Opus");
  assert.deepEqual([0, 65, 3_725].map(clockText), ["0:00", "1:05", "1:02:05"]);
});

test("a graph remembers two minutes", () => {
  const history = new History();
  const quality = { rung: 0, bitsPerSecond: 96_000, packetMs: 20, redundancy: 0, pin: "auto" as const, reason: "start" as const };
  const playing = (received: number, lost: number, late: number) => ({ reception: { received, lost, late, bufferMs: 80 }, bytes: 0, spanMs: 250, playing: true, targetMs: 40, rate: 0, rung: 0 });
  assert.deepEqual(history.series(0).map(({ text }) => text), ["–", "–", "–", "–", "–"]);
  for (let atMs = 0; atMs <= SPAN_MS + 60_000; atMs += 1_000) history.add(sampleOf(playing(46, 2, 2), quality, atMs));
  const series = history.series(SPAN_MS + 60_000);
  assert.deepEqual(series.map(({ name, text }) => `${name} ${text}`), ["Rung 96 kb/s", "Packet 20 ms", "Copies 0", "Buffer 80 ms", "Loss 8.0 %"]);
  assert.deepEqual(series.map(({ points }) => [points.length, points[0]?.[0], points.at(-1)?.[0]]), series.map(() => [121, 0, 1]));
  assert.deepEqual(series.map(({ points }) => points.at(-1)?.[1]), [0.75, 1 / 3, 0, 0.4, 1], "what is off the scale is its top");
  assert.equal(sampleOf(playing(0, 0, 0), undefined, 0).loss, 0);
});

test("what was decided reads as a sentence, with a name or without", () => {
  const text = (action: string, user = "", detail = "") => auditText({ action, user, detail });
  assert.equal(text("pin"), "pinned a message");
  assert.equal(text("delete", "bob"), "deleted a message of bob");
  assert.equal(text("ban", "bob", "for 3600 s"), "banned bob: for 1 hour");
  assert.equal(text("update_room", "", "slow mode 0 s; settings"), "changed the room: slow mode off; settings");
});
