const WRITTEN = 0;
const READ = 1;
const RATE_PPM = 2;
const HEAD = 4;

/**
 * Samples on their way to the player: one writes, one reads, in the same thread or, on shared memory, in two. Positions
 * count samples and wrap at 2³².
 */
export class Ring {
  private readonly head: Int32Array;
  private readonly samples: Float32Array[];

  /** Lies in `memory`, which a second one may share. `frames` is a power of two. */
  constructor(
    readonly memory: ArrayBufferLike,
    readonly channels: number,
    readonly frames: number,
  ) {
    this.head = new Int32Array(memory, 0, HEAD);
    this.samples = Array.from({ length: channels }, (_, channel) => new Float32Array(memory, 4 * (HEAD + channel * frames), frames));
  }

  static bytes(channels: number, frames: number): number {
    return 4 * (HEAD + channels * frames);
  }

  /** Samples that wait to be read. */
  get waiting(): number {
    return (Atomics.load(this.head, WRITTEN) - Atomics.load(this.head, READ)) | 0;
  }

  /** How much faster than recorded to play; the writer knows. */
  get rate(): number {
    return Atomics.load(this.head, RATE_PPM) / 1e6;
  }

  set rate(rate: number) {
    Atomics.store(this.head, RATE_PPM, Math.round(rate * 1e6));
  }

  /** Adds samples; `false` when there is no room, and nothing was added. */
  write(channels: readonly Float32Array[]): boolean {
    const count = channels[0]?.length ?? 0;
    if (this.waiting + count > this.frames) return false;
    const at = Atomics.load(this.head, WRITTEN);
    const from = at & (this.frames - 1);
    const first = Math.min(count, this.frames - from);
    this.samples.forEach((samples, channel) => {
      const source = channels[channel] ?? channels[0];
      if (!source) return;
      samples.set(source.subarray(0, first), from);
      samples.set(source.subarray(first, count), 0);
    });
    Atomics.store(this.head, WRITTEN, (at + count) | 0);
    return true;
  }

  /** Copies the first `count` samples that wait, without using them up. */
  peek(into: readonly Float32Array[], count: number): void {
    const from = Atomics.load(this.head, READ) & (this.frames - 1);
    const first = Math.min(count, this.frames - from);
    this.samples.forEach((samples, channel) => {
      into[channel]?.set(samples.subarray(from, from + first), 0);
      into[channel]?.set(samples.subarray(0, count - first), first);
    });
  }

  /** Uses up `count` samples. */
  skip(count: number): void {
    Atomics.store(this.head, READ, (Atomics.load(this.head, READ) + count) | 0);
  }
}
