import { type Heard, type PlayoutSays, type PlayoutStart, RING_FRAMES, type WorkletStart } from "../../worker/messages";
import { toVezaError, VezaError } from "../errors";
import { Emitter } from "../events";
import type { Listening } from "../listening";
import { SAMPLE_RATE, SILENCE } from "../media";
import type { Playing } from "./playout";
import { Ring } from "./ring";
import { type AudioFiles, FILES, require } from "./support";

/** A volume that jumps clicks. Seconds. */
const VOLUME_TIME_S = 0.02;
/** Without a packet for this long, of a stream that is on air, the link is asked whether it is alive. Milliseconds. */
const MISSING_AFTER_MS = 1_000;

export interface PlayerEvents {
  /** How playing goes: with every report to the server. */
  playing: Playing;
  /** How loud it is, in −dB below full scale, every 50 ms. */
  level: number;
  /** It cannot go on. */
  failed: VezaError;
  /** The browser has stopped the sound, or lets it go on: "running", "suspended", "interrupted" or "closed". */
  state: string;
}

/**
 * Plays what a {@link Listening} hears. Packets go to a worker, which decodes what the player's worklet asks for, past the
 * page: neither a busy one nor one in the background is heard.
 */
export class Player {
  /** The level that was heard last (RFC 6464). */
  level = SILENCE;
  /** How often the worklet had nothing to play, since the beginning. */
  starved = 0;
  playing: Playing | undefined;
  private readonly events = new Emitter<PlayerEvents>();
  private closed = false;
  private silentMs = 0;

  private constructor(
    readonly listening: Listening,
    readonly context: AudioContext,
    /** What is heard, for whoever wants to look at it. */
    readonly output: GainNode,
    private readonly node: AudioWorkletNode,
    private readonly worker: Worker,
  ) {}

  /**
   * Begins to play. To be called from a press of the person who listens: browsers let no page be loud by itself.
   *
   * @throws VezaError `unsupported`
   */
  static async open(listening: Listening, { files = FILES, volume = 1 }: { files?: AudioFiles; volume?: number } = {}): Promise<Player> {
    require("listen");
    const context = new AudioContext({ sampleRate: SAMPLE_RATE, latencyHint: "interactive" });
    try {
      void context.resume();
      await context.audioWorklet.addModule(files.worklets);
      const memory = crossOriginIsolated ? new SharedArrayBuffer(Ring.bytes(2, RING_FRAMES)) : undefined;
      const node = new AudioWorkletNode(context, "veza-player", { numberOfInputs: 0, outputChannelCount: [2], processorOptions: { memory } });
      const output = new GainNode(context, { gain: volume });
      node.connect(output).connect(context.destination);
      const player = new Player(listening, context, output, node, new Worker(files.playout, { type: "module" }));
      player.begin(memory);
      return player;
    } catch (error) {
      void context.close();
      throw error instanceof VezaError ? error : new VezaError("unsupported", `Live audio cannot be played here: ${toVezaError(error).message}`);
    }
  }

  on<Name extends keyof PlayerEvents>(name: Name, listener: (value: PlayerEvents[Name]) => void): () => void {
    return this.events.on(name, listener);
  }

  /** 0 to 1. */
  set volume(volume: number) {
    this.output.gain.setTargetAtTime(volume, this.context.currentTime, VOLUME_TIME_S);
  }

  /** Stops, and listens no longer. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    this.worker.terminate();
    await Promise.all([this.context.close(), this.listening.end()]);
  }

  private begin(memory: SharedArrayBuffer | undefined): void {
    const asks = new MessageChannel();
    const packets = new MessageChannel();
    const start: PlayoutStart = { player: asks.port1, packets: packets.port1, memory, reportMs: this.listening.reportMs };
    this.worker.postMessage(start, [asks.port1, packets.port1]);
    this.node.port.postMessage({ port: asks.port2 } satisfies WorkletStart, [asks.port2]);
    this.listening.deliverTo(packets.port2);
    this.worker.onmessage = ({ data }: MessageEvent<PlayoutSays>) => {
      if ("failed" in data) return this.fail(data.failed);
      this.playing = data.playing;
      this.listening.reportReception(data.playing.reception);
      this.watch(data.playing);
      this.events.emit("playing", data.playing);
    };
    this.worker.onerror = ({ message }) => this.fail(message || "the worker could not be loaded");
    this.node.port.onmessage = ({ data: { level, starved } }: MessageEvent<Heard>) => {
      this.level = level;
      this.starved = starved;
      this.events.emit("level", level);
    };
    this.node.onprocessorerror = () => this.fail("the player's worklet failed");
    this.context.onstatechange = () => this.events.emit("state", this.context.state);
  }

  private watch({ bytes, spanMs }: Playing): void {
    this.silentMs = bytes > 0 || !this.listening.stream.onAir ? 0 : this.silentMs + spanMs;
    if (this.silentMs >= MISSING_AFTER_MS) this.listening.missing();
  }

  private fail(why: string): void {
    if (this.closed) return;
    this.events.emit("failed", new VezaError("unsupported", `Live audio cannot be played here: ${why}`));
    void this.close().catch(() => undefined);
  }
}

