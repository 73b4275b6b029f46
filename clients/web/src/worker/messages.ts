// What the page, the worker that decodes and the worklets say to each other.

import type { Playing } from "../sdk/audio/playout";

/** Ring positions in shared memory, samples: 340 ms. */
export const RING_FRAMES = 16_384;

/** The page to the worker, once; packets follow as plain bytes. */
export interface PlayoutStart {
  /** To the worklet. */
  port: MessagePort;
  /** What it shares with the worklet, where memory can be shared. */
  memory: SharedArrayBuffer | undefined;
  /** How often to report. Milliseconds. */
  reportMs: number;
}

/** The worker to the page. */
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

/** The page to the player, once. */
export interface PlayerStart {
  /** To the worker. */
  port: MessagePort;
}

/** The recorder to the page: 20 ms. */
export interface Recorded {
  channels: Float32Array<ArrayBuffer>[];
}
