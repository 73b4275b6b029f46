// The pieces between the network and the sound card, without a browser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { CaptureClock } from "../src/sdk/audio/captureclock";
import { levelOf, meterShare } from "../src/sdk/audio/level";
import { bridgeFor, isFrame, SILENT_FRAME } from "../src/sdk/audio/opus";
import { Packetizer } from "../src/sdk/audio/packetizer";
import { type Block, BRIDGE_MAX, type DecoderEvents, Playout } from "../src/sdk/audio/playout";
import { Recording } from "../src/sdk/audio/recording";
import { Resampler } from "../src/sdk/audio/resampler";
import { Ring } from "../src/sdk/audio/ring";
import { FRAME_SAMPLES, type MediaPacket, PACKET_BYTES_MAX, readMedia, writeMedia } from "../src/sdk/media";

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, at) => from + at);

// ---- packets of a publisher ----

function packetizer(bytesMax = PACKET_BYTES_MAX) {
  const sent: MediaPacket[] = [];
  const made = new Packetizer([0, 1], (bytes) => sent.push(readMedia(bytes)), () => ({ handle: 9, bytesMax }));
  const frame = (index: number, bytes: readonly [number, number] = [240, 80]) => bytes.forEach((length, rung) => made.add(rung, index, 30, new Uint8Array(length).fill(index & 0xff)));
  const shown = () => sent.map(({ newest, frames }) => `${newest}: ${frames.map(({ rung, age }) => (age > 0 ? `${rung}-${age}` : rung)).join(" ")}`);
  return { made, sent, frame, shown };
}

test("a packet has the frame of every rung at the same index", () => {
  const { frame, sent, shown } = packetizer();
  for (const index of [50, 51, 52]) frame(index);
  assert.deepEqual(shown(), ["50: 0 1", "51: 0 1", "52: 0 1"]);
  assert.deepEqual([sent[0]?.handle, sent[0]?.level, sent[0]?.fresh, sent[0]?.frames[1]?.payload.length], [9, 30, 1, 80]);
});

test("a rung that does not come holds the others up for three frames at most", () => {
  const { made, frame, shown } = packetizer();
  made.add(0, 7, 30, Uint8Array.of(1));
  frame(8);
  frame(9);
  assert.deepEqual(shown(), []);
  frame(10);
  assert.deepEqual(shown(), ["7: 0", "8: 0 1", "9: 0 1", "10: 0 1"]);
});

test("copies follow what the server says is lost, and go when it is calm", () => {
  const { made, frame, shown } = packetizer();
  const totals = { frames: 0, lost: 0, recovered: 0, late: 0, refused: 0, refusal: "", displaced: false };
  const second = (lost: number, recovered = 0) => {
    totals.frames += 50 - lost;
    totals.lost += lost;
    totals.recovered += recovered;
    made.follow({ ...totals });
    return made.copies;
  };
  assert.equal(second(0), "none");
  assert.equal(second(1), "low");
  frame(1);
  frame(2);
  frame(5);
  assert.deepEqual(shown().slice(-2), ["2: 1-1 0 1", "5: 1-3 0 1"]);
  assert.equal(second(1, 2), "all", "what was repaired was lost, too");
  frame(6);
  assert.deepEqual(shown().at(-1), "6: 0-1 1-1 0 1");
  assert.deepEqual(numbers(1, 10).map(() => second(0)), ["all", "all", "all", "all", "low", "low", "low", "low", "low", "none"]);
  totals.frames = 0;
  totals.lost = 0;
  totals.recovered = 0;
  assert.equal(second(0), "none", "a new session counts from the beginning");
});

test("what does not fit is left out: copies first, then the packet is two", () => {
  const { made, frame, shown } = packetizer();
  made.copies = "all";
  frame(1, [500, 80]);
  frame(2, [500, 80]);
  assert.equal(shown().at(-1), "2: 1-1 0 1");
  frame(3, [1_000, 80]);
  assert.equal(shown().at(-1), "3: 0 1");
  frame(4, [1_030, 80]);
  assert.deepEqual(shown().slice(-2), ["4: 0", "4: 1"]);
  frame(20, [10, 10]);
  assert.equal(shown().at(-1), "20: 0 1", "a copy that is too old for a packet");
  const small = packetizer(100);
  small.frame(1);
  assert.deepEqual(small.shown(), ["1: 1"]);
});

