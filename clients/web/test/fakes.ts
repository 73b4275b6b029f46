// A clock that moves by hand and a server that answers by hand.

import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type ClientFrame, ClientFrameSchema, ServerFrameSchema } from "../src/gen/veza/v1/session_pb";
import type { Clock } from "../src/sdk/clock";
import type { Lane, Link, LinkHandlers, Opener, TransportName } from "../src/sdk/link";
import type { Draft } from "../src/sdk/drafts";
import type { Message } from "../src/sdk/message";
import type { Outgoing } from "../src/sdk/outbox";

export class FakeClock implements Clock {
  ms = 1_000_000;
  chance = 0.5;
  private timers: { atMs: number; action: () => void }[] = [];

  now = () => this.ms;
  random = () => this.chance;

  after(ms: number, action: () => void): () => void {
    const timer = { atMs: this.ms + ms, action };
    this.timers.push(timer);
    return () => {
      this.timers = this.timers.filter((one) => one !== timer);
    };
  }

  /** Lets `ms` pass; timers fire in their order and promises settle in between. */
  async pass(ms: number): Promise<void> {
    const end = this.ms + ms;
    await settle();
    for (;;) {
      const due = this.timers.filter((timer) => timer.atMs <= end).sort((a, b) => a.atMs - b.atMs)[0];
      if (!due) break;
      this.timers = this.timers.filter((timer) => timer !== due);
      this.ms = Math.max(this.ms, due.atMs);
      due.action();
      await settle();
    }
    this.ms = end;
  }
}

/** Lets every promise that can settle do so. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
}

type FrameInit = NonNullable<MessageInitShape<typeof ServerFrameSchema>["frame"]>;
export type ReplyInit = NonNullable<Extract<FrameInit, { case: "reply" }>["value"]["result"]>;
export type PushInit = NonNullable<Extract<FrameInit, { case: "push" }>["value"]["event"]>;
export type Said = { lane: Lane; id: number; command: ClientFrame["command"] };

type CommandOf<Case> = Extract<ClientFrame["command"], { case: Case }>["value"];

export class FakeLink implements Link {
  readonly said: Said[] = [];
  readonly media: Uint8Array[] = [];
  /** The handles whose packets go to a port. */
  readonly carried: number[] = [];
  mediaBytesMax = 1_100;
  closed: number | undefined;
  private handlers: LinkHandlers | undefined;

  /** `answer` sees every command; what it returns is the reply. */
  constructor(
    readonly transport: TransportName,
    public answer: (said: Said, link: FakeLink) => ReplyInit | undefined = () => undefined,
  ) {}

  start(handlers: LinkHandlers): void {
    this.handlers = handlers;
  }

  send(lane: Lane, _: number, bytes: Uint8Array): void {
    const { id, command } = fromBinary(ClientFrameSchema, bytes);
    const said = { lane, id, command };
    this.said.push(said);
    queueMicrotask(() => {
      const result = this.answer(said, this);
      if (result) this.reply(said.id, result);
    });
  }

  sendMedia(packet: Uint8Array): void {
    this.media.push(packet);
  }

  carry(_: MessagePort, handle: number): void {
    this.carried.push(handle);
  }

  /** The server sends a media packet. */
  hear(packet: Uint8Array): void {
    this.handlers?.media(packet);
  }

  close(code: number): void {
    this.closed = code;
    this.handlers = undefined;
  }

  reply(id: number, result: ReplyInit): void {
    this.frame({ case: "reply", value: { id, result } });
  }

  push(event: PushInit): void {
    this.frame({ case: "push", value: { event } });
  }

  /** The transport ends. */
  end(code = 0, reason = ""): void {
    const handlers = this.handlers;
    this.handlers = undefined;
    handlers?.ended({ code, reason });
  }

  of<Case extends NonNullable<Said["command"]["case"]>>(kind: Case): CommandOf<Case>[] {
    return this.said.filter(({ command }) => command.case === kind).map(({ command }) => command.value as CommandOf<Case>);
  }

  private frame(frame: FrameInit): void {
    this.handlers?.frame(toBinary(ServerFrameSchema, create(ServerFrameSchema, { frame } as MessageInitShape<typeof ServerFrameSchema>)));
  }
}

/** An opener that settles when told, or after a time. */
export class FakeOpener implements Opener {
  openedAtMs: number | undefined;
  aborted = false;
  link: FakeLink;

  constructor(
    readonly transport: TransportName,
    private readonly clock: Clock,
    private readonly outcome: { opensAfterMs: number } | { failsAfterMs: number } | "silent",
  ) {
    this.link = new FakeLink(transport);
  }

  open(signal: AbortSignal): Promise<Link> {
    this.openedAtMs = this.clock.now();
    signal.addEventListener("abort", () => (this.aborted = true));
    return new Promise((resolve, reject) => {
      const { outcome } = this;
      if (outcome === "silent") return;
      if ("opensAfterMs" in outcome) this.clock.after(outcome.opensAfterMs, () => resolve(this.link));
      else this.clock.after(outcome.failsAfterMs, () => reject(new Error("refused")));
    });
  }
}

const PLAIN = { thread: 0, replyTo: 0, mentions: [], attachments: [], edits: 0, editedMs: 0, pinned: false, reactions: [] };

export function message(seq: number, fields: Partial<Message> = {}): Message {
  const author = fields.author ?? "bob";
  return { room: "lobby", epoch: 1n, seq, cmid: `${author}-${seq}`, author, body: `message ${seq}`, atMs: seq, ...PLAIN, ...fields };
}

/** A text that wants to be said. */
export function text(body: string, more: Partial<Extract<Draft, { kind: "message" }>> = {}): Draft {
  return { kind: "message", body, thread: 0, replyTo: 0, mentions: [], attachments: [], ...more };
}

/** What is on its way. */
export function outgoing(cmid: string, draft: Draft, fields: Partial<Outgoing> = {}): Outgoing {
  return { room: "lobby", cmid, draft, body: "body" in draft ? draft.body : "", createdMs: 0, state: "queued", stored: new Promise(() => {}), ...fields };
}

export function wireMessage(seq: number, fields: Partial<Message> = {}) {
  const { room, epoch, cmid, author, body, atMs } = message(seq, fields);
  return { room, epoch, seq: BigInt(seq), cmid, author, body, atMs: BigInt(atMs) };
}
