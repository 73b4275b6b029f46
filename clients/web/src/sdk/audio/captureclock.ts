import { FRAME_MS } from "../media";

/** When the clock on the wall is this far ahead of the samples, some were not recorded. Milliseconds. */
const GAP_MS = 250;
/** Two clocks that are this far apart are two clocks, not a gap. */
const DRIFT = 0.001;

/**
 * Numbers recorded blocks of 20 ms by the clock of their samples. What was not recorded, because the machine slept or
 * the source stood still, is a gap in the numbers, so that what follows keeps its time.
 */
export class CaptureClock {
  private block = 0;
  private startedMs: number | undefined;

  /** A block was recorded, at this time of the clock on the wall. Its number, from 0 on. */
  next(atMs: number): number {
    this.startedMs ??= atMs;
    const behindMs = atMs - this.startedMs - this.block * FRAME_MS;
    // A block that comes early shows that the one it is measured by came late.
    this.startedMs += Math.min(behindMs, FRAME_MS * DRIFT);
    if (behindMs >= GAP_MS) this.block += Math.round(behindMs / FRAME_MS);
    return this.block++;
  }
}
