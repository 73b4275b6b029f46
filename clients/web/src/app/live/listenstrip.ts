import { missingFor, Player, SILENCE } from "../../sdk/audio/index";
import { type Client, type Listening, type Pin, PINS, type StreamInfo } from "../../sdk/index";
import { el, icon, iconButton } from "../dom";
import { CHART, PLAY, STOP, VOLUME } from "../icons";
import { liveRouteTo } from "../route";
import { errorToast } from "../toasts";
import { Graph } from "./graph";
import { History, sampleOf } from "./history";
import { listeningText, PIN_NAMES, streamText } from "./livetext";
import { Meter } from "./meter";

const VOLUME_KEY = "veza.volume";
const PIN_KEY = "veza.quality";

export interface ListenHooks {
  /** Playing begins or has ended. */
  changed(): void;
  say(text: string): void;
}

/** A show of somebody else: to listen, or not; and how it is heard. */
export class ListenStrip {
  readonly node: HTMLElement;
  player: Player | undefined;
  private stream: StreamInfo;
  private listening: Listening | undefined;
  private beginning = false;
  private readonly title = el("a", { class: "strip-title" });
  private readonly line = el("span", { class: "strip-line muted", testid: "live-about" });
  private readonly state = el("span", { class: "strip-state", role: "status", testid: "live-state" });
  private readonly button = el("button", { class: "strip-button", testid: "live-play" });
  private readonly meter = new Meter();
  private readonly volume = el("input", { class: "strip-volume", label: "Volume", testid: "live-volume" });
  private readonly quality = el("select", { class: "people-filter", label: "Quality", testid: "live-quality" });
  private readonly graph = new Graph();
  private readonly more: HTMLButtonElement;
  private history = new History();

  constructor(
    private readonly client: Client,
    stream: StreamInfo,
    private readonly hooks: ListenHooks,
  ) {
    this.stream = stream;
    this.button.type = "button";
    this.button.onclick = () => void this.toggle();
    this.volume.type = "range";
    this.volume.max = "100";
    this.volume.value = localStorage.getItem(VOLUME_KEY) ?? "100";
    this.volume.oninput = () => {
      localStorage.setItem(VOLUME_KEY, this.volume.value);
      if (this.player) this.player.volume = this.gain;
    };
    for (const pin of PINS) this.quality.append(new Option(PIN_NAMES[pin], pin));
    this.quality.value = localStorage.getItem(PIN_KEY) ?? "auto";
    this.quality.onchange = () => {
      localStorage.setItem(PIN_KEY, this.quality.value);
      this.listening?.setQuality(this.pin).catch(errorToast);
    };
    this.more = iconButton("How it comes through", CHART, () => this.toggleGraph(), "live-details");
    this.more.setAttribute("aria-expanded", "false");
    this.graph.node.hidden = true;
    const lines = el("div", { class: "strip-lines" }, this.title, this.line);
    const tools = el("div", { class: "strip-tools" }, el("span", { class: "strip-volume-box" }, icon(VOLUME), this.volume), this.quality, this.more);
    this.node = el("section", { class: "strip", testid: "live-strip" }, el("div", { class: "strip-main" }, this.button, lines, this.state, this.meter.node, tools), this.graph.node);
    this.draw();
  }

  get playing(): boolean {
    return this.player !== undefined || this.beginning;
  }

  get id(): string {
    return this.stream.id;
  }

  /** The stream is another than before. */
  changed(stream: StreamInfo): void {
    this.stream = stream;
    this.draw();
  }

  /** In a line, because another room is shown. */
  set compact(compact: boolean) {
    this.node.classList.toggle("compact", compact);
  }

  async toggle(): Promise<void> {
    if (this.playing) await this.stop();
    else await this.play();
  }

