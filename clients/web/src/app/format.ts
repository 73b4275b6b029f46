// Texts made from values. No DOM here.

import { findMentions, FOREVER_MS, type Note, type Presence, type RoomInfo, type RoomKind } from "../sdk/index";

const MINUTE_MS = 60_000;

/** A piece of a message: plain, with the address it links to, with the user it calls, or code. */
export interface Piece {
  text: string;
  href?: string;
  user?: string;
  code?: boolean;
}

const CODE_PATTERN = /```\n?([\s\S]*?)\n?```|`([^`\n]+)`/g;

/** A message's text as it is shown: code, links and mentions. Everything else stays text, whatever it looks like. */
export function textPieces(text: string): Piece[] {
  const pieces: Piece[] = [];
  let at = 0;
  for (const match of text.matchAll(CODE_PATTERN)) {
    pieces.push(...linkPieces(text.slice(at, match.index)).flatMap(mentionPieces));
    pieces.push({ text: match[1] ?? match[2] ?? "", code: true });
    at = match.index + match[0].length;
  }
  pieces.push(...linkPieces(text.slice(at)).flatMap(mentionPieces));
  return pieces;
}

function mentionPieces(piece: Piece): Piece[] {
  if (piece.href) return [piece];
  const pieces: Piece[] = [];
  let at = 0;
  for (const { from, to, user } of findMentions(piece.text)) {
    if (from > at) pieces.push({ text: piece.text.slice(at, from) });
    pieces.push({ text: piece.text.slice(from, to), user });
    at = to;
  }
  if (at < piece.text.length) pieces.push({ text: piece.text.slice(at) });
  return pieces;
}

const URL_PATTERN = /\bhttps?:\/\/[^\s<>"'`]+/gi;

/** Splits text at http(s) addresses. Everything else stays text, whatever it looks like. */
export function linkPieces(text: string): Piece[] {
  const pieces: Piece[] = [];
  let at = 0;
  for (const match of text.matchAll(URL_PATTERN)) {
    const raw = trimAddress(match[0]);
    if (!isAddress(raw)) continue;
    if (match.index > at) pieces.push({ text: text.slice(at, match.index) });
    pieces.push({ text: raw, href: raw });
    at = match.index + raw.length;
  }
  if (at < text.length) pieces.push({ text: text.slice(at) });
  return pieces;
}

/** A sentence's own full stop or bracket does not belong to the address in it. */
function trimAddress(address: string): string {
  let end = address.replace(/[.,;:!?*_~]+$/, "");
  while (end.endsWith(")") && count(end, ")") > count(end, "(")) end = end.slice(0, -1).replace(/[.,;:!?]+$/, "");
  return end.replace(/\]+$/, "");
}

function count(text: string, char: string): number {
  return text.split(char).length - 1;
}

function isAddress(text: string): boolean {
  try {
    const { protocol, hostname } = new URL(text);
    return (protocol === "https:" || protocol === "http:") && hostname !== "";
  } catch {
    return false;
  }
}

// Made once: making one takes longer than using it a hundred times.
const CLOCK = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit" });
const FULL = new Intl.DateTimeFormat([], { dateStyle: "full", timeStyle: "medium" });

export function clockTime(atMs: number): string {
  return CLOCK.format(atMs);
}

export function fullTime(atMs: number): string {
  return FULL.format(atMs);
}

/** The local calendar day, comparable. */
export function dayOf(atMs: number): string {
  const date = new Date(atMs);
  return `${date.getFullYear()}-${date.getMonth()}-${date.getDate()}`;
}

export function dayLabel(atMs: number, nowMs: number): string {
  if (dayOf(atMs) === dayOf(nowMs)) return "Today";
  const yesterday = new Date(nowMs);
  yesterday.setDate(yesterday.getDate() - 1);
  if (dayOf(atMs) === dayOf(yesterday.getTime())) return "Yesterday";
  const sameYear = new Date(atMs).getFullYear() === new Date(nowMs).getFullYear();
  return new Date(atMs).toLocaleDateString([], {
    weekday: "long",
    day: "numeric",
    month: "long",
    ...(!sameYear && { year: "numeric" }),
  });
}

/** Whether two messages of one author stand together under one name. */
export function standTogether(earlierMs: number, laterMs: number): boolean {
  return laterMs - earlierMs < 5 * MINUTE_MS && dayOf(earlierMs) === dayOf(laterMs);
}

export function typingText(names: readonly string[]): string {
  const [first, second] = names;
  if (first === undefined) return "";
  if (second === undefined) return `${first} is typing…`;
  if (names.length === 2) return `${first} and ${second} are typing…`;
  return `${names.length} people are typing…`;
}

export function rttText(ms: number | undefined): string {
  if (ms === undefined) return "";
  return ms < 1 ? "<1 ms" : `${Math.round(ms)} ms`;
}

/** Seconds left, rounded up, never below 1. */
export function countdown(untilMs: number, nowMs: number): string {
  return `${Math.max(1, Math.ceil((untilMs - nowMs) / 1_000))} s`;
}

/** A room address made from a title. */
export function slug(title: string): string {
  return title
    .normalize("NFKD")
    .replace(/[\u0300-\u036f]/g, "")
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 64);
}

export const KIND_ICONS: Record<RoomKind, string> = { public: "#", private: "◈", direct: "@", premium: "★" };
export const PRESENCE_NAMES: Record<Presence, string> = { online: "Online", away: "Away", do_not_disturb: "Do not disturb" };

/** A note of the log as a sentence. */
export function noteText(author: string, note: Note, nowMs: number): string {
  const { what, user, text, role, untilMs } = note;
  const until = untilMs > 0 && untilMs < FOREVER_MS ? ` until ${moment(untilMs, nowMs)}` : "";
  switch (what) {
    case "title_changed":
      return `${author} named the room “${text}”`;
    case "topic_changed":
      return text === "" ? `${author} removed the topic` : `${author} set the topic: ${text}`;
    case "settings_changed":
      return `${author} changed the settings`;
    case "role_changed":
      return `${author} made ${user} ${role === "admin" || role === "owner" ? "an" : "a"} ${role ?? "member"}`;
    case "kicked":
      return `${author} removed ${user}`;
    case "banned":
      return `${author} banned ${user}${until}`;
    case "unbanned":
      return `${author} lifted the ban of ${user}`;
    case "muted":
      return `${author} muted ${user}${until}`;
    case "unmuted":
      return `${author} unmuted ${user}`;
    case "archived":
      return `${author} archived the room`;
    case "unarchived":
      return `${author} opened the room again`;
    case "unspecified":
      return `${author} changed something`;
  }
}

/** A time with as much of its date as is needed. */
export function moment(atMs: number, nowMs: number): string {
  if (dayOf(atMs) === dayOf(nowMs)) return clockTime(atMs);
  return new Date(atMs).toLocaleString([], { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}

/** A span of time in its largest unit: "2 hours". */
export function span(seconds: number): string {
  for (const [unit, size] of [["day", 86_400], ["hour", 3_600], ["minute", 60]] as const) {
    if (seconds >= size) return plural(Math.round(seconds / size), unit);
  }
  return plural(Math.ceil(seconds), "second");
}

export function bytesText(bytes: number): string {
  return bytes < 1024 ? `${bytes} B` : bytes < 1024 * 1024 ? `${(bytes / 1024).toFixed(0)} KiB` : `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}

/** What a room is called by its reader: a direct room by the other one's name. */
export function roomName({ kind, direct, title }: Pick<RoomInfo, "kind" | "direct" | "title">, me: string): string {
  return kind === "direct" ? (direct.find((user) => user !== me) ?? title) : title;
}
