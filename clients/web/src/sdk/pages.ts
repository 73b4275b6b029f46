import type { HistoryPage } from "../gen/veza/v1/chat_pb";
import { fromWire, type Message } from "./message";
import type { Ordering } from "./ordering";
import type { RoomPort } from "./port";
import { type Recent, RECENT_MAX } from "./recent";
import type { Command } from "./session";
import type { Timeline } from "./timeline";

/** Messages asked for at once. */
export const PAGE = 50;
const AROUND = 80;
/** Pages that were overtaken by more changes than are remembered are asked for again, so often. */
const ATTEMPTS_MAX = 3;

export type HistoryInit = Omit<Extract<Command, { case: "history" }>["value"], "room" | "$typeName">;

export interface Page {
  epoch: bigint;
  messages: Message[];
  moreBefore: boolean;
  moreAfter: boolean;
  head: number;
}

/** Fetches stretches of what stands in the room into its timeline. Sequence numbers have holes there by design. */
export class Pages {
  private readonly loading = new Map<string, Promise<boolean>>();

  constructor(
    private readonly room: string,
    private readonly port: RoomPort,
    private readonly ordering: Ordering,
    private readonly timeline: Timeline,
    private readonly recent: Recent,
  ) {}

  /** The page before the first message. Resolves to whether there is more. */
  older(): Promise<boolean> {
    return this.once("older", () => this.fetchOlder());
  }

  /** The page behind the last message, while the timeline does not reach the end. Resolves to whether there is more. */
  newer(): Promise<boolean> {
    return this.once("newer", () => this.fetchNewer());
  }

  /** Puts the stretch around `seq` there, unless it is. Resolves to whether `seq` stands in the room. */
  async around(seq: number): Promise<boolean> {
    if (this.timeline.spans(seq)) return this.timeline.find(seq) !== undefined;
    const page = await this.ask({ anchor: { case: "aroundSeq", value: BigInt(seq) }, limit: AROUND });
    if (page.epoch !== this.ordering.epoch) return false;
    this.timeline.replace(page.messages, this.reachesEnd(page), page.moreBefore);
    return this.timeline.find(seq) !== undefined;
  }

  /** Puts the end of the log there, unless it is. */
  async newest(): Promise<void> {
    for (let attempt = 0; attempt < ATTEMPTS_MAX && !this.timeline.attached; attempt++) {
      const page = await this.ask({ anchor: { case: "beforeSeq", value: 0n }, limit: PAGE });
      if (page.epoch !== this.ordering.epoch) return;
      this.timeline.replace(page.messages, this.reachesEnd(page), page.moreBefore);
    }
  }

  async ask(history: HistoryInit): Promise<Page> {
    for (let attempt = 1; ; attempt++) {
      const page = await this.port.call({ case: "history", value: { room: this.room, ...history } }, "historyPage");
      if (this.ordering.last - Number(page.head) <= RECENT_MAX || attempt === ATTEMPTS_MAX) return this.read(page);
    }
  }

  private read({ epoch, messages, moreBefore, moreAfter, head }: HistoryPage): Page {
    const settled = messages.map((message) => this.recent.settle(fromWire(message), this.port.me));
    return { epoch, messages: settled, moreBefore, moreAfter, head: Number(head) };
  }

  private once(name: string, fetch: () => Promise<boolean>): Promise<boolean> {
    let running = this.loading.get(name);
    if (!running) {
      running = fetch().finally(() => this.loading.delete(name));
      this.loading.set(name, running);
    }
    return running;
  }

  private async fetchOlder(): Promise<boolean> {
    const { timeline, ordering } = this;
    const { version } = timeline;
    const before = timeline.first?.seq ?? ordering.last + 1;
    if (before <= 1) return (timeline.hasOlder = false);
    const page = await this.ask({ anchor: { case: "beforeSeq", value: BigInt(before) }, limit: PAGE });
    // Another stretch was put there while the page was on its way.
    if (page.epoch !== ordering.epoch || version !== timeline.version) return timeline.hasOlder;
    timeline.prepend(page.messages);
    return (timeline.hasOlder = page.moreBefore && page.messages.length > 0);
  }

  private async fetchNewer(): Promise<boolean> {
    const { timeline, ordering } = this;
    if (timeline.attached) return false;
    const { version } = timeline;
    const after = timeline.last?.seq ?? 0;
    const page = await this.ask({ anchor: { case: "afterSeq", value: BigInt(after) }, limit: PAGE });
    if (page.epoch !== ordering.epoch || version !== timeline.version) return !timeline.attached;
    timeline.append(page.messages);
    timeline.attached = this.reachesEnd(page);
    return !timeline.attached;
  }

  /** What was said after the page was read was not kept for it, so such a page does not reach the end. */
  private reachesEnd(page: Page): boolean {
    return !page.moreAfter && page.head >= this.ordering.last;
  }
}
