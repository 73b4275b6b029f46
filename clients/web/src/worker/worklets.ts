// What runs on the sound card's clock: a player that asks a worker for blocks, and a recorder that cuts sound into blocks.

import { levelOf } from "../sdk/audio/level";
import { Resampler } from "../sdk/audio/resampler";
import { Ring } from "../sdk/audio/ring";
import { FRAME_SAMPLES, SAMPLE_RATE } from "../sdk/media";
import { type Ask, type Given, type Heard, RING_FRAMES, type Recorded, type WorkletStart } from "./messages";

declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}
declare function registerProcessor(name: string, processor: new (options: { processorOptions?: unknown }) => AudioWorkletProcessor): void;

/** How far ahead of playing blocks are asked for, so that they are there in time. It grows where that is not enough. Samples. */
const LEAD_START = 1_440;
const LEAD_GROWS = 480;
const LEAD_MAX = 9_600;
/** How often the page hears of the level, and the worker of nothing to play. Samples. */
const TELL_EVERY = 2_400;
/** More than one call of `process` ever needs. */
const SCRATCH = 4_096;

class Player extends AudioWorkletProcessor {
  private readonly ring: Ring;
  private readonly resampler = new Resampler();
  private readonly scratch = [new Float32Array(SCRATCH), new Float32Array(SCRATCH)];
  private worker: MessagePort | undefined;
  private asked = 0;
  private used = 0;
  private lead = LEAD_START;
  private starved = 0;
  private starving = false;
  private sinceTold = 0;
  private loudest = 127;

  constructor(options: { processorOptions?: unknown }) {
    super();
    const { memory } = (options.processorOptions ?? {}) as { memory?: SharedArrayBuffer };
    this.ring = new Ring(memory ?? new ArrayBuffer(Ring.bytes(2, RING_FRAMES)), 2, RING_FRAMES);
    this.port.onmessage = ({ data }: MessageEvent<WorkletStart>) => {
      this.worker = data.port;
      this.worker.onmessage = ({ data: { channels, rate } }: MessageEvent<Given>) => {
        this.ring.rate = rate;
        this.ring.write(channels);
      };
    };
  }

  process(_: Float32Array[][], [outputs]: Float32Array[][]): boolean {
    const count = outputs?.[0]?.length ?? 0;
    if (!outputs || !this.worker || count === 0) return true;
    this.play(outputs, count);
    this.sinceTold += count;
    const tell = this.sinceTold >= TELL_EVERY;
    this.ask(this.worker, tell && this.starving);
    if (tell) {
      this.port.postMessage({ level: this.loudest, starved: this.starved } satisfies Heard);
      this.sinceTold = 0;
      this.loudest = 127;
    }
    return true;
  }

  private play(outputs: Float32Array[], count: number): void {
    const step = 1 + this.ring.rate;
    const needs = this.resampler.needs(count, step);
    if (this.ring.waiting >= needs) {
      this.starving = false;
      this.ring.peek(this.scratch, needs);
      const used = this.resampler.run(this.scratch, outputs, step);
      this.ring.skip(used);
      this.used += used;
      this.loudest = Math.min(this.loudest, levelOf(outputs));
    } else if (!this.starving && this.asked > 0) {
      this.starving = true;
      this.starved += 1;
      this.lead = Math.min(LEAD_MAX, this.lead + LEAD_GROWS);
    }
  }

  private ask(worker: MessagePort, anyway: boolean): void {
    const blocks = Math.max(0, Math.ceil((this.used + this.lead) / FRAME_SAMPLES) - this.asked);
    if (blocks === 0 && !anyway) return;
    this.asked += blocks;
    worker.postMessage({ blocks, starved: this.starved, leadMs: (this.lead * 1_000) / SAMPLE_RATE } satisfies Ask);
  }
}

/** Gives its blocks to the port it is told, or else to the page. */
class Recorder extends AudioWorkletProcessor {
  private to = this.port;
  private block: Float32Array<ArrayBuffer>[] = [];
  private filled = 0;

  constructor() {
    super();
    this.port.onmessage = ({ data }: MessageEvent<WorkletStart>) => {
      this.to = data.port;
    };
  }

  process([inputs]: Float32Array[][]): boolean {
    // A source that has stopped has no channels; what is recorded of it is silence.
    const count = inputs?.[0]?.length ?? 128;
    const channels = Math.max(inputs?.length ?? 0, this.block.length, 1);
    for (let from = 0; from < count; ) {
      while (this.block.length < channels) this.block.push(new Float32Array(FRAME_SAMPLES));
      const part = Math.min(count - from, FRAME_SAMPLES - this.filled);
      this.block.forEach((samples, channel) => {
        const input = inputs?.[channel] ?? inputs?.[0];
        if (input) samples.set(input.subarray(from, from + part), this.filled);
      });
      from += part;
      this.filled += part;
      if (this.filled < FRAME_SAMPLES) continue;
      this.to.postMessage({ channels: this.block, atMs: Date.now() } satisfies Recorded, this.block.map(({ buffer }) => buffer));
      this.block = [];
      this.filled = 0;
    }
    return true;
  }
}

registerProcessor("veza-player", Player);
registerProcessor("veza-recorder", Recorder);
