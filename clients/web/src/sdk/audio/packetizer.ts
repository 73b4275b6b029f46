import { AGE_MAX, type MediaFrame, mediaBytes, writeMedia } from "../media";
import type { IngestTotals } from "../publication";

/** Which copies of the frame before go along: none, the lowest rung's, or every rung's. */
export type Copies = "none" | "low" | "all";

/** Losses on the way to the server, as shares, from which copies go along; they go again at half of it. */
const COPY_LOW_FROM = 0.015;
const COPY_ALL_FROM = 0.05;
/** So many clean reports in a row end the copies. */
const CALM_REPORTS = 5;
/** An index whose rungs are not all there waits for so many later ones. */
const INCOMPLETE_MAX = 3;

interface Pending {
  level: number;
  frames: Map<number, Uint8Array>;
}

/** Makes packets of encoded frames: one per index with the frame of every rung, and copies when the uplink loses. */
export class Packetizer {
  copies: Copies = "none";
  private readonly pending = new Map<number, Pending>();
  private previous: { index: number; frames: MediaFrame[] } | undefined;
  private reported: IngestTotals | undefined;
  private calm = 0;

  /** `rungs`: numbers, best first. */
  constructor(
    private readonly rungs: readonly number[],
    private readonly send: (packet: Uint8Array<ArrayBuffer>) => void,
    private readonly target: () => { handle: number; bytesMax: number },
  ) {}

  /** The encoder of a rung is done with a frame. */
  add(rung: number, index: number, level: number, payload: Uint8Array): void {
    let pending = this.pending.get(index);
    if (!pending) this.pending.set(index, (pending = { level, frames: new Map() }));
    pending.frames.set(rung, payload);
    const indices = [...this.pending.keys()].sort((a, b) => a - b);
    for (const one of indices) {
      const waiting = this.pending.get(one);
      if (!waiting) continue;
      const complete = waiting.frames.size === this.rungs.length;
      if (!complete && index - one < INCOMPLETE_MAX) break;
      this.pending.delete(one);
      this.emit(one, waiting);
    }
  }

  /** The server said what became of our packets: copies follow the losses. */
  follow(report: IngestTotals): void {
    const before = this.reported ?? { frames: 0, lost: 0, recovered: 0 };
    // A new session counts from the beginning.
    const since = report.frames < before.frames ? { frames: 0, lost: 0, recovered: 0 } : before;
    this.reported = report;
    const missing = report.lost - since.lost + (report.recovered - since.recovered);
    const all = report.frames - since.frames + (report.lost - since.lost);
    const loss = all > 0 ? missing / all : 0;
    if (loss >= COPY_ALL_FROM) this.copies = "all";
    else if (loss >= COPY_LOW_FROM && this.copies === "none") this.copies = "low";
    const releases = this.copies === "all" ? COPY_ALL_FROM / 2 : COPY_LOW_FROM / 2;
    this.calm = loss < releases ? this.calm + 1 : 0;
    if (this.calm < CALM_REPORTS || this.copies === "none") return;
    this.calm = 0;
    this.copies = this.copies === "all" ? "low" : "none";
  }

  /** Forgets what is on its way: a new session begins, with indices of its own. */
  restart(): void {
    this.pending.clear();
    this.previous = undefined;
    this.reported = undefined;
  }

  private emit(index: number, { level, frames }: Pending): void {
    const { handle, bytesMax } = this.target();
    const own = this.rungs.flatMap((rung) => {
      const payload = frames.get(rung);
      return payload ? [{ age: 0, rung, switchPoint: false, payload }] : [];
    });
    const packet = (which: MediaFrame[]) => this.send(writeMedia({ handle, newest: index, level, fresh: 1, frames: which }));
    const copies = this.copiesFor(index);
    // Copies give way first, those of the best rung before the others.
    while (copies.length > 0 && mediaBytes([...copies, ...own]) > bytesMax) copies.shift();
    if (mediaBytes([...copies, ...own]) <= bytesMax) packet([...copies, ...own]);
    else for (const frame of own) if (mediaBytes([frame]) <= bytesMax) packet([frame]);
    this.previous = { index, frames: own };
  }

  private copiesFor(index: number): MediaFrame[] {
    const age = index - (this.previous?.index ?? Number.NEGATIVE_INFINITY);
    if (this.copies === "none" || !this.previous || age > AGE_MAX) return [];
    const lowest = this.rungs.at(-1);
    const wanted = this.copies === "all" ? this.previous.frames : this.previous.frames.filter(({ rung }) => rung === lowest);
    return wanted.map((frame) => ({ ...frame, age }));
  }
}
