// What stands in the log, as data: messages, date separators, the mark before what is new. No DOM here.

import type { Message, Outgoing } from "../sdk/index";
import { dayLabel, dayOf, standTogether } from "./format";

/** Messages in the DOM at the same time, at most. */
export const NODES_MAX = 500;
const STEP = 50;
const INITIAL = 100;

export interface MessageRow {
  kind: "message";
  key: string;
  author: string;
  body: string;
  atMs: number;
  own: boolean;
  /** Opens a group: name and picture are shown. */
  opens: boolean;
  /** Absent until delivered. */
  seq?: number;
  state: "delivered" | Outgoing["state"];
  cmid: string;
  error?: string;
}

export type Row =
  | MessageRow
  | { kind: "day"; key: string; label: string }
  | { kind: "new"; key: string }
  | { kind: "top"; key: string; loading: boolean };

export interface RowsInput {
  messages: readonly Message[];
  /** Which of `messages` are shown: from, inclusive, to, exclusive. */
  from: number;
  to: number;
  pending: readonly Outgoing[];
  me: string;
  /** Messages of others after this one are new. */
  readSeq: number | undefined;
  hasOlder: boolean;
  nowMs: number;
}

export function buildRows(input: RowsInput): Row[] {
  const { messages, from, to, me, nowMs } = input;
  const rows: Row[] = [];
  if (from === 0) rows.push({ kind: "top", key: "top", loading: input.hasOlder });
  let previous: { author: string; atMs: number } | undefined = messages[from - 1];
  let marked = false;

  const begin = (author: string, atMs: number, seq: number | undefined): boolean => {
    let opens = !previous || previous.author !== author || !standTogether(previous.atMs, atMs);
    if (!previous || dayOf(previous.atMs) !== dayOf(atMs)) {
      rows.push({ kind: "day", key: `day ${dayOf(atMs)}`, label: dayLabel(atMs, nowMs) });
      opens = true;
    }
    const isNew = input.readSeq !== undefined && seq !== undefined && seq > input.readSeq && author !== me;
    if (isNew && !marked) {
      marked = true;
      // The mark stands where the reader stopped, so it is not shown in a stretch that begins after it.
      if (from === 0 || (messages[from]?.seq ?? 0) <= (input.readSeq ?? 0) + 1) rows.push({ kind: "new", key: "new" });
      opens = true;
    }
    previous = { author, atMs };
    return opens;
  };

  for (const message of messages.slice(from, to)) {
    const { author, body, atMs, seq, cmid } = message;
    const opens = begin(author, atMs, seq);
    rows.push({ kind: "message", key: rowKey(author, cmid), author, body, atMs, own: author === me, opens, seq, state: "delivered", cmid });
  }
  if (to === messages.length) {
    for (const { body, createdMs, state, cmid, error, receipt } of input.pending) {
      const atMs = receipt?.atMs ?? createdMs;
      const opens = begin(me, atMs, undefined);
      const key = rowKey(me, cmid);
      rows.push({ kind: "message", key, author: me, body, atMs, own: true, opens, state, cmid, ...(error && { error: error.message }) });
    }
  }
  return rows;
}

/** The same before and after delivery, so that the node stays. */
function rowKey(author: string, cmid: string): string {
  return `m ${author} ${cmid}`;
}

/** Which stretch of the loaded messages is in the DOM. At the end it follows what comes. */
export class Span {
  private startSeq: number | undefined;
  private endSeq: number | undefined;

  /** Indices into `messages`: from, inclusive, to, exclusive. */
  range(messages: readonly Message[]): { from: number; to: number } {
    const first = messages[0]?.seq ?? 1;
    const to = this.endSeq === undefined ? messages.length : clamp(this.endSeq - first + 1, 0, messages.length);
    const wanted = this.startSeq === undefined ? to - INITIAL : this.startSeq - first;
    const from = clamp(wanted, Math.max(0, to - NODES_MAX), to);
    return { from, to };
  }

  /** Shows the newest. */
  toEnd(): void {
    this.startSeq = this.endSeq = undefined;
  }

  /** Whether what is said now would be in the stretch. */
  get followsEnd(): boolean {
    return this.endSeq === undefined;
  }

  /** Whether there was more above that is loaded. */
  growUp(messages: readonly Message[]): boolean {
    const { from, to } = this.range(messages);
    const first = messages[0]?.seq;
    if (first === undefined || from === 0) {
      // What will be loaded before the first belongs to the stretch too.
      if (first !== undefined && this.startSeq === undefined) this.startSeq = first;
      return false;
    }
    const start = Math.max(0, from - STEP);
    this.startSeq = first + start;
    if (to - start > NODES_MAX || this.endSeq !== undefined) this.endSeq = first + Math.min(to, start + NODES_MAX) - 1;
    if (this.endSeq !== undefined && this.endSeq >= (messages.at(-1)?.seq ?? 0)) this.endSeq = undefined;
    return true;
  }

  /** Whether there was more below. */
  growDown(messages: readonly Message[]): boolean {
    const { from, to } = this.range(messages);
    const first = messages[0]?.seq;
    if (first === undefined || to >= messages.length) return false;
    const end = Math.min(messages.length, to + STEP);
    this.startSeq = first + Math.max(from, end - NODES_MAX);
    this.endSeq = end === messages.length ? undefined : first + end - 1;
    return true;
  }
}

function clamp(value: number, min: number, max: number): number {
  return Math.min(Math.max(value, min), max);
}
