import {
  AudioProfile,
  type AudioQuality as WireQuality,
  AudioState,
  type AudioStream as WireStream,
  QualityPin,
  QualityReason,
} from "../gen/veza/v1/audio_pb";

export type StreamProfile = "music" | "voice";
export type StreamState = "created" | "live" | "ended";
/** What a listener asks of the quality; `auto` follows the network. */
export type Pin = "auto" | "low" | "medium" | "high";
/** Why the quality is what it is. */
export type Reason = "start" | "congestion" | "loss" | "recovery" | "probe" | "choice" | "capacity" | "unknown";

/** What the server says about a stream of live audio. */
export interface StreamInfo {
  id: string;
  title: string;
  description: string;
  owner: string;
  /** Its chat room, empty for none. */
  room: string;
  profile: StreamProfile;
  state: StreamState;
  /** A publisher is here. */
  onAir: boolean;
  /** On the node that we are on. */
  listeners: number;
  /** What is played, for people. */
  playing: string;
  /** Milliseconds since 1970-01-01 UTC; 0 before it was started. */
  startedMs: number;
}

/** One quality of a stream. */
export interface Rung {
  /** 0 to 7, the same in each packet. */
  rung: number;
  bitsPerSecond: number;
  channels: number;
}

/** What a listener is sent. */
export interface Quality {
  rung: number;
  bitsPerSecond: number;
  /** Of audio in each packet: 20, 40 or 60. */
  packetMs: number;
  /** Copies of earlier frames in each packet, 0 to 2. */
  redundancy: number;
  pin: Pin;
  reason: Reason;
}

export const PINS: readonly Pin[] = ["auto", "low", "medium", "high"];
const REASONS: Record<QualityReason, Reason> = {
  [QualityReason.UNSPECIFIED]: "unknown",
  [QualityReason.START]: "start",
  [QualityReason.CONGESTION]: "congestion",
  [QualityReason.LOSS]: "loss",
  [QualityReason.RECOVERY]: "recovery",
  [QualityReason.PROBE]: "probe",
  [QualityReason.CHOICE]: "choice",
  [QualityReason.CAPACITY]: "capacity",
};
const STATES: Record<AudioState, StreamState> = {
  [AudioState.UNSPECIFIED]: "created",
  [AudioState.CREATED]: "created",
  [AudioState.LIVE]: "live",
  [AudioState.ENDED]: "ended",
};

export function streamInfo(stream: WireStream): StreamInfo {
  const { id, title, description, owner, room, profile, state, onAir, listeners, playing, startedMs } = stream;
  return {
    id,
    title: title || id,
    description,
    owner,
    room,
    profile: profile === AudioProfile.VOICE ? "voice" : "music",
    state: STATES[state] ?? "created",
    onAir,
    listeners,
    playing,
    startedMs: Number(startedMs),
  };
}

export function profileToWire(profile: StreamProfile): AudioProfile {
  return profile === "voice" ? AudioProfile.VOICE : AudioProfile.MUSIC;
}

export function pinToWire(pin: Pin): QualityPin {
  return { auto: QualityPin.AUTO, low: QualityPin.LOW, medium: QualityPin.MEDIUM, high: QualityPin.HIGH }[pin];
}

export function quality({ rung, bitsPerSecond, packetMs, redundancy, pin, reason }: WireQuality): Quality {
  return { rung, bitsPerSecond, packetMs, redundancy, pin: PINS[pin] ?? "auto", reason: REASONS[reason] ?? "unknown" };
}

export function rungs(wire: readonly Rung[]): Rung[] {
  return wire.map(({ rung, bitsPerSecond, channels }) => ({ rung, bitsPerSecond, channels }));
}
