// What the page, the workers that play and record, and the worklets say to each other. Media packets travel between
// workers as plain bytes, on ports of their own.

import type { Copies } from "../sdk/audio/packetizer";
import type { Playing } from "../sdk/audio/playout";
import type { IngestTotals } from "../sdk/publication";
import type { Rung, StreamProfile } from "../sdk/streaminfo";

/** Ring positions in shared memory, samples: 340 ms. */
export const RING_FRAMES = 16_384;

/** The page to the worker that plays, once. */
export interface PlayoutStart {
  /** To the player's worklet. */
  player: MessagePort;
  /** Where packets come from. */
  packets: MessagePort;
  /** What it shares with the worklet, where memory can be shared. */
  memory: SharedArrayBuffer | undefined;
  /** How often to report. Milliseconds. */
  reportMs: number;
}

/** The worker that plays to the page. */
export type PlayoutSays = { failed: string } | { playing: Playing };

/** The player to the worker. */
export interface Ask {
  blocks: number;
  /** How often there was nothing to play, all in all. */
  starved: number;
  /** What is asked for ahead of playing. Milliseconds. */
  leadMs: number;
}

/** The worker to the player, without shared memory. */
export interface Given {
  channels: readonly Float32Array[];
  rate: number;
}

/** The player to the page, every 50 ms. */
export interface Heard {
  /** In −dB below full scale (RFC 6464). */
  level: number;
  starved: number;
}

/** The page to a worklet, once: the way to its worker. */
export interface WorkletStart {
  port: MessagePort;
}

/** The recorder to its worker: 20 ms, and when they were over. */
export interface Recorded {
  channels: Float32Array<ArrayBuffer>[];
  /** Milliseconds since 1970-01-01 UTC, the only clock there is. */
  atMs: number;
}

/** Where packets go, while the stream is on air. */
export interface Aim {
  handle: number;
  /** The index of the next frame, at least. */
  firstIndex: number;
  bytesMax: number;
}

/** The page to the worker that records. */
export type ToRecording =
  | { say: "start"; recorder: MessagePort; packets: MessagePort; profile: StreamProfile; rungs: readonly Rung[] }
  /** On air, or not. */
  | { say: "aim"; aim: Aim | undefined }
  | { say: "muted"; muted: boolean }
  /** What became of the packets, for the copies. */
  | { say: "report"; report: IngestTotals };

/** The worker that records to the page. */
export type RecordingSays =
  /** It can begin. */
  | { say: "ready" }
  /** Every 60 ms. */
  | { say: "level"; level: number; copies: Copies; skipped: number }
  | { say: "failed"; why: string };
