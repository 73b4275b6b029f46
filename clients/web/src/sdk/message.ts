import { type Message as WireMessage, Role as WireRole, SystemKind } from "../gen/veza/v1/chat_pb";
import { sorted } from "./changes";
import { type Role, roleFromWire } from "./permissions";

/** A file that lies elsewhere; the server keeps the reference and never fetches it. */
export interface Attachment {
  readonly url: string;
  readonly name: string;
  readonly mediaType: string;
  readonly sizeBytes: number;
  readonly sha256: Uint8Array;
}

export interface Reaction {
  readonly emoji: string;
  readonly count: number;
  readonly mine: boolean;
}

/** Something the room should know; the entry's `author` did it. */
export interface Note {
  readonly what: Lowercase<keyof typeof SystemKind>;
  /** Whom it concerns. */
  readonly user: string;
  /** The new title or topic. */
  readonly text: string;
  readonly role: Role | undefined;
  readonly untilMs: number;
}

/** What an entry does to an earlier one, or a note. */
export type Change =
  | { readonly kind: "edit"; readonly target: number; readonly body: string; readonly mentions: readonly string[]; readonly revision: number }
  | { readonly kind: "deletion"; readonly target: number }
  | { readonly kind: "reaction"; readonly target: number; readonly emoji: string; readonly removed: boolean; readonly count: number }
  | { readonly kind: "pin"; readonly target: number; readonly removed: boolean }
  | ({ readonly kind: "note" } & Note);

/** One entry of a room's log: a message, a change of one, or a note. */
export interface Message {
  readonly room: string;
  /** Which log: every epoch of a room has its own sequence. */
  readonly epoch: bigint;
  /** Dense within the epoch over all entries: 1, 2, 3 … What is shown in the room itself has holes. */
  readonly seq: number;
  /** The author's own id of the entry. */
  readonly cmid: string;
  readonly author: string;
  /** Markdown source, never HTML. Empty once deleted. */
  readonly body: string;
  /** When the server stored it. Milliseconds since 1970-01-01 UTC. */
  readonly atMs: number;
  /** The first message of the thread this belongs to; 0 for the room itself. */
  readonly thread: number;
  /** The message this answers; 0 for none. */
  readonly replyTo: number;
  /** User names; "*" is everybody. */
  readonly mentions: readonly string[];
  readonly attachments: readonly Attachment[];
  /** How often it was edited, and when last. */
  readonly edits: number;
  readonly editedMs: number;
  /** Its content is gone. */
  readonly deleted?: { readonly by: string; readonly atMs: number };
  readonly pinned: boolean;
  readonly reactions: readonly Reaction[];
  /** What the thread that begins here has come to. */
  readonly replies?: { readonly count: number; readonly lastSeq: number; readonly lastAtMs: number };
  readonly change?: Change;
}

/** Whether an entry is said by somebody, in the room or in a thread: not a change and not a note. */
export function isText(entry: Message): boolean {
  return !entry.change;
}

/** Whether an entry stands in the room itself: text outside of threads, or a note. */
export function standsInRoom(entry: Message): boolean {
  return entry.change ? entry.change.kind === "note" : entry.thread === 0;
}

export function fromWire(message: WireMessage): Message {
  const { room, epoch, seq, cmid, author, body, atMs, thread, replyTo, mentions, edits, editedMs, deleted, pinned, replies } = message;
  const change = changeFromWire(message.change);
  return {
    room,
    epoch,
    seq: Number(seq),
    cmid,
    author,
    body,
    atMs: Number(atMs),
    thread: Number(thread),
    replyTo: Number(replyTo),
    mentions,
    attachments: message.attachments.map(({ url, name, mediaType, sizeBytes, sha256 }) => ({ url, name, mediaType, sizeBytes: Number(sizeBytes), sha256 })),
    edits,
    editedMs: Number(editedMs),
    pinned,
    reactions: sorted(message.reactions.map(({ emoji, count, mine }) => ({ emoji, count, mine }))),
    ...(deleted && { deleted: { by: deleted.by, atMs: Number(deleted.atMs) } }),
    ...(replies && { replies: { count: replies.count, lastSeq: Number(replies.lastSeq), lastAtMs: Number(replies.lastAtMs) } }),
    ...(change && { change }),
  };
}

function changeFromWire(change: WireMessage["change"]): Change | undefined {
  switch (change.case) {
    case "edit": {
      const { target, body, mentions, revision } = change.value;
      return { kind: "edit", target: Number(target), body, mentions, revision };
    }
    case "deletion":
      return { kind: "deletion", target: Number(change.value.target) };
    case "reaction": {
      const { target, emoji, removed, count } = change.value;
      return { kind: "reaction", target: Number(target), emoji, removed, count };
    }
    case "pin":
      return { kind: "pin", target: Number(change.value.target), removed: change.value.removed };
    case "system": {
      const { kind, user, text, role, untilMs } = change.value;
      const what = (SystemKind[kind] ?? "UNSPECIFIED").toLowerCase() as Note["what"];
      return { kind: "note", what, user, text, role: role === WireRole.UNSPECIFIED ? undefined : roleFromWire(role), untilMs: Number(untilMs) };
    }
    case undefined:
      return undefined;
  }
}
