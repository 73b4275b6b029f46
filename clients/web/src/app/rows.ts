// What stands in the log, as data: messages, notes, date separators, the mark before what is new. No DOM here.

import { type Message, type Outgoing, type Reaction, withPending } from "../sdk/index";
import { dayLabel, dayOf, noteText, standTogether } from "./format";

/** A message that another one answers. */
export interface Quote {
  seq: number;
  author: string;
  body: string;
  deleted: boolean;
}

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
  edits: number;
  editedMs: number;
  /** Who removed it. */
  deletedBy?: string;
  pinned: boolean;
  reactions: readonly Reaction[];
  replies?: { count: number; lastAtMs: number };
  quote?: Quote;
  attachments: readonly { url: string; name: string; sizeBytes: number }[];
  /** It mentions the reader. */
  calls: boolean;
  /** A change of it is on its way. */
  changing: boolean;
  /** How far it got, for the last one of ours. */
  fate?: string;
}

export type Row =
  | MessageRow
  | { kind: "note"; key: string; text: string; atMs: number; seq: number }
  | { kind: "day"; key: string; label: string }
  | { kind: "new"; key: string }
  | { kind: "top"; key: string; loading: boolean }
  | { kind: "bottom"; key: string };

export interface RowsInput {
  messages: readonly Message[];
  pending: readonly Outgoing[];
  me: string;
  /** Messages of others after this one are new. */
  readSeq: number | undefined;
  hasOlder: boolean;
  hasNewer: boolean;
  nowMs: number;
  /** The message another one answers, where it is known. */
  quoted?: (seq: number) => Message | undefined;
  /** Who has read, and received, a message; for the last one of ours. */
  fate?: (seq: number) => string | undefined;
}

/** Rows of a room, or of a thread when `pending` holds its replies only. */
export function buildRows(input: RowsInput): Row[] {
  const { messages, me, nowMs } = input;
  const changes = input.pending.filter(({ draft }) => draft.kind !== "message");
  const rows: Row[] = [{ kind: "top", key: "top", loading: input.hasOlder }];
  let previous: { author: string; atMs: number } | undefined;
  let marked = false;

  const begin = (author: string, atMs: number, seq: number | undefined): boolean => {
    let opens = !previous || previous.author !== author || !standTogether(previous.atMs, atMs);
    if (!previous || dayOf(previous.atMs) !== dayOf(atMs)) {
      rows.push({ kind: "day", key: `day ${dayOf(atMs)}`, label: dayLabel(atMs, nowMs) });
      opens = true;
    }
    const isNew = input.readSeq !== undefined && seq !== undefined && seq > input.readSeq && author !== me;
    if (isNew && !marked) {
      // The mark stands where the reader stopped, so it is not shown in a stretch that begins after it.
      if (!input.hasOlder || (messages[0]?.seq ?? 0) <= (input.readSeq ?? 0) + 1) rows.push({ kind: "new", key: "new" });
      marked = opens = true;
    }
    previous = { author, atMs };
    return opens;
  };

  let lastOwn: MessageRow | undefined;
  for (const original of messages) {
    const { author, atMs, seq, change } = original;
    if (change?.kind === "note") {
      begin("", atMs, undefined);
      rows.push({ kind: "note", key: `note ${seq}`, text: noteText(author, change, nowMs), atMs, seq });
      continue;
    }
    const opens = begin(author, atMs, seq);
    const row = messageRow(withPending(original, changes), me, opens, input.quoted);
    row.changing = changes.some(({ draft, state }) => draft.kind !== "message" && draft.kind !== "reaction" && draft.seq === seq && state !== "stored");
    if (row.own) lastOwn = row;
    rows.push(row);
  }
  const fate = lastOwn?.seq === undefined || lastOwn.deletedBy ? undefined : input.fate?.(lastOwn.seq);
  if (lastOwn && fate) lastOwn.fate = fate;
  if (input.hasNewer) rows.push({ kind: "bottom", key: "bottom" });
  else for (const one of input.pending) if (one.draft.kind === "message") rows.push(pendingRow(one, me, begin, input.quoted));
  return rows;
}

export function messageRow(message: Message, me: string, opens: boolean, quoted?: RowsInput["quoted"]): MessageRow {
  const { author, body, atMs, seq, cmid, edits, editedMs, deleted, pinned, reactions, replies, attachments, mentions } = message;
  const quote = message.replyTo === 0 || deleted ? undefined : quoteOf(message.replyTo, quoted?.(message.replyTo));
  return {
    kind: "message",
    key: rowKey(author, cmid),
    author,
    body,
    atMs,
    own: author === me,
    opens,
    seq,
    state: "delivered",
    cmid,
    edits,
    editedMs,
    pinned,
    reactions,
    attachments: attachments.map(({ url, name, sizeBytes }) => ({ url, name, sizeBytes })),
    calls: author !== me && (mentions.includes(me) || mentions.includes("*")),
    changing: false,
    ...(deleted && { deletedBy: deleted.by }),
    ...(replies && replies.count > 0 && { replies: { count: replies.count, lastAtMs: replies.lastAtMs } }),
    ...(quote && { quote }),
  };
}

function pendingRow(outgoing: Outgoing, me: string, begin: (author: string, atMs: number, seq: undefined) => boolean, quoted: RowsInput["quoted"]): MessageRow {
  const { body, createdMs, state, cmid, error, receipt, draft } = outgoing;
  const atMs = receipt?.atMs ?? createdMs;
  const quote = draft.kind === "message" && draft.replyTo > 0 ? quoteOf(draft.replyTo, quoted?.(draft.replyTo)) : undefined;
  return {
    kind: "message",
    key: rowKey(me, cmid),
    author: me,
    body,
    atMs,
    own: true,
    opens: begin(me, atMs, undefined),
    state,
    cmid,
    edits: 0,
    editedMs: 0,
    pinned: false,
    reactions: [],
    attachments: [],
    calls: false,
    changing: false,
    ...(quote && { quote }),
    ...(error && { error: error.message }),
  };
}

function quoteOf(seq: number, message: Message | undefined): Quote {
  return { seq, author: message?.author ?? "", body: (message?.body ?? "").slice(0, 140), deleted: message?.deleted !== undefined };
}

/** The same before and after delivery, so that the node stays. */
export function rowKey(author: string, cmid: string): string {
  return `m ${author} ${cmid}`;
}

/** How high a row will probably be, before it has been seen. Pixels. */
export function guessHeight(row: Row, charsPerLine: number): number {
  switch (row.kind) {
    case "message": {
      const lines = row.body.split("\n").reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / charsPerLine)), 0);
      const more = (row.reactions.length > 0 ? 32 : 0) + (row.replies ? 30 : 0) + (row.quote ? 40 : 0) + row.attachments.length * 30;
      return (row.opens ? 38 : 3) + 16 + lines * 21.75 + more;
    }
    case "note":
      return 30;
    case "day":
    case "new":
      return 44;
    case "top":
    case "bottom":
      return 42;
  }
}

/** Who has read a message of ours, in a room small enough to say. */
export function fateText(seq: number, me: string, receipts: ReadonlyMap<string, { deliveredSeq: number; readSeq: number }>): string | undefined {
  const others = [...receipts].filter(([user]) => user !== me);
  if (others.length === 0) return undefined;
  const read = others.filter(([, { readSeq }]) => readSeq >= seq).map(([user]) => user).sort();
  if (read.length > 3) return `Read by ${read.length}`;
  if (read.length > 0) return `Read by ${read.join(", ")}`;
  return others.some(([, { deliveredSeq }]) => deliveredSeq >= seq) ? "Delivered" : "Sent";
}
