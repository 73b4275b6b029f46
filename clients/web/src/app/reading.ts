import type { Room, RoomInfo } from "../sdk/index";

/** How far each room was read, in this browser, per user. What was never opened counts nothing as unread. */
export class Reading {
  private readonly seen = new Map<string, number>();

  constructor(private readonly me: () => string) {}

  seqOf(room: string): number | undefined {
    const known = this.seen.get(room);
    if (known !== undefined) return known;
    const kept = Number(localStorage.getItem(this.key(room)) ?? "NaN");
    return Number.isFinite(kept) ? kept : undefined;
  }

  /** Returns whether that is news. */
  read(room: Room, seq: number): boolean {
    const before = this.seqOf(room.id);
    // An epoch that starts over has smaller numbers; what is on the screen is what was read.
    if (before === seq) return false;
    this.seen.set(room.id, seq);
    localStorage.setItem(this.key(room.id), String(seq));
    return true;
  }

  unread(info: RoomInfo, live: Room | undefined): number {
    const seen = this.seqOf(info.id);
    if (seen === undefined) return 0;
    const head = Math.max(info.head, live?.messages.at(-1)?.seq ?? 0);
    return Math.max(0, head - seen);
  }

  private key(room: string): string {
    return `veza.read:${this.me()}:${room}`;
  }
}
