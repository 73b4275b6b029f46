import { Delivery } from "../gen/veza/v1/rooms_pb";
import type { Welcome } from "../gen/veza/v1/session_pb";
import { ClientCalls } from "./clientcalls";
import { type Clock, sleep, systemClock } from "./clock";
import { commandOf } from "./drafts";
import { connectionLost, toVezaError, VezaError } from "./errors";
import { Emitter } from "./events";
import type { Link, Opener } from "./link";
import type { LinkWorker } from "./linkworker";
import { PACKET_BYTES_MAX } from "./media";
import type { ClientEvents, Endpoints, Options, Status } from "./options";
import { Outbox } from "./outbox";
import type { PersonStatus, Presence } from "./people";
import { race, WinnerMemory } from "./race";
import { Backoff, comeback, watchReturn } from "./reconnect";
import { Room, type RoomPort } from "./room";
import { type Command, type PushEvent, type ResultCase, type ResultOf, Session, type SessionEnd } from "./session";
import { Streams } from "./streams";
import { Unread } from "./unread";
import { websocketOpener } from "./websocket";
import { webtransportOpener } from "./webtransport";

/** A call waits this long for a connection before it gives up. Milliseconds. */
export const CONNECTION_WAIT_MS = 30_000;
/** A session that lasted this long was a success: the next failure starts from the shortest wait. Milliseconds. */
export const STABLE_AFTER_MS = 5_000;
/** New tokens that may be refused in a row before another one is not worth asking for. */
export const REFUSALS_MAX = 3;
/** A link that is to carry live audio, and does not, has so long to show that it is alive. Milliseconds. */
export const LIVE_DEAD_AFTER_MS = 1_500;
/** On WebSocket, WebTransport is tried again after this, then at growing distances up to the cap. Milliseconds. */
export const UPGRADE_AFTER_MS = 5_000;
const UPGRADE_CAP_MS = 10 * 60 * 1_000;
const UPGRADE_GROWTH = 3;

/** Connects and stays connected until `close`. The result is usable at once: calls wait for the first welcome. */
export function connect(options: Options): Client {
  const client = new Client(options);
  client.start();
  return client;
}

/** A user's place on the server: one session, over whichever links it takes. */
export class Client extends ClientCalls {
  status: Status = { state: "connecting", attempt: 1 };
  /** The last measured round trip, milliseconds. */
  rttMs: number | undefined;
  /** Of the current or last session. */
  welcome: Welcome | undefined;
  readonly rooms = new Map<string, Room>();
  /** What waits to be read, over all rooms of ours. */
  readonly unread = new Unread(
    () => this.me,
    () => this.events.emit("unread", undefined),
  );
  /** How we say to be; told again on every new session. */
  presence: PersonStatus = { state: "online", text: "" };
  private readonly events = new Emitter<ClientEvents>();
  private readonly clock: Clock;
  private readonly outbox: Outbox;
  private readonly backoff: Backoff;
  protected readonly audio: Streams;
  private endpoints: Endpoints;
  private session: Session | undefined;
  private token: string | undefined;
  /** Sessions in a row that were refused for their token. */
  private refusals = 0;
  private refresh = false;
  private stopped: VezaError | undefined;
  /** Ends whatever attempt or wait is going on. */
  private attempt = new AbortController();
  private upgrade = new AbortController();
  private wake = () => {};
  private unwatch = () => {};
  private waiters: { resolve(session: Session): void; reject(error: VezaError): void }[] = [];

  /** Use {@link connect}. */
  constructor(private readonly options: Options) {
    super();
    this.clock = options.clock ?? systemClock;
    this.endpoints = options;
    this.backoff = new Backoff(this.clock);
    this.outbox = new Outbox(this.clock, (room) => this.rooms.get(room)?.pendingChanged());
    this.audio = new Streams(
      {
        call: this.call,
        tell: (command) => this.session?.tell(command),
        sendMedia: (packet) => this.session?.sendMedia(packet),
        carry: (port, handle) => this.session?.carry(port, handle),
        probe: () => this.session?.probe(LIVE_DEAD_AFTER_MS),
        mediaBytesMax: () => this.session?.mediaBytesMax ?? PACKET_BYTES_MAX,
      },
      (stream) => this.events.emit("stream", stream),
    );
  }

  on<Name extends keyof ClientEvents>(name: Name, listener: (value: ClientEvents[Name]) => void): () => void {
    return this.events.on(name, listener);
  }

  /** The name the server knows us by; empty before the first welcome. */
  get me(): string {
    return this.welcome?.user ?? "";
  }

  /** Messages that are not acknowledged yet. */
  get unacknowledged(): number {
    return this.outbox.waiting;
  }

  start(): void {
    this.unwatch = watchReturn(() => this.reconnectNow());
    void this.run();
  }

