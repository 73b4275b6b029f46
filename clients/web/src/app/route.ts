// Addresses within the page. No DOM here.

import { roomOfStream } from "./live/livetext";

/** What an address shows: a room, a message in it, or the way in. A show is its room. */
export interface Route {
  room: string;
  /** The message to jump to. */
  seq?: number;
  /** The code of an invitation. */
  invite?: string;
}

const PATTERN = /^#\/room\/([a-z0-9._-]{1,64})(?:\/([1-9][0-9]{0,15}))?(?:\?invite=([A-Za-z0-9_-]{1,64}))?$/;
const LIVE_PATTERN = /^#\/live\/([a-z0-9._-]{1,57})$/;

/** `#/live/friday`, `#/room/lobby`, `#/room/lobby/42` or `#/room/lobby?invite=CODE`. */
export function parseRoute(hash: string): Route | undefined {
  const [, stream] = LIVE_PATTERN.exec(hash) ?? [];
  if (stream !== undefined) return { room: roomOfStream(stream) };
  const [, room, seq, invite] = PATTERN.exec(hash) ?? [];
  return room === undefined ? undefined : { room, ...(seq && { seq: Number(seq) }), ...(invite && { invite }) };
}

/** The address of a show. */
export function liveRouteTo(stream: string): string {
  return `#/live/${stream}`;
}

export function routeTo({ room, seq, invite }: Route): string {
  return `#/room/${room}${seq ? `/${seq}` : ""}${invite ? `?invite=${invite}` : ""}`;
}

/** A pasted invitation: an address of a page like this one, its last part, or nothing usable. */
export function pastedRoute(text: string): Route | undefined {
  const at = text.search(/#\/(room|live)\//);
  return at < 0 ? undefined : parseRoute(text.slice(at).trim());
}
