import type { Aim } from "../../worker/messages";
import { SILENCE } from "../media";
import type { IngestTotals } from "../publication";
import { CaptureClock } from "./captureclock";
import { levelOf } from "./level";
import { type Copies, Packetizer } from "./packetizer";

/** Encodes blocks on every rung; what it makes comes back by {@link Recording.encoded}. */
export interface Encoding {
  /** `false` when it does not keep up and the block is left out. */
  encode(channels: readonly Float32Array<ArrayBuffer>[], block: number, level: number): boolean;
}

/** From recorded blocks to packets: numbered by the clock of their samples, on every rung, while somebody takes them. */
export class Recording {
  muted = false;
  /** Blocks that were left out because the encoders did not keep up. */
  skipped = 0;
  /** The loudest level since it was asked for. */
  private loudest = SILENCE;
  private readonly clock = new CaptureClock();
  private readonly packetizer: Packetizer;
  private aim: Aim | undefined;
  /** The index of block 0 on this session. */
  private offset = 0;
  private nextBlock = 0;

  /** `rungs`: numbers, best first. */
  constructor(
    rungs: readonly number[],
    private readonly encoding: Encoding,
    send: (packet: Uint8Array<ArrayBuffer>) => void,
  ) {
    this.packetizer = new Packetizer(rungs, send, () => this.aim ?? { handle: 0, bytesMax: 0 });
  }

  get copies(): Copies {
    return this.packetizer.copies;
  }

  /** On air on a new session, whose next frame has its first index; or not on air. */
  aimAt(aim: Aim | undefined): void {
    this.aim = aim;
    this.offset = (aim?.firstIndex ?? 0) - this.nextBlock;
    this.packetizer.restart();
  }

  /** 20 ms were recorded; `atMs` is the recorder's clock, so that a worker that was busy makes no gap. */
  handleBlock(channels: Float32Array<ArrayBuffer>[], atMs: number): void {
    if (this.muted) for (const samples of channels) samples.fill(0);
    const block = this.clock.next(atMs);
    this.nextBlock = block + 1;
    const level = levelOf(channels);
    this.loudest = Math.min(this.loudest, level);
    if (this.aim && !this.encoding.encode(channels, block, level)) this.skipped += 1;
  }

  /** A rung's frame of a block is done. */
  encoded(rung: number, block: number, level: number, payload: Uint8Array): void {
    const index = block + this.offset;
    // What was recorded for an earlier session has no place in this one.
    if (this.aim && index >= this.aim.firstIndex) this.packetizer.add(rung, index, level, payload);
  }

  /** What became of what was sent. */
  follow(report: IngestTotals): void {
    this.packetizer.follow(report);
  }

  /** The loudest level since the last time. */
  takeLevel(): number {
    const { loudest } = this;
    this.loudest = SILENCE;
    return loudest;
  }
}
