import type { RecordingSays, ToRecording, WorkletStart } from "../../worker/messages";
import type { Client } from "../client";
import { VezaError } from "../errors";
import { Emitter } from "../events";
import { SAMPLE_RATE, SILENCE } from "../media";
import type { Publication } from "../publication";
import type { Rung, StreamProfile } from "../streaminfo";
import { LADDERS } from "./ladders";
import type { Copies } from "./packetizer";
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
  /** How loud the source is, in −dB below full scale, every 60 ms. */
  level: number;
  /** The source has nothing more to give; the stream goes on in silence. */
  sourceOver: undefined;
  /** It cannot go on; the stream is still ours to publish anew, or to end. */
  failed: VezaError;
}

/** Records a source, encodes it on every rung and sends it to a stream of ours; all of that past the page. */
export class Publisher {
  /** The level of the source (RFC 6464). */
  level = SILENCE;
  /** Which copies go along with what is sent. */
  copies: Copies = "none";
  /** Blocks that were recorded and not sent, because the encoders did not keep up. */
  skipped = 0;
  private mutes = false;
  private readonly events = new Emitter<PublisherEvents>();
  private closed = false;
  private reportedMs = 0;

  private constructor(
    readonly publication: Publication,
    readonly context: AudioContext,
    readonly source: Source,
    private readonly worker: Worker,
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
    const worker = new Worker(files.record, { type: "module" });
    let source: Source | undefined;
    try {
      void context.resume();
      await context.audioWorklet.addModule(files.worklets);
      source = await openSource(context, profile, choice);
      const packets = await connectWorker(worker, context, source, profile, rungs);
      const publication = await client.publish(stream, { rungs });
      publication.sendFrom(packets);
      const publisher = new Publisher(publication, context, source, worker);
      publisher.begin();
      return publisher;
    } catch (error) {
      worker.terminate();
      source?.stop();
      void context.close();
      throw error;
    }
  }

  on<Name extends keyof PublisherEvents>(name: Name, listener: (value: PublisherEvents[Name]) => void): () => void {
    return this.events.on(name, listener);
  }

  /** What is recorded is replaced by silence. */
  get muted(): boolean {
    return this.mutes;
  }

  set muted(muted: boolean) {
    this.mutes = muted;
    this.tell({ say: "muted", muted });
  }

  /** Stops recording and sending, without ending the stream: it can be published anew. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    this.source.stop();
    this.worker.terminate();
    this.publication.release();
    await this.context.close();
  }

  /** Goes off air: the stream is over. */
  async end(): Promise<void> {
    await this.publication.end();
    await this.close();
  }

  private begin(): void {
    const { publication } = this;
    this.worker.onmessage = ({ data }: MessageEvent<RecordingSays>) => this.receive(data);
    void this.source.over.then(() => this.closed || this.events.emit("sourceOver", undefined));
    publication.on("state", (state) => {
      if (state === "over") void this.close().catch(() => undefined);
      else this.aim();
    });
    publication.on("report", (report) => {
      this.reportedMs = performance.now();
      this.tell({ say: "report", report });
    });
    this.aim();
  }

  private aim(): void {
    const { state, handle, firstIndex, packetBytesMax: bytesMax } = this.publication;
    this.reportedMs = performance.now();
    this.tell({ say: "aim", aim: state === "on_air" ? { handle, firstIndex, bytesMax } : undefined });
  }

  private receive(said: RecordingSays): void {
    if (said.say === "failed") return this.fail(new VezaError("unsupported", said.why));
    if (said.say !== "level") return;
    this.level = said.level;
    this.copies = said.copies;
    this.skipped = said.skipped;
    this.events.emit("level", said.level);
    if (performance.now() - this.reportedMs > MISSING_AFTER_MS) this.publication.missing();
  }

  private tell(message: ToRecording): void {
    if (!this.closed) this.worker.postMessage(message);
  }

  private fail(error: VezaError): void {
    if (this.closed) return;
    this.events.emit("failed", error);
    void this.close().catch(() => undefined);
  }
}

/** From the source to the worker; resolves to the port at which packets come out, when the encoders are open. */
function connectWorker(worker: Worker, context: AudioContext, source: Source, profile: StreamProfile, rungs: readonly Rung[]): Promise<MessagePort> {
  const blocks = new MessageChannel();
  const packets = new MessageChannel();
  const channelCount = Math.max(...rungs.map(({ channels }) => channels));
  const recorder = new AudioWorkletNode(context, "veza-recorder", { numberOfOutputs: 0, channelCount, channelCountMode: "explicit" });
  recorder.port.postMessage({ port: blocks.port1 } satisfies WorkletStart, [blocks.port1]);
  source.node.connect(recorder);
  const start: ToRecording = { say: "start", recorder: blocks.port2, packets: packets.port1, profile, rungs };
  worker.postMessage(start, [blocks.port2, packets.port1]);
  return new Promise((resolve, reject) => {
    worker.onerror = () => reject(new VezaError("unsupported", "The worker that records could not be loaded."));
    worker.onmessage = ({ data }: MessageEvent<RecordingSays>) => {
      if (data.say === "ready") resolve(packets.port2);
      if (data.say === "failed") reject(new VezaError("unsupported", data.why));
    };
  });
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
