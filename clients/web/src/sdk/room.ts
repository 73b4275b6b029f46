import { type Receipt as WireReceipt, View } from "../gen/veza/v1/chat_pb";
import { type Room as WireRoom, type RoomEvicted, type RoomJoined, Sanction } from "../gen/veza/v1/rooms_pb";
import type { RoomResumed } from "../gen/veza/v1/session_pb";
import { sleep } from "./clock";
import type { Draft } from "./drafts";
import { toVezaError, VezaError } from "./errors";
import { Emitter } from "./events";
import { mentionsIn } from "./mentions";
import { Marks } from "./marks";
import { type Attachment, fromWire, isText, type Message, standsInRoom } from "./message";
import { Ordering } from "./ordering";
import type { Outgoing } from "./outbox";
import { Pages } from "./pages";
import { People } from "./people";
import { type Action, atLeast, needed } from "./permissions";
import type { RoomPort } from "./port";
import { Recent } from "./recent";
import { Backoff } from "./reconnect";
import { Repairer } from "./repairer";
import { RoomCalls } from "./roomcalls";
import { type Membership, type RoomInfo, roomInfo } from "./roominfo";
import type { PushEvent } from "./session";
import { Thread } from "./thread";
import { Timeline } from "./timeline";

export type { RoomPort } from "./port";

/** A missing message gets this long to arrive by itself: datagrams overtake each other. Milliseconds. */
export const HOLE_GRACE_MS = 50;
/** What the server has announced (a replay, the delivery of what we published) is usually right behind. Milliseconds. */
const PROMISE_GRACE_MS = 1_000;
/** A gap up to this size is filled from the log; behind a larger one the room is shown from its end. */
export const FILL_MAX = 500;
/** Deliveries kept while the answer to join or resume is on its way on another lane. */
const EARLY_MAX = 1_000;
/** `typing` is repeated this often while it lasts. Milliseconds. */
const TYPING_EVERY_MS = 3_000;
/** Between two rejoins for an incomplete presence list. Milliseconds. */
const PRESENCE_HEAL_MS = 5_000;
/** Rooms with more people present have no receipts. */
const RECEIPTS_PRESENT_MAX = 100;

export interface RoomEvents {
  /** A message's or note's turn has come: every one after the join once, in sequence, also over reconnects. */
  message: Message;
  /** An entry's turn has come, changes too. */
  entry: Message;
  /** `messages` or `pending` changed in any way. */
  timeline: undefined;
  /** Who is here, or how they are, changed. */
  presence: undefined;
  typing: undefined;
  receipts: undefined;
  /** Something was missed and cannot be delivered in order; `messages` starts anew from the end of the log. */
  gap: undefined;
  /** `state` or `info` changed. */
  state: undefined;
}

/** What more a message may carry. Mentions are read from the text when they are not given. */
export interface MessageExtras {
  thread?: number;
  replyTo?: number;
  mentions?: readonly string[];
  attachments?: readonly Attachment[];
}

/** One room of this session: its log in order, who is here, and what we have said into it. */
export class Room extends RoomCalls {
  /** `joining` until the server agreed; `gone` when it refuses or put us out, see `error`. */
  state: "joining" | "live" | "gone" = "joining";
  error: VezaError | undefined;
  /** What the room is like; nothing before the first join. */
  info: RoomInfo | undefined;
  /** Whether the reader stands at the end: then the oldest messages may go when there are too many. */
  following = true;
  /** When we last said something here, in the server's time; 0 if that is not known. For slow mode. */
  lastSaidMs = 0;
  readonly people: People;
  readonly marks: Marks;
  private readonly events = new Emitter<RoomEvents>();
  private readonly timeline = new Timeline();
  private readonly ordering = new Ordering(0n, 0);
  private readonly recent = new Recent();
  private readonly pages: Pages;
  private readonly repairer: Repairer;
  private readonly threads = new Set<Thread>();
  private early: Message[] = [];
  private generation = 0;
  private typedMs = -Infinity;
  private healedMs = -Infinity;

