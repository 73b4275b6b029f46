import type { Clock } from "./clock";
import type { Draft } from "./drafts";
import { toVezaError, VezaError } from "./errors";
import { BACKOFF_BASE_MS, BACKOFF_CAP_MS } from "./reconnect";

/** Messages that wait for their acknowledgement; a further one is refused. */
export const OUTBOX_MAX = 200;
/** Publishes on the way at the same time. */
export const IN_FLIGHT_MAX = 16;

/** What the server says when a message is stored durably. */
export interface Receipt {
  epoch: bigint;
  seq: number;
  atMs: number;
}

/**
 * A message of ours, or a change of one, until its delivery. `queued`: not on the way (again); `sending`; `stored`: acknowledged, its
 * delivery has not come yet; `failed`: refused for good, see `error`.
 */
export interface Outgoing {
  readonly room: string;
  readonly cmid: string;
  readonly draft: Draft;
  /** The text of a message or an edit. */
  readonly body: string;
  readonly createdMs: number;
  readonly state: "queued" | "sending" | "stored" | "failed";
  readonly receipt?: Receipt;
  readonly error?: VezaError;
  /** Resolves once stored durably, rejects when refused for good or discarded. */
  readonly stored: Promise<Receipt>;
}

interface Entry extends Outgoing {
  state: Outgoing["state"];
  receipt?: Receipt;
  error?: VezaError;
  resolve(receipt: Receipt): void;
  reject(error: VezaError): void;
}

/** Asks the server to write an entry. */
export type Send = (entry: { room: string; cmid: string; draft: Draft }) => Promise<Receipt>;

export interface PublishRate {
  perSecond: number;
  burst: number;
}

/**
 * Messages and changes that are not acknowledged yet, in the order they were made. Each keeps its cmid over every retry and reconnect, so the server stores
 * it once. The outbox keeps to the server's rate by itself and waits when it is told to.
 */
export class Outbox {
  private readonly entries: Entry[] = [];
  private send: Send | undefined;
  /** Answers to an earlier connection's publishes are not answers to this one's. */
  private generation = 0;
  private rate: PublishRate = { perSecond: 20, burst: 40 };
  private tokens = 0;
  private refilledMs = 0;
  private pausedUntilMs = 0;
  private failures = 0;
  private cancelTimer = () => {};

  constructor(
    private readonly clock: Clock,
    private readonly changed: (room: string) => void,
  ) {}

  /** Takes what is to be written and sends it as soon as possible. */
  add(room: string, cmid: string, draft: Draft): Outgoing {
    let resolve: Entry["resolve"] = () => {};
    let reject: Entry["reject"] = () => {};
    const stored = new Promise<Receipt>((yes, no) => ([resolve, reject] = [yes, no]));
    // The state says it too; nobody is obliged to wait for the promise.
    stored.catch(() => undefined);
    const body = "body" in draft ? draft.body : "";
    const entry: Entry = { room, cmid, draft, body, createdMs: this.clock.now(), state: "queued", stored, resolve, reject };
    if (this.entries.filter((one) => one.state !== "failed").length >= OUTBOX_MAX) {
      throw new VezaError("limit", `${OUTBOX_MAX} messages are waiting to be sent already.`, true, 1_000);
    }
    this.entries.push(entry);
    this.changed(room);
    this.pump();
    return entry;
  }

  /** A connection is there: everything that is not acknowledged goes out (again), in its order. */
  online(send: Send, rate: PublishRate): void {
    this.generation += 1;
    this.send = send;
    // A little below what the server allows, so that its clock and ours may differ.
    this.rate = { perSecond: Math.max(1, rate.perSecond * 0.9), burst: Math.max(1, Math.floor(rate.burst * 0.9)) };
    this.tokens = this.rate.burst;
    this.refilledMs = this.clock.now();
    this.pausedUntilMs = 0;
    this.failures = 0;
    for (const entry of this.entries) if (entry.state === "sending") entry.state = "queued";
    this.pump();
  }

  offline(): void {
    this.generation += 1;
    this.send = undefined;
    this.cancelTimer();
    for (const entry of this.entries) {
      if (entry.state !== "sending") continue;
      entry.state = "queued";
      this.changed(entry.room);
    }
  }

