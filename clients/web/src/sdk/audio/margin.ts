import { FRAME_MS } from "../media";
import { OUTAGE_MS } from "./arrivals";

/** The most that an underrun adds to what the spread asks for. Milliseconds. */
export const MARGIN_MAX_MS = 120;
/** For so long after it was last of use the margin stays as it is. Milliseconds that were played. */
export const MARGIN_HELD_MS = 10_000;
/** Then it falls by so much for every second that is played. Milliseconds. */
export const MARGIN_FALL_MS = 4;

/**
 * What underruns teach. The spread of arrivals leaves out the slowest twentieth, so that a burst now and then would be
 * heard every time; after the first, what would have bridged it is held for as long as bursts come, and a while. It is a floor below the target, not
 * something on top: once the spread itself has grown, nothing is held twice.
 */
export class Margin {
  private floorMs = 0;
  /** What the spread asks for. */
  private wantedMs = 0;
  /** Played since the margin was last of use. */
  private cleanMs = 0;

  /** There was nothing to play, and what ended that came `lagMs` after the fastest way. No buffer is there for outages. */
  handleUnderrun(lagMs: number): void {
    if (lagMs > OUTAGE_MS) return;
    this.floorMs = Math.max(this.floorMs, lagMs + FRAME_MS);
    this.cleanMs = 0;
  }

  /** A frame came `lagMs` after the fastest way. One that only the margin lets be heard keeps it from falling. */
  handleArrival(lagMs: number): void {
    const needsMs = lagMs + FRAME_MS;
    if (lagMs <= OUTAGE_MS && needsMs > this.wantedMs && needsMs + FRAME_MS > this.floorMs) this.cleanMs = 0;
  }

  /** So much was played without an underrun. */
  handlePlayed(ms: number): void {
    this.cleanMs += ms;
    const fallsFor = Math.max(0, Math.min(ms, this.cleanMs - MARGIN_HELD_MS));
    this.floorMs = Math.max(0, this.floorMs - (fallsFor / 1_000) * MARGIN_FALL_MS);
  }

  /** What to hold where the spread asks for `wantedMs`. */
  above(wantedMs: number): number {
    this.wantedMs = wantedMs;
    this.floorMs = Math.min(this.floorMs, wantedMs + MARGIN_MAX_MS);
    return Math.max(wantedMs, this.floorMs);
  }
}