  /** Use {@link Client.join}. */
  constructor(
    readonly id: string,
    protected readonly port: RoomPort,
    marked: (room: Room, answer: { readSeq: number; unread: number; mentions: number }) => void = () => {},
  ) {
    super();
    this.people = new People(port.clock, () => this.events.emit("typing", undefined));
    this.marks = new Marks(id, port, (answer) => marked(this, answer));
    this.pages = new Pages(id, port, this.ordering, this.timeline, this.recent);
    this.repairer = new Repairer(id, port, this.ordering, {
      live: () => this.state === "live",
      apply: (entries) => this.apply(entries),
      rejoin: () => void this.rejoin(),
      startAnew: (epoch, head) => this.startAnew(epoch, head),
    });
  }

  on<Name extends keyof RoomEvents>(name: Name, listener: (value: RoomEvents[Name]) => void): () => void {
    return this.events.on(name, listener);
  }

  get title(): string {
    return this.info?.title ?? this.id;
  }

  get members(): number {
    return this.info?.members ?? 0;
  }

  /** Our own place in the room. */
  get membership(): Membership | undefined {
    return this.info?.me;
  }

  /** Whether our role allows it here. The server decides; this is for showing and hiding. */
  can(action: Action): boolean {
    const { info } = this;
    return info !== undefined && !info.archived && atLeast(info.me?.role, needed(action, info.kind, info.settings));
  }

  /** The loaded stretch of what stands in the room, ascending: messages outside of threads, and notes. */
  get messages(): readonly Message[] {
    return this.timeline.messages;
  }

  /** Whether `loadOlder` may bring more. */
  get hasOlder(): boolean {
    return this.timeline.hasOlder;
  }

  /** Whether something was said behind the last loaded message, which `loadNewer` brings. */
  get hasNewer(): boolean {
    return !this.timeline.attached;
  }

  /** The last number of the log that is held without a hole; changes and thread replies count too. */
  get head(): number {
    return this.ordering.last;
  }

  /** What is ours and not delivered yet, in the order it was made. */
  get pending(): readonly Outgoing[] {
    return this.port.outbox.of(this.id);
  }

  // ---- what we say ----

  /**
   * Says something. The message is kept until the server has stored it, over reconnects too.
   *
   * @throws VezaError `too_large`, `invalid_argument` or `limit` at once; everything later is in the result.
   */
  publish(body: string, extras: MessageExtras = {}): Outgoing {
    const { thread = 0, replyTo = 0, mentions = this.called(body), attachments = [] } = extras;
    if (attachments.length === 0) this.checkBody(body);
    this.typedMs = -Infinity;
    return this.write({ kind: "message", body, thread, replyTo, mentions, attachments });
  }

  /** Replaces the body of a message of ours. */
  edit(seq: number, body: string, mentions: readonly string[] = this.called(body)): Outgoing {
    this.checkBody(body);
    return this.write({ kind: "edit", seq, body, mentions });
  }

  /** Removes a message's content for everybody; its number stays. */
  delete(seq: number, reason = ""): Outgoing {
    return this.write({ kind: "deletion", seq, reason });
  }

  react(seq: number, emoji: string, remove = false): Outgoing {
    return this.write({ kind: "reaction", seq, emoji, remove });
  }

  pin(seq: number, remove = false): Outgoing {
    return this.write({ kind: "pin", seq, remove });
  }

  /** Sends what failed again, as the same entry. */
  retry(cmid: string): void {
    this.port.outbox.retry(this.id, cmid);
  }

  /** Forgets what failed. */
  discard(cmid: string): void {
    this.port.outbox.discard(this.id, cmid);
  }

  /** Says that we are typing (call it at every key) or have stopped. */
  setTyping(active: boolean): void {
    const now = this.port.clock.now();
    const due = active ? now - this.typedMs >= TYPING_EVERY_MS : this.typedMs !== -Infinity;
    if (!due || this.state !== "live") return;
    this.typedMs = active ? now : -Infinity;
    this.port.tell({ case: "typing", value: { room: this.id, active } });
  }

  /** We have read everything up to here. */
  markRead(seq: number): void {
    this.marks.read(seq);
  }