test("a new session begins without anything of the one before", () => {
  const { made, frame, shown } = packetizer();
  made.copies = "all";
  frame(1);
  made.add(0, 2, 30, Uint8Array.of(1));
  made.restart();
  frame(900);
  assert.deepEqual(shown(), ["1: 0 1", "900: 0 1"]);
});

test("blocks are numbered by the clock of their samples, and what was not recorded is a gap", () => {
  const clock = new CaptureClock();
  assert.deepEqual(numbers(0, 4).map((at) => clock.next(1_000 + at * 20)), [0, 1, 2, 3, 4]);
  // The page was busy: blocks come late, but all of them.
  assert.deepEqual(numbers(5, 9).map(() => clock.next(1_200)), [5, 6, 7, 8, 9]);
  // The machine slept.
  assert.equal(clock.next(11_200), 510);
  assert.equal(clock.next(11_220), 511);
});

test("a sound card whose clock is slow makes no gaps", () => {
  const clock = new CaptureClock();
  const blocks = numbers(0, 100_000).map((at) => clock.next(at * 20 * 1.0003));
  assert.equal(blocks.at(-1), 100_000);
});

test("what is recorded gets the indices that the server takes, on every session anew", () => {
  const sent: MediaPacket[] = [];
  const encoded: [block: number, level: number][] = [];
  let keepsUp = true;
  const recording: Recording = new Recording(
    [0],
    {
      encode: (_, block, level) => {
        if (keepsUp) encoded.push([block, level]);
        return keepsUp;
      },
    },
    (bytes) => sent.push(readMedia(bytes)),
  );
  let nowMs = 0;
  const blocks = (count: number, value = 0.1) => {
    for (let left = count; left > 0; left--, nowMs += 20) recording.handleBlock([new Float32Array(FRAME_SAMPLES).fill(value)], nowMs);
  };
  const encode = () => {
    for (const [block, level] of encoded.splice(0)) recording.encoded(0, block, level, Uint8Array.of(0xfc));
  };
  blocks(3);
  assert.equal(encoded.length, 0, "nobody takes it");
  recording.aimAt({ handle: 5, firstIndex: 700, bytesMax: PACKET_BYTES_MAX });
  blocks(3);
  encode();
  assert.deepEqual(sent.map(({ handle, newest, level }) => [handle, newest, level]), [[5, 700, 20], [5, 701, 20], [5, 702, 20]]);
  recording.muted = true;
  blocks(1, 0.5);
  // The link breaks while a frame is being encoded, and there is another one.
  recording.aimAt(undefined);
  blocks(10);
  recording.aimAt({ handle: 6, firstIndex: 720, bytesMax: PACKET_BYTES_MAX });
  blocks(1);
  encode();
  assert.deepEqual(sent.slice(3).map(({ handle, newest, level }) => [handle, newest, level]), [[6, 720, 127]]);
  keepsUp = false;
  blocks(2);
  keepsUp = true;
  nowMs += 1_000;
  blocks(1);
  encode();
  assert.deepEqual([sent.at(-1)?.newest, recording.skipped], [773, 2], "what is left out and what was not recorded are gaps");
  assert.deepEqual([recording.takeLevel(), recording.takeLevel()], [20, 127]);
});

test("levels are those of RFC 6464", () => {
  const of = (value: number) => levelOf([new Float32Array(960).fill(value)]);
  assert.deepEqual([1, 0.5, 0.1, 0.001, 1e-9, 0].map(of), [0, 6, 20, 60, 127, 127]);
  assert.equal(levelOf([new Float32Array(960), new Float32Array(960).fill(0.1)]), 20, "the louder side counts");
  assert.equal(levelOf([]), 127);
  assert.deepEqual([0, 30, 60, 127].map(meterShare), [1, 0.5, 0, 0]);
});

// ---- playing ----

const block = (value: number): Block => [new Float32Array(FRAME_SAMPLES).fill(value), new Float32Array(FRAME_SAMPLES).fill(value)];

/** A decoder that gives what it owes at once, or when it is told to. */
class HandDecoder {
  readonly seen: Uint8Array[] = [];
  closed = false;

  constructor(
    readonly events: DecoderEvents,
    private readonly slow: boolean,
  ) {}

  decode(payload: Uint8Array): void {
    this.seen.push(payload);
    if (!this.slow) this.give();
  }

  close(): void {
    this.closed = true;
  }

