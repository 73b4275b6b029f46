// Clients over real WebSockets against the small server, which starts anew for every test.

import assert from "node:assert/strict";
import { after, before, beforeEach } from "node:test";
import { WebSocket } from "ws";
import { type Client, connect, type Message, type Room } from "../src/sdk/index";
import { FakeServer } from "./fakeserver";

export interface Guest {
  client: Client;
  room: Room;
  heard: Message[];
}

export class Stage {
  server!: FakeServer;
  clients: Client[] = [];

  connect(user: string): Client {
    const client = connect({ websocketUrl: this.server.websocketUrl, token: async () => user });
    this.clients.push(client);
    return client;
  }

  /** Somebody in the lobby, and what they hear there. */
  async join(user: string): Promise<Guest> {
    const client = this.connect(user);
    const room = await client.join("lobby");
    const heard: Message[] = [];
    room.on("message", (message) => heard.push(message));
    return { client, room, heard };
  }
}

/** Sets a stage for the tests of a file. */
export function setStage(): Stage {
  const stage = new Stage();
  const clear = async () => {
    for (const client of stage.clients) client.close();
    stage.clients = [];
    await stage.server?.stop();
  };
  before(() => {
    (globalThis as { WebSocket?: unknown }).WebSocket = WebSocket;
  });
  beforeEach(async () => {
    await clear();
    stage.server = await FakeServer.start();
    stage.server.room("lobby", "Lobby");
  });
  after(clear);
  return stage;
}

export async function until(what: () => boolean, says = what.toString()): Promise<void> {
  for (let turn = 0; turn < 400; turn++) {
    if (what()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail(`never: ${says}`);
}
