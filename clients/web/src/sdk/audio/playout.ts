import type { Reception } from "../listening";
import { FRAME_SAMPLES, MediaError, readMedia, SAMPLE_RATE } from "../media";
import { type Decision, Jitter } from "./jitter";
import { bridgeFor, isFrame } from "./opus";

/** Frames in a row that the decoder makes up; libopus itself fades out over about as many. */
export const BRIDGE_MAX = 5;
/** Where nothing bridges, what was heard last ends, and what comes begins, within this. Samples: 5 ms. */
const FADE_SAMPLES = 240;
/** A decoder that owes us something for this long will not give it any more. Milliseconds. */
const OWED_MAX_MS = 500;

/** Planar samples of 20 ms, left and right. */
export type Block = readonly [Float32Array<ArrayBuffer>, Float32Array<ArrayBuffer>];

/** Turns packets into blocks, one for each and in order, by calling back; it may fail at any time. */
export interface Decoder {
  decode(payload: Uint8Array): void;
  close(): void;
}

export interface DecoderEvents {
  block(block: Block): void;
  failed(): void;
}

/** Where blocks go to be heard. */
export interface Sink {
  play(block: Block, rate: number): void;
}

/** How playing goes, for who looks at it. */
export interface Playing {
  reception: Reception;
  /** Since the last report. */
  bytes: number;
  /** The time that the numbers of this report are about. Milliseconds. */
  spanMs: number;
  playing: boolean;
  targetMs: number;
  /** How much faster than recorded it plays. */
  rate: number;
  /** The rung of the last packet. */
  rung: number;
}

interface Slot {
  /** What the decoder owes for it. */
  owed: number;
  block: Block | undefined;
  sinceMs: number;
}

/**
 * From packets to blocks: whenever the player asks for 20 ms, it gets exactly 20 ms, of what has come, of what the decoder
 * makes up, or of silence. One decoder for the life of it, never reset.
 */
export class Playout {
  private readonly jitter = new Jitter();
  private decoder: Decoder | undefined;
  /** Whether the decoder bridges what is lost. */
  private bridges = false;
  /** Asked for and not given yet, in order. */
  private readonly slots: Slot[] = [];
  /** The last packet that was decoded. */
  private last: Uint8Array | undefined;
  private bridged = 0;
  private heard: Block | undefined;
  private silent = true;
  private starved = 0;
  private starvedNow = 0;
  private leadMs = 0;
  private bytes = 0;
  private rung = 0;
  private reportedMs: number | undefined;

  constructor(
    private readonly open: (events: DecoderEvents) => Decoder,
    private readonly sink: Sink,
  ) {}

  /** The decoder may be used from now on. */
  ready(bridges: boolean): void {
    this.bridges = bridges;
    this.reopen();
  }

  handlePacket(bytes: Uint8Array, nowMs: number): void {
    try {
      const packet = readMedia(bytes);
      this.jitter.handlePacket(packet, nowMs);
      this.bytes += bytes.length;
      this.rung = packet.frames.at(-1)?.rung ?? 0;
    } catch (error) {
      if (!(error instanceof MediaError)) throw error;
      // A broken packet is a lost packet.
    }
  }

  /** The player wants `count` blocks more. `starved`: how often it had nothing, all in all; `leadMs`: what it holds. */
  handleAsk(count: number, starved: number, leadMs: number, nowMs: number): void {
    if (this.jitter.playing) this.starvedNow += starved - this.starved;
    this.starved = starved;
    this.leadMs = leadMs;
    this.giveUp(nowMs);
    for (let left = count; left > 0; left--) this.fill(this.decoder ? this.jitter.decide(nowMs) : { what: "wait" }, nowMs);
    this.flush();
  }

  /** The report of the last `everyMs`, when it is time for one. */
  report(everyMs: number, nowMs: number): Playing | undefined {
    this.reportedMs ??= nowMs;
    const spanMs = nowMs - this.reportedMs;
    if (spanMs < everyMs) return undefined;
    this.reportedMs = nowMs;
    const { underruns, ...counts } = this.jitter.report();
    const reception = { ...counts, underruns: underruns + this.starvedNow, bufferMs: Math.round(this.jitter.waitingMs + this.leadMs) };
    const { bytes, rung } = this;
    this.starvedNow = 0;
    this.bytes = 0;
    return { reception, bytes, spanMs, playing: this.jitter.playing, targetMs: this.jitter.targetMs, rate: this.jitter.rate, rung };
  }

