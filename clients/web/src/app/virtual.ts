// Which rows of a long list are in the page: heights known or guessed, and what follows from them. No DOM here.

/** The rows above one another: row `i` reaches from `tops[i]` to `tops[i + 1]`. Pixels. */
export interface Layout {
  readonly tops: Float64Array;
  readonly total: number;
}

/** From, inclusive, to, exclusive. */
export interface Range {
  from: number;
  to: number;
}

/** A row that keeps its place in sight while things change around it. */
export interface Anchor {
  key: string;
  /** Where its upper edge is, below the upper edge of what is in sight. */
  offset: number;
}

/** Heights of rows: as measured, or else as guessed. */
export class Heights {
  private readonly measured = new Map<string, number>();
  private readonly guessed = new Map<string, number>();

  /** Returns whether that is news. */
  measure(key: string, height: number): boolean {
    const known = this.measured.get(key);
    // Browsers round; what nobody can see must not move anything.
    if (known !== undefined && Math.abs(known - height) < 0.5) return false;
    this.measured.set(key, height);
    return true;
  }

  of(key: string, guess: () => number): number {
    const known = this.measured.get(key) ?? this.guessed.get(key);
    if (known !== undefined) return known;
    const height = guess();
    this.guessed.set(key, height);
    return height;
  }

  /** Forgets rows that are no longer there, once they are many. */
  keepOnly(keys: { has(key: string): boolean; readonly size: number }): void {
    for (const heights of [this.measured, this.guessed]) {
      if (heights.size < 2 * keys.size + 200) continue;
      for (const key of heights.keys()) if (!keys.has(key)) heights.delete(key);
    }
  }

  clear(): void {
    this.measured.clear();
    this.guessed.clear();
  }
}

export function layOut<Row>(rows: readonly Row[], heightOf: (row: Row) => number): Layout {
  const tops = new Float64Array(rows.length + 1);
  let total = 0;
  rows.forEach((row, at) => {
    tops[at] = total;
    total += heightOf(row);
  });
  tops[rows.length] = total;
  return { tops, total };
}

/** The row at this height; the last one below the end. -1 when there are none. */
export function rowAt({ tops }: Layout, y: number): number {
  let low = 0;
  let high = tops.length - 2;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((tops[middle] ?? 0) <= y) low = middle;
    else high = middle - 1;
  }
  return high < 0 ? -1 : low;
}

/** The rows that touch the stretch from `top` to `bottom`. */
export function rowsIn(layout: Layout, top: number, bottom: number): Range {
  const count = layout.tops.length - 1;
  if (count === 0) return { from: 0, to: 0 };
  return { from: rowAt(layout, Math.max(0, top)), to: Math.min(count, rowAt(layout, Math.max(0, bottom)) + 1) };
}

/** How far to scroll so that the anchor is where it was. Nothing when it is gone. */
export function scrollFor(layout: Layout, at: number | undefined, anchor: Anchor): number | undefined {
  return at === undefined ? undefined : (layout.tops[at] ?? 0) - anchor.offset;
}

export function clamp(value: number, min: number, max: number): number {
  return Math.min(Math.max(value, min), max);
}
