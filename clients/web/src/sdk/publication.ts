import type { IngestReport } from "../gen/veza/v1/audio_pb";
import { toVezaError, VezaError } from "./errors";
import { Emitter } from "./events";
import { HEADER_BYTES } from "./media";
import type { StreamPort } from "./port";
import { type Rung, type StreamInfo, streamInfo } from "./streaminfo";

/** What became of what we sent: totals since the stream was published on this session. */
export interface IngestTotals {
  frames: number;
  lost: number;
  /** Repaired by redundancy. */
  recovered: number;
  late: number;
  refused: number;
  /** Why frames are refused, for people; empty for none. */
  refusal: string;
  /** Somebody else publishes the stream in our place: the publication is over, the stream is not. */
  displaced: boolean;
}

/** `waiting`: the link broke, and the stream is published again as soon as there is another. */
export type PublicationState = "waiting" | "on_air" | "over";

export interface PublicationEvents {
  state: PublicationState;
  /** The stream is another than before. */
  stream: StreamInfo;
  report: IngestTotals;
}

/** A stream that we publish. Over a broken link it goes on by itself, in the same stream. */
export class Publication {
  state: PublicationState = "waiting";
  stream: StreamInfo;
  report: IngestTotals = { frames: 0, lost: 0, recovered: 0, late: 0, refused: 0, refusal: "", displaced: false };
  /** Why it is over, when it was not by our own wish. */
  error: VezaError | undefined;
  /** Names the stream in media packets while `on_air`; another one after every reconnect. */
  handle = 0;
  /** The index that the next frame must have at least. */
  firstIndex = 0;
  /** How long the stream waits for us when we are gone. Milliseconds. */
  holdMs = 0;
  private readonly events = new Emitter<PublicationEvents>();
  private asking = false;
  private port: MessagePort | undefined;
  private ending = false;

  /** Use `client.publish`. */
  constructor(
    readonly id: string,
    readonly rungs: readonly Rung[],
    private readonly server: StreamPort,
  ) {
    this.stream = { id, title: id, description: "", owner: "", room: "", profile: "music", state: "created", onAir: false, listeners: 0, playing: "", startedMs: 0 };
  }

  on<Name extends keyof PublicationEvents>(name: Name, listener: (value: PublicationEvents[Name]) => void): () => void {
    return this.events.on(name, listener);
  }

  /** Goes on air. */
  async begin(): Promise<void> {
    this.asking = true;
    try {
      const answer = await this.server.call({ case: "publishStream", value: { stream: this.id, rungs: [...this.rungs] } }, "streamPublished");
      if (this.state === "over") return;
      this.handle = answer.handle;
      this.firstIndex = answer.firstIndex;
      this.holdMs = answer.holdMs;
      if (answer.stream) this.changed(streamInfo(answer.stream));
      if (this.port) this.server.carry(this.port, this.handle);
      this.become("on_air");
    } catch (error) {
      this.finish(toVezaError(error));
      throw error;
    } finally {
      this.asking = false;
    }
  }

  /** The largest packet that `send` takes now. Bytes. */
  get packetBytesMax(): number {
    return Math.max(HEADER_BYTES, this.server.mediaBytesMax());
  }

  /** Sends a media packet with our handle. Without a link it is dropped: what is late is of no use. */
  send(packet: Uint8Array<ArrayBuffer>): void {
    if (this.state === "on_air") this.server.sendMedia(packet);
  }

  /** From now on what comes from this port is sent, past the page: media packets with our handle. */
  sendFrom(port: MessagePort): void {
    this.port = port;
    if (this.state === "on_air") this.server.carry(port, this.handle);
  }

  /** Reports should come and do not: a link that is dead is given up soon, instead of when its own patience ends. */
  missing(): void {
    if (this.state === "on_air") this.server.probe();
  }

  /** Says what is played, for people. */
  async setPlaying(playing: string): Promise<void> {
    await this.server.call({ case: "setPlaying", value: { stream: this.id, playing } }, "playingSet");
  }

  /** Goes off air. The stream is over. */
  async end(): Promise<void> {
    if (this.state === "over") return;
    this.ending = true;
    try {
      const { stream } = await this.server.call({ case: "endStream", value: { stream: this.id } }, "streamEnded");
      if (stream) this.changed(streamInfo(stream));
    } finally {
      this.finish();
    }
  }

  /** Sends nothing more, without ending the stream, which may be published anew. */
  release(): void {
    this.finish();
  }

  // ---- what the client tells it ----

  /** There is a session again. */
  online(): void {
    if (this.state === "waiting" && !this.asking) void this.begin().catch(() => undefined);
  }

  offline(): void {
    if (this.state === "on_air") this.become("waiting");
  }

  changed(stream: StreamInfo): void {
    this.stream = stream;
    this.events.emit("stream", stream);
    if (stream.state === "ended") this.finish(this.ending ? undefined : new VezaError("gone", "The stream was ended."));
  }

  reported(report: IngestReport): void {
    if (report.handle !== this.handle) return;
    const { refusal, displaced } = report;
    const [frames, lost, recovered, late, refused] = [report.frames, report.lost, report.recovered, report.late, report.refused].map(Number) as [number, number, number, number, number];
    this.report = { frames, lost, recovered, late, refused, refusal, displaced };
    this.events.emit("report", this.report);
    // Going on would take the stream back, and be told the same.
    if (displaced) this.finish(new VezaError("gone", "Somebody else publishes this stream now."));
  }

  stopped(error: VezaError): void {
    this.finish(error);
  }

  private finish(error?: VezaError): void {
    if (this.state === "over") return;
    this.error = error;
    this.server.forget(this);
    this.become("over");
  }

  private become(state: PublicationState): void {
    this.state = state;
    this.events.emit("state", state);
  }
}
