// A listener's evenings: packets leave every 20 ms, the network does what it does, and every 20 ms something is played.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Arrivals } from "../src/sdk/audio/arrivals";
import { type Decision, Jitter, RATE_MAX, REST_MS, TARGET_START_MS } from "../src/sdk/audio/jitter";
import { MARGIN_MAX_MS } from "../src/sdk/audio/margin";
import type { MediaFrame, MediaPacket } from "../src/sdk/media";

interface Network {
  /** How long the packet takes whose newest frame is `index`. Nothing: it is lost. */
  delayMs?: (index: number) => number | undefined;
  /** Whether the publisher records this frame. */
  recorded?: (index: number) => boolean;
  perPacket?: number;
  copies?: number;
  /** What the publisher's clock shows when ours has gone 1 ms. */
  clock?: number;
  from?: number;
  frames: number;
  /** The player's clock does not follow the rate: as in a player whose correction is broken. */
  deaf?: boolean;
}

interface Arrival {
  atMs: number;
  packet: MediaPacket;
}

class Evening {
  readonly jitter = new Jitter();
  /** What was done, one letter per 20 ms: play, merge, conceal, stretch, wait (as a dot). */
  letters = "";
  readonly played: number[] = [];
  /** How long after its recording each frame was played. Milliseconds. */
  readonly heldMs: number[] = [];

  constructor({ delayMs = () => 30, recorded = () => true, perPacket = 1, copies = 0, clock = 1, from = 1_000, frames, deaf = false }: Network) {
    const arrivals: Arrival[] = [];
    for (let index = from; index < from + frames; index++) {
      const packetDelay = delayMs(index);
      if (!recorded(index) || packetDelay === undefined || (index + 1) % perPacket !== 0) continue;
      const ages = Array.from({ length: perPacket * (copies + 1) }, (_, age) => age);
      const there: MediaFrame[] = ages.filter((age) => index - age >= from && recorded(index - age)).map((age) => ({ age, rung: 0, switchPoint: false, payload: Uint8Array.of(0xfc, (index - age) & 0xff) }));
      arrivals.push({ atMs: ((index - from) * 20) / clock + packetDelay, packet: { handle: 1, newest: index, level: 20, fresh: perPacket, frames: there } });
    }
    arrivals.sort((a, b) => a.atMs - b.atMs);
    const endMs = (arrivals.at(-1)?.atMs ?? 0) + 500;
    let came = 0;
    for (let nowMs = 3; nowMs < endMs; nowMs += 20 / (1 + (deaf ? 0 : this.jitter.rate))) {
      for (; (arrivals[came]?.atMs ?? endMs) <= nowMs; came++) this.jitter.handlePacket((arrivals[came] as Arrival).packet, (arrivals[came] as Arrival).atMs);
      const decision: Decision = this.jitter.decide(nowMs);
      this.letters += { play: "p", merge: "m", conceal: "c", stretch: "s", wait: "." }[decision.what];
      if (decision.what !== "play" && decision.what !== "merge") continue;
      assert.equal(decision.payload[1], decision.index & 0xff);
      this.played.push(decision.index);
      if (decision.what === "merge") {
        assert.equal(decision.second[1], (decision.index + 1) & 0xff);
        this.played.push(decision.index + 1);
        this.heldMs.push(nowMs - ((decision.index + 1 - from) * 20) / clock);
      }
      this.heldMs.push(nowMs - ((decision.index - from) * 20) / clock);
    }
  }