  give(count = 1): void {
    for (let left = count; left > 0; left--) this.events.block(block(0.5));
  }
}

function player({ bridges = true, slow = false } = {}) {
  const decoders: HandDecoder[] = [];
  const heard: Block[] = [];
  const open = (events: DecoderEvents) => {
    const decoder = new HandDecoder(events, slow);
    decoders.push(decoder);
    return decoder;
  };
  const playout = new Playout(open, { play: (block) => heard.push(block) });
  playout.ready(bridges);
  let nowMs = 0;
  const packet = (newest: number, payload = Uint8Array.of(0xfc, newest)) => playout.handlePacket(writeMedia({ handle: 1, newest, level: 0, fresh: 1, frames: [{ age: 0, rung: 0, switchPoint: false, payload }] }), nowMs);
  const ask = (count = 1, starved = 0) => playout.handleAsk(count, starved, 30, nowMs);
  const pass = (ms: number) => (nowMs += ms);
  const decoder = () => decoders.at(-1) as HandDecoder;
  /** Packets come and are played. */
  const run = (from: number, to: number, starved = 0) => {
    for (const index of numbers(from, to)) {
      packet(index);
      ask(1, starved);
      pass(20);
    }
  };
  /** Nothing comes. */
  const runDry = (blocks: number) => {
    for (let left = blocks; left > 0; left--) {
      ask();
      pass(20);
    }
  };
  return { playout, decoders, heard, packet, ask, pass, decoder, run, runDry };
}

test("every block that is asked for is given once, in the order of asking", () => {
  const { heard, run, decoder } = player({ slow: true });
  run(10, 29);
  const waited = heard.length;
  const decoding = decoder().seen.length;
  assert.ok(waited > 0 && waited < 10, "silence until the target is reached, and not longer");
  assert.equal(waited + decoding, 20);
  decoder().give();
  assert.equal(heard.length, waited + 1);
  decoder().give(decoding - 1);
  assert.equal(heard.length, 20);
  assert.ok(heard.every(([left]) => left.length === FRAME_SAMPLES));
  const [first] = heard[waited] as Block;
  assert.deepEqual([first[0], first[959]], [0, 0.5], "what begins does not click");
  decoder().give();
  assert.equal(heard.length, 20, "what nobody asked for is not played");
});

test("what is lost is bridged by the decoder, a few times, and then it is silent", () => {
  const { run, runDry, decoder, heard } = player();
  run(10, 29);
  const before = decoder().seen.length;
  runDry(20);
  const bridges = decoder().seen.slice(before).filter((payload) => payload.length === 1);
  assert.equal(bridges.length, BRIDGE_MAX);
  assert.deepEqual([...(bridges[0] ?? [])], [0xfc]);
  assert.equal(heard.length, 40);
  const dry = heard.slice(20);
  const [fading] = dry.find(([left]) => left[FRAME_SAMPLES - 1] === 0) as Block;
  assert.deepEqual([fading[0], fading[240]], [0.5, 0], "what ends does not click");
  assert.ok((heard.at(-1) as Block)[0].every((sample) => sample === 0));
});

test("where the decoder does not bridge, nothing but whole packets reaches it", () => {
  const { run, runDry, decoder, packet } = player({ bridges: false });
  run(10, 29);
  runDry(20);
  packet(60, Uint8Array.of(0xfd, 1));
  run(61, 70);
  assert.ok(decoder().seen.length > 20);
  assert.ok(decoder().seen.every((payload) => payload.length > 1 && payload[0] === 0xfc));
});

test("a decoder that fails is replaced, and what it owed is silence", () => {
  const { run, decoders, decoder, heard } = player({ slow: true });
  run(10, 29);
  const given = heard.length;
  decoder().events.failed();
  assert.deepEqual([decoders.length, decoders[0]?.closed, heard.length], [2, true, 20]);
  assert.ok(given < 20);
  run(30, 31);
  assert.equal(decoder().seen.length, 2);
  decoders[0]?.give();
  assert.equal(heard.length, 20, "the old one has nothing to say any more");
});

test("a decoder that gives nothing is given up", () => {
  const { run, ask, pass, decoders, heard } = player({ slow: true });
  run(10, 29);
  pass(600);
  ask(0);
  assert.equal(decoders.length, 2);
  assert.equal(heard.length, 20);
});

