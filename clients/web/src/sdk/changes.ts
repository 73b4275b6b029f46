import type { Message, Reaction } from "./message";
import type { Outgoing } from "./outbox";

/**
 * What has become of `message` after `entry`; the same object when the entry does not concern it. Applying an entry
 * again, or one whose effect a page has brought already, ends in the same state.
 */
export function applyChange(message: Message, entry: Message, me: string): Message {
  const { change } = entry;
  if (!change) {
    // A reply in the thread that begins here.
    const { count, lastSeq } = message.replies ?? { count: 0, lastSeq: 0 };
    if (entry.thread !== message.seq || entry.seq <= lastSeq) return message;
    return { ...message, replies: { count: count + 1, lastSeq: entry.seq, lastAtMs: entry.atMs } };
  }
  if (change.kind === "note" || change.target !== message.seq) return message;
  switch (change.kind) {
    case "edit":
      if (message.deleted || change.revision <= message.edits) return message;
      return { ...message, body: change.body, mentions: change.mentions, edits: change.revision, editedMs: entry.atMs };
    case "deletion":
      if (message.deleted) return message;
      return { ...message, body: "", mentions: [], attachments: [], reactions: [], pinned: false, deleted: { by: entry.author, atMs: entry.atMs } };
    case "reaction":
      if (message.deleted) return message;
      return { ...message, reactions: reacted(message.reactions, change.emoji, change.count, entry.author === me ? !change.removed : undefined) };
    case "pin":
      return message.deleted || message.pinned === !change.removed ? message : { ...message, pinned: !change.removed };
  }
}

/** `message` as it will be when what we have asked for is done. */
export function withPending(message: Message, pending: readonly Outgoing[]): Message {
  let seen = message;
  for (const { draft, state } of pending) {
    if (state === "failed" || draft.kind === "message" || draft.seq !== message.seq) continue;
    if (draft.kind === "edit") seen = { ...seen, body: draft.body };
    if (draft.kind === "pin") seen = { ...seen, pinned: !draft.remove };
    if (draft.kind === "reaction") {
      const now = seen.reactions.find(({ emoji }) => emoji === draft.emoji);
      if ((now?.mine ?? false) !== draft.remove) continue;
      seen = { ...seen, reactions: reacted(seen.reactions, draft.emoji, (now?.count ?? 0) + (draft.remove ? -1 : 1), !draft.remove) };
    }
  }
  return seen;
}

function reacted(reactions: readonly Reaction[], emoji: string, count: number, mine: boolean | undefined): readonly Reaction[] {
  const known = reactions.find((one) => one.emoji === emoji);
  const now = { emoji, count, mine: mine ?? known?.mine ?? false };
  if (count <= 0) return reactions.filter((one) => one.emoji !== emoji);
  return known ? reactions.map((one) => (one === known ? now : one)) : sorted([...reactions, now]);
}

/** Who reacted first is not told by pages, and what one presses must not move: by name, wherever they come from. */
export function sorted(reactions: readonly Reaction[]): readonly Reaction[] {
  return [...reactions].sort((a, b) => (a.emoji < b.emoji ? -1 : 1));
}
