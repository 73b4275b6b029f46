import type { Message } from "./message";

/** Messages that came before their turn and are kept; further ones are dropped, a repair brings them again. */
export const HELD_MAX = 1_000;

/** What is missing: `after` exclusive, `upTo` inclusive, 0 for everything to the end of the log. */
export interface Hole {
  after: number;
  upTo: number;
}

/**
 * Turns deliveries that may be lost, repeated or reordered into the room's log: each message once, in sequence.
 * Sequence numbers are dense, so whoever gets n + 2 after n knows what to ask for.
 */
export class Ordering {
  private held = new Map<number, Message>();
  private known = 0;

  constructor(
    private currentEpoch: bigint,
    private lastApplied: number,
  ) {}

  get epoch(): bigint {
    return this.currentEpoch;
  }

  /** The last sequence number that is held without a hole. */
  get last(): number {
    return this.lastApplied;
  }

  get hole(): Hole | undefined {
    if (this.known <= this.lastApplied) return undefined;
    const upTo = this.held.size === 0 ? 0 : Math.min(...this.held.keys()) - 1;
    return { after: this.lastApplied, upTo };
  }

  /** The messages whose turn it is now, in order. Duplicates and messages of another epoch give none. */
  accept(message: Message): Message[] {
    if (message.epoch !== this.currentEpoch || message.seq <= this.lastApplied) return [];
    this.known = Math.max(this.known, message.seq);
    if (message.seq !== this.lastApplied + 1) {
      if (this.held.size < HELD_MAX) this.held.set(message.seq, message);
      return [];
    }
    const ready: Message[] = [];
    for (let next: Message | undefined = message; next; next = this.held.get(this.lastApplied + 1)) {
      this.held.delete(next.seq);
      this.lastApplied = next.seq;
      ready.push(next);
    }
    return ready;
  }

  /** The log is known to reach this far. */
  noteHead(epoch: bigint, head: number): void {
    if (epoch === this.currentEpoch) this.known = Math.max(this.known, head);
  }

  /** Starts over behind `last` of `epoch`. Held messages after it stay if the epoch does. Returns those whose turn it is. */
  restart(epoch: bigint, last: number): Message[] {
    const held = epoch === this.currentEpoch ? [...this.held.values()].filter((message) => message.seq > last) : [];
    this.currentEpoch = epoch;
    this.lastApplied = last;
    this.known = last;
    this.held = new Map();
    return held.sort((a, b) => a.seq - b.seq).flatMap((message) => this.accept(message));
  }
}
