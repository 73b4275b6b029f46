import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ClientFrameSchema, type Closing, type Push, type Reply, type ServerFrame, type Welcome } from "../gen/veza/v1/session_pb";
import type { Clock } from "./clock";
import { decode, encode } from "./codec";
import { connectionLost, VezaError } from "./errors";
import type { Lane, Link, LinkEnd, TransportName } from "./link";

export const REPLY_TIMEOUT_MS = 10_000;
/** Between two measurements of the round trip. */
export const PING_EVERY_MS = 10_000;
/** An answer is due and nothing was heard for this long: ask whether anyone is there … */
export const PROBE_AFTER_MS = 2_000;
/** … and take the link for dead after this much more. */
export const DEAD_AFTER_MS = 4_000;
/** A link whose session has moved is closed from here if the server has not done it by then. */
const SUPERSEDED_MS = 10_000;

export type Command = Exclude<NonNullable<MessageInitShape<typeof ClientFrameSchema>["command"]>, { case: undefined }>;
type Results = Exclude<Reply["result"], { case: undefined } | { case: "error" }>;
export type ResultCase = Results["case"];
export type ResultOf<Case extends ResultCase> = Extract<Results, { case: Case }>["value"];
export type PushEvent = Exclude<Push["event"], { case: undefined }>;

export interface SessionEnd extends LinkEnd {
  retryAfterMs: number;
}

export interface SessionHandlers {
  push(event: PushEvent): void;
  media(packet: Uint8Array): void;
  rtt(ms: number): void;
  /** Called once, and not after `close` or `abandon`. */
  ended(end: SessionEnd): void;
}

interface Waiting {
  expected: ResultCase;
  resolve(value: Results["value"]): void;
  reject(error: VezaError): void;
  cancelTimeout(): void;
}

const LANES: Record<Command["case"], Lane> = {
  hello: "control",
  refreshToken: "control",
  ping: "control",
  bye: "control",
  createRoom: "control",
  joinRoom: "control",
  leaveRoom: "control",
  unsubscribe: "control",
  publish: "chat",
  repair: "chat",
  history: "bulk",
  listRooms: "bulk",
  editMessage: "chat",
  deleteMessage: "chat",
  react: "chat",
  pin: "chat",
  mark: "control",
  setPresence: "control",
  updateRoom: "control",
  setRole: "control",
  moderate: "control",
  createInvite: "control",
  revokeInvite: "control",
  openDirect: "control",
  listMembers: "bulk",
  listInvites: "bulk",
  listUnread: "bulk",
  search: "bulk",
  listRevisions: "bulk",
  listReactions: "bulk",
  listPins: "bulk",
  listAudit: "bulk",
  typing: "volatile",
  createStream: "control",
  publishStream: "control",
  endStream: "control",
  setPlaying: "control",
  listen: "control",
  unlisten: "control",
  setQuality: "control",
  listStreams: "bulk",
  receiverReport: "volatile",
};

/** One session over one link: commands find their replies, and silence is noticed. It ends with its link. */
export class Session {
  private readonly waiting = new Map<number, Waiting>();
  private nextId = 1;
  private closing: Closing | undefined;
  private over = false;
  private heardMs: number;
  private probing = false;
  private probedMs: number | undefined;
  private cancelPing = () => {};
  private cancelWatch: (() => void) | undefined;

  constructor(
    private readonly link: Link,
    private readonly clock: Clock,
    private readonly handlers: SessionHandlers,
  ) {
    this.heardMs = clock.now();
    link.start({
      frame: (bytes) => this.read(bytes),
      datagram: (bytes) => this.readVolatile(bytes),
      media: (packet) => this.hear(packet),
      failed: (id) => this.take(id)?.reject(connectionLost()),
      ended: (end) => this.end(end),
    });
  }

  get transport(): TransportName {
    return this.link.transport;
  }

  /** Proves who we are and says where each room stood. Nothing else may be said before the answer. */
  async hello(hello: Extract<Command, { case: "hello" }>["value"]): Promise<Welcome> {
    const welcome = await this.call({ case: "hello", value: hello }, "welcome");
    this.ping();
    return welcome;
  }

  /**
   * Sends a command and waits for its reply.
   *
   * @throws VezaError of the server, `timeout`, or `connection_lost`.
   */
  call<Case extends ResultCase>(command: Command, expected: Case, timeoutMs = REPLY_TIMEOUT_MS): Promise<ResultOf<Case>> {
    return new Promise((resolve, reject) => {
      if (this.over) return reject(connectionLost());
      const id = this.nextId++;
      const cancelTimeout = this.clock.after(timeoutMs, () => {
        this.take(id)?.reject(new VezaError("timeout", "The server did not answer in time.", true));
      });
      this.waiting.set(id, { expected, resolve: resolve as Waiting["resolve"], reject, cancelTimeout });
      this.send(id, command);
      this.watch();
    });
  }

  /** Sends a command that has no reply. */
  tell(command: Command): void {
    if (!this.over) this.send(0, command);
  }

  /** The largest media packet that goes through now. Bytes. */
  get mediaBytesMax(): number {
    return this.link.mediaBytesMax;
  }

  sendMedia(packet: Uint8Array<ArrayBuffer>): void {
    if (!this.over) this.link.sendMedia(packet);
  }

