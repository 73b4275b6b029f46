import type { RoomJoined, RoomResumed } from "../gen/veza/v1/session_pb";
import { Delivery } from "../gen/veza/v1/session_pb";
import { type Clock, sleep } from "./clock";
import { toVezaError, VezaError } from "./errors";
import { Emitter } from "./events";
import { fromWire, type Message } from "./message";
import { type Hole, Ordering } from "./ordering";
import type { Outbox, Outgoing } from "./outbox";
import { People } from "./people";
import { Backoff, BACKOFF_CAP_MS } from "./reconnect";
import type { Command, PushEvent, ResultCase, ResultOf } from "./session";
import { Timeline } from "./timeline";

/** A missing message gets this long to arrive by itself: datagrams overtake each other. Milliseconds. */
export const HOLE_GRACE_MS = 50;
/** What the server has announced (a replay, the delivery of what we published) is usually right behind. Milliseconds. */
const PROMISE_GRACE_MS = 1_000;
/** A gap up to this size is filled from the history; behind a larger one the log is shown from its end. */
export const FILL_MAX = 500;
/** Deliveries kept while the answer to join or resume is on its way on another lane. */
const EARLY_MAX = 1_000;
/** `typing` is repeated this often while it lasts. Milliseconds. */
const TYPING_EVERY_MS = 3_000;
/** Between two rejoins for an incomplete presence list. Milliseconds. */
const PRESENCE_HEAL_MS = 5_000;
const PAGE = 50;

/** What a room needs from the connection. */
export interface RoomPort {
  readonly clock: Clock;
  readonly outbox: Outbox;
  /** Our own name. */
  readonly me: string;
  readonly bodyBytesMax: number;
  readonly delivery: Delivery;
  call<Case extends ResultCase>(command: Command, expected: Case): Promise<ResultOf<Case>>;
  tell(command: Command): void;
  newCmid(): string;
}

export interface RoomEvents {
  /** A message's turn has come: every message after the join once, in sequence, also over reconnects. */
  message: Message;
  /** `messages` or `pending` changed in any way. */
  timeline: undefined;
  /** Who is here changed. */
  presence: undefined;
  typing: undefined;
  /** Something was missed and cannot be delivered in order; `messages` starts anew from the end of the log. */
  gap: undefined;
  /** `state`, `title` or `members` changed. */
  state: undefined;
}

/** One room of this session: its log in order, who is here, and what we have said into it. */
export class Room {
  /** `joining` until the server agreed; `gone` when it refuses, see `error`. */
  state: "joining" | "live" | "gone" = "joining";
  error: VezaError | undefined;
  title: string;
  members = 0;
  /** Whether `loadOlder` may bring more. */
  hasOlder = false;
  readonly people: People;
  private readonly events = new Emitter<RoomEvents>();
  private readonly timeline = new Timeline();
  private readonly ordering = new Ordering(0n, 0);
  private early: Message[] = [];
  private checkAtMs = Infinity;
  private cancelCheck = () => {};
  private repairing = false;
  /** Everything asked before a rejoin belongs to an earlier state of the log. */
  private generation = 0;
  private loading: Promise<boolean> | undefined;
  private typedMs = -Infinity;
  private healedMs = -Infinity;

  /** Use {@link Client.join}. */
  constructor(
    readonly id: string,
    private readonly port: RoomPort,
  ) {
    this.title = id;
    this.people = new People(port.clock, () => this.events.emit("typing", undefined));
  }

  on<Name extends keyof RoomEvents>(name: Name, listener: (value: RoomEvents[Name]) => void): () => void {
    return this.events.on(name, listener);
  }

  /** The loaded part of the log: ascending, without holes. */
  get messages(): readonly Message[] {
    return this.timeline.messages;
  }

  /** Our messages that have not been delivered yet, in the order they were written. */
  get pending(): readonly Outgoing[] {
    return this.port.outbox.of(this.id);
  }

  /**
   * Says something. The message is kept until the server has stored it, over reconnects too.
   *
   * @throws VezaError `too_large`, `invalid_argument` or `limit` at once; everything later is in the result.
   */
  publish(body: string): Outgoing {
    const bytes = new TextEncoder().encode(body).length;
    if (bytes === 0) throw new VezaError("invalid_argument", "A message needs a text.");
    if (bytes > this.port.bodyBytesMax) {
      throw new VezaError("too_large", `A message may have ${this.port.bodyBytesMax} bytes, this has ${bytes}.`);
    }
    this.typedMs = -Infinity;
    return this.port.outbox.add(this.id, this.port.newCmid(), body);
  }