  /**
   * Becomes a member of a room and subscribes. A room that is joined already is returned as it is. `invite` is the code
   * of an invitation, where one is needed.
   */
  async join(id: string, invite = ""): Promise<Room> {
    const known = this.rooms.get(id);
    if (known && known.state !== "gone") return known;
    const room = new Room(id, this.port(), (_, { readSeq, ...rest }) => this.unread.marked(id, readSeq, rest));
    room.on("entry", (entry) => this.unread.said(entry));
    this.rooms.set(id, room);
    try {
      await room.join(invite);
    } catch (error) {
      if (this.rooms.get(id) === room) this.rooms.delete(id);
      throw error;
    } finally {
      this.events.emit("rooms", undefined);
    }
    return room;
  }

  /** Ends the membership. What was not acknowledged yet is discarded. */
  async leave(id: string): Promise<void> {
    await this.call({ case: "leaveRoom", value: { room: id } }, "roomLeft");
    this.forget(id);
  }

  /** Ends the subscription; the membership stays. */
  async unsubscribe(id: string): Promise<void> {
    await this.call({ case: "unsubscribe", value: { room: id } }, "unsubscribed");
    this.forget(id);
  }

  /** Counts anew what is unread in all our rooms. */
  async refreshUnread(): Promise<void> {
    await this.unread.refresh(this.call);
  }

  /** Says how we are, in every room of this session. */
  async setPresence(state: Presence, text = ""): Promise<void> {
    this.presence = { state, text };
    await this.tellPresence(state, text);
  }

  /** Does not wait any longer: reconnects now, or checks whether the link is alive. */
  reconnectNow(): void {
    this.session?.ping();
    this.wake();
  }

  /** Leaves for good. */
  close(): void {
    this.session?.leave();
    this.stop(new VezaError("closed", "The client was closed."), false);
  }

  // ---- staying connected ----

  private async run(): Promise<void> {
    while (!this.stopped) {
      this.attempt = new AbortController();
      this.setStatus({ state: "connecting", attempt: this.backoff.attempts + 1 });
      try {
        const link = await this.openLink(this.attempt.signal);
        const end = await this.live(link);
        if (!end) return;
        await this.comeBack(end);
      } catch (error) {
        await this.failedToOpen(toVezaError(error));
      }
    }
  }

  private async openLink(signal: AbortSignal): Promise<Link> {
    if (this.refresh && this.options.refreshEndpoints) {
      // A server that is down cannot say where it is; the old addresses are the best guess.
      this.endpoints = await this.options.refreshEndpoints().catch(() => this.endpoints);
    }
    this.refresh = true;
    await this.needToken();
    if (signal.aborted) throw connectionLost();
    return race(this.openers(), this.clock, signal);
  }

  private async needToken(): Promise<void> {
    const expired = this.welcome && Number(this.welcome.tokenExpiresMs) <= this.clock.now() + 5_000;
    if (this.token === undefined || expired) this.token = await this.options.token();
  }

  /** The preferred transport first. */
  private openers(): Opener[] {
    const wanted = this.options.transport ?? "auto";
    const all = this.options.openers?.(this.endpoints) ?? defaultOpeners(this.endpoints, this.options.linkWorker);
    const usable = all.filter((opener) => wanted === "auto" || opener.transport === wanted);
    const remembered = this.memory().recall();
    return usable.sort((a, b) => Number(b.transport === remembered) - Number(a.transport === remembered));
  }

  private memory(): WinnerMemory {
    return new WinnerMemory(this.endpoints.websocketUrl ?? this.endpoints.webtransportUrl ?? "", this.clock);
  }

  /** Runs a session on `link`, and on a better link if one is found, until it ends. Nothing when we stopped ourselves. */
  private async live(first: Link): Promise<SessionEnd | undefined> {
    let link: Link | undefined = first;
    while (link) {
      const outcome: SessionEnd | Link | undefined = await this.oneSession(link);
      if (!outcome || "code" in outcome) return outcome;
      link = outcome;
    }
    return undefined;
  }

  private oneSession(link: Link): Promise<SessionEnd | Link | undefined> {
    return new Promise((resolve, reject) => {
      const finish = (outcome: SessionEnd | Link | undefined) => {
        this.attempt.signal.removeEventListener("abort", onAbort);
        this.sessionIsOver(session);
        resolve(outcome);
      };
      const session = new Session(link, this.clock, {
        push: (event) => {
          if (event.case === "reconnect") return this.drainLater(session, event.value.afterMs, finish);
          this.dispatch(event);
        },
        media: (packet) => this.audio.heard(packet),
        rtt: (ms) => {
          this.rttMs = ms;
          this.events.emit("rtt", ms);
        },
        ended: finish,
      });
      const onAbort = () => finish(undefined);
      this.attempt.signal.addEventListener("abort", onAbort);
      session.hello(this.hello()).then(
        (welcome) => {
          this.welcomed(session, welcome);
          if (link.transport === "websocket") void this.seekUpgrade(session, finish);
        },
        (error: unknown) => {
          const refusal = toVezaError(error);
          if (refusal.code === "connection_lost") return; // `ended` says more.
          session.abandon(4000, "no welcome");
          this.attempt.signal.removeEventListener("abort", onAbort);
          if (refusal.code === "unauthenticated") resolve({ code: 4401, reason: refusal.message, retryAfterMs: 0 });
          else reject(refusal);
        },
      );
    });
  }

