import { sleep } from "./clock";
import { toVezaError } from "./errors";
import { fromWire, type Message } from "./message";
import type { Hole, Ordering } from "./ordering";
import type { RoomPort } from "./port";
import { BACKOFF_CAP_MS } from "./reconnect";

/** What a repair comes to, for the room. */
export interface RepairHandlers {
  live(): boolean;
  apply(entries: readonly Message[]): void;
  rejoin(): void;
  /** What is missing cannot be had any more. */
  startAnew(epoch: bigint, head: number): void;
}

/** Notices what is missing in a room's log, gives it a moment to arrive by itself, and then asks for it. */
export class Repairer {
  private checkAtMs = Infinity;
  private cancelCheck = () => {};
  private repairing = false;
  /** Everything asked before a rejoin belongs to an earlier state of the log. */
  private generation = 0;

  constructor(
    private readonly room: string,
    private readonly port: RoomPort,
    private readonly ordering: Ordering,
    private readonly handlers: RepairHandlers,
  ) {}

  /** Looks in `ms` whether something is missing still. */
  checkIn(ms: number): void {
    if (!this.ordering.hole) return this.stopCheck();
    const atMs = this.port.clock.now() + ms;
    if (this.repairing || atMs >= this.checkAtMs) return;
    this.stopCheck();
    this.checkAtMs = atMs;
    this.cancelCheck = this.port.clock.after(ms, () => {
      this.checkAtMs = Infinity;
      if (this.ordering.hole && this.handlers.live()) void this.repair();
    });
  }

  /** What is being asked is of no use any more. */
  stop(): void {
    this.generation += 1;
    this.repairing = false;
    this.stopCheck();
  }

  private stopCheck(): void {
    this.cancelCheck();
    this.checkAtMs = Infinity;
  }

  /** Asks for what is missing until nothing is. Ends quietly with the link: the resume goes on where this stopped. */
  private async repair(): Promise<void> {
    const generation = this.generation;
    this.repairing = true;
    let failures = 0;
    for (let hole = this.ordering.hole; hole; hole = this.ordering.hole) {
      try {
        if (!(await this.once(hole, generation))) break;
        failures = 0;
      } catch (error) {
        const { temporary, retryAfterMs } = toVezaError(error);
        if (generation !== this.generation) return;
        failures += 1;
        if (!temporary && failures > 1) return this.handlers.rejoin();
        const waitMs = retryAfterMs || Math.min(BACKOFF_CAP_MS, 500 * 2 ** failures);
        await sleep(this.port.clock, waitMs);
      }
      if (generation !== this.generation) return;
    }
    if (generation === this.generation) this.repairing = false;
  }

  /** Returns whether asking on makes sense. */
  private async once({ after, upTo }: Hole, generation: number): Promise<boolean> {
    const { ordering, handlers } = this;
    const { epoch } = ordering;
    const value = { room: this.room, epoch, afterSeq: BigInt(after), upToSeq: BigInt(upTo) };
    const page = await this.port.call({ case: "repair", value }, "repaired");
    if (generation !== this.generation) return false;
    if (page.epoch !== epoch) {
      handlers.rejoin();
      return false;
    }
    for (const message of page.messages) handlers.apply(ordering.accept(fromWire(message)));
    ordering.noteHead(epoch, Number(page.head));
    if (ordering.last > after) return true;
    if (Number(page.head) <= after) {
      // Nothing is missing: the mark was ahead of the log.
      handlers.apply(ordering.restart(epoch, ordering.last));
      return false;
    }
    handlers.startAnew(epoch, Number(page.head));
    return false;
  }
}