  /** Sends a failed message again, as the same message. */
  retry(cmid: string): void {
    this.port.outbox.retry(this.id, cmid);
  }

  /** Forgets a failed message. */
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

  /** Loads the page before the first loaded message. Resolves to whether there is more. */
  loadOlder(): Promise<boolean> {
    this.loading ??= this.fetchOlder().finally(() => (this.loading = undefined));
    return this.loading;
  }

  // ---- what the client drives ----

  /** Becomes a member and subscribes; with a cursor where the log is known already. */
  async join(): Promise<void> {
    const cursor = this.cursor();
    try {
      const value = { room: this.id, delivery: this.port.delivery, ...(cursor && { cursor }) };
      this.joined(await this.port.call({ case: "joinRoom", value }, "roomJoined"));
    } catch (error) {
      const reason = toVezaError(error);
      if (this.state === "joining" || !reason.temporary) this.gone(reason);
      throw reason;
    }
  }

  /** Where the log stands, for hello; nothing before the first join. */
  cursor(): { room: string; epoch: bigint; lastSeq: bigint; delivery: Delivery } | undefined {
    if (this.ordering.epoch === 0n || this.state === "gone") return undefined;
    const { epoch, last } = this.ordering;
    return { room: this.id, epoch, lastSeq: BigInt(last), delivery: this.port.delivery };
  }

  resumed({ result }: RoomResumed): void {
    if (result.case === "joined") return this.joined(result.value);
    const error = result.case === "error" ? VezaError.fromWire(result.value) : new VezaError("malformed", "No verdict.");
    if (!error.temporary) return this.gone(error);
    void this.rejoin(error.retryAfterMs || 1_000);
  }

  receive(event: PushEvent): void {
    switch (event.case) {
      case "message":
        if (event.value.message) this.deliver(fromWire(event.value.message));
        return;
      case "roomHead":
        this.ordering.noteHead(event.value.epoch, Number(event.value.head));
        return this.checkIn(HOLE_GRACE_MS);
      case "roomLagging":
        // What follows is unknown until the first repair says where the log ends.
        this.ordering.noteHead(event.value.epoch, this.ordering.last + 1);
        return this.checkIn(0);
      case "presenceChanged": {
        const { joined, left, presentTotal } = event.value;
        if (!this.people.change(joined, left, presentTotal)) this.healPresence();
        return this.events.emit("presence", undefined);
      }
      case "typingChanged":
        if (event.value.user !== this.port.me) this.people.setTyping(event.value.user, event.value.active);
        return;
      default:
        return;
    }
  }

  /** The outbox changed something of ours. */
  pendingChanged(): void {
    for (const { receipt } of this.pending) {
      if (!receipt) continue;
      this.ordering.noteHead(receipt.epoch, receipt.seq);
      this.checkIn(PROMISE_GRACE_MS);
    }
    this.events.emit("timeline", undefined);
  }

  /** The link is gone; the next one resumes from the cursor. */
  offline(): void {
    this.generation += 1;
    this.repairing = false;
    this.stopCheck();
    this.typedMs = -Infinity;
  }

  gone(error: VezaError): void {
    this.offline();
    this.state = "gone";
    this.error = error;
    this.events.emit("state", undefined);
  }

  // ---- how it works ----

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

  private joined({ room, verdict, present, presentTotal }: RoomJoined): void {
    if (!room) return this.gone(new VezaError("malformed", "The server did not say which room."));
    this.generation += 1;
    this.repairing = false;
    this.state = "live";
    this.error = undefined;
    this.title = room.title || room.id;
    this.members = room.members;
    this.people.replace(present, presentTotal);
    const head = Number(room.head);
    const outcome = verdict?.outcome;
    if (outcome?.case === "gap") this.bridge(room.epoch, head, Number(outcome.value.firstAvailable));
    else if (this.ordering.epoch !== room.epoch) this.restart(room.epoch, head);
    else this.ordering.noteHead(room.epoch, head);
    const early = this.early;
    this.early = [];
    for (const message of early) this.deliver(message);
    // What was promised to follow is on its way; what does not arrive is asked for.
    this.checkIn(PROMISE_GRACE_MS);
    this.events.emit("state", undefined);
    this.events.emit("presence", undefined);
  }

