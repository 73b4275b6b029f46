import type { Recorded } from "../../worker/messages";
import type { Client } from "../client";
import { toVezaError, VezaError } from "../errors";
import { Emitter } from "../events";
import { SAMPLE_RATE, SILENCE } from "../media";
import type { Publication } from "../publication";
import type { Rung, StreamProfile } from "../streaminfo";
import { CaptureClock } from "./captureclock";
import { Encoders, LADDERS } from "./encoders";
import { levelOf } from "./level";
import { Packetizer } from "./packetizer";
import { openFile, openMicrophone, openTab, type Source } from "./sources";
import { type AudioFiles, FILES, require } from "./support";

/** The server reports every second. Without that for so long the link is asked whether it is alive. Milliseconds. */
const MISSING_AFTER_MS = 2_500;

/** Where the sound comes from. */
export type SourceChoice = { kind: "microphone"; deviceId?: string } | { kind: "file"; file: File } | { kind: "tab" };

export interface PublisherOptions {
  profile: StreamProfile;
  source: SourceChoice;
  /** What is sent, best first; the profile's ladder by default. */
  rungs?: readonly Rung[];
  files?: AudioFiles;
}

export interface PublisherEvents {
  /** How loud the source is, in −dB below full scale, fifty times a second. */
  level: number;
  /** The source has nothing more to give; the stream goes on in silence. */
  sourceOver: undefined;
  /** It cannot go on; the stream is still ours to publish anew, or to end. */
  failed: VezaError;
}

/** Records a source, encodes it on every rung and sends it to a stream of ours. */
export class Publisher {
  /** The level of the last block (RFC 6464). */
  level = SILENCE;
  /** What is recorded is replaced by silence. */
  muted = false;
  /** Blocks that were recorded and not sent, because the encoders did not keep up. */
  skipped = 0;
  private readonly events = new Emitter<PublisherEvents>();
  private readonly clock = new CaptureClock();
  private closed = false;
  /** The index of block 0 on this session. */
  private offset = 0;
  private nextBlock = 0;
  private reportedMs = 0;

  private constructor(
    readonly publication: Publication,
    readonly context: AudioContext,
    readonly source: Source,
    private readonly encoders: Encoders,
    private readonly packetizer: Packetizer,
  ) {}

  /**
   * Opens the source and goes on air with it.
   *
   * @throws VezaError of the source (`permission_denied`, `not_found`, `invalid_argument`), the browser (`unsupported`) or
   * the server.
   */
  static async open(client: Client, stream: string, { profile, source: choice, rungs = LADDERS[profile], files = FILES }: PublisherOptions): Promise<Publisher> {
    require("publish");
    const context = new AudioContext({ sampleRate: SAMPLE_RATE, latencyHint: "interactive" });
    let publisher: Publisher | undefined;
    let source: Source | undefined;
    try {
      void context.resume();
      await context.audioWorklet.addModule(files.worklets);
      source = await openSource(context, profile, choice);
      const encoders = await Encoders.open(profile, rungs, {
        frame: (rung, block, level, payload) => publisher?.encoded(rung, block, level, payload),
        failed: (error) => publisher?.fail(error),
      });
      const publication = await client.publish(stream, { rungs });
      const packetizer = new Packetizer(rungs.map(({ rung }) => rung), (packet) => publication.send(packet), () => ({ handle: publication.handle, bytesMax: publication.packetBytesMax }));
      publisher = new Publisher(publication, context, source, encoders, packetizer);
      publisher.begin(Math.max(...rungs.map(({ channels }) => channels)));
      return publisher;
    } catch (error) {
      source?.stop();
      void context.close();
      throw error;
    }
  }

  on<Name extends keyof PublisherEvents>(name: Name, listener: (value: PublisherEvents[Name]) => void): () => void {
    return this.events.on(name, listener);
  }

  /** Which copies go along with what is sent. */
  get copies() {
    return this.packetizer.copies;
  }

  /** Stops recording and sending, without ending the stream: it can be published anew. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    this.source.stop();
    this.encoders.close();
    this.publication.release();
    await this.context.close();
  }

  /** Goes off air: the stream is over. */
  async end(): Promise<void> {
    await this.publication.end();
    await this.close();
  }

  private begin(channelCount: number): void {
    const recorder = new AudioWorkletNode(this.context, "veza-recorder", { numberOfOutputs: 0, channelCount, channelCountMode: "explicit" });
    recorder.port.onmessage = ({ data }: MessageEvent<Recorded>) => this.recorded(data.channels);
    recorder.onprocessorerror = () => this.fail(new VezaError("unsupported", "The recorder's worklet failed."));
    this.source.node.connect(recorder);
    void this.source.over.then(() => this.closed || this.events.emit("sourceOver", undefined));
    this.publication.on("state", (state) => {
      if (state === "on_air") this.aim();
      if (state === "over") void this.close().catch(() => undefined);
    });
    this.publication.on("report", (report) => {
      this.reportedMs = performance.now();
      this.packetizer.follow(report);
    });
    this.aim();
  }

  /** The next block gets the first index that the server takes. */
  private aim(): void {
    this.offset = this.publication.firstIndex - this.nextBlock;
    this.reportedMs = performance.now();
    this.packetizer.restart();
  }

  private recorded(channels: Float32Array<ArrayBuffer>[]): void {
    if (this.closed) return;
    if (this.muted) for (const samples of channels) samples.fill(0);
    const nowMs = performance.now();
    const block = this.clock.next(nowMs);
    if (nowMs - this.reportedMs > MISSING_AFTER_MS) this.publication.missing();
    this.nextBlock = block + 1;
    this.level = levelOf(channels);
    this.events.emit("level", this.level);
    if (this.publication.state === "on_air" && !this.encoders.encode(channels, block, this.level)) this.skipped += 1;
  }

  private encoded(rung: number, block: number, level: number, payload: Uint8Array): void {
    const index = block + this.offset;
    // What was recorded for an earlier session has no place in this one.
    if (this.publication.state === "on_air" && index >= this.publication.firstIndex) this.packetizer.add(rung, index, level, payload);
  }

  private fail(error: VezaError): void {
    if (this.closed) return;
    this.events.emit("failed", toVezaError(error));
    void this.close().catch(() => undefined);
  }
}

function openSource(context: AudioContext, profile: StreamProfile, choice: SourceChoice): Promise<Source> {
  switch (choice.kind) {
    case "microphone":
      return openMicrophone(context, profile, choice.deviceId);
    case "file":
      return openFile(context, choice.file);
    case "tab":
      return openTab(context);
  }
}
