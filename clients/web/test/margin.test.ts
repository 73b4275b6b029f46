// A network that sends everything in time, but for a short stall now and then: rarer than what the spread of arrivals shows.

import assert from "node:assert/strict";
import { test } from "node:test";
import { OUTAGE_MS } from "../src/sdk/audio/arrivals";
import { Jitter } from "../src/sdk/audio/jitter";
import { MARGIN_FALL_MS, MARGIN_HELD_MS, MARGIN_MAX_MS, Margin } from "../src/sdk/audio/margin";

const CALM_MS = 20;

/** Plays `seconds` of a stream on the fake clock; in each of `stalls` the network stands still for so long, then gives all at once. */
function listen(seconds: number, stalls: { atMs: number; forMs: number }[], frames = (index: number) => index >= 0) {
  const jitter = new Jitter();
  const arrivals = Array.from({ length: seconds * 50 }, (_, index) => index)
    .filter(frames)
    .map((index) => {
      const sentMs = index * 20;
      const stall = stalls.find(({ atMs, forMs }) => sentMs >= atMs && sentMs < atMs + forMs);
      return { index, atMs: stall ? stall.atMs + stall.forMs : sentMs };
    });
  const targets: number[] = [];
  let underruns = 0;
  let came = 0;
  for (let nowMs = 3; nowMs < seconds * 1_000; nowMs += 20 / (1 + jitter.rate)) {
    for (let next = arrivals[came]; next && next.atMs <= nowMs; next = arrivals[++came]) {
      const frame = { age: 0, rung: 0, switchPoint: false, payload: Uint8Array.of(1) };
      jitter.handlePacket({ handle: 1, newest: next.index, level: 0, fresh: 1, frames: [frame] }, next.atMs);
    }
    jitter.decide(nowMs);
    targets[Math.floor(nowMs / 1_000)] = jitter.targetMs;
    underruns += jitter.report().underruns;
  }
  return { underruns, targetAfter: (second: number) => targets[second] ?? Number.NaN };
}

test("a stall that comes again and again is heard once", () => {
  const stalls = Array.from({ length: 12 }, (_, nth) => ({ atMs: 20_000 + nth * 7_000, forMs: 100 }));
  const evening = listen(110, stalls);
  assert.equal(evening.underruns, 1);
});

test("what one stall has taught is held, then let go over tens of seconds", () => {
  const evening = listen(70, [{ atMs: 20_000, forMs: 100 }]);
  assert.equal(evening.targetAfter(19), CALM_MS);
  const taught = evening.targetAfter(21);
  assert.ok(taught >= 100 && taught <= 100 + 20, `${taught} ms`);
  assert.equal(evening.targetAfter(29), taught, "held");
  assert.ok(evening.targetAfter(40) < taught - 30 && evening.targetAfter(40) > CALM_MS + 20, `${evening.targetAfter(40)} ms after twenty seconds`);
  assert.equal(evening.targetAfter(69), CALM_MS, "forgotten");
});

test("a clean network teaches nothing", () => {
  const evening = listen(60, []);
  for (let second = 20; second < 60; second++) assert.equal(evening.targetAfter(second), CALM_MS);
});

test("neither a publisher's pause nor a loss teaches anything: what comes then is in time", () => {
  const evening = listen(40, [], (index) => index < 1_000 || index >= 1_010);
  assert.equal(evening.underruns, 1);
  assert.equal(evening.targetAfter(21), CALM_MS);
});

test("an outage teaches nothing: no buffer bridges it", () => {
  const evening = listen(40, [{ atMs: 20_000, forMs: OUTAGE_MS + 40 }]);
  assert.equal(evening.underruns, 1);
  assert.equal(evening.targetAfter(22), CALM_MS);
});

test("the longest stall that is jitter and none longer", () => {
  const margin = new Margin();
  margin.handleUnderrun(OUTAGE_MS + 1);
  assert.equal(margin.above(CALM_MS), CALM_MS);
  margin.handleUnderrun(OUTAGE_MS);
  assert.equal(margin.above(OUTAGE_MS), OUTAGE_MS + 20);
});

test("at most so much is held above what the spread asks for", () => {
  const held = (lagMs: number) => {
    const margin = new Margin();
    margin.handleUnderrun(lagMs);
    margin.handleUnderrun(lagMs);
    return margin.above(CALM_MS);
  };
  assert.equal(held(MARGIN_MAX_MS - 1), CALM_MS + MARGIN_MAX_MS - 1);
  assert.equal(held(MARGIN_MAX_MS), CALM_MS + MARGIN_MAX_MS);
  assert.equal(held(MARGIN_MAX_MS + 1), CALM_MS + MARGIN_MAX_MS);
});

test("it falls from the first millisecond past the hold, and the next underrun begins a new one", () => {
  const margin = new Margin();
  margin.handleUnderrun(80);
  margin.handlePlayed(MARGIN_HELD_MS);
  assert.equal(margin.above(CALM_MS), 100);
  margin.handlePlayed(1_000);
  assert.equal(margin.above(CALM_MS), 100 - MARGIN_FALL_MS);
  margin.handleUnderrun(80);
  margin.handlePlayed(MARGIN_HELD_MS);
  assert.equal(margin.above(CALM_MS), 100);
  margin.handlePlayed(60_000);
  assert.equal(margin.above(CALM_MS), CALM_MS);
});

test("a frame that only the margin bridges keeps it; one that the spread covers, or a much smaller margin would, does not", () => {
  const fallen = (lagMs: number) => {
    const margin = new Margin();
    margin.handleUnderrun(80);
    margin.above(40);
    margin.handlePlayed(MARGIN_HELD_MS);
    margin.handleArrival(lagMs);
    margin.handlePlayed(1_000);
    return margin.above(40) < 100;
  };
  assert.deepEqual([20, 60, 61, 80, OUTAGE_MS + 1].map(fallen), [true, true, false, false, true]);
  const low = new Margin();
  low.handleUnderrun(30);
  low.above(CALM_MS);
  low.handlePlayed(MARGIN_HELD_MS);
  low.handleArrival(0);
  low.handlePlayed(60_000);
  assert.equal(low.above(CALM_MS), CALM_MS);
});

test("once the spread has grown as far, nothing is held beside it", () => {
  const margin = new Margin();
  margin.handleUnderrun(150);
  assert.equal(margin.above(170), 170);
  assert.equal(margin.above(200), 200);
});
