import { applyChange } from "./changes";
import type { Message } from "./message";

/** Changes remembered for pages that were read before them and arrive after them. */
export const RECENT_MAX = 1_000;

/**
 * The last changes and thread replies of a room. A page travels on another lane than deliveries, so it may bring a
 * message as it was before a change that has been delivered already.
 */
export class Recent {
  private entries: Message[] = [];

  add(entry: Message): void {
    this.entries.push(entry);
    if (this.entries.length > 2 * RECENT_MAX) this.entries.splice(0, RECENT_MAX);
  }

  /** `message` of a page, with everything we know to have happened to it. */
  settle(message: Message, me: string): Message {
    return this.entries.reduce((now, entry) => (entry.seq > message.seq ? applyChange(now, entry, me) : now), message);
  }

  /** Replies of a thread after `seq`. */
  replies(thread: number, seq: number): Message[] {
    return this.entries.filter((entry) => !entry.change && entry.thread === thread && entry.seq > seq);
  }

  clear(): void {
    this.entries = [];
  }
}
