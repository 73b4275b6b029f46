import { View } from "../gen/veza/v1/chat_pb";
import { applyChange } from "./changes";
import { Emitter } from "./events";
import type { Message } from "./message";
import { type HistoryInit, type Page, PAGE } from "./pages";
import type { RoomPort } from "./port";
import type { Recent } from "./recent";

export interface ThreadEvents {
  /** The root or the replies changed. */
  change: undefined;
}

/** An open thread: its first message and the loaded replies, kept up to date until it is closed. */
export class Thread {
  root: Message | undefined;
  replies: readonly Message[] = [];
  /** Whether `loadOlder` may bring more. */
  hasOlder = false;
  private readonly events = new Emitter<ThreadEvents>();
  private loads = 0;

  /** Use {@link Room.openThread}. */
  constructor(
    readonly seq: number,
    private readonly port: RoomPort,
    private readonly recent: Recent,
    private readonly ask: (history: HistoryInit) => Promise<Page>,
    readonly close: () => void,
  ) {}

  on<Name extends keyof ThreadEvents>(name: Name, listener: (value: ThreadEvents[Name]) => void): () => void {
    return this.events.on(name, listener);
  }

  /** Loads the end of the thread. */
  async load(): Promise<void> {
    const load = ++this.loads;
    const page = await this.page({ case: "beforeSeq", value: 0n }, PAGE);
    const first = page.messages[0];
    const root = first?.seq === this.seq ? first : (await this.page({ case: "afterSeq", value: 0n }, 1)).messages[0];
    if (load !== this.loads) return;
    if (root?.seq === this.seq) this.root = root;
    const read = page.messages.filter(({ seq }) => seq !== this.seq);
    // What was said between the reading of the page and its arrival has been delivered already.
    const late = this.recent.replies(this.seq, Math.max(page.head, read.at(-1)?.seq ?? 0)).map((reply) => this.recent.settle(reply, this.port.me));
    this.replies = [...read, ...late];
    this.hasOlder = page.moreBefore && first?.seq !== this.seq;
    this.events.emit("change", undefined);
  }

  async loadOlder(): Promise<void> {
    const before = this.replies[0]?.seq;
    if (before === undefined || !this.hasOlder) return;
    const page = await this.page({ case: "beforeSeq", value: BigInt(before) }, PAGE);
    if (this.replies[0]?.seq !== before) return;
    this.replies = [...page.messages.filter(({ seq }) => seq !== this.seq && seq < before), ...this.replies];
    this.hasOlder = page.moreBefore;
    this.events.emit("change", undefined);
  }

  /** An entry's turn has come in the room. */
  receive(entry: Message): void {
    const { me } = this.port;
    const root = this.root && applyChange(this.root, entry, me);
    let replies = this.replies;
    if (!entry.change && entry.thread === this.seq) {
      if (entry.seq > (replies.at(-1)?.seq ?? 0)) replies = [...replies, entry];
    } else if (entry.change) {
      const at = replies.findIndex(({ seq }) => entry.change?.kind !== "note" && seq === entry.change?.target);
      const known = replies[at];
      if (known) replies = replies.with(at, applyChange(known, entry, me));
    }
    if (root === this.root && replies === this.replies) return;
    this.root = root;
    this.replies = replies;
    this.events.emit("change", undefined);
  }

  private page(anchor: NonNullable<HistoryInit["anchor"]>, limit: number): Promise<Page> {
    return this.ask({ anchor, limit, view: View.THREAD, thread: BigInt(this.seq) });
  }
}
