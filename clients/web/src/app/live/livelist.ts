import type { Client, StreamInfo } from "../../sdk/index";
import { byId, el } from "../dom";
import { liveRouteTo } from "../route";
import { errorToast } from "../toasts";
import { streamText } from "./livetext";

/** While the list is in sight it is asked for this often: listeners come and go. */
const REFRESH_MS = 10_000;
/** A few pages at most: a side bar is no directory. */
const PAGES_MAX = 3;

/** The shows that are live, at the side. */
export class LiveList {
  readonly streams = new Map<string, StreamInfo>();
  private readonly list = byId<HTMLUListElement>("live-list");
  private refreshing: Promise<void> | undefined;

  /** `shown`: the show whose room is shown. */
  constructor(
    private readonly client: Client,
    private readonly shown: () => string | undefined,
    goLive: () => void,
  ) {
    byId("go-live").onclick = goLive;
    client.on("stream", (stream) => this.changed(stream));
    client.on("welcome", () => void this.refresh());
    setInterval(() => {
      if (!this.list.hidden && document.visibilityState === "visible" && client.status.state === "online") void this.refresh();
    }, REFRESH_MS);
  }

  /** A stream is another than before. */
  changed(stream: StreamInfo): void {
    if (stream.state === "live") this.streams.set(stream.id, stream);
    else this.streams.delete(stream.id);
    this.draw();
  }

  refresh(): Promise<void> {
    this.refreshing ??= this.load().finally(() => (this.refreshing = undefined));
    return this.refreshing;
  }

  private async load(): Promise<void> {
    try {
      const found: StreamInfo[] = [];
      for (let after = "", page = 0; page < PAGES_MAX; page++) {
        const { streams, next } = await this.client.streams({ after, limit: 100 });
        found.push(...streams);
        after = next;
        if (after === "") break;
      }
      this.streams.clear();
      for (const stream of found) this.streams.set(stream.id, stream);
      this.draw();
    } catch (error) {
      if (this.client.status.state === "online" && !this.list.hidden) errorToast(error);
    }
  }

  draw(): void {
    const focused = this.list.querySelector<HTMLElement>("a:focus")?.dataset.stream;
    const shown = this.shown();
    const items = [...this.streams.values()].map((stream) => {
      const link = el(
        "a",
        { class: "room live-item", href: liveRouteTo(stream.id), testid: "live-item" },
        el("span", { class: stream.onAir ? "live-dot" : "live-dot off", label: stream.onAir ? "on air" : "silent", role: "img" }),
        el("span", { class: "live-lines" }, el("span", { class: "room-name", text: stream.title }), el("small", { class: "muted room-name", text: streamText(stream) })),
      );
      link.dataset.stream = stream.id;
      if (stream.id === shown) link.setAttribute("aria-current", "page");
      return el("li", {}, link);
    });
    if (items.length === 0) items.push(el("li", { class: "empty", text: "Nobody is live now." }));
    this.list.replaceChildren(...items);
    if (focused) this.list.querySelector<HTMLElement>(`a[data-stream="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    byId("live-count").textContent = this.streams.size > 0 ? String(this.streams.size) : "";
  }
}
