// Texts made from values. No DOM here.

const MINUTE_MS = 60_000;

/** A piece of a message: plain, or with the address it links to. */
export interface Piece {
  text: string;
  href?: string;
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

export function clockTime(atMs: number): string {
  return new Date(atMs).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

export function fullTime(atMs: number): string {
  return new Date(atMs).toLocaleString([], { dateStyle: "full", timeStyle: "medium" });
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
