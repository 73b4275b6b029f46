// The list that holds more than the page: which rows are in it, and that nothing moves under the reader.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Anchor, clamp, Heights, layOut, rowAt, rowsIn, scrollFor } from "../src/app/virtual";

/** A reader before a list whose rows are `real` high and thought to be `guess` high until they have been seen. */
class Reader {
  readonly heights = new Heights();
  scrollTop = 0;
  anchor: Anchor | undefined;
  mostRows = 0;

  constructor(
    public keys: string[],
    private readonly real: (key: string) => number,
    private readonly guess: number,
    private readonly view = 600,
  ) {}

  layout = () => layOut(this.keys, (key) => this.heights.of(key, () => this.guess));

  /** What the page does at every change: lay out, put rows there, measure, until nothing is news. */
  place(): void {
    for (let turn = 0; turn < 4; turn++) {
      const layout = this.layout();
      const at = this.anchor && this.keys.indexOf(this.anchor.key);
      const wanted = (this.anchor && scrollFor(layout, at, this.anchor)) ?? this.scrollTop;
      this.scrollTop = clamp(wanted, 0, Math.max(0, layout.total - this.view));
      const { from, to } = rowsIn(layout, this.scrollTop - 700, this.scrollTop + this.view + 700);
      this.mostRows = Math.max(this.mostRows, to - from);
      let news = false;
      for (const key of this.keys.slice(from, to)) if (this.heights.measure(key, this.real(key))) news = true;
      if (!news) return;
    }
  }

  scroll(by: number): void {
    const layout = this.layout();
    this.scrollTop = clamp(this.scrollTop + by, 0, layout.total - this.view);
    const at = rowAt(layout, this.scrollTop);
    this.anchor = { key: this.keys[at] ?? "", offset: (layout.tops[at] ?? 0) - this.scrollTop };
    this.place();
  }

  /** Where a row is on the screen. */
  sees(key: string): number {
    return (this.layout().tops[this.keys.indexOf(key)] ?? 0) - this.scrollTop;
  }
}

const names = (from: number, to: number) => Array.from({ length: to - from }, (_, at) => `m${from + at}`);
const uneven = (key: string) => 24 + (Number(key.slice(1)) % 7) * 21.75;

test("a row is found at its height, and those that touch the window", () => {
  const layout = layOut([10, 20, 30], (height) => height);
  assert.equal(layout.total, 60);
  assert.deepEqual([-5, 0, 9.9, 10, 29, 30, 59, 1_000].map((y) => rowAt(layout, y)), [0, 0, 0, 1, 1, 2, 2, 2]);
  assert.deepEqual(rowsIn(layout, 12, 31), { from: 1, to: 3 });
  assert.deepEqual(rowsIn(layout, -100, 5), { from: 0, to: 1 });
  assert.equal(rowAt(layOut([], () => 1), 3), -1);
  assert.deepEqual(rowsIn(layOut([], () => 1), 0, 100), { from: 0, to: 0 });
});

test("of fifty thousand rows few are in the page, wherever one scrolls", () => {
  const reader = new Reader(names(0, 50_000), uneven, 60);
  reader.place();
  for (let step = 0; step < 200; step++) reader.scroll(step % 2 === 0 ? 9_000 : -3_000);
  assert.ok(reader.mostRows < 100, `${reader.mostRows} rows`);
});

test("an older page in front does not move what is read, though its rows are not as high as was thought", () => {
  const reader = new Reader(names(1_000, 1_200), uneven, 60);
  reader.place();
  reader.scroll(500);
  const first = reader.anchor?.key ?? "";
  const before = reader.sees(first);
  assert.ok(before < 0 && Math.abs(before - (reader.anchor?.offset ?? 0)) < 1, "scrolling itself goes as far as it was told");
  for (let from = 900; from >= 0; from -= 100) {
    reader.keys = [...names(from, from + 100), ...reader.keys];
    reader.place();
    assert.ok(Math.abs(reader.sees(first) - before) < 1, `${first} moved from ${before} to ${reader.sees(first)}`);
  }
});

test("rows that grow or go far away leave what is read where it is", () => {
  let extra = 0;
  const reader = new Reader(names(0, 500), (key) => uneven(key) + (Number(key.slice(1)) < 100 ? extra : 0), 60);
  reader.place();
  reader.scroll(6_000);
  const first = reader.anchor?.key ?? "";
  const before = reader.sees(first);
  extra = 32; // Reactions arrive on rows above.
  reader.heights.clear();
  reader.place();
  assert.ok(Math.abs(reader.sees(first) - before) < 1);
  reader.keys = reader.keys.slice(40); // The front is dropped.
  reader.place();
  assert.ok(Math.abs(reader.sees(first) - before) < 1);
});

test("heights of rows that are gone are forgotten", () => {
  const heights = new Heights();
  for (const key of names(0, 1_000)) heights.measure(key, 50);
  heights.keepOnly(new Set(names(0, 10)));
  assert.equal(heights.of("m5", () => 1), 50);
  assert.equal(heights.of("m500", () => 1), 1);
  assert.equal(heights.measure("m5", 50.3), false, "what nobody can see is no news");
});
