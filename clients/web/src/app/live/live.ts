import type { Publisher } from "../../sdk/audio/index";
import type { Client, StreamInfo } from "../../sdk/index";
import { byId } from "../dom";
import { AirStrip } from "./airstrip";
import { askGoLive } from "./golive";
import { ListenStrip } from "./listenstrip";
import { LiveList } from "./livelist";
import { roomOfStream, streamOfRoom } from "./livetext";

export interface LiveHooks {
  /** Shows a show's room. */
  go(room: string): void;
  say(text: string): void;
}

/** Live audio in the page: the list at the side, and above the conversation a strip for the show that is shown and each that is heard or on air. */
export class Live {
  readonly list: LiveList;
  private readonly stage = byId("stage");
  private readonly heard = new Map<string, ListenStrip>();
  private air: AirStrip | undefined;
  private shown: string | undefined;

  constructor(
    private readonly client: Client,
    private readonly hooks: LiveHooks,
  ) {
    this.list = new LiveList(client, () => this.shown, () => this.goLive());
    client.on("stream", (stream) => this.changed(stream));
  }

  /** What is heard, for tests and for who asks. */
  get player() {
    return this.current?.player;
  }

  get publisher(): Publisher | undefined {
    return this.air?.publisher;
  }

  /** Another room is shown: with its show, when it is a show's. */
  showRoom(room: string | undefined): void {
    this.shown = room === undefined ? undefined : streamOfRoom(room);
    const { shown } = this;
    this.list.draw();
    this.draw();
    if (shown === undefined || this.air?.id === shown) return;
    void this.list.refresh().then(() => {
      if (this.shown === shown) this.draw();
    });
  }

  /** Listens to the show that is shown, or stops what is heard. */
  toggle(): void {
    const strip = this.current ?? (this.shown === undefined ? undefined : this.heard.get(this.shown));
    void strip?.toggle();
  }

  goLive(): void {
    askGoLive(this.client, (publisher) => {
      void this.heard.get(publisher.publication.id)?.stop();
      this.heard.delete(publisher.publication.id);
      this.air = new AirStrip(
        publisher,
        () => {
          this.air = undefined;
          this.draw();
          void this.list.refresh();
        },
        (text) => this.hooks.say(text),
      );
      void this.list.refresh();
      this.hooks.go(roomOfStream(publisher.publication.id));
      this.draw();
    });
  }

  private get current(): ListenStrip | undefined {
    return [...this.heard.values()].find(({ playing }) => playing);
  }

  private changed(stream: StreamInfo): void {
    this.heard.get(stream.id)?.changed(stream);
  }

  /** The strip of the show that is shown stands first; those of others stay in a line while they are heard. */
  private draw(): void {
    const { shown } = this;
    const known = shown === undefined ? undefined : this.list.streams.get(shown);
    if (shown !== undefined && known && this.air?.id !== shown) {
      if (this.heard.has(shown)) this.heard.get(shown)?.changed(known);
      else this.heard.set(shown, this.strip(known));
    }
    for (const [id, strip] of this.heard) {
      if (!strip.playing && id !== shown) this.heard.delete(id);
    }
    const strips = [...(this.air ? [this.air] : []), ...this.heard.values()].sort((a, b) => Number(b.id === shown) - Number(a.id === shown));
    for (const strip of strips) strip.compact = strip.id !== shown;
    const nodes = strips.map(({ node }) => node);
    if (nodes.length !== this.stage.children.length || nodes.some((node, at) => this.stage.children[at] !== node)) this.stage.replaceChildren(...nodes);
    this.stage.hidden = strips.length === 0;
  }

  private strip(stream: StreamInfo): ListenStrip {
    const strip: ListenStrip = new ListenStrip(this.client, stream, {
      say: (text) => this.hooks.say(text),
      changed: () => {
        // One show at a time.
        if (strip.playing) for (const other of this.heard.values()) if (other !== strip && other.playing) void other.stop();
        this.draw();
      },
    });
    return strip;
  }
}