  // ---- what we read ----

  /** Loads the page before the first loaded message. Resolves to whether there is more. */
  loadOlder(): Promise<boolean> {
    return this.changed(this.pages.older());
  }

  /** Loads the page behind the last loaded message. Resolves to whether there is more. */
  loadNewer(): Promise<boolean> {
    return this.changed(this.pages.newer());
  }

  /** Loads the stretch around a message unless it is there. Resolves to whether the message stands in the room. */
  loadAround(seq: number): Promise<boolean> {
    return this.changed(this.pages.around(seq));
  }

  /** Loads the end of the log, if the loaded stretch does not reach it. */
  loadNewest(): Promise<void> {
    return this.changed(this.pages.newest());
  }

  /** A loaded message. */
  find(seq: number): Message | undefined {
    return this.timeline.find(seq);
  }

  /** One entry of the log, whatever it is, as it is now. */
  async entry(seq: number): Promise<Message | undefined> {
    const known = this.timeline.find(seq);
    if (known) return known;
    const page = await this.pages.ask({ anchor: { case: "afterSeq", value: BigInt(seq - 1) }, limit: 1, view: View.EVERYTHING });
    return page.messages.find((message) => message.seq === seq);
  }

  /** A thread by its first message, loading; kept up to date until it is closed. */
  openThread(seq: number): Thread {
    const thread: Thread = new Thread(seq, this.port, this.recent, (history) => this.pages.ask(history), () => this.threads.delete(thread));
    thread.root = this.timeline.find(seq);
    this.threads.add(thread);
    return thread;
  }

  // ---- what the client drives ----

  /** Becomes a member and subscribes; with a cursor where the log is known already. */
  async join(invite = ""): Promise<void> {
    const cursor = this.cursor();
    try {
      const value = { room: this.id, delivery: this.port.delivery, invite, ...(cursor && { cursor }) };
      this.joined(await this.port.call({ case: "joinRoom", value }, "roomJoined"));
    } catch (error) {
      const reason = toVezaError(error);
      if (this.state === "joining" || !reason.temporary) this.gone(reason);
      throw reason;
    }
  }

  /** Where the log stands, for hello; nothing before the first join. */
  cursor(): { room: string; epoch: bigint; lastSeq: bigint; delivery: RoomPort["delivery"] } | undefined {
    if (this.ordering.epoch === 0n || this.state === "gone") return undefined;
    const { epoch, last } = this.ordering;
    return { room: this.id, epoch, lastSeq: BigInt(last), delivery: this.port.delivery };
  }

  resumed({ result }: RoomResumed): void {
    if (result.case === "joined") return this.joined(result.value);
    const error = result.case === "error" ? VezaError.fromWire(result.value) : new VezaError("malformed", "No verdict.");
    if (!error.temporary || error.code === "banned") return this.gone(error);
    void this.rejoin(error.retryAfterMs || 1_000);
  }

  receive(event: PushEvent): void {
    switch (event.case) {
      case "message":
        if (event.value.message) this.deliver(fromWire(event.value.message));
        return;
      case "roomHead":
        this.ordering.noteHead(event.value.epoch, Number(event.value.head));
        return this.repairer.checkIn(HOLE_GRACE_MS);
      case "roomLagging":
        // What follows is unknown until the first repair says where the log ends.
        this.ordering.noteHead(event.value.epoch, this.ordering.last + 1);
        return this.repairer.checkIn(0);
      case "presenceChanged": {
        const { joined, left, presentTotal, statuses } = event.value;
        if (!this.people.change(joined, left, presentTotal, statuses)) this.healPresence();
        return this.events.emit("presence", undefined);
      }
      case "typingChanged":
        if (event.value.user !== this.port.me) this.people.setTyping(event.value.user, event.value.active);
        return;
      case "receiptsChanged":
        return this.raiseReceipts(event.value.receipts);
      case "roomChanged":
        if (event.value.room) this.describe(event.value.room);
        return this.events.emit("state", undefined);
      default:
        return;
    }
  }

