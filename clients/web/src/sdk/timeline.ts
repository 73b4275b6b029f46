import { applyChange } from "./changes";
import type { Message } from "./message";

/** Messages of a room kept in memory; those farther from the reader go and can be loaded again. */
export const TIMELINE_MAX = 2_000;

/**
 * A stretch of what stands in the room: ascending, with nothing left out between its first and its last. While
 * `attached` it reaches the end of the log and grows with it.
 */
export class Timeline {
  private list: Message[] = [];
  private index = new Map<number, number>();
  /** Whether what is said now belongs right behind the last one. */
  attached = true;
  /** Whether something stands before the first one. */
  hasOlder = false;
  /** Grows when the stretch is replaced or cut at its beginning or end: a page asked for before may not fit any more. */
  version = 0;

  get messages(): readonly Message[] {
    return this.list;
  }

  get first(): Message | undefined {
    return this.list[0];
  }

  get last(): Message | undefined {
    return this.list[this.list.length - 1];
  }

  find(seq: number): Message | undefined {
    const at = this.index.get(seq);
    return at === undefined ? undefined : this.list[at];
  }

  /** Whether `seq` lies within the stretch, be it something that stands in the room or not. */
  spans(seq: number): boolean {
    const { first, last } = this;
    return first !== undefined && last !== undefined && seq >= first.seq && (this.attached || seq <= last.seq);
  }

  /** What has just been said. `following`: the reader is at the end, so that the other one may go. */
  live(message: Message, following: boolean): void {
    if (!this.attached || message.seq <= (this.last?.seq ?? 0)) return;
    if (this.list.length >= TIMELINE_MAX && !following) {
      this.attached = false;
      this.version += 1;
      return;
    }
    this.list.push(message);
    this.index.set(message.seq, this.list.length - 1);
    if (this.list.length > TIMELINE_MAX + TIMELINE_MAX / 10) this.cutFront();
  }

  /** A page of what stands right before the first message. */
  prepend(page: readonly Message[]): void {
    const first = this.first?.seq ?? Infinity;
    this.list.unshift(...page.filter(({ seq }) => seq < first));
    if (this.list.length > TIMELINE_MAX) {
      this.list.length = TIMELINE_MAX;
      this.attached = false;
      this.version += 1;
    }
    this.reindex();
  }

  /** A page of what stands right behind the last message. */
  append(page: readonly Message[]): void {
    const last = this.last?.seq ?? 0;
    this.list.push(...page.filter(({ seq }) => seq > last));
    if (this.list.length > TIMELINE_MAX) this.cutFront();
    else this.reindex();
  }

  /** Another stretch. */
  replace(page: readonly Message[], attached: boolean, hasOlder: boolean): void {
    this.list = [...page];
    this.attached = attached;
    this.hasOlder = hasOlder;
    this.version += 1;
    this.reindex();
  }

  /** Applies a change to the message it concerns. Returns whether that is held. */
  change(entry: Message, me: string): boolean {
    const target = entry.change ? (entry.change.kind === "note" ? 0 : entry.change.target) : entry.thread;
    const at = this.index.get(target);
    const known = at === undefined ? undefined : this.list[at];
    if (at === undefined || !known) return false;
    this.list[at] = applyChange(known, entry, me);
    return true;
  }

  private cutFront(): void {
    this.list.splice(0, this.list.length - TIMELINE_MAX);
    this.hasOlder = true;
    this.version += 1;
    this.reindex();
  }

  private reindex(): void {
    this.index = new Map(this.list.map(({ seq }, at) => [seq, at]));
  }
}