  close(): void {
    this.decoder?.close();
    this.decoder = undefined;
  }

  private fill(decision: Decision, sinceMs: number): void {
    const payloads = this.payloadsFor(decision);
    this.slots.push({ owed: payloads.length, block: payloads.length === 0 ? this.silence() : undefined, sinceMs });
    for (const payload of payloads) this.decoder?.decode(payload);
  }

  private payloadsFor(decision: Decision): Uint8Array[] {
    const wanted = decision.what === "play" ? [decision.payload] : decision.what === "merge" ? [decision.payload, decision.second] : [];
    const payloads = wanted.filter(isFrame);
    this.last = payloads.at(-1) ?? this.last;
    if (payloads.length > 0) this.bridged = 0;
    if (payloads.length > 0 || decision.what === "wait" || !this.last || !this.bridges || this.bridged >= BRIDGE_MAX) return payloads;
    this.bridged += 1;
    return [bridgeFor(this.last)];
  }

  /** The decoder has made the first block that it owes. */
  private made(block: Block): void {
    const slot = this.slots.find(({ owed }) => owed > 0);
    // One that was given up is not wanted any more.
    if (!slot) return;
    slot.owed -= 1;
    slot.block = slot.block ? merged(slot.block, block) : this.silent ? fadedIn(block) : block;
    this.silent = false;
    this.heard = block;
    this.flush();
  }

  private silence(): Block {
    const end = this.silent ? undefined : this.heard;
    this.silent = true;
    return end ? fadedOut(end) : [new Float32Array(FRAME_SAMPLES), new Float32Array(FRAME_SAMPLES)];
  }

  private flush(): void {
    for (let slot = this.slots[0]; slot?.block && slot.owed === 0; slot = this.slots[0]) {
      this.slots.shift();
      this.sink.play(slot.block, this.jitter.rate);
    }
  }

  private giveUp(nowMs: number): void {
    const owed = this.slots.find((slot) => slot.owed > 0);
    if (owed && nowMs - owed.sinceMs > OWED_MAX_MS) this.reopen();
  }

  /** A new decoder. What the old one owed is silence. */
  private reopen(): void {
    this.decoder?.close();
    for (const slot of this.slots) {
      slot.block ??= this.silence();
      slot.owed = 0;
    }
    this.last = undefined;
    const decoder = this.open({
      block: (block) => {
        if (this.decoder === decoder) this.made(block);
      },
      failed: () => {
        if (this.decoder === decoder) this.reopen();
      },
    });
    this.decoder = decoder;
    this.flush();
  }
}

/** What follows a block when nothing does: its end, turned round, on its way to nothing. */
function fadedOut(block: Block): Block {
  return both(block, (samples) => {
    const end = new Float32Array(FRAME_SAMPLES);
    for (let at = 0; at < FADE_SAMPLES; at++) end[at] = (samples[FRAME_SAMPLES - 1 - at] ?? 0) * (1 - at / FADE_SAMPLES);
    return end;
  });
}

function fadedIn(block: Block): Block {
  return both(block, (samples) => {
    const begin = samples.slice();
    for (let at = 0; at < FADE_SAMPLES; at++) begin[at] = (samples[at] ?? 0) * (at / FADE_SAMPLES);
    return begin;
  });
}

/** Two blocks in the time of one: from the first to the second, evenly. */
function merged(first: Block, second: Block): Block {
  const over = (from: Float32Array, to: Float32Array) => Float32Array.from(from, (sample, at) => sample + (((to[at] ?? 0) - sample) * (at + 0.5)) / FRAME_SAMPLES);
  return [over(first[0], second[0]), over(first[1], second[1])];
}

function both([left, right]: Block, change: (samples: Float32Array<ArrayBuffer>) => Float32Array<ArrayBuffer>): Block {
  return [change(left), change(right)];
}

/** Microseconds from one decoded frame to the next. */
export const FRAME_US = (FRAME_SAMPLES * 1_000_000) / SAMPLE_RATE;