  /** The outbox changed something of ours. */
  pendingChanged(): void {
    for (const { receipt } of this.pending) {
      if (!receipt) continue;
      this.ordering.noteHead(receipt.epoch, receipt.seq);
      this.repairer.checkIn(PROMISE_GRACE_MS);
    }
    // What had been done before has nothing left to be delivered.
    this.port.outbox.settled(this.id, this.ordering.epoch, this.ordering.last);
    this.events.emit("timeline", undefined);
  }

  /** The link is gone; the next one resumes from the cursor. */
  offline(): void {
    this.generation += 1;
    this.repairer.stop();
    this.typedMs = -Infinity;
  }

  /** The server has put us out. */
  evicted({ sanction, reason, untilMs }: RoomEvicted): void {
    const why = reason === "" ? "." : `: ${reason}`;
    const retryAfterMs = untilMs === 0n ? 0 : Math.max(0, Number(untilMs) - this.port.clock.now());
    if (sanction === Sanction.BAN) this.gone(new VezaError("banned", `You were banned from ${this.title}${why}`, false, retryAfterMs));
    else if (sanction === Sanction.KICK) this.gone(new VezaError("not_found", `You were removed from ${this.title}${why}`, false, retryAfterMs));
    else this.gone(new VezaError("closed", `You are no longer a member of ${this.title}.`));
  }

  gone(error: VezaError): void {
    this.offline();
    this.marks.stop();
    this.state = "gone";
    this.error = error;
    this.events.emit("state", undefined);
  }

  // ---- how it works ----

  private checkBody(body: string): void {
    const bytes = new TextEncoder().encode(body).length;
    if (bytes === 0) throw new VezaError("invalid_argument", "A message needs a text.");
    if (bytes > this.port.bodyBytesMax) {
      throw new VezaError("too_large", `A message may have ${this.port.bodyBytesMax} bytes, this has ${bytes}.`);
    }
  }

  /** Whom a text calls, as far as we may: everybody's name is only a word to those who may not call everybody. */
  private called(body: string): string[] {
    return mentionsIn(body).filter((user) => user !== "*" || this.can("mention_all"));
  }

  private write(draft: Draft): Outgoing {
    return this.port.outbox.add(this.id, this.port.newCmid(), draft);
  }

  private async changed<T>(loading: Promise<T>): Promise<T> {
    const outcome = await loading;
    this.events.emit("timeline", undefined);
    return outcome;
  }

  /** Joins again from the cursor until that works, is refused, or the link ends. */
  private async rejoin(delayMs = 0): Promise<void> {
    const generation = this.generation;
    const backoff = new Backoff(this.port.clock);
    for (let waitMs = delayMs; generation === this.generation; waitMs = backoff.next()) {
      if (waitMs > 0) await sleep(this.port.clock, waitMs);
      if (generation !== this.generation || this.state === "gone") return;
      await this.join().catch(() => undefined);
    }
  }

  private joined({ room, verdict, present, presentTotal, statuses, receipts }: RoomJoined): void {
    if (!room) return this.gone(new VezaError("malformed", "The server did not say which room."));
    this.generation += 1;
    this.repairer.stop();
    this.state = "live";
    this.error = undefined;
    this.describe(room);
    this.people.replace(present, presentTotal, statuses, receipts);
    const head = Number(room.head);
    const outcome = verdict?.outcome;
    this.marks.restart(Number(room.me?.deliveredSeq ?? 0), Number(room.me?.readSeq ?? 0), this.ordering.epoch === room.epoch);
    if (outcome?.case === "gap") this.bridge(room.epoch, head, Number(outcome.value.firstAvailable));
    else if (this.ordering.epoch !== room.epoch) this.restart(room.epoch, head);
    else this.ordering.noteHead(room.epoch, head);
    const early = this.early;
    this.early = [];
    for (const message of early) this.deliver(message);
    // What was promised to follow is on its way; what does not arrive is asked for.
    this.repairer.checkIn(PROMISE_GRACE_MS);
    this.events.emit("state", undefined);
    this.events.emit("presence", undefined);
    this.events.emit("receipts", undefined);
  }

