import type { Message } from "./message";

/** Messages of a room kept in memory; the oldest go first and can be loaded again. */
export const TIMELINE_MAX = 5_000;

/** The part of a room's log that is loaded: one stretch without holes, ascending. */
export class Timeline {
  private list: Message[] = [];

  get messages(): readonly Message[] {
    return this.list;
  }

  get first(): Message | undefined {
    return this.list[0];
  }

  get last(): Message | undefined {
    return this.list[this.list.length - 1];
  }

  /** Messages that follow the last one. Returns whether old ones had to go. */
  append(messages: readonly Message[]): boolean {
    this.list.push(...messages);
    if (this.list.length <= TIMELINE_MAX) return false;
    this.list.splice(0, this.list.length - TIMELINE_MAX);
    return true;
  }

  /** A page of history, ascending: what lies before the first message is put there. Returns how many were new. */
  prepend(page: readonly Message[], before: number): number {
    const older = page.filter((message) => message.seq < before);
    this.list.unshift(...older);
    return older.length;
  }

  clear(): void {
    this.list = [];
  }
}
