import type { Rung, StreamProfile } from "../streaminfo";

/** What a publisher sends when nobody says otherwise, best first. */
export const LADDERS: Record<StreamProfile, readonly Rung[]> = {
  music: [
    { rung: 0, bitsPerSecond: 96_000, channels: 2 },
    { rung: 1, bitsPerSecond: 32_000, channels: 2 },
  ],
  voice: [
    { rung: 0, bitsPerSecond: 24_000, channels: 1 },
    { rung: 1, bitsPerSecond: 12_000, channels: 1 },
  ],
};
