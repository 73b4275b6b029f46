import type { MessageInitShape } from "@bufbuild/protobuf";
import type { PublishedRung, ReceiverReportSchema } from "../gen/veza/v1/audio_pb";
import { toVezaError, VezaError } from "./errors";
import { Emitter } from "./events";
import type { StreamPort } from "./port";
import { type Pin, pinToWire, type Quality, quality, type Rung, rungs, type StreamInfo, streamInfo } from "./streaminfo";

/** What arrived since the last report; `docs/MEDIA.md` and `audio.proto` say what each number is. */
export type Reception = Omit<MessageInitShape<typeof ReceiverReportSchema>, "handle" | "$typeName" | "$unknown">;

/** `waiting`: the link broke, and we listen again as soon as there is another. */
export type ListeningState = "waiting" | "listening" | "over";

export interface ListeningEvents {
  state: ListeningState;
  /** The stream is another than before: on or off air, ended, another title. */
  stream: StreamInfo;
  /** The publisher's rungs are others than before. */
  rungs: readonly Rung[];
  /** What we are sent has changed. */
  quality: Quality;
  /** A media packet of the stream; not those that go to a port. */
  packet: Uint8Array;
}

/** A stream that we listen to. Over a broken link it goes on by itself. */
export class Listening {
  state: ListeningState = "waiting";
  stream: StreamInfo;
  rungs: readonly Rung[] = [];
  quality: Quality | undefined;
  /** Why it is over, when it was not by our own wish. */
  error: VezaError | undefined;
  /** Names the stream in media packets while `listening`; another one after every reconnect. */
  handle = 0;
  /** How often a report is wanted. Milliseconds. */
  reportMs = 500;
  private readonly events = new Emitter<ListeningEvents>();
  private asking = false;
  private port: MessagePort | undefined;

  /** Use `client.listen`. */
  constructor(
    readonly id: string,
    /** What we ask of the quality. */
    public pin: Pin,
    private readonly server: StreamPort,
  ) {
    this.stream = { id, title: id, description: "", owner: "", room: "", profile: "music", state: "created", onAir: false, listeners: 0, playing: "", startedMs: 0 };
  }

  on<Name extends keyof ListeningEvents>(name: Name, listener: (value: ListeningEvents[Name]) => void): () => void {
    return this.events.on(name, listener);
  }

  async begin(): Promise<void> {
    this.asking = true;
    try {
      const answer = await this.server.call({ case: "listen", value: { stream: this.id, pin: pinToWire(this.pin) } }, "listening");
      // We have changed our mind meanwhile.
      if (this.state === "over") return void this.unlisten().catch(() => undefined);
      this.handle = answer.handle;
      this.reportMs = answer.reportMs || 500;
      if (answer.stream) this.changed(streamInfo(answer.stream), answer.rungs);
      if (answer.quality) this.qualityIs(quality(answer.quality));
      if (this.port) this.server.carry(this.port, this.handle);
      this.become("listening");
    } catch (error) {
      this.finish(toVezaError(error));
      throw error;
    } finally {
      this.asking = false;
    }
  }

  /** From now on packets go to this port, past the page. */
  deliverTo(port: MessagePort): void {
    this.port = port;
    if (this.state === "listening") this.server.carry(port, this.handle);
  }

  /** Pins the quality, or lets it follow the network again. */
  async setQuality(pin: Pin): Promise<void> {
    this.pin = pin;
    const answer = await this.server.call({ case: "setQuality", value: { stream: this.id, pin: pinToWire(pin) } }, "qualitySet");
    if (answer.quality) this.qualityIs(quality(answer.quality));
  }

  /** Says how well it is heard. Has no answer, and may get lost. */
  reportReception(reception: Reception): void {
    if (this.state === "listening") this.server.tell({ case: "receiverReport", value: { ...reception, handle: this.handle } });
  }

  /** Packets should come and do not: a link that is dead is given up soon, instead of when its own patience ends. */
  missing(): void {
    if (this.state === "listening") this.server.probe();
  }

  /** Listens no longer. */
  async end(): Promise<void> {
    if (this.state === "over") return;
    const was = this.state;
    this.finish();
    if (was === "listening") await this.unlisten();
  }

  // ---- what the client tells it ----

  /** There is a session again. */
  online(): void {
    if (this.state === "waiting" && !this.asking) void this.begin().catch(() => undefined);
  }

  offline(): void {
    if (this.state === "listening") this.become("waiting");
  }

  heard(packet: Uint8Array): void {
    this.events.emit("packet", packet);
  }

  changed(stream: StreamInfo, ladder: readonly PublishedRung[] = []): void {
    this.stream = stream;
    if (ladder.length > 0) {
      this.rungs = rungs(ladder);
      this.events.emit("rungs", this.rungs);
    }
    this.events.emit("stream", stream);
    if (stream.state === "ended") this.finish(new VezaError("gone", "The stream is over."));
  }

  qualityIs(now: Quality): void {
    this.quality = now;
    this.events.emit("quality", now);
  }

  stopped(error: VezaError): void {
    this.finish(error);
  }

  private async unlisten(): Promise<void> {
    await this.server.call({ case: "unlisten", value: { stream: this.id } }, "unlistened");
  }

  private finish(error?: VezaError): void {
    if (this.state === "over") return;
    this.error = error;
    this.server.forget(this);
    this.become("over");
  }

  private become(state: ListeningState): void {
    this.state = state;
    this.events.emit("state", state);
  }
}