  /** Something lies between our last message and the deliveries that follow: fill it, or start anew at the end. */
  private bridge(epoch: bigint, head: number, firstAvailable: number): void {
    const { last } = this.ordering;
    const fillable = epoch === this.ordering.epoch && head > last && head - last <= FILL_MAX && firstAvailable <= last + 1;
    if (!fillable) return this.startAnew(epoch, head);
    this.ordering.noteHead(epoch, head);
    this.checkIn(0);
  }

  private startAnew(epoch: bigint, head: number): void {
    this.restart(epoch, head);
    this.events.emit("gap", undefined);
    void this.loadOlder().catch(() => undefined);
  }

  private restart(epoch: bigint, head: number): void {
    this.timeline.clear();
    this.hasOlder = head > 0;
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
    this.checkIn(HOLE_GRACE_MS);
  }

  private apply(messages: readonly Message[]): void {
    if (messages.length === 0) return;
    if (this.timeline.append(messages)) this.hasOlder = true;
    for (const message of messages) {
      this.people.stopTyping(message.author);
      if (message.author === this.port.me) this.port.outbox.delivered(this.id, message.cmid, message);
      this.events.emit("message", message);
    }
    this.port.outbox.settled(this.id, this.ordering.epoch, this.ordering.last);
    this.events.emit("timeline", undefined);
  }

  private checkIn(ms: number): void {
    if (!this.ordering.hole) return this.stopCheck();
    const atMs = this.port.clock.now() + ms;
    if (this.repairing || atMs >= this.checkAtMs) return;
    this.stopCheck();
    this.checkAtMs = atMs;
    this.cancelCheck = this.port.clock.after(ms, () => {
      this.checkAtMs = Infinity;
      if (this.ordering.hole && this.state === "live") void this.repair();
    });
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
        if (!(await this.repairOnce(hole, generation))) break;
        failures = 0;
      } catch (error) {
        const { temporary, retryAfterMs } = toVezaError(error);
        if (generation !== this.generation) return;
        failures += 1;
        if (!temporary && failures > 1) return this.rejoin();
        const waitMs = retryAfterMs || Math.min(BACKOFF_CAP_MS, 500 * 2 ** failures);
        await sleep(this.port.clock, waitMs);
      }
      if (generation !== this.generation) return;
    }
    if (generation === this.generation) this.repairing = false;
  }

  /** Returns whether asking on makes sense. */
  private async repairOnce({ after, upTo }: Hole, generation: number): Promise<boolean> {
    const { epoch } = this.ordering;
    const value = { room: this.id, epoch, afterSeq: BigInt(after), upToSeq: BigInt(upTo) };
    const page = await this.port.call({ case: "repair", value }, "repaired");
    if (generation !== this.generation) return false;
    if (page.epoch !== epoch) {
      void this.rejoin();
      return false;
    }
    for (const message of page.messages) this.apply(this.ordering.accept(fromWire(message)));
    this.ordering.noteHead(epoch, Number(page.head));
    if (this.ordering.last > after) return true;
    if (Number(page.head) <= after) {
      // Nothing is missing: the mark was ahead of the log.
      this.apply(this.ordering.restart(epoch, this.ordering.last));
      return false;
    }
    this.startAnew(epoch, Number(page.head));
    return false;
  }

  private async fetchOlder(): Promise<boolean> {
    const before = this.timeline.first?.seq ?? this.ordering.last + 1;
    if (before <= 1) {
      this.hasOlder = false;
      return false;
    }
    const value = { room: this.id, anchor: { case: "beforeSeq" as const, value: BigInt(before) }, limit: PAGE };
    const page = await this.port.call({ case: "history", value }, "historyPage");
    const first = this.timeline.first?.seq ?? this.ordering.last + 1;
    // The log was restarted while the page was on its way.
    if (page.epoch !== this.ordering.epoch || first !== before) return this.hasOlder;
    const messages = page.messages.map(fromWire);
    // Only what joins the loaded stretch without a hole may be put before it.
    const joins = messages.at(-1)?.seq === before - 1 || page.messages.length === 0;
    if (joins) this.timeline.prepend(messages, before);
    this.hasOlder = joins && page.moreBefore && messages.length > 0;
    this.events.emit("timeline", undefined);
    return this.hasOlder;
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
