// Addresses within the page. No DOM here.

/** What an address shows: a room, a message in it, or the way in. */
export interface Route {
  room: string;
  /** The message to jump to. */
  seq?: number;
  /** The code of an invitation. */
  invite?: string;
}

const PATTERN = /^#\/room\/([a-z0-9._-]{1,64})(?:\/([1-9][0-9]{0,15}))?(?:\?invite=([A-Za-z0-9_-]{1,64}))?$/;

/** `#/room/lobby`, `#/room/lobby/42` or `#/room/lobby?invite=CODE`. */
export function parseRoute(hash: string): Route | undefined {
  const [, room, seq, invite] = PATTERN.exec(hash) ?? [];
  return room === undefined ? undefined : { room, ...(seq && { seq: Number(seq) }), ...(invite && { invite }) };
}

export function routeTo({ room, seq, invite }: Route): string {
  return `#/room/${room}${seq ? `/${seq}` : ""}${invite ? `?invite=${invite}` : ""}`;
}

/** A pasted invitation: an address of a page like this one, its last part, or nothing usable. */
export function pastedRoute(text: string): Route | undefined {
  const at = text.indexOf("#/room/");
  return at < 0 ? undefined : parseRoute(text.slice(at).trim());
}