test("who is behind hears two blocks in the time of one, without a step", () => {
  const { packet, ask, pass, run, heard, decoder } = player({ slow: true });
  run(10, 29);
  decoder().give(20);
  const before = decoder().seen.length;
  // Nothing is played for a while, and everything waits.
  for (const index of numbers(30, 36)) {
    packet(index);
    pass(20);
  }
  const given = heard.length;
  ask();
  assert.equal(decoder().seen.length - before, 2);
  decoder().events.block(block(0.5));
  assert.equal(heard.length, given, "one of two is not enough");
  decoder().events.block(block(-0.5));
  const [merged] = heard.at(-1) as Block;
  assert.ok(Math.abs((merged[0] ?? 0) - 0.5) < 0.001 && Math.abs((merged[959] ?? 0) + 0.5) < 0.001 && Math.abs(merged[480] ?? 1) < 0.001);
});

test("broken packets are lost packets", () => {
  const { playout, run, decoder } = player();
  playout.handlePacket(Uint8Array.of(2, 0, 0), 0);
  playout.handlePacket(new Uint8Array(0), 0);
  run(10, 29);
  assert.ok(decoder().seen.length > 0);
});

test("reports come as often as they are wanted, with what was starved for while it played", () => {
  const { playout, run } = player();
  assert.equal(playout.report(250, 0), undefined);
  playout.handleAsk(0, 3, 30, 0);
  run(10, 29, 3);
  playout.handleAsk(0, 5, 40, 400);
  assert.equal(playout.report(500, 400), undefined);
  const playing = playout.report(400, 400);
  assert.ok(playing);
  assert.deepEqual([playing.reception.packets, playing.reception.underruns, playing.spanMs, playing.rung, playing.bytes], [20, 2, 400, 0, 20 * 14]);
  assert.ok((playing.reception.bufferMs ?? 0) >= 40);
});

test("Opus packets of 20 ms are told from others", () => {
  assert.deepEqual([[0xfc, 1], [0x48, 1], [0x60], [0xe0], [0xfd, 1], [0xff, 3], [0xf3, 2, 1], []].map((bytes) => isFrame(Uint8Array.from(bytes))), [true, true, false, false, false, false, true, false]);
  assert.ok(isFrame(SILENT_FRAME));
  assert.deepEqual([...bridgeFor(Uint8Array.of(0x4b, 1, 2))], [0x48]);
});

// ---- samples ----

test("a ring gives what was put in, in order, around its end", () => {
  const ring = new Ring(new SharedArrayBuffer(Ring.bytes(2, 256)), 2, 256);
  const other = new Ring(ring.memory, 2, 256);
  const into = [new Float32Array(256), new Float32Array(256)];
  let wrote = 0;
  let read = 0;
  for (let turn = 0; turn < 40; turn++) {
    const block = Float32Array.from({ length: 100 }, () => wrote++);
    assert.ok(ring.write([block, block.map((value) => -value)]));
    assert.equal(other.waiting, wrote - read);
    other.peek(into, 100);
    assert.deepEqual([into[0]?.[0], into[0]?.[99], into[1]?.[99]], [read, read + 99, -read - 99]);
    other.skip(100);
    read += 100;
  }
  assert.ok(ring.write([new Float32Array(256)]), "full to the brim");
  assert.equal(ring.write([new Float32Array(1)]), false, "and not further");
  ring.rate = -0.00125;
  assert.equal(other.rate, -0.00125);
});

for (const step of [1, 1.005, 0.995, 1.00037]) {
  test(`at ${step} of its speed a tone stays a tone`, () => {
    for (const hertz of [440, 5_000, 12_000]) {
      const input = Float32Array.from({ length: 60_000 }, (_, at) => Math.sin((2 * Math.PI * hertz * at) / 48_000));
      const resampler = new Resampler();
      const output: number[] = [];
      const block = new Float32Array(128);
      for (let from = 0; from + resampler.needs(128, step) <= input.length; ) {
        from += resampler.run([input.subarray(from)], [block], step);
        output.push(...block);
      }
      // The window's middle lies seven samples behind its beginning.
      let noise = 0;
      output.forEach((sample, at) => (noise += (sample - Math.sin((2 * Math.PI * hertz * (at * step + 7)) / 48_000)) ** 2));
      const ratio = 10 * Math.log10(0.5 / (noise / output.length));
      assert.ok(ratio > (hertz > 10_000 ? 40 : 55), `${hertz} Hz: ${ratio.toFixed(1)} dB`);
    }
  });
}
