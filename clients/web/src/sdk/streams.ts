import { VezaError } from "./errors";
import { Listening } from "./listening";
import { handleOf } from "./media";
import type { StreamPort } from "./port";
import { Publication } from "./publication";
import type { PushEvent } from "./session";
import { type Pin, profileToWire, quality, type Rung, type StreamInfo, streamInfo, type StreamProfile } from "./streaminfo";

export interface NewStream {
  description?: string;
  profile?: StreamProfile;
}

export type StreamPush = Extract<PushEvent, { case: "streamChanged" | "qualityChanged" | "ingestReport" }>;

/** Live audio of one client: what it publishes and what it listens to, over whichever sessions it has. */
export class Streams {
  private readonly publications = new Map<string, Publication>();
  private readonly listenings = new Map<string, Listening>();
  private readonly port: StreamPort;

  /** `changed` hears of every stream that a push tells about. */
  constructor(
    port: Omit<StreamPort, "forget">,
    private readonly changed: (stream: StreamInfo) => void,
  ) {
    this.port = { ...port, forget: (what) => this.forget(what) };
  }

  /** A page of live streams, started last first. `next` is the `after` of the page that follows; empty at the end. */
  async list(query: { after?: string; limit?: number } = {}): Promise<{ streams: StreamInfo[]; next: string }> {
    const { after = "", limit = 0 } = query;
    const { streams, nextPageToken } = await this.port.call({ case: "listStreams", value: { limit, pageToken: after } }, "streamList");
    return { streams: streams.map(streamInfo), next: nextPageToken };
  }

  async create(id: string, title: string, { description = "", profile = "music" }: NewStream = {}): Promise<StreamInfo> {
    const value = { stream: id, title, description, profile: profileToWire(profile) };
    const { stream } = await this.port.call({ case: "createStream", value }, "streamCreated");
    if (!stream) throw new VezaError("malformed", "The server did not say which stream.");
    return streamInfo(stream);
  }

  async publish(id: string, rungs: readonly Rung[]): Promise<Publication> {
    if (this.publications.has(id)) throw new VezaError("already_exists", "This stream is being published here.");
    const publication = new Publication(id, rungs, this.port);
    this.publications.set(id, publication);
    await publication.begin();
    return publication;
  }

  async listen(id: string, pin: Pin = "auto"): Promise<Listening> {
    const known = this.listenings.get(id);
    if (known) return known;
    const listening = new Listening(id, pin, this.port);
    this.listenings.set(id, listening);
    await listening.begin();
    return listening;
  }

  /** A session has begun: everything goes on over it. */
  online(): void {
    for (const one of this.all()) one.online();
  }

  offline(): void {
    for (const one of this.all()) one.offline();
  }

  /** The client has stopped for good. */
  stop(error: VezaError): void {
    for (const one of this.all()) one.stopped(error);
  }

  heard(packet: Uint8Array): void {
    const handle = handleOf(packet);
    for (const listening of this.listenings.values()) {
      if (listening.state === "listening" && listening.handle === handle) listening.heard(packet);
    }
  }

  receive(event: StreamPush): void {
    switch (event.case) {
      case "streamChanged": {
        if (!event.value.stream) return;
        const stream = streamInfo(event.value.stream);
        this.publications.get(stream.id)?.changed(stream);
        this.listenings.get(stream.id)?.changed(stream, event.value.rungs);
        return this.changed(stream);
      }
      case "qualityChanged":
        for (const listening of this.listenings.values()) {
          if (listening.handle === event.value.handle && event.value.quality) listening.qualityIs(quality(event.value.quality));
        }
        return;
      case "ingestReport":
        for (const publication of this.publications.values()) publication.reported(event.value);
        return;
    }
  }

  private all(): (Publication | Listening)[] {
    return [...this.publications.values(), ...this.listenings.values()];
  }

  private forget(what: Publication | Listening): void {
    const map: Map<string, unknown> = what instanceof Publication ? this.publications : this.listenings;
    if (map.get(what.id) === what) map.delete(what.id);
  }
}
