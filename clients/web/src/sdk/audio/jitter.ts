import type { Reception } from "../listening";
import { FRAME_MS, type MediaPacket } from "../media";
import { Arrivals, OUTAGE_MS } from "./arrivals";
import { Margin } from "./margin";

/** What is waited for before anything is known about the network. */
export const TARGET_START_MS = 60;
/** How fast the target falls, per second: by a share of what is too much, and by at least so many milliseconds. */
const TARGET_FALL_SHARE = 0.2;
const TARGET_FALL_MS = 5;
/** Behind the target by this much, two frames are merged into one now and then: faster playing alone would take long. */
export const MERGE_MS = 60;
/** From one merging to the next: rare enough not to be noticed. Milliseconds. */
const MERGE_EVERY_MS = 500;
/** Behind by more than this, frames are left out. */
export const SKIP_MS = 200;
/** With nothing to play for this long the stream rests, until it is clear by which clock it goes on. */
export const REST_MS = 500;
/** Frames that may wait: five seconds. */
const WAITING_MAX = 250;
/** Lost indices that are remembered, to know those that come late. */
const LOST_MAX = 100;
/** The most that playing faster or slower may do: inaudible for music. */
export const RATE_MAX = 0.005;
/** Off the target by this much, it does the most. */
const RATE_FULL_MS = 20;
/** The share of the newest measurement in the mean. */
const SMOOTHING = 1 / 50;

/** What to do with the next 20 ms. */
export type Decision =
  | { what: "play"; index: number; payload: Uint8Array }
  /** Two frames in the time of one, to catch up. */
  | { what: "merge"; index: number; payload: Uint8Array; second: Uint8Array }
  /** This frame is lost: bridge it, and go on with the next one. */
  | { what: "conceal"; index: number }
  /** The next frame has not come yet: bridge the time, and ask for the same one again. */
  | { what: "stretch" }
  /** There is nothing to bridge: silence. */
  | { what: "wait" };

interface Waiting {
  payload: Uint8Array;
  /** It came as itself, not only as a copy. */
  fresh: boolean;
}

const NOTHING = { received: 0, lost: 0, late: 0, recovered: 0, packets: 0, packetsLost: 0, underruns: 0 };

/**
 * Frames on their way from the network to the decoder, by index. Every 20 ms of playing asks what comes next; the answer
 * keeps what is played `targetMs` behind the fastest way through the network. No clock of its own: time comes in.
 */
export class Jitter {
  private readonly arrivals = new Arrivals();
  private readonly margin = new Margin();
  private readonly waiting = new Map<number, Waiting>();
  private readonly lost = new Set<number>();
  private next: number | undefined;
  private highest = 0;
  private target = TARGET_START_MS;
  private followedMs: number | undefined;
  /** How old the oldest frame is that packets bring: frames. */
  private reach = 0;
  /** Frames of a packet. */
  private perPacket = 1;
  /** Waits for the target to be reached: at the beginning, and after there was nothing to play. */
  private holding = true;
  /** For how long there was nothing to play. Milliseconds; undefined while it plays. */
  private idleMs: number | undefined = Number.POSITIVE_INFINITY;
  /** Mean distance from the target. Milliseconds; positive when too much waits. */
  private off = 0;
  private mergedMs = Number.NEGATIVE_INFINITY;
  private count = { ...NOTHING };

  /** A packet has come. */
  handlePacket({ newest, fresh, frames }: MediaPacket, nowMs: number): void {
    this.count.packets += 1;
    this.perPacket = fresh;
    const first = newest - Math.min(newest, fresh - 1);
    this.next ??= first;
    const starved = this.starved;
    this.highest = Math.max(this.highest, newest);
    let oldest = 0;
    for (const { age, payload } of frames) {
      oldest = Math.max(oldest, age);
      this.handleFrame(newest - age, payload, age < fresh, nowMs);
    }
    if (starved) this.learn(nowMs);
    // A copy is of use only to who waits for it.
    this.reach = Math.max(oldest, this.reach - 0.02);
    for (const index of this.waiting.keys()) {
      if (this.waiting.size <= WAITING_MAX) break;
      this.waiting.delete(index);
    }
  }

  private handleFrame(index: number, payload: Uint8Array, fresh: boolean, nowMs: number): void {
    if (index < (this.next ?? 0)) {
      if (fresh || this.lost.has(index)) this.arrived(index, nowMs);
      if (!this.lost.delete(index)) return;
      this.count.lost -= 1;
      this.count.late += 1;
      return;
    }
    const known = this.waiting.get(index);
    if (!known || (fresh && !known.fresh)) this.arrived(index, nowMs);
    if (known) known.fresh ||= fresh;
    else this.waiting.set(index, { payload, fresh });
  }

  private arrived(index: number, nowMs: number): void {
    this.arrivals.add(index, nowMs);
    this.margin.handleArrival(nowMs - (this.arrivals.dueMs(index) ?? nowMs));
  }

