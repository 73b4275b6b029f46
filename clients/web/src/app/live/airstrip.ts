import type { Publisher } from "../../sdk/audio/index";
import type { StreamInfo } from "../../sdk/index";
import { askForm } from "../dialogs";
import { el } from "../dom";
import { liveRouteTo } from "../route";
import { errorToast, toast } from "../toasts";
import { clockText, ingestText, ladderText, streamText } from "./livetext";
import { Meter } from "./meter";

const DRAW_EVERY_MS = 1_000;

/** A show of our own, on air: how loud it is, and what becomes of it on the way. */
export class AirStrip {
  readonly node: HTMLElement;
  private readonly title = el("a", { class: "strip-title" });
  private readonly line = el("span", { class: "strip-line muted", testid: "live-about" });
  private readonly state = el("span", { class: "strip-state", testid: "live-ingest" });
  private readonly badge = el("span", { class: "on-air", testid: "live-badge" });
  private readonly mute = el("button", { class: "button quiet small", text: "Mute", testid: "live-mute" });
  private readonly meter = new Meter();
  private readonly startedMs = Date.now();
  private readonly ticking: ReturnType<typeof setInterval>;

  /** `over`: it is not on air any more. */
  constructor(
    readonly publisher: Publisher,
    private readonly over: () => void,
    say: (text: string) => void,
  ) {
    const { publication } = publisher;
    this.mute.type = "button";
    this.mute.setAttribute("aria-pressed", "false");
    this.mute.onclick = () => {
      publisher.muted = !publisher.muted;
      this.mute.setAttribute("aria-pressed", String(publisher.muted));
      this.mute.textContent = publisher.muted ? "Muted" : "Mute";
    };
    const playing = el("button", { class: "button quiet small", text: "Now playing…", testid: "live-playing", click: () => this.askPlaying() });
    const end = el("button", { class: "button danger small", text: "End", label: "End the show", testid: "live-end", click: () => this.askEnd() });
    for (const button of [playing, end]) button.type = "button";
    const lines = el("div", { class: "strip-lines" }, this.title, this.line);
    this.node = el("section", { class: "strip air playing", testid: "live-air" }, el("div", { class: "strip-main" }, this.badge, lines, this.state, this.meter.node, el("div", { class: "strip-tools" }, this.mute, playing, end)));
    publisher.on("level", (level) => this.meter.show(level));
    publisher.on("sourceOver", () => {
      toast(`${publisher.source.label || "The sound"} is over. The show goes on in silence until you end it.`);
      say("The sound is over.");
    });
    publisher.on("failed", (error) => errorToast(error));
    publication.on("report", () => this.draw());
    publication.on("stream", () => this.draw());
    publication.on("state", (state) => {
      this.draw();
      if (state === "waiting") say("The connection is lost. The show waits for it.");
      if (state === "over") this.finish();
    });
    this.ticking = setInterval(() => this.draw(), DRAW_EVERY_MS);
    this.draw();
  }

  get id(): string {
    return this.publisher.publication.id;
  }

  changed(_: StreamInfo): void {
    this.draw();
  }

  set compact(compact: boolean) {
    this.node.classList.toggle("compact", compact);
  }

  private finish(): void {
    clearInterval(this.ticking);
    const { error } = this.publisher.publication;
    if (error) toast(error.message, "error");
    this.over();
  }

  private draw(): void {
    const { publication } = this.publisher;
    const { stream } = publication;
    this.node.setAttribute("aria-label", `On air: ${stream.title}`);
    this.title.textContent = stream.title;
    this.title.href = liveRouteTo(stream.id);
    this.badge.textContent = publication.state === "waiting" ? "Reconnecting" : `On air ${clockText(Math.floor((Date.now() - this.startedMs) / 1_000))}`;
    this.badge.classList.toggle("waiting", publication.state === "waiting");
    this.line.textContent = `${streamText(stream)} · ${ladderText(publication.rungs)}${this.publisher.copies === "none" ? "" : ", with copies"}`;
    this.state.textContent = ingestText(publication.report);
    this.state.classList.toggle("bad", publication.report.refused > 0);
  }

  private askPlaying(): void {
    const { publication } = this.publisher;
    askForm({
      title: "Now playing",
      submit: "Say it",
      testid: "playing-dialog",
      fields: [{ name: "playing", kind: "text", label: "What is heard", value: publication.stream.playing, max: 200, placeholder: "Artist – Title" }],
      run: (values) => publication.setPlaying(values.text("playing")),
    });
  }

  private askEnd(): void {
    askForm({
      title: "End the show?",
      note: "It cannot be gone on with: another show is another one. Its room stays.",
      fields: [],
      submit: "End it",
      danger: true,
      testid: "end-dialog",
      run: () => this.publisher.end(),
    });
  }
}