  /** Our own message came back as a delivery, which is as good as an acknowledgement. */
  delivered(room: string, cmid: string, receipt: Receipt): void {
    const entry = this.find(room, cmid);
    if (!entry) return;
    this.remove(entry);
    entry.receipt = receipt;
    entry.state = "stored";
    entry.resolve(receipt);
    this.changed(room);
    this.pump();
  }

  /** Everything of a room up to `seq` has been delivered: stored entries up to there are no longer needed. */
  settled(room: string, epoch: bigint, seq: number): void {
    for (const entry of [...this.entries]) {
      if (entry.room === room && entry.receipt?.epoch === epoch && entry.receipt.seq <= seq) this.remove(entry);
    }
  }

  of(room: string): readonly Outgoing[] {
    return this.entries.filter((entry) => entry.room === room);
  }

  get waiting(): number {
    return this.entries.filter((entry) => entry.state === "queued" || entry.state === "sending").length;
  }

  /** Sends a failed message once more, as the same message. */
  retry(room: string, cmid: string): void {
    const entry = this.find(room, cmid);
    if (entry?.state !== "failed") return;
    entry.state = "queued";
    delete entry.error;
    this.changed(room);
    this.pump();
  }

  /** Forgets a message. What was on the way may still be stored. */
  discard(room: string, cmid: string): void {
    const entry = this.find(room, cmid);
    if (!entry) return;
    this.remove(entry);
    entry.reject(new VezaError("closed", "The message was discarded."));
    this.changed(room);
  }

  discardAll(room: string): void {
    for (const entry of this.of(room)) this.discard(room, entry.cmid);
  }

  private find(room: string, cmid: string): Entry | undefined {
    return this.entries.find((entry) => entry.room === room && entry.cmid === cmid);
  }

  private remove(entry: Entry): void {
    const at = this.entries.indexOf(entry);
    if (at >= 0) this.entries.splice(at, 1);
  }

  private pump(): void {
    this.cancelTimer();
    if (!this.send) return;
    const now = this.clock.now();
    if (now < this.pausedUntilMs) return this.pumpIn(this.pausedUntilMs - now);
    this.tokens = Math.min(this.rate.burst, this.tokens + ((now - this.refilledMs) / 1_000) * this.rate.perSecond);
    this.refilledMs = now;
    let inFlight = this.entries.filter((entry) => entry.state === "sending").length;
    for (const entry of this.entries) {
      if (entry.state !== "queued") continue;
      if (inFlight >= IN_FLIGHT_MAX) return;
      if (this.tokens < 1) return this.pumpIn(((1 - this.tokens) / this.rate.perSecond) * 1_000);
      this.tokens -= 1;
      inFlight += 1;
      void this.transmit(entry, this.send);
    }
  }

  private pumpIn(ms: number): void {
    this.cancelTimer();
    this.cancelTimer = this.clock.after(Math.max(1, Math.ceil(ms)), () => this.pump());
  }

  private async transmit(entry: Entry, send: Send): Promise<void> {
    const generation = this.generation;
    entry.state = "sending";
    this.changed(entry.room);
    try {
      const receipt = await send(entry);
      if (!this.entries.includes(entry)) return;
      entry.state = "stored";
      entry.receipt = receipt;
      entry.resolve(receipt);
      this.failures = 0;
    } catch (error) {
      if (generation !== this.generation || !this.entries.includes(entry)) return;
      this.refused(entry, toVezaError(error));
    }
    this.changed(entry.room);
    this.pump();
  }

  private refused(entry: Entry, error: VezaError): void {
    // What only this room refuses for a while must not hold up the others; people decide whether to say it again.
    const ofRoom = error.code === "slow_mode" || error.code === "muted" || error.code === "banned";
    if (ofRoom || (!error.temporary && error.code !== "rate_limited")) {
      entry.state = "failed";
      entry.error = error;
      entry.reject(error);
      return;
    }
    entry.state = "queued";
    let waitMs = error.retryAfterMs;
    if (error.code === "rate_limited") this.tokens = 0;
    else this.failures += 1;
    if (waitMs === 0) waitMs = Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** this.failures);
    this.pausedUntilMs = Math.max(this.pausedUntilMs, this.clock.now() + waitMs);
  }
}
