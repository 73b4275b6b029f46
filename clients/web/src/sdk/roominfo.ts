import type { Invite as WireInvite, Membership as WireMembership, Room as WireRoom } from "../gen/veza/v1/rooms_pb";
import { kindFromWire, type Role, type RoomKind, roleFromWire, type Settings, settingsFromWire } from "./permissions";

/** This far in the future means: until somebody lifts it. Milliseconds since 1970-01-01 UTC. */
export const FOREVER_MS = Number.MAX_SAFE_INTEGER;

/** Somebody's place in a room. */
export interface Membership {
  user: string;
  role: Role;
  joinedMs: number;
  /** In the future: muted until then. */
  mutedUntilMs: number;
  bannedUntilMs: number;
  reason: string;
  deliveredSeq: number;
  readSeq: number;
}

/** What the server says about a room. */
export interface RoomInfo {
  id: string;
  title: string;
  topic: string;
  kind: RoomKind;
  settings: Settings;
  head: number;
  members: number;
  createdMs: number;
  /** When the last message was stored, 0 for none. */
  lastMessageMs: number;
  archived: boolean;
  /** The two of a direct room. */
  direct: readonly string[];
  revision: number;
  /** Our own membership, where we are a member. */
  me?: Membership;
}

/** A way into a room: whoever has the code, or the one user. */
export interface Invite {
  room: string;
  title: string;
  code: string;
  user: string;
  creator: string;
  createdMs: number;
  expiresMs: number;
  /** 0 for any number. */
  usesMax: number;
  uses: number;
}

export function roomInfo(room: WireRoom): RoomInfo {
  const { id, title, topic, kind, settings, head, members, createdMs, lastMessageMs, archived, direct, revision, me } = room;
  return {
    id,
    title: title || id,
    topic,
    kind: kindFromWire(kind),
    settings: settingsFromWire(settings),
    head: Number(head),
    members,
    createdMs: Number(createdMs),
    lastMessageMs: Number(lastMessageMs),
    archived,
    direct,
    revision: Number(revision),
    ...(me && { me: membership(me) }),
  };
}

export function membership(member: WireMembership): Membership {
  const { user, role, joinedMs, mutedUntilMs, bannedUntilMs, reason, deliveredSeq, readSeq } = member;
  return {
    user,
    role: roleFromWire(role),
    joinedMs: Number(joinedMs),
    mutedUntilMs: Number(mutedUntilMs),
    bannedUntilMs: Number(bannedUntilMs),
    reason,
    deliveredSeq: Number(deliveredSeq),
    readSeq: Number(readSeq),
  };
}

export function invite(wire: WireInvite): Invite {
  const { room, title, code, user, creator, createdMs, expiresMs, usesMax, uses } = wire;
  return { room, title, code, user, creator, createdMs: Number(createdMs), expiresMs: Number(expiresMs), usesMax, uses };
}