  /** What comes next. To be asked once for every 20 ms that are played. */
  decide(nowMs: number): Decision {
    this.follow(nowMs);
    if (this.next === undefined || this.next > this.highest) return this.nothing();
    // After a rest the frames of an outage may be on their way in one heap: what is behind is not played.
    if (this.resting && this.arrivals.late) return { what: "wait" };
    let behind = this.behindMs(this.next, nowMs);
    if (this.holding && behind < -FRAME_MS / 2) return this.bridge();
    // After a rest nobody hears what is left out.
    if (behind > (this.resting ? FRAME_MS : SKIP_MS)) behind = this.skip(behind);
    while (!this.waiting.has(this.next) && behind >= FRAME_MS && this.next < this.highest) {
      this.pass();
      behind -= FRAME_MS;
    }
    if (this.idleMs !== undefined) this.off = 0;
    this.holding = false;
    this.idleMs = undefined;
    this.off += (behind - this.off) * SMOOTHING;
    const index = this.next;
    const there = this.waiting.get(index);
    this.pass();
    if (!there) return { what: "conceal", index };
    const second = behind >= MERGE_MS && nowMs - this.mergedMs >= MERGE_EVERY_MS ? this.waiting.get(this.next) : undefined;
    if (!second) return { what: "play", index, payload: there.payload };
    this.mergedMs = nowMs;
    this.pass();
    return { what: "merge", index, payload: there.payload, second: second.payload };
  }

  /** How much faster (or, negative, slower) to play, to come back to the target. */
  get rate(): number {
    return Math.max(-RATE_MAX, Math.min(RATE_MAX, (this.off / RATE_FULL_MS) * RATE_MAX));
  }

  /** How long a frame is held that came by the fastest way. Milliseconds. */
  get targetMs(): number {
    return this.target;
  }

  /** Audio that waits here. Milliseconds. */
  get waitingMs(): number {
    return this.next === undefined ? 0 : Math.max(0, this.highest - this.next + 1) * FRAME_MS;
  }

  get playing(): boolean {
    return this.idleMs === undefined;
  }

  /** What happened since the last report. */
  report(): Required<Omit<Reception, "bufferMs">> {
    const { lost, packetsLost, ...rest } = this.count;
    // What was called lost earlier and came late now is taken back where there is something to take it from.
    const carried = Math.min(0, lost);
    const whole = Math.floor(packetsLost);
    this.count = { ...NOTHING, lost: carried, packetsLost: packetsLost - whole };
    return { ...rest, lost: lost - carried, packetsLost: whole, highest: this.highest, spreadP95Us: Math.round(this.arrivals.spreadMs * 1_000) };
  }

  private get resting(): boolean {
    return (this.idleMs ?? 0) >= REST_MS;
  }

  /** Whether an underrun goes on that a larger buffer would have bridged. */
  private get starved(): boolean {
    return this.next !== undefined && this.next > this.highest && (this.idleMs ?? 0) > FRAME_MS && !this.resting;
  }

  /** What ended an underrun may have been on time: a publisher's pause and a loss are nothing that waiting would mend. */
  private learn(nowMs: number): void {
    const due = this.arrivals.dueMs(Math.min(...this.waiting.keys()));
    if (due !== undefined && nowMs - due > this.target) this.margin.handleUnderrun(nowMs - due);
  }

  /** The target follows the spread, and what underruns have taught, up at once and down slowly. */
  private follow(nowMs: number): void {
    const passedS = (nowMs - (this.followedMs ?? nowMs)) / 1_000;
    this.followedMs = nowMs;
    if (this.playing) this.margin.handlePlayed(passedS * 1_000);
    const spread = Math.min(OUTAGE_MS, Math.max(this.arrivals.spreadMs, Math.ceil(this.reach) * FRAME_MS));
    const wanted = this.margin.above(spread + FRAME_MS);
    const fall = Math.max(TARGET_FALL_MS, (this.target - wanted) * TARGET_FALL_SHARE);
    this.target = Math.max(wanted, this.target - passedS * fall);
  }

  /** How far behind its time a frame is, if it is played now. Milliseconds. */
  private behindMs(index: number, nowMs: number): number {
    return nowMs - (this.arrivals.dueMs(index) ?? nowMs) - this.target;
  }

  /** Leaves out frames until the next one is on time; the newest one is played in any case. */
  private skip(behind: number): number {
    const frames = Math.min(Math.ceil(behind / FRAME_MS), this.highest - (this.next ?? 0));
    for (let left = frames; left > 0; left--) this.pass();
    return behind - frames * FRAME_MS;
  }

  /** The next frame's time has come and is over. */
  private pass(): void {
    const index = this.next ?? 0;
    const there = this.waiting.get(index);
    this.waiting.delete(index);
    this.next = index + 1;
    if (!there?.fresh) this.count.packetsLost += 1 / this.perPacket;
    if (there) {
      this.count.received += 1;
      this.count.recovered += there.fresh ? 0 : 1;
      return;
    }
    this.count.lost += 1;
    this.lost.add(index);
    for (const old of this.lost) {
      if (this.lost.size <= LOST_MAX) break;
      this.lost.delete(old);
    }
  }

  private nothing(): Decision {
    this.idleMs ??= 0;
    // One frame that does not come is bridged like one that is lost.
    if (this.idleMs === FRAME_MS) this.count.underruns += 1;
    this.holding = true;
    return this.bridge();
  }

  private bridge(): Decision {
    if (this.idleMs !== undefined) this.idleMs += FRAME_MS;
    return this.resting ? { what: "wait" } : { what: "stretch" };
  }
}
