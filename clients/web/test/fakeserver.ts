// A small server for tests of the client without the real one: WebSocket (binary protobuf), rooms in memory, and the
// page's files over HTTP. It keeps the protocol's promises a client relies on, and can be told to break them.

import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type WebSocket, WebSocketServer } from "ws";
import { type ClientFrame, ClientFrameSchema, ErrorCode, RoomJoinedSchema, ServerFrameSchema, VerdictSchema } from "../src/gen/veza/v1/session_pb";
import type { PushInit, ReplyInit } from "./fakes";

/** As strict as the real server's: the page must live without inline script and style. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; " +
  "frame-ancestors 'none'; connect-src 'self' https://127.0.0.1:* ws://127.0.0.1:*";

interface Stored {
  seq: number;
  cmid: string;
  author: string;
  body: string;
  atMs: number;
}

interface FakeRoom {
  title: string;
  epoch: bigint;
  log: Stored[];
  members: Set<string>;
  createdMs: number;
}

class Peer {
  user = "";
  readonly rooms = new Set<string>();

  constructor(readonly socket: WebSocket) {}

  send(frame: MessageInitShape<typeof ServerFrameSchema>["frame"]): void {
    if (frame) this.socket.send(toBinary(ServerFrameSchema, create(ServerFrameSchema, { frame })));
  }

  push(event: PushInit): void {
    this.send({ case: "push", value: { event } });
  }
}

export class FakeServer {
  readonly rooms = new Map<string, FakeRoom>();
  readonly peers = new Set<Peer>();
  /** Publishes to answer with RATE_LIMITED first. */
  rateLimited = 0;
  /** Deliveries (by room sequence number) to lose once. */
  readonly lose = new Set<number>();
  /** Store, but break the link instead of acknowledging. */
  breakBeforeAck = 0;
  hellos = 0;
  sessions = 0;
  refuseTokens = 0;
  /** What `/veza.json` says besides the WebSocket address. */
  discovery: Record<string, unknown> = {};
  private sockets: WebSocketServer;

  private constructor(private readonly http: Server) {
    this.sockets = new WebSocketServer({ server: http, path: "/ws", handleProtocols: (offered) => [...offered][0] ?? false });
    this.sockets.on("connection", (socket) => this.accept(socket));
  }

  static async start(port = 0): Promise<FakeServer> {
    const http = createServer((request, response) => {
      void server.serve(request.url ?? "/", request.method ?? "GET", request).then(
        ({ status, type, body }) => response.writeHead(status, { "content-type": type, "content-security-policy": POLICY }).end(body),
        () => response.writeHead(404).end(),
      );
    });
    const server = new FakeServer(http);
    await new Promise<void>((resolve) => http.listen(port, "127.0.0.1", resolve));
    return server;
  }

  get port(): number {
    return (this.http.address() as AddressInfo).port;
  }

  get websocketUrl(): string {
    return `ws://127.0.0.1:${this.port}/ws`;
  }

  async stop(): Promise<void> {
    this.drop();
    this.sockets.close();
    this.http.closeAllConnections();
    await new Promise((resolve) => this.http.close(resolve));
  }

  /** Every connection breaks without a word. */
  drop(): void {
    for (const { socket } of this.peers) socket.terminate();
  }

  room(id: string, title = id): FakeRoom {
    let room = this.rooms.get(id);
    if (!room) this.rooms.set(id, (room = { title, epoch: 1n, log: [], members: new Set(), createdMs: Date.now() }));
    return room;
  }

  /** Somebody says something, without a connection. */
  say(roomId: string, author: string, body: string, atMs = Date.now(), cmid = `${author}-${Math.random()}`): Stored {
    const room = this.room(roomId);
    const stored = { seq: room.log.length + 1, cmid, author, body, atMs };
    room.log.push(stored);
    for (const peer of this.peers) {
      if (!peer.rooms.has(roomId)) continue;
      if (!this.lose.delete(stored.seq)) peer.push({ case: "message", value: { message: this.wire(roomId, stored) } });
      peer.push({ case: "roomHead", value: { room: roomId, epoch: room.epoch, head: BigInt(room.log.length) } });
    }
    return stored;
  }

  toAll(roomId: string, event: PushInit): void {
    for (const peer of this.peers) if (peer.rooms.has(roomId)) peer.push(event);
  }

  private accept(socket: WebSocket): void {
    const peer = new Peer(socket);
    this.peers.add(peer);
    socket.on("message", (data) => {
      const frame = fromBinary(ClientFrameSchema, new Uint8Array(data as Buffer));
      const result = this.answer(peer, frame);
      if (result) peer.send({ case: "reply", value: { id: frame.id, result } });
      if (frame.command.case !== "hello" || peer.user === "") return;
      for (const cursor of frame.command.value.rooms) {
        peer.push({ case: "roomResumed", value: { room: cursor.room, result: { case: "joined", value: this.join(peer, cursor.room, cursor) } } });
        this.replay(peer, cursor.room, Number(cursor.lastSeq));
      }
    });
    socket.on("close", () => {
      this.peers.delete(peer);
      for (const id of peer.rooms) {
        const total = this.present(id).length;
        if (!this.present(id).includes(peer.user)) {
          this.toAll(id, { case: "presenceChanged", value: { room: id, left: [peer.user], presentTotal: total } });
        }
      }
    });
  }

  private answer(peer: Peer, { command }: ClientFrame): ReplyInit | undefined {
    const now = BigInt(Date.now());
    switch (command.case) {
      case "hello": {
        this.hellos += 1;
        if (this.refuseTokens > 0) {
          this.refuseTokens -= 1;
          setTimeout(() => peer.socket.close(4401, "unauthenticated"), 5);
          return refusal(ErrorCode.UNAUTHENTICATED, "The token is not valid.");
        }
        peer.user = command.value.token;
        this.sessions += command.value.resumeToken === "" ? 1 : 0;
        const limits = { frameBytesMax: 65_536, bodyBytesMax: 32_768, roomsMax: 128, historyPageMax: 100, publishPerSecond: 20, publishBurst: 40 };
        return {
          case: "welcome",
          value: { sessionId: "s1", user: peer.user, resumeToken: "r1", resumed: command.value.resumeToken !== "", limits, serverTimeMs: now, tokenExpiresMs: now + 3_600_000n, transport: "websocket" },
        };
      }
      case "ping":
        return { case: "pong", value: { clientTimeMs: command.value.clientTimeMs, serverTimeMs: now } };
      case "refreshToken":
        return { case: "tokenAccepted", value: { tokenExpiresMs: now + 3_600_000n } };
      case "createRoom":
        if (this.rooms.has(command.value.room)) return refusal(ErrorCode.ALREADY_EXISTS, "There is a room of this name.");
        this.room(command.value.room, command.value.title);
        return { case: "roomCreated", value: { room: this.info(command.value.room) } };
      case "joinRoom": {
        if (!this.rooms.has(command.value.room)) return refusal(ErrorCode.NOT_FOUND, "There is no such room.");
        return { case: "roomJoined", value: this.join(peer, command.value.room, command.value.cursor) };
      }
      case "leaveRoom":
        peer.rooms.delete(command.value.room);
        this.rooms.get(command.value.room)?.members.delete(peer.user);
        return { case: "roomLeft", value: { room: command.value.room } };
      case "unsubscribe":
        peer.rooms.delete(command.value.room);
        return { case: "unsubscribed", value: { room: command.value.room } };
      case "listRooms": {
        const ids = [...this.rooms.keys()].sort().filter((id) => !command.value.mine || this.rooms.get(id)?.members.has(peer.user));
        return { case: "roomList", value: { rooms: ids.map((id) => this.info(id)), next: "" } };
      }
      case "publish":
        return this.publish(peer, command.value);
      case "history": {
        const { room: id, anchor, limit } = command.value;
        const room = this.room(id);
        const size = Math.min(100, limit || 50);
        const head = room.log.length;
        const before = anchor.case === "beforeSeq" ? Number(anchor.value) || head + 1 : head + 1;
        const after = anchor.case === "afterSeq" ? Number(anchor.value) : Math.max(0, before - 1 - size);
        const page = anchor.case === "afterSeq" ? room.log.slice(after, after + size) : room.log.slice(after, before - 1);
        const messages = page.map((stored) => this.wire(id, stored));
        const last = page.at(-1)?.seq ?? after;
        return { case: "historyPage", value: { room: id, epoch: room.epoch, messages, moreBefore: after > 0, moreAfter: last < head, firstAvailable: 1n, head: BigInt(head) } };
      }
      case "repair": {
        const { room: id, afterSeq, upToSeq } = command.value;
        const room = this.room(id);
        const page = room.log.slice(Number(afterSeq), upToSeq === 0n ? undefined : Number(upToSeq)).slice(0, 100);
        return { case: "repaired", value: { room: id, epoch: room.epoch, messages: page.map((stored) => this.wire(id, stored)), head: BigInt(room.log.length) } };
      }
      case "typing":
        for (const other of this.peers) {
          if (other !== peer && other.rooms.has(command.value.room)) {
            other.push({ case: "typingChanged", value: { room: command.value.room, user: peer.user, active: command.value.active } });
          }
        }
        return undefined;
      default:
        return undefined;
    }
  }

  private publish(peer: Peer, { room: id, cmid, body }: { room: string; cmid: string; body: string }): ReplyInit | undefined {
    if (this.rateLimited > 0) {
      this.rateLimited -= 1;
      return refusal(ErrorCode.RATE_LIMITED, "Slower, please.", true, 60);
    }
    if (body === "/fail") return refusal(ErrorCode.PERMISSION_DENIED, "You may not say this here.");
    const room = this.room(id);
    const known = room.log.find((one) => one.author === peer.user && one.cmid === cmid);
    const stored = known ?? this.say(id, peer.user, body, Date.now(), cmid);
    if (this.breakBeforeAck > 0) {
      this.breakBeforeAck -= 1;
      peer.socket.terminate();
      return undefined;
    }
    return { case: "published", value: { room: id, cmid, epoch: room.epoch, seq: BigInt(stored.seq), atMs: BigInt(stored.atMs), duplicate: known !== undefined } };
  }

  private join(peer: Peer, id: string, cursor?: { epoch: bigint; lastSeq: bigint }): MessageInitShape<typeof RoomJoinedSchema> {
    const room = this.room(id);
    room.members.add(peer.user);
    const newcomer = !this.present(id).includes(peer.user);
    peer.rooms.add(id);
    const present = this.present(id);
    if (newcomer) {
      for (const other of this.peers) {
        if (other !== peer && other.rooms.has(id)) {
          other.push({ case: "presenceChanged", value: { room: id, joined: [peer.user], presentTotal: present.length } });
        }
      }
    }
    const missed = cursor ? room.log.length - Number(cursor.lastSeq) : 0;
    const outcome: NonNullable<MessageInitShape<typeof VerdictSchema>["outcome"]> =
      !cursor || cursor.epoch === 0n
        ? { case: "live", value: {} }
        : cursor.epoch !== room.epoch || missed > 50 || missed < 0
          ? { case: "gap", value: { firstAvailable: 1n } }
          : { case: "recovered", value: { messages: BigInt(missed) } };
    return { room: this.info(id), verdict: { outcome }, present, presentTotal: present.length };
  }

  private replay(peer: Peer, id: string, lastSeq: number): void {
    const room = this.room(id);
    const missed = room.log.slice(lastSeq);
    if (missed.length > 50) return;
    for (const stored of missed) peer.push({ case: "message", value: { message: this.wire(id, stored) } });
  }

  private present(id: string): string[] {
    return [...new Set([...this.peers].filter((peer) => peer.rooms.has(id)).map((peer) => peer.user))];
  }

  private info(id: string) {
    const room = this.room(id);
    return { id, title: room.title, epoch: room.epoch, head: BigInt(room.log.length), members: room.members.size, createdMs: BigInt(room.createdMs) };
  }

  private wire(id: string, { seq, cmid, author, body, atMs }: Stored) {
    return { room: id, epoch: this.room(id).epoch, seq: BigInt(seq), cmid, author, body, atMs: BigInt(atMs) };
  }

  private async serve(url: string, method: string, request: AsyncIterable<Buffer>) {
    const path = url.split("?")[0] ?? "/";
    if (path === "/veza.json") {
      return json({ websocketUrl: this.websocketUrl, certificateHashes: [], development: true, version: "fake", ...this.discovery });
    }
    if (path === "/dev/login" && method === "POST") {
      let body = "";
      for await (const chunk of request) body += String(chunk);
      const { user } = JSON.parse(body) as { user: string };
      return json({ token: user, user, expiresMs: Date.now() + 3_600_000 });
    }
    const name = path === "/" ? "index.html" : path.slice(1);
    const types: Record<string, string> = { html: "text/html", js: "text/javascript", css: "text/css", svg: "image/svg+xml" };
    const type = types[name.split(".").pop() ?? ""] ?? "text/plain";
    return { status: 200, type, body: await readFile(`dist/${name}`) };
  }
}

function json(value: unknown) {
  return { status: 200, type: "application/json", body: JSON.stringify(value) };
}

function refusal(code: ErrorCode, message: string, temporary = false, retryAfterMs = 0): ReplyInit {
  return { case: "error", value: { code, message, temporary, retryAfterMs } };
}