  /** Without the beginning and the end, where nothing is expected. */
  get middle(): string {
    return this.letters.replace(/^\.+/, "").replace(/[s.]+$/, "");
  }
}

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, at) => from + at);
/** Chance that comes out the same each time. */
function dice(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

test("on a quiet network everything is played in order, and soon as early as can be", () => {
  const evening = new Evening({ frames: 1_500 });
  assert.equal(evening.middle, "p".repeat(1_500));
  assert.deepEqual(evening.played, numbers(1_000, 2_499));
  const late = evening.heldMs.at(-1) ?? 0;
  assert.ok(late < 30 + 20 + 15, `held for ${late} ms: the network's 30, one frame, and what is left of the start`);
  assert.equal(evening.jitter.targetMs, 20);
  const { received, lost, late: tooLate, underruns, packets, packetsLost, highest, spreadP95Us } = evening.jitter.report();
  assert.deepEqual([received, lost, tooLate, packets, packetsLost, highest], [1_500, 0, 0, 1_500, 0, 2_499]);
  assert.equal(underruns, 1, "the end of the stream");
  assert.ok(spreadP95Us <= 20_000);
});

test("nothing is played before the target is reached", () => {
  const evening = new Evening({ frames: 10 });
  assert.ok((evening.heldMs[0] ?? 0) >= 30 + TARGET_START_MS - 10);
});

test("a lost frame is bridged, and those behind it stay in time", () => {
  const evening = new Evening({ frames: 200, delayMs: (index) => (index % 50 === 7 ? undefined : 30) });
  assert.equal(evening.middle.replace(/p/g, ""), "cccc");
  assert.equal(evening.played.length, 196);
  const { received, lost, packetsLost, recovered } = evening.jitter.report();
  assert.deepEqual([received, lost, packetsLost, recovered], [196, 4, 4, 0]);
});

test("copies repair a lossy network", () => {
  const chance = dice(3);
  const losses = numbers(0, 1_999).map(() => chance() < 0.1);
  const plain = new Evening({ frames: 2_000, delayMs: (index) => (losses[index - 1_000] ? undefined : 30) });
  const repaired = new Evening({ frames: 2_000, copies: 2, delayMs: (index) => (losses[index - 1_000] ? undefined : 30) });
  const count = (letters: string) => letters.split("c").length - 1;
  assert.ok(count(plain.middle) > 150, `${count(plain.middle)} without copies`);
  assert.ok(count(repaired.middle) <= 6, `${count(repaired.middle)} with two`);
  const { recovered, lost, packetsLost } = repaired.jitter.report();
  assert.ok(recovered > 150 && lost <= 6 && packetsLost > 150, JSON.stringify({ recovered, lost, packetsLost }));
});

test("packets that overtake each other are put in order", () => {
  const evening = new Evening({ frames: 500, delayMs: (index) => (index % 3 === 0 ? 55 : 30) });
  assert.equal(evening.middle, "p".repeat(500));
  assert.deepEqual(evening.played, numbers(1_000, 1_499));
  assert.equal(evening.jitter.report().late, 0);
});

test("packets of 60 ms are held long enough", () => {
  const evening = new Evening({ frames: 600, perPacket: 3, from: 999 });
  assert.equal(evening.middle, "p".repeat(600));
  assert.equal(evening.jitter.targetMs, 60);
  const { packets, received } = evening.jitter.report();
  assert.deepEqual([packets, received], [200, 600]);
});

test("jitter of 200 ms costs a beginning, then nothing", () => {
  const chance = dice(11);
  const evening = new Evening({ frames: 3_000, delayMs: () => 30 + chance() * 200 });
  const settled = evening.letters.slice(500, 2_900);
  const bad = settled.replace(/[pm]/g, "").length;
  assert.ok(bad < settled.length * 0.02, `${bad} of ${settled.length}`);
  assert.ok(evening.jitter.targetMs > 180 && evening.jitter.targetMs < 260, `target ${evening.jitter.targetMs}`);
  const late = evening.heldMs.at(-1) ?? 0;
  assert.ok(late < 30 + 260 + 20, `held for ${late} ms`);
});

test("one burst delays what follows, which then catches up, and nothing is left out", () => {
  const evening = new Evening({ frames: 3_000, delayMs: (index) => (index >= 1_500 && index < 1_505 ? 30 + (1_505 - index) * 20 : 30) });
  assert.match(evening.middle, /^p+s{1,5}[pm]+$/);
  assert.deepEqual(evening.played, numbers(1_000, 3_999));
  assert.equal(evening.jitter.report().underruns, 2, "the burst and the end");
  assert.ok((evening.heldMs.at(-1) ?? 0) < 70, "caught up");
});

test("a busy beginning does not leave the listener behind for long", () => {
  const evening = new Evening({ frames: 3_000, delayMs: (index) => (index >= 1_010 && index < 1_025 ? 30 + (1_025 - index) * 20 : 30) });
  const after = (seconds: number) => evening.heldMs[seconds * 50] ?? 0;
  assert.ok(after(1) > 200, `held for ${after(1)} ms after a second`);
  assert.ok(after(25) < 30 + 20 + MARGIN_MAX_MS + 40, `held for ${after(25)} ms after 25`);
  assert.ok(after(55) < 90, `held for ${after(55)} ms after 55`);
  assert.deepEqual(evening.played, numbers(1_000, 3_999));
  const merges = [...evening.letters.matchAll(/m/g)].map(({ index }) => index);
  assert.ok(merges.length > 1 && merges.every((at, nth) => nth === 0 || at - (merges[nth - 1] ?? 0) >= 25), `merged at ${merges.join()}`);
});

test("after two seconds without network the stream is not two seconds behind", () => {
  // What was sent meanwhile comes in one heap.
  const evening = new Evening({ frames: 1_000, delayMs: (index) => (index >= 1_300 && index < 1_400 ? 30 + (1_400 - index) * 20 : 30) });
  const held = evening.heldMs.at(-1) ?? 0;
  assert.ok(held < 30 + 20 + 60 + 400, `held for ${held} ms`);
  assert.ok(evening.played.length >= 1_000 - 100);
  assert.match(evening.middle, /^p+s+\.+[pcm]+$/);
});

test("what was lost for two seconds is not bridged frame by frame", () => {
  const evening = new Evening({ frames: 1_000, delayMs: (index) => (index >= 1_300 && index < 1_400 ? undefined : 30) });
  assert.ok(evening.middle.replace(/[^c]/g, "").length <= 4, evening.middle);
  assert.ok((evening.heldMs.at(-1) ?? 0) < 30 + 20 + 60);
  assert.equal(evening.jitter.report().lost, 100);
});

test("a pause of the publisher is a pause, and nothing shifts", () => {
  const evening = new Evening({ frames: 1_000, recorded: (index) => index < 1_300 || index >= 1_500 });
  assert.deepEqual(evening.played, [...numbers(1_000, 1_299), ...numbers(1_500, 1_999)]);
  const before = evening.heldMs[290] ?? 0;
  const after = evening.heldMs[310] ?? 0;
  assert.ok(Math.abs(after - before) < 45, `held for ${before} ms before and ${after} ms after`);
});

test("a publisher who comes back counts on without the time that passed", () => {
  // Five seconds are gone, the index is the next one.
  const evening = new Evening({ frames: 1_000, delayMs: (index) => (index < 1_300 ? 30 : 5_030) });
  assert.match(evening.middle, /^p{300}s+\.+[pcm]{650,}[s.]*$/);
  const held = evening.heldMs.at(-1) ?? 0;
  assert.ok(held - 5_000 < 30 + 20 + 80, `held for ${held - 5_000} ms`);
});

test("a publisher's index that jumps ahead is followed at once", () => {
  const evening = new Evening({ frames: 600, from: 1_000 });
  const jitter = evening.jitter;
  let nowMs = 20_000;
  let letters = "";
  for (let index = 90_000; index < 90_300; index++, nowMs += 20) {
    jitter.handlePacket({ handle: 1, newest: index, level: 0, fresh: 1, frames: [{ age: 0, rung: 0, switchPoint: false, payload: Uint8Array.of(1) }] }, nowMs);
    letters += jitter.decide(nowMs).what[0];
  }
  assert.match(letters, /^[wcs]{0,6}p+$/);
});

for (const ppm of [-300, 300]) {
  test(`a publisher's clock that is off by ${ppm} ppm is followed`, () => {
    const evening = new Evening({ frames: 30_000, clock: 1 + ppm / 1e6 });
    assert.equal(evening.middle, "p".repeat(30_000));
    const held = evening.heldMs.slice(5_000);
    assert.ok(Math.max(...held.filter((_, at) => at % 50 === 0)) < 30 + 20 + 25, "never far behind");
    assert.ok(Math.abs(evening.jitter.rate) < RATE_MAX / 2);
  });
}

test("without the correction the same clock runs the buffer dry or over", () => {
  const evening = new Evening({ frames: 30_000, clock: 1 - 300 / 1e6, deaf: true });
  assert.notEqual(evening.middle, "p".repeat(30_000));
});

test("packets that come twice are played once and counted once", () => {
  const jitter = new Jitter();
  const played: number[] = [];
  for (let index = 0; index < 100; index++) {
    const packet: MediaPacket = { handle: 1, newest: index + 5, level: 0, fresh: 1, frames: [{ age: 0, rung: 0, switchPoint: false, payload: Uint8Array.of(1) }] };
    jitter.handlePacket(packet, index * 20);
    jitter.handlePacket(packet, index * 20);
    const decision = jitter.decide(index * 20 + 1);
    if (decision.what === "play") played.push(decision.index);
  }
  assert.deepEqual(played, numbers(5, played.length + 4));
  assert.equal(jitter.report().received, played.length);
});

test("what comes after its time is late, not lost, even when the loss was reported already", () => {
  const jitter = new Jitter();
  const packet = (newest: number): MediaPacket => ({ handle: 1, newest, level: 0, fresh: 1, frames: [{ age: 0, rung: 0, switchPoint: false, payload: Uint8Array.of(1) }] });
  for (let index = 0; index < 50; index++) {
    if (index !== 20) jitter.handlePacket(packet(index), index * 20);
    jitter.decide(index * 20 + 1);
  }
  assert.deepEqual([jitter.report().lost, jitter.report().lost], [1, 0]);
  jitter.handlePacket(packet(20), 1_000);
  const { lost, late } = jitter.report();
  assert.deepEqual([lost, late], [0, 1]);
  jitter.handlePacket(packet(20), 1_001);
  assert.equal(jitter.report().late, 0);
});

test("after a while without anything it rests, and bridges no longer", () => {
  const evening = new Evening({ frames: 100 });
  for (let nowMs = 5_000; nowMs < 5_000 + 2 * REST_MS; nowMs += 20) evening.jitter.decide(nowMs);
  assert.equal(evening.jitter.decide(8_000).what, "wait");
  assert.ok(!evening.jitter.playing);
  assert.equal(evening.jitter.report().underruns, 1, "one silence is one underrun");
});

test("memory is bounded when nobody asks for what comes", () => {
  const jitter = new Jitter();
  for (let index = 0; index < 5_000; index++) jitter.handlePacket({ handle: 1, newest: index, level: 0, fresh: 1, frames: [{ age: 0, rung: 0, switchPoint: false, payload: Uint8Array.of(1) }] }, index * 20);
  const letters = numbers(0, 400).map((at) => jitter.decide(100_000 + at * 20).what[0]);
  assert.ok(letters.filter((letter) => letter === "p").length <= 250);
});

test("the spread is what the slowest twentieth needs", () => {
  const arrivals = new Arrivals();
  for (let index = 0; index < 400; index++) arrivals.add(index, index * 20 + (index % 10 === 0 ? 80 : index % 2));
  assert.equal(arrivals.spreadMs, 80);
  assert.equal(arrivals.dueMs(400), 8_000);
  const calm = new Arrivals();
  for (let index = 0; index < 400; index++) calm.add(index, index * 20 + (index % 100 === 0 ? 80 : 0));
  assert.equal(calm.spreadMs, 0);
});
