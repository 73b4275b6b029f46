import type { RoomPort } from "./port";

/** Watermarks are gathered this long before they are told. Milliseconds. */
export const READ_AFTER_MS = 300;
export const DELIVERED_AFTER_MS = 2_000;

export interface Marked {
  readSeq: number;
  unread: number;
  mentions: number;
}

/** How far we have got in a room, told to the server now and then. Watermarks only rise. */
export class Marks {
  readSeq = 0;
  deliveredSeq = 0;
  private told = { read: 0, delivered: 0 };
  private dueMs = Infinity;
  private cancel = () => {};

  constructor(
    private readonly room: string,
    private readonly port: RoomPort,
    private readonly marked: (answer: Marked) => void,
  ) {}

  /** What the server knows, after a join. What was read while the link was away is told now; of another log it is void. */
  restart(delivered: number, read: number, sameLog: boolean): void {
    this.told = { delivered, read };
    this.readSeq = Math.max(read, sameLog ? this.readSeq : 0);
    this.deliveredSeq = Math.max(delivered, sameLog ? this.deliveredSeq : 0);
    if (this.readSeq > read) this.tellIn(READ_AFTER_MS);
  }

  read(seq: number): void {
    if (seq <= this.readSeq) return;
    this.readSeq = seq;
    this.deliveredSeq = Math.max(this.deliveredSeq, seq);
    this.tellIn(READ_AFTER_MS);
  }

  delivered(seq: number): void {
    if (seq <= this.deliveredSeq) return;
    this.deliveredSeq = seq;
    this.tellIn(DELIVERED_AFTER_MS);
  }

  /** Publishing moves the author's own watermarks, without being told. */
  published(seq: number): void {
    this.readSeq = Math.max(this.readSeq, seq);
    this.deliveredSeq = Math.max(this.deliveredSeq, seq);
    this.told = { read: Math.max(this.told.read, seq), delivered: Math.max(this.told.delivered, seq) };
  }

  stop(): void {
    this.cancel();
    this.dueMs = Infinity;
  }

  private tellIn(ms: number): void {
    const dueMs = this.port.clock.now() + ms;
    if (dueMs >= this.dueMs) return;
    this.cancel();
    this.dueMs = dueMs;
    this.cancel = this.port.clock.after(ms, () => {
      this.dueMs = Infinity;
      void this.tell();
    });
  }

  private async tell(): Promise<void> {
    const { readSeq: read, deliveredSeq: delivered } = this;
    if (read <= this.told.read && delivered <= this.told.delivered) return;
    try {
      const value = { room: this.room, deliveredSeq: BigInt(delivered), readSeq: BigInt(read) };
      const answer = await this.port.call({ case: "mark", value }, "marked");
      this.told = { read: Math.max(this.told.read, read), delivered: Math.max(this.told.delivered, delivered) };
      this.marked({ readSeq: Number(answer.readSeq), unread: answer.unread, mentions: answer.mentions });
    } catch {
      // The next mark says it too; nothing depends on this one.
    }
  }
}
