// What a listener's graph shows: the last two minutes of how a stream came. No DOM here.

import type { Quality } from "../../sdk/index";
import type { Playing } from "../../sdk/audio/index";

export const SPAN_MS = 120_000;

/** One report's worth of listening. */
export interface Sample {
  atMs: number;
  /** What the rung is worth, kb/s. */
  rung: number;
  packetMs: number;
  redundancy: number;
  bufferMs: number;
  /** Frames that were not there in time, of a hundred. */
  loss: number;
}

export interface Series {
  name: string;
  /** The newest value with its unit, for people. */
  text: string;
  /** 0 to 1, from the past to now; time likewise. */
  points: readonly (readonly [time: number, value: number])[];
}

export function sampleOf({ reception }: Playing, quality: Quality | undefined, atMs: number): Sample {
  const { received = 0, lost = 0, late = 0, bufferMs = 0 } = reception;
  const missed = lost + late;
  return {
    atMs,
    rung: (quality?.bitsPerSecond ?? 0) / 1_000,
    packetMs: quality?.packetMs ?? 0,
    redundancy: quality?.redundancy ?? 0,
    bufferMs,
    loss: missed === 0 ? 0 : (100 * missed) / (received + missed),
  };
}

/** Samples of the last {@link SPAN_MS}. */
export class History {
  private samples: Sample[] = [];

  add(sample: Sample): void {
    this.samples.push(sample);
    const from = sample.atMs - SPAN_MS;
    if ((this.samples[0]?.atMs ?? from) < from) this.samples = this.samples.filter(({ atMs }) => atMs >= from);
  }

  series(nowMs: number): Series[] {
    return [
      this.one("Rung", nowMs, 128, ({ rung }) => rung, (value) => `${Math.round(value)} kb/s`),
      this.one("Packet", nowMs, 60, ({ packetMs }) => packetMs, (value) => `${value} ms`),
      this.one("Copies", nowMs, 2, ({ redundancy }) => redundancy, String),
      this.one("Buffer", nowMs, 200, ({ bufferMs }) => bufferMs, (value) => `${Math.round(value)} ms`),
      this.one("Loss", nowMs, 5, ({ loss }) => loss, (value) => `${value.toFixed(value > 0 && value < 10 ? 1 : 0)} %`),
    ];
  }

  /** `full` is the top of the scale, unless something is higher. */
  private one(name: string, nowMs: number, full: number, of: (sample: Sample) => number, text: (value: number) => string): Series {
    const top = Math.max(full, ...this.samples.map(of));
    const points = this.samples.map((sample) => [Math.max(0, 1 - (nowMs - sample.atMs) / SPAN_MS), of(sample) / top] as const);
    const last = this.samples.at(-1);
    return { name, text: last ? text(of(last)) : "–", points };
  }
}