  /** Media packets of this handle go to the port, and the port's to the server. */
  carry(port: MessagePort, handle: number): void {
    if (!this.over) this.link.carry(port, handle);
  }

  /** Measures the round trip now, and again regularly. A dead link is noticed on the way. */
  ping(): void {
    this.cancelPing();
    if (this.over) return;
    this.cancelPing = this.clock.after(PING_EVERY_MS, () => this.ping());
    const sentMs = this.clock.now();
    this.call({ case: "ping", value: { clientTimeMs: BigInt(Math.trunc(sentMs)) } }, "pong").then(
      () => this.handlers.rtt(Math.max(0, this.clock.now() - sentMs)),
      () => undefined,
    );
  }

  /** Something that should be heard is not: ends the link unless anything at all is heard within `ms`. */
  probe(ms: number): void {
    if (this.over || this.probing) return;
    this.probing = true;
    const askedMs = this.clock.now();
    this.ping();
    this.clock.after(ms, () => {
      this.probing = false;
      if (this.heardMs < askedMs) this.drop();
    });
  }

  /** Says goodbye: the server forgets the session. */
  leave(): void {
    this.tell({ case: "bye", value: {} });
    this.abandon(4000, "bye");
  }

  /** Ends the link without a goodbye: the session may go on over another one. */
  abandon(code: number, reason: string): void {
    if (this.finish()) this.link.close(code, reason);
  }

  /** Stops listening because the session moves to another link. The server ends this one when that has happened. */
  supersede(): void {
    if (this.finish()) this.clock.after(SUPERSEDED_MS, () => this.link.close(4502, "superseded"));
  }

  private send(id: number, command: Command): void {
    this.link.send(LANES[command.case], id, encode(create(ClientFrameSchema, { id, command })));
  }

  private read(bytes: Uint8Array): void {
    if (this.over) return;
    let frame: ServerFrame;
    try {
      frame = decode(bytes);
    } catch (error) {
      console.error("the server sent what is not a frame", error);
      this.link.close(4400, "malformed");
      return this.end({ code: 0, reason: "malformed frame" });
    }
    this.receive(frame);
  }

  private readVolatile(bytes: Uint8Array): void {
    let frame: ServerFrame;
    try {
      frame = decode(bytes);
    } catch {
      return; // A broken datagram is a lost datagram.
    }
    this.receive(frame);
  }

  private hear(packet: Uint8Array): void {
    if (this.over) return;
    this.heardMs = this.clock.now();
    this.handlers.media(packet);
  }

  private receive({ frame }: ServerFrame): void {
    if (this.over) return;
    this.heardMs = this.clock.now();
    if (frame.case === "reply") return this.settle(frame.value);
    if (frame.case !== "push" || frame.value.event.case === undefined) return;
    if (frame.value.event.case === "closing") {
      // The transport's own close follows; on a transport that cannot say a code, this is the code.
      this.closing = frame.value.event.value;
      this.clock.after(1_000, () => this.drop());
      return;
    }
    this.handlers.push(frame.value.event);
  }

  private settle({ id, result }: Reply): void {
    const waiting = this.take(id);
    if (!waiting) return;
    if (result.case === "error") waiting.reject(VezaError.fromWire(result.value));
    else if (result.case === waiting.expected) waiting.resolve(result.value);
    else waiting.reject(new VezaError("malformed", `The server answered with ${String(result.case)}.`));
  }

  private take(id: number): Waiting | undefined {
    const waiting = this.waiting.get(id);
    this.waiting.delete(id);
    waiting?.cancelTimeout();
    if (this.waiting.size === 0) this.unwatch();
    return waiting;
  }

  /** While an answer is due, silence is suspicious: a probe, then the end. */
  private watch(afterMs = PROBE_AFTER_MS): void {
    this.cancelWatch ??= this.clock.after(afterMs, () => {
      this.cancelWatch = undefined;
      if (this.over || this.waiting.size === 0) return;
      const now = this.clock.now();
      const unanswered = this.probedMs !== undefined && this.heardMs < this.probedMs;
      if (unanswered && now - (this.probedMs ?? now) >= DEAD_AFTER_MS) return this.drop();
      if (!unanswered && now - this.heardMs >= PROBE_AFTER_MS) {
        this.probedMs = now;
        this.watch(DEAD_AFTER_MS);
        this.ping();
      }
      this.watch();
    });
  }

  private unwatch(): void {
    this.cancelWatch?.();
    this.cancelWatch = undefined;
  }

  private drop(): void {
    if (this.over) return;
    this.link.close(4410, "silent");
    this.end({ code: 0, reason: "nothing was heard" });
  }

  private end(end: LinkEnd): void {
    const said = this.closing;
    if (!this.finish()) return;
    this.handlers.ended({
      code: said?.code ?? end.code,
      reason: said?.reason ?? end.reason,
      retryAfterMs: said?.retryAfterMs ?? 0,
    });
  }

  /** Whether this call was the one that ended it. */
  private finish(): boolean {
    if (this.over) return false;
    this.over = true;
    this.cancelPing();
    this.unwatch();
    for (const id of [...this.waiting.keys()]) this.take(id)?.reject(connectionLost());
    return true;
  }
}