  private hello(): Extract<Command, { case: "hello" }>["value"] {
    const rooms = [...this.rooms.values()].flatMap((room) => room.cursor() ?? []);
    const client = this.options.client ?? "veza-web";
    return { token: this.token ?? "", client, resumeToken: this.welcome?.resumeToken ?? "", rooms };
  }

  private welcomed(session: Session, welcome: Welcome): void {
    this.session = session;
    this.welcome = welcome;
    this.refusals = 0;
    this.memory().remember(session.transport);
    this.clock.after(STABLE_AFTER_MS, () => {
      if (this.session === session) this.backoff.reset();
    });
    this.setStatus({ state: "online", transport: session.transport, sessionId: welcome.sessionId });
    this.events.emit("welcome", welcome);
    const limits = welcome.limits;
    this.outbox.online(
      async ({ room, cmid, draft }) => {
        const stored = await session.call(commandOf(room, cmid, draft), "published");
        return { epoch: stored.epoch, seq: Number(stored.seq), atMs: Number(stored.atMs) };
      },
      { perSecond: limits?.publishPerSecond || 20, burst: limits?.publishBurst || 40 },
    );
    for (const waiter of this.waiters.splice(0)) waiter.resolve(session);
    this.audio.online();
    const { state, text } = this.presence;
    if (state !== "online" || text !== "") void this.tellPresence(state, text).catch(() => undefined);
  }

  private sessionIsOver(session: Session): void {
    this.upgrade.abort();
    if (this.session !== session) return;
    this.session = undefined;
    this.outbox.offline();
    this.audio.offline();
    for (const room of this.rooms.values()) room.offline();
  }

  /** The server drains: leave after the delay it chose, with everything still working until then. */
  private drainLater(session: Session, afterMs: number, finish: (end: SessionEnd) => void): void {
    this.clock.after(afterMs, () => {
      if (this.session !== session) return;
      session.abandon(4012, "drain");
      this.backoff.reset();
      finish({ code: 4012, reason: "the server is going away", retryAfterMs: 1 });
    });
  }

  /** While WebSocket carries us, looks for WebTransport now and then; a link that opens takes the session over. */
  private async seekUpgrade(session: Session, finish: (link: Link) => void): Promise<void> {
    this.upgrade = new AbortController();
    const { signal } = this.upgrade;
    for (let waitMs = UPGRADE_AFTER_MS; ; waitMs = Math.min(waitMs * UPGRADE_GROWTH, UPGRADE_CAP_MS)) {
      await sleep(this.clock, waitMs, signal);
      const better = this.openers().filter((opener) => opener.transport === "webtransport");
      if (signal.aborted || better.length === 0) return;
      const link = await race(better, this.clock, signal).catch(() => undefined);
      if (!link) continue;
      if (signal.aborted || this.session !== session) return link.close(4000, "not needed");
      session.supersede();
      return finish(link);
    }
  }

  private async comeBack(end: SessionEnd): Promise<void> {
    switch (comeback(end.code)) {
      case "stop":
        return this.stop(new VezaError("closed", end.reason || "The server ended the session.", false, 0, end.code));
      case "new_token":
        this.refusals += 1;
        if (this.refusals >= REFUSALS_MAX) {
          return this.stop(new VezaError("unauthenticated", end.reason || "The token was refused.", false, 0, 4401));
        }
        this.token = undefined;
        return this.wait(this.backoff.next(), end.reason);
      case "retry":
        return this.wait(end.retryAfterMs || this.backoff.next(), end.reason);
    }
  }

  private async failedToOpen(error: VezaError): Promise<void> {
    if (this.stopped) return;
    if (!error.temporary) return this.stop(error);
    await this.wait(Math.max(error.retryAfterMs, this.backoff.next()), error.message);
  }

  private async wait(ms: number, reason: string): Promise<void> {
    const waking = new AbortController();
    this.wake = () => waking.abort();
    this.setStatus({ state: "waiting", retryAtMs: this.clock.now() + ms, attempt: this.backoff.attempts, reason });
    await sleep(this.clock, ms, waking.signal);
    this.wake = () => {};
  }

