import type { Message as WireMessage } from "../gen/veza/v1/session_pb";

/** A message as the room's log holds it. */
export interface Message {
  readonly room: string;
  /** Which log: every epoch of a room has its own sequence. */
  readonly epoch: bigint;
  /** Dense within the epoch: 1, 2, 3 … */
  readonly seq: number;
  /** The author's own id of the message. */
  readonly cmid: string;
  readonly author: string;
  /** Markdown source, never HTML. */
  readonly body: string;
  /** When the server stored it. Milliseconds since 1970-01-01 UTC. */
  readonly atMs: number;
}

export function fromWire(message: WireMessage): Message {
  const { room, epoch, seq, cmid, author, body, atMs } = message;
  return { room, epoch, seq: Number(seq), cmid, author, body, atMs: Number(atMs) };
}