  /** Begins to listen; from a press, because browsers let nothing be loud without one. */
  async play(): Promise<void> {
    const missing = missingFor("listen");
    if (missing) return errorToast(new Error(missing));
    this.beginning = true;
    this.hooks.changed();
    this.draw();
    try {
      const listening = await this.client.listen(this.id, { pin: this.pin });
      this.listening = listening;
      const player = await Player.open(listening, { volume: this.gain });
      if (!this.beginning) return void player.close().catch(() => undefined);
      this.player = player;
      this.follow(listening, player);
    } catch (error) {
      void this.listening?.end().catch(() => undefined);
      this.listening = undefined;
      errorToast(error);
    } finally {
      this.beginning = false;
      this.hooks.changed();
      this.draw();
    }
  }

  async stop(): Promise<void> {
    this.beginning = false;
    const { player } = this;
    this.player = undefined;
    this.listening = undefined;
    this.meter.show(SILENCE);
    showToSystem(undefined);
    this.hooks.changed();
    this.draw();
    await player?.close().catch(errorToast);
  }

  private follow(listening: Listening, player: Player): void {
    this.history = new History();
    showToSystem(this.stream, () => void this.stop());
    player.on("level", (level) => this.meter.show(level));
    player.on("playing", (playing) => {
      this.history.add(sampleOf(playing, listening.quality, Date.now()));
      this.draw();
    });
    player.on("state", () => this.draw());
    player.on("failed", (error) => {
      errorToast(error);
      if (this.player === player) void this.stop();
    });
    listening.on("stream", (stream) => this.changed(stream));
    listening.on("quality", () => this.draw());
    listening.on("state", (state) => {
      if (state !== "over" || this.player !== player) return this.draw();
      const why = listening.error?.message ?? "The show is over.";
      this.hooks.say(why);
      void this.stop();
    });
  }

  private get gain(): number {
    // Ears hear ratios.
    return (Number(this.volume.value) / 100) ** 2;
  }

  private get pin(): Pin {
    return PINS.find((pin) => pin === this.quality.value) ?? "auto";
  }

  private toggleGraph(): void {
    this.graph.node.hidden = !this.graph.node.hidden;
    this.more.setAttribute("aria-expanded", String(!this.graph.node.hidden));
    this.draw();
  }

  private draw(): void {
    const { stream, playing } = this;
    this.node.setAttribute("aria-label", `Live: ${stream.title}`);
    this.title.textContent = stream.title;
    this.title.href = liveRouteTo(stream.id);
    this.line.textContent = streamText(stream);
    const label = playing ? "Stop listening" : "Listen";
    if (this.button.title !== label) {
      this.button.replaceChildren(icon(playing ? STOP : PLAY));
      this.button.title = label;
      this.button.setAttribute("aria-label", label);
    }
    this.button.hidden = !playing && stream.state === "ended";
    this.node.classList.toggle("playing", playing);
    this.put(this.state, this.stateText());
    if (!this.graph.node.hidden) this.graph.draw(this.history.series(Date.now()));
  }

  private stateText(): string {
    if (!this.playing) return "";
    const { player, listening } = this;
    if (!player || !listening) return "Connecting…";
    if (player.context.state === "suspended") return "The browser holds the sound back: press Stop, then Listen.";
    return listeningText(listening.state, this.stream.onAir, player.playing?.playing ?? false, listening.quality);
  }

  /** A live region speaks whenever it is touched. */
  private put(node: HTMLElement, text: string): void {
    if (node.textContent !== text) node.textContent = text;
  }
}


/** The keys of the keyboard and the lock screen of a phone stop it, too. */
function showToSystem(stream: StreamInfo | undefined, stop?: () => void): void {
  const session = navigator.mediaSession as MediaSession | undefined;
  if (!session) return;
  session.metadata = stream ? new MediaMetadata({ title: stream.title, artist: stream.owner, album: "Veza" }) : null;
  session.playbackState = stream ? "playing" : "none";
  for (const action of ["stop", "pause"] as const) session.setActionHandler(action, stop ?? null);
}
