import { FRAME_MS } from "../media";

/** Arrivals that are remembered: ten seconds of frames. */
const REMEMBERED = 500;
/** Later than this behind the fastest is an outage, not jitter: waiting for such frames would be no listening any more. */
export const OUTAGE_MS = 400;
/** So many frames in a row behind that, over so long, and the stream runs by another clock than before. */
const MOVED_FRAMES = 10;
const MOVED_MS = 200;
/** After so many arrivals the spread is asked for anew. */
const STALE_AFTER = 5;

/**
 * How a stream's frames arrive, against a clock that counts 20 ms per frame. The fastest frame of the last seconds is
 * the clock's zero, so that it follows the publisher's when theirs and ours drift apart.
 */
export class Arrivals {
  /** Arrival minus the time that its index stands for. Milliseconds. */
  private lags: number[] = [];
  private at = 0;
  private fastest: number | undefined;
  private spread = 0;
  private stale = 0;
  /** Frames in a row that came after an outage. */
  private behind: { lag: number; atMs: number }[] = [];

  /** A frame has come, for the first time. */
  add(index: number, nowMs: number): void {
    const lag = nowMs - index * FRAME_MS;
    if (this.fastest !== undefined && lag > this.fastest + OUTAGE_MS) return this.addBehind(lag, nowMs);
    this.behind = [];
    this.push(lag);
  }

  /** When the frame of `index` would come at the earliest. Milliseconds; nothing before the first one came. */
  dueMs(index: number): number | undefined {
    return this.fastest === undefined ? undefined : this.fastest + index * FRAME_MS;
  }

  /** Whether what comes now comes long after its time. */
  get late(): boolean {
    return this.behind.length > 0;
  }

  /** How much later than the fastest the slowest 5 % arrive. Milliseconds. */
  get spreadMs(): number {
    if (this.stale >= STALE_AFTER || this.lags.length <= STALE_AFTER) {
      this.stale = 0;
      const sorted = [...this.lags].sort((a, b) => a - b);
      const slow = sorted[Math.ceil(sorted.length * 0.95) - 1];
      this.spread = Math.min(OUTAGE_MS, (slow ?? 0) - (sorted[0] ?? 0));
    }
    return this.spread;
  }

  private addBehind(lag: number, atMs: number): void {
    this.behind.push({ lag, atMs });
    const [first] = this.behind;
    if (!first || this.behind.length < MOVED_FRAMES || atMs - first.atMs < MOVED_MS) return;
    const moved = this.behind;
    this.lags = [];
    this.at = 0;
    this.behind = [];
    for (const { lag } of moved) this.push(lag);
  }

  private push(lag: number): void {
    const forgotten = this.lags[this.at];
    this.lags[this.at] = lag;
    this.at = (this.at + 1) % REMEMBERED;
    this.stale += 1;
    if (this.fastest === undefined || lag < this.fastest || forgotten === this.fastest || this.lags.length === 1) this.fastest = Math.min(...this.lags);
  }
}