  /** What is told with a lower revision is older. A push does not say what we are in the room, if that is so as before. */
  private describe(room: WireRoom): void {
    const { info } = this;
    const told = roomInfo(room);
    if (info && told.revision < info.revision) return;
    const me = told.me ?? info?.me;
    this.info = { ...told, ...(me && { me }) };
  }

  /** Something lies between our last entry and the deliveries that follow: fill it, or start anew at the end. */
  private bridge(epoch: bigint, head: number, firstAvailable: number): void {
    const { last } = this.ordering;
    const fillable = epoch === this.ordering.epoch && head > last && head - last <= FILL_MAX && firstAvailable <= last + 1;
    if (!fillable) return this.startAnew(epoch, head);
    this.ordering.noteHead(epoch, head);
    this.repairer.checkIn(0);
  }

  private startAnew(epoch: bigint, head: number): void {
    this.restart(epoch, head);
    this.events.emit("gap", undefined);
    void this.loadOlder().catch(() => undefined);
    for (const thread of this.threads) void thread.load().catch(() => undefined);
  }

  private restart(epoch: bigint, head: number): void {
    this.timeline.replace([], true, head > 0);
    this.recent.clear();
    this.apply(this.ordering.restart(epoch, head));
    this.events.emit("timeline", undefined);
  }

  private deliver(message: Message): void {
    if (message.epoch !== this.ordering.epoch) {
      // The verdict that names this epoch is still on its way on the control lane.
      if (this.early.length < EARLY_MAX) this.early.push(message);
      return;
    }
    this.apply(this.ordering.accept(message));
    this.repairer.checkIn(HOLE_GRACE_MS);
  }

  private apply(entries: readonly Message[]): void {
    if (entries.length === 0) return;
    for (const entry of entries) this.applyOne(entry);
    if (this.people.total <= RECEIPTS_PRESENT_MAX) this.marks.delivered(this.ordering.last);
    this.port.outbox.settled(this.id, this.ordering.epoch, this.ordering.last);
    this.events.emit("timeline", undefined);
  }

  private applyOne(entry: Message): void {
    const { me } = this.port;
    if (standsInRoom(entry)) this.timeline.live(entry, this.following);
    else {
      this.recent.add(entry);
      this.timeline.change(entry, me);
    }
    for (const thread of this.threads) thread.receive(entry);
    if (entry.change?.kind === "note") this.noted(entry);
    if (isText(entry)) this.people.said(entry.author, this.people.total <= RECEIPTS_PRESENT_MAX ? entry.seq : 0);
    if (entry.author === me) {
      if (isText(entry)) {
        this.marks.published(entry.seq);
        this.lastSaidMs = Math.max(this.lastSaidMs, entry.atMs);
      }
      this.port.outbox.delivered(this.id, entry.cmid, entry);
    }
    this.events.emit("entry", entry);
    if (standsInRoom(entry)) this.events.emit("message", entry);
  }

  /** Some notes say what we may do from now on. */
  private noted({ change }: Message): void {
    const own = this.info?.me;
    if (change?.kind !== "note" || !own || change.user !== this.port.me) return;
    if (change.what === "role_changed" && change.role) own.role = change.role;
    if (change.what === "muted") own.mutedUntilMs = change.untilMs;
    if (change.what === "unmuted") own.mutedUntilMs = 0;
    this.events.emit("state", undefined);
  }

  private raiseReceipts(receipts: readonly WireReceipt[]): void {
    this.people.raiseReceipts(receipts);
    this.events.emit("receipts", undefined);
  }

  /** A presence change was lost; the answer to a join carries the whole list. */
  private healPresence(): void {
    const now = this.port.clock.now();
    if (now - this.healedMs < PRESENCE_HEAL_MS || this.state !== "live") return;
    this.healedMs = now;
    const generation = this.generation;
    this.port.clock.after(PRESENCE_HEAL_MS, () => {
      if (generation === this.generation && this.people.present.length !== this.people.total && this.people.total <= 100) {
        void this.rejoin();
      }
    });
  }
}
