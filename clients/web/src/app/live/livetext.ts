// Texts about live audio. No DOM here.

import type { IngestTotals, ListeningState, Pin, Quality, Reason, Rung, StreamInfo } from "../../sdk/index";
import { plural } from "../format";

export const PIN_NAMES: Record<Pin, string> = { auto: "Auto", low: "Low", medium: "Medium", high: "High" };

const REASONS: Partial<Record<Reason, string>> = {
  congestion: "the network is full",
  loss: "the network loses packets",
  recovery: "the network is well again",
  probe: "trying for more",
  capacity: "the server is busy",
};

/** What a stream is, in one line. */
export function streamText({ owner, listeners, playing, onAir, state }: StreamInfo): string {
  if (state === "ended") return `${owner ? `${owner} · ` : ""}over`;
  const parts = [owner, onAir ? `${listeners} listening` : "silent now", playing && `♪ ${playing}`];
  return parts.filter(Boolean).join(" · ");
}

export function qualityText(quality: Quality | undefined): string {
  if (!quality) return "";
  const why = REASONS[quality.reason];
  return `${Math.round(quality.bitsPerSecond / 1_000)} kb/s${why && (quality.pin === "auto" || quality.reason === "capacity") ? `: ${why}` : ""}`;
}

/** How listening goes, in few words. */
export function listeningText(state: ListeningState, onAir: boolean, playing: boolean, quality: Quality | undefined): string {
  if (state === "over") return "Over";
  if (state === "waiting") return "Reconnecting…";
  if (!onAir) return "Waiting for the publisher…";
  return playing ? qualityText(quality) : "Buffering…";
}

export function ladderText(rungs: readonly Rung[]): string {
  return `${rungs.map(({ bitsPerSecond }) => Math.round(bitsPerSecond / 1_000)).join(" + ")} kb/s`;
}

/** What became of what is sent. */
export function ingestText({ frames, lost, recovered, late, refused, refusal }: IngestTotals): string {
  if (refused > 0 && refusal) return `Refused: ${refusal}`;
  if (frames === 0) return "Nothing has arrived yet";
  const seconds = Math.round(frames / 50);
  const bad = [lost > 0 && `${plural(lost, "frame")} lost`, late > 0 && `${late} late`, recovered > 0 && `${recovered} repaired`].filter(Boolean);
  return `${clockText(seconds)} sent${bad.length > 0 ? `, ${bad.join(", ")}` : ", nothing lost"}`;
}

/** Seconds as 1:05 or 1:02:03. */
export function clockText(seconds: number): string {
  const two = (value: number) => String(Math.floor(value) % 60).padStart(2, "0");
  const hours = Math.floor(seconds / 3_600);
  return hours > 0 ? `${hours}:${two(seconds / 60)}:${two(seconds)}` : `${Math.floor(seconds / 60)}:${two(seconds)}`;
}

/** A stream's room, by the rule of `create_stream`. */
const ROOM_PREFIX = "stream.";

export function roomOfStream(id: string): string {
  return ROOM_PREFIX + id;
}

export function streamOfRoom(room: string): string | undefined {
  return room.startsWith(ROOM_PREFIX) ? room.slice(ROOM_PREFIX.length) : undefined;
}
