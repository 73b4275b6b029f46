import type { UnreadRoom } from "../gen/veza/v1/chat_pb";
import { isText, type Message } from "./message";
import type { Call } from "./port";

/** What waits to be read in a room. */
export interface UnreadCount {
  readonly unread: number;
  /** Of these, those that mention us or everybody. */
  readonly mentions: number;
  readonly readSeq: number;
  /** What is counted so far, of which log: later messages are added as they come. */
  readonly head: number;
  readonly epoch: bigint;
}

const NOTHING = { unread: 0, mentions: 0, readSeq: 0, head: 0 };

/** How much is unread in every room of ours: asked for in one call, kept up to date by what is heard. */
export class Unread {
  private readonly rooms = new Map<string, UnreadCount>();

  constructor(
    private readonly me: () => string,
    private readonly changed: () => void,
  ) {}

  of(room: string): UnreadCount | undefined {
    return this.rooms.get(room);
  }

  async refresh(call: Call): Promise<void> {
    for (let after = ""; ; ) {
      const page = await call({ case: "listUnread", value: { after } }, "unreadList");
      for (const room of page.rooms) this.counted(room);
      after = page.next;
      if (after === "") break;
    }
    this.changed();
  }

  /** A message's turn has come in a room we follow. */
  said(message: Message): void {
    const { seq: head, epoch, mentions } = message;
    const counted = this.rooms.get(message.room);
    // Another log begins from nothing.
    const known = counted?.epoch === epoch ? counted : NOTHING;
    if (!isText(message) || head <= known.head) return;
    const mine = message.author === this.me();
    const told = mentions.includes("*") || mentions.includes(this.me());
    // Whoever says something has read what stands before it.
    if (mine) this.rooms.set(message.room, { unread: 0, mentions: 0, readSeq: head, head, epoch });
    else this.rooms.set(message.room, { ...known, head, epoch, unread: known.unread + 1, mentions: known.mentions + Number(told) });
    this.changed();
  }

  /** The reader has everything up to here before their eyes; `rest` is what the server counts behind it. */
  marked(room: string, readSeq: number, rest: { unread: number; mentions: number }): void {
    const known = this.rooms.get(room) ?? { ...NOTHING, epoch: 0n };
    if (readSeq < known.readSeq) return;
    this.rooms.set(room, { ...known, readSeq, unread: rest.unread, mentions: rest.mentions });
    this.changed();
  }

  forget(room: string): void {
    this.rooms.delete(room);
    this.changed();
  }

  private counted({ room, epoch, unread, mentions, readSeq, head }: UnreadRoom): void {
    const known = this.rooms.get(room);
    // What was heard or read since the server counted is newer than its answer.
    if (known?.epoch === epoch && (known.head > Number(head) || known.readSeq > Number(readSeq))) return;
    this.rooms.set(room, { unread, mentions, readSeq: Number(readSeq), head: Number(head), epoch });
  }
}
