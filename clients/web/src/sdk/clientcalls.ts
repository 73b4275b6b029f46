import { VezaError } from "./errors";
import type { Listening } from "./listening";
import { fromWire, type Message } from "./message";
import { kindToWire, type RoomKind, type Settings, settingsToWire } from "./permissions";
import { type Presence, presenceToWire } from "./people";
import type { Call } from "./port";
import type { Publication } from "./publication";
import { type Invite, invite, type RoomInfo, roomInfo } from "./roominfo";
import type { Pin, Rung, StreamInfo } from "./streaminfo";
import type { NewStream, Streams } from "./streams";

export interface NewRoom {
  kind?: RoomKind;
  topic?: string;
  settings?: Settings;
}

/** What may be asked besides rooms that are joined. Each resolves when the server has answered. */
export abstract class ClientCalls {
  protected abstract readonly call: Call;
  protected abstract readonly audio: Streams;

  async createRoom(id: string, title: string, more: NewRoom = {}): Promise<RoomInfo> {
    const { kind = "public", topic = "", settings } = more;
    const value = { room: id, title, kind: kindToWire(kind), topic, ...(settings && { settings: settingsToWire(settings) }) };
    return known((await this.call({ case: "createRoom", value }, "roomCreated")).room);
  }

  /** The room of two with this user, made when it is not there. */
  async openDirect(user: string): Promise<RoomInfo> {
    return known((await this.call({ case: "openDirect", value: { user } }, "directOpened")).room);
  }

  /** A page of rooms in the order of their ids. `next` is the `after` of the page that follows; empty at the end. */
  async listRooms(query: { mine?: boolean; after?: string; limit?: number } = {}): Promise<{ rooms: RoomInfo[]; next: string }> {
    const { rooms, next } = await this.call({ case: "listRooms", value: query }, "roomList");
    return { rooms: rooms.map(roomInfo), next };
  }

  /** The invitations that name us. */
  async listInvites(): Promise<Invite[]> {
    return (await this.call({ case: "listInvites", value: { room: "" } }, "inviteList")).invites.map(invite);
  }

  /** Searches all our rooms, newest first. `next` is the `cursor` of the page that follows; empty at the end. */
  async search(query: string, more: { author?: string; cursor?: string; limit?: number } = {}): Promise<{ messages: Message[]; next: string }> {
    const { author = "", cursor = "", limit = 0 } = more;
    const found = await this.call({ case: "search", value: { room: "", query, author, cursor, limit } }, "searchResult");
    return { messages: found.messages.map(fromWire), next: found.next };
  }

  /** A page of live streams, started last first. `next` is the `after` of the page that follows; empty at the end. */
  streams(query: { after?: string; limit?: number } = {}): Promise<{ streams: StreamInfo[]; next: string }> {
    return this.audio.list(query);
  }

  /** Makes a public stream and its chat room; both are ours. Asked again, it answers with the stream that is there. */
  createStream(id: string, title: string, more: NewStream = {}): Promise<StreamInfo> {
    return this.audio.create(id, title, more);
  }

  /** Goes on air with a stream of ours. The `rungs` are what will be sent, best first. */
  publish(stream: string, { rungs }: { rungs: readonly Rung[] }): Promise<Publication> {
    return this.audio.publish(stream, rungs);
  }

  /** Begins to be sent a stream. One that we listen to already is returned as it is. */
  listen(stream: string, { pin = "auto" }: { pin?: Pin } = {}): Promise<Listening> {
    return this.audio.listen(stream, pin);
  }

  protected async tellPresence(state: Presence, text: string): Promise<void> {
    await this.call({ case: "setPresence", value: { state: presenceToWire(state), text } }, "presenceSet");
  }
}

function known(room: Parameters<typeof roomInfo>[0] | undefined): RoomInfo {
  if (!room) throw new VezaError("malformed", "The server did not say which room.");
  return roomInfo(room);
}
