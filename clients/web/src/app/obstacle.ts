// Why nothing can be said at the moment, as the page knows it. No DOM here; the server decides.

import { atLeast, FOREVER_MS, type Room } from "../sdk/index";
import { countdown, moment } from "./format";

export interface Obstacle {
  text: string;
  /** It ends by itself within moments. */
  waiting: boolean;
}

type Place = Pick<Room, "info" | "state" | "can" | "lastSaidMs">;

export function obstacle(room: Place, inThread: boolean, nowMs: number): Obstacle | undefined {
  const { info } = room;
  if (room.state === "gone") return { text: "You are not in this room.", waiting: false };
  if (!info) return undefined;
  if (info.archived) return { text: "This room is archived: nothing can be said any more.", waiting: false };
  const mutedUntil = info.me?.mutedUntilMs ?? 0;
  if (mutedUntil > nowMs) return { text: mutedUntil >= FOREVER_MS ? "You are muted." : `You are muted until ${moment(mutedUntil, nowMs)}.`, waiting: false };
  if (!room.can("publish") || (inThread && !room.can("thread"))) return { text: "Your role here is to read.", waiting: false };
  const slowMs = info.settings.slowModeSeconds * 1_000;
  const freeMs = room.lastSaidMs + slowMs;
  if (slowMs > 0 && freeMs > nowMs && !atLeast(info.me?.role, "moderator")) {
    return { text: `Slow mode: you may write again in ${countdown(freeMs, nowMs)}.`, waiting: true };
  }
  return undefined;
}