  private stop(error: VezaError, byServer = true): void {
    if (this.stopped) return;
    this.stopped = error;
    this.unwatch();
    this.attempt.abort();
    this.wake();
    for (const waiter of this.waiters.splice(0)) waiter.reject(error);
    this.audio.stop(error);
    this.setStatus({ state: "stopped", ...(byServer && { error }) });
  }

  // ---- talking ----

  /** Calls on the current session, waits for one if there is none, and asks again if the link ends before the answer. */
  protected readonly call = async <Case extends ResultCase>(command: Command, expected: Case): Promise<ResultOf<Case>> => {
    for (let refusals = 0; ; ) {
      const session = await this.online();
      try {
        return await session.call(command, expected);
      } catch (error) {
        const { code, retryAfterMs } = toVezaError(error);
        if (this.stopped) throw this.stopped;
        if (code === "connection_lost" && this.session !== session) continue;
        if (code !== "rate_limited" || ++refusals > 3) throw error;
        await sleep(this.clock, retryAfterMs || 500);
      }
    }
  };

  private online(): Promise<Session> {
    if (this.session) return Promise.resolve(this.session);
    if (this.stopped) return Promise.reject(this.stopped);
    return new Promise((resolve, reject) => {
      const cancel = this.clock.after(CONNECTION_WAIT_MS, () => {
        this.waiters = this.waiters.filter((one) => one !== waiter);
        reject(new VezaError("timeout", "There is no connection to the server.", true));
      });
      const waiter = {
        resolve: (session: Session) => (cancel(), resolve(session)),
        reject: (error: VezaError) => (cancel(), reject(error)),
      };
      this.waiters.push(waiter);
    });
  }

  private dispatch(event: PushEvent): void {
    switch (event.case) {
      case "message":
        return this.rooms.get(event.value.message?.room ?? "")?.receive(event);
      case "roomResumed":
        return this.rooms.get(event.value.room)?.resumed(event.value);
      case "tokenExpiring":
        void this.refreshToken();
        return;
      case "roomHead":
      case "roomLagging":
      case "presenceChanged":
      case "typingChanged":
      case "receiptsChanged":
        return this.rooms.get(event.value.room)?.receive(event);
      case "roomChanged":
        return this.rooms.get(event.value.room?.id ?? "")?.receive(event);
      case "roomEvicted": {
        const room = this.rooms.get(event.value.room);
        this.drop(event.value.room);
        room?.evicted(event.value);
        return this.events.emit("rooms", undefined);
      }
      case "streamChanged":
      case "qualityChanged":
      case "ingestReport":
        return this.audio.receive(event);
      case "reconnect":
      case "closing":
        return; // The session and `oneSession` see to these.
    }
  }

  private async refreshToken(): Promise<void> {
    try {
      this.token = await this.options.token();
      const accepted = await this.call({ case: "refreshToken", value: { token: this.token } }, "tokenAccepted");
      if (this.welcome) this.welcome.tokenExpiresMs = accepted.tokenExpiresMs;
    } catch (error) {
      console.warn("the token could not be refreshed; the server will ask for a new one", error);
    }
  }

  private forget(id: string): void {
    const room = this.rooms.get(id);
    this.drop(id);
    room?.gone(new VezaError("closed", "You left this room."));
    this.events.emit("rooms", undefined);
  }

  /** Nothing of the room is ours any more. */
  private drop(id: string): void {
    this.outbox.discardAll(id);
    this.rooms.delete(id);
    this.unread.forget(id);
  }

  private port(): RoomPort {
    const client = this;
    return {
      clock: this.clock,
      outbox: this.outbox,
      delivery: this.options.fast === false ? Delivery.UNSPECIFIED : Delivery.FAST,
      get me() {
        return client.me;
      },
      get bodyBytesMax() {
        return client.welcome?.limits?.bodyBytesMax || 32 * 1024;
      },
      call: this.call,
      tell: (command) => client.session?.tell(command),
      newCmid: () => newCmid(client.clock),
    };
  }

  private setStatus(status: Status): void {
    this.status = status;
    this.events.emit("status", status);
  }
}

function defaultOpeners({ webtransportUrl, websocketUrl, certificateHashes = [] }: Endpoints, worker: LinkWorker | undefined): Opener[] {
  const elsewhere = worker?.broken === false ? worker : undefined;
  return [
    ...(webtransportUrl ? [elsewhere?.opener("webtransport", webtransportUrl, certificateHashes) ?? webtransportOpener(webtransportUrl, certificateHashes)] : []),
    ...(websocketUrl ? [elsewhere?.opener("websocket", websocketUrl) ?? websocketOpener(websocketUrl)] : []),
  ];
}

/** Unique without a secure context, where `crypto.randomUUID` is missing. */
function newCmid(clock: Clock): string {
  const random = () => Math.floor(clock.random() * 2 ** 32).toString(36);
  return `${clock.now().toString(36)}-${random()}${random()}`;
}
