// A small server for tests of the client without the real one: WebSocket (binary protobuf), rooms in memory, and the
// page's files over HTTP. It keeps the protocol's promises a client relies on, and can be told to break them.

import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type WebSocket, WebSocketServer } from "ws";
import type { AudioStreamSchema } from "../src/gen/veza/v1/audio_pb";
import { Role, SystemKind, View } from "../src/gen/veza/v1/chat_pb";
import { MemberFilter, RoomJoinedSchema, RoomKind, Sanction, VerdictSchema } from "../src/gen/veza/v1/rooms_pb";
import { type ClientFrame, ClientFrameSchema, ErrorCode, ServerFrameSchema } from "../src/gen/veza/v1/session_pb";
import { FakeRoom, type FakeView, isText, type MessageInit, type Stored } from "./fakeroom";
import type { PushInit, ReplyInit } from "./fakes";

/** As strict as the real server's: the page must live without inline script and style. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; " +
  "frame-ancestors 'none'; connect-src 'self' https://127.0.0.1:* ws://127.0.0.1:*";

const FOREVER = 2n ** 53n - 1n;

type Said<Case> = Extract<ClientFrame["command"], { case: Case }>["value"];

class Peer {
  user = "";
  status: { state: number; text: string } | undefined;
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
  /** How many entries a resume replays. */
  replayMax = 50;
  /** Pages are read when they are asked for and sent when this has passed. Milliseconds. */
  historyDelayMs = 0;
  hellos = 0;
  sessions = 0;
  refuseTokens = 0;
  /** What `/veza.json` says besides the WebSocket address. */
  discovery: Record<string, unknown> = {};
  /** The shows that are live; nothing is heard of them. */
  streams: MessageInitShape<typeof AudioStreamSchema>[] = [];
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
    if (!room) this.rooms.set(id, (room = new FakeRoom(id, title)));
    return room;
  }

  /** Somebody says something, without a connection. */
  say(roomId: string, author: string, body: string, atMs = Date.now(), cmid = `${author}-${Math.random()}`, extra: MessageInit = {}): Stored {
    const stored = this.room(roomId).append(author, cmid, body, extra, atMs);
    this.deliver(roomId, stored);
    return stored;
  }

  /** Somebody changes something, without a connection. */
  change(roomId: string, author: string, change: NonNullable<MessageInit["change"]>): Stored {
    return this.say(roomId, author, "", Date.now(), undefined, { change });
  }

  deliver(roomId: string, stored: Stored): void {
    const room = this.room(roomId);
    for (const peer of this.peers) {
      if (!peer.rooms.has(roomId)) continue;
      if (!this.lose.delete(stored.seq)) peer.push({ case: "message", value: { message: room.live(stored) } });
      peer.push({ case: "roomHead", value: { room: roomId, epoch: room.epoch, head: BigInt(room.head) } });
    }
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
      if (result && frame.command.case === "history" && this.historyDelayMs > 0) {
        setTimeout(() => peer.send({ case: "reply", value: { id: frame.id, result } }), this.historyDelayMs);
      } else if (result) peer.send({ case: "reply", value: { id: frame.id, result } });
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
      case "createRoom": {
        const { room: id, title, kind, topic } = command.value;
        if (this.rooms.has(id)) return refusal(ErrorCode.ALREADY_EXISTS, "There is a room of this name.");
        const room = this.room(id, title || id);
        room.kind = kind || RoomKind.PUBLIC;
        room.topic = topic;
        this.admit(room, peer.user, Role.OWNER);
        return { case: "roomCreated", value: { room: room.info(peer.user) } };
      }
      case "joinRoom": {
        const { room: id, cursor, invite } = command.value;
        const room = this.rooms.get(id);
        if (room?.banned.has(peer.user)) return refusal(ErrorCode.BANNED, "You are banned from this room.");
        if (!room || !this.mayJoin(room, peer.user, invite)) return refusal(ErrorCode.NOT_FOUND, "There is no such room.");
        return { case: "roomJoined", value: this.join(peer, id, cursor) };
      }
      case "leaveRoom":
        peer.rooms.delete(command.value.room);
        this.rooms.get(command.value.room)?.members.delete(peer.user);
        return { case: "roomLeft", value: { room: command.value.room } };
      case "unsubscribe":
        peer.rooms.delete(command.value.room);
        return { case: "unsubscribed", value: { room: command.value.room } };
      case "listRooms": {
        const rooms = [...this.rooms.values()].sort((a, b) => a.id.localeCompare(b.id));
        const listed = rooms.filter((room) => room.members.has(peer.user) || (!command.value.mine && room.kind === RoomKind.PUBLIC));
        return { case: "roomList", value: { rooms: listed.map((room) => room.info(peer.user)), next: "" } };
      }
      case "listStreams":
        return { case: "streamList", value: { streams: this.streams } };
      case "openDirect": {
        const pair = [peer.user, command.value.user].sort();
        const id = `dm.${pair.join(".")}`;
        const room = this.room(id, id);
        room.kind = RoomKind.DIRECT;
        for (const user of pair) this.admit(room, user, Role.MEMBER);
        return { case: "directOpened", value: { room: room.info(peer.user) } };
      }
      case "publish":
        return this.publish(peer, command.value);
      case "editMessage": {
        const { room, cmid, seq, body, mentions } = command.value;
        const target = this.room(room).text(Number(seq));
        if (target && target.author !== peer.user) return refusal(ErrorCode.PERMISSION_DENIED, "This is not your message.");
        const revision = this.room(room).revisions(Number(seq)).length;
        return this.write(peer, room, cmid, Number(seq), { case: "edit", value: { target: seq, body, mentions, revision } });
      }
      case "deleteMessage": {
        const { room, cmid, seq, reason } = command.value;
        const author = this.room(room).text(Number(seq))?.author ?? "";
        if (author !== peer.user) this.audit(room, peer.user, "delete", author, reason, "", Number(seq));
        return this.write(peer, room, cmid, Number(seq), { case: "deletion", value: { target: seq } });
      }
      case "react": {
        const { room, cmid, seq, emoji, remove } = command.value;
        const users = this.room(room).reactionsOf(Number(seq)).get(emoji) ?? new Set();
        const count = users.size + (remove ? -1 : users.has(peer.user) ? 0 : 1);
        return this.write(peer, room, cmid, Number(seq), { case: "reaction", value: { target: seq, emoji, removed: remove, count } });
      }
      case "pin": {
        const { room, cmid, seq, remove } = command.value;
        return this.write(peer, room, cmid, Number(seq), { case: "pin", value: { target: seq, removed: remove } });
      }
      case "history":
        return this.history(peer, command.value);
      case "repair": {
        const { room: id, afterSeq, upToSeq } = command.value;
        const room = this.room(id);
        const page = room.log.slice(Number(afterSeq), upToSeq === 0n ? undefined : Number(upToSeq)).slice(0, 100);
        return { case: "repaired", value: { room: id, epoch: room.epoch, messages: page.map((stored) => room.row(stored, peer.user)), head: BigInt(room.head) } };
      }
      case "mark": {
        const { room: id, deliveredSeq, readSeq } = command.value;
        const room = this.room(id);
        const member = room.members.get(peer.user);
        if (!member) return refusal(ErrorCode.NOT_FOUND, "There is no such room.");
        member.readSeq = Math.max(member.readSeq, Math.min(room.head, Number(readSeq)));
        member.deliveredSeq = Math.max(member.deliveredSeq, member.readSeq, Math.min(room.head, Number(deliveredSeq)));
        const receipt = { user: peer.user, deliveredSeq: BigInt(member.deliveredSeq), readSeq: BigInt(member.readSeq) };
        this.toAll(id, { case: "receiptsChanged", value: { room: id, receipts: [receipt] } });
        return { case: "marked", value: { room: id, deliveredSeq: receipt.deliveredSeq, readSeq: receipt.readSeq, ...room.unread(peer.user) } };
      }
      case "listUnread": {
        const mine = [...this.rooms.values()].filter((room) => room.members.has(peer.user));
        const rooms = mine.map((room) => ({ room: room.id, title: room.title, epoch: room.epoch, head: BigInt(room.head), readSeq: BigInt(room.members.get(peer.user)?.readSeq ?? 0), ...room.unread(peer.user) }));
        return { case: "unreadList", value: { rooms, next: "" } };
      }
      case "search": {
        const { room: id, query, beforeSeq } = command.value;
        const words = query.toLowerCase().replace(/\*$/, "").split(/\s+/);
        const rooms = id ? [this.room(id)] : [...this.rooms.values()].filter((room) => room.members.has(peer.user));
        const rows = rooms.flatMap((room) => room.log.filter((one) => isText(one)).map((one) => room.row(one, peer.user)));
        const hits = rows.filter(({ body, seq }) => words.every((word) => body?.toLowerCase().includes(word)) && (beforeSeq === 0n || (seq ?? 0n) < beforeSeq));
        const page = hits.reverse().slice(0, 20);
        return { case: "searchResult", value: { messages: page, nextBeforeSeq: hits.length > 20 ? (page.at(-1)?.seq ?? 0n) : 0n } };
      }
      case "listRevisions": {
        const { room, seq } = command.value;
        return { case: "revisionList", value: { room, seq, revisions: this.room(room).revisions(Number(seq)) } };
      }
      case "listReactions": {
        const { room, seq, emoji } = command.value;
        const users = [...(this.room(room).reactionsOf(Number(seq)).get(emoji) ?? [])].sort();
        return { case: "reactionList", value: { room, seq, emoji, users, total: users.length } };
      }
      case "listPins": {
        const room = this.room(command.value.room);
        const pinned = room.log.filter((one) => isText(one) && room.isPinned(one.seq)).reverse();
        const page = pinned.slice(command.value.skip, command.value.skip + 2);
        return { case: "pinList", value: { room: room.id, messages: page.map((one) => room.row(one, peer.user)), more: command.value.skip + page.length < pinned.length } };
      }
      case "listMembers": {
        const room = this.room(command.value.room);
        const names = command.value.filter === MemberFilter.BANNED ? [...room.banned.keys()] : [...room.members.keys()];
        const members = names.sort().flatMap((user) => room.membership(user) ?? []);
        const muted = members.filter(({ mutedUntilMs }) => mutedUntilMs > now);
        return { case: "memberList", value: { room: room.id, members: command.value.filter === MemberFilter.MUTED ? muted : members, next: "" } };
      }
      case "setRole": {
        const { room: id, user, role } = command.value;
        const room = this.room(id);
        const member = room.members.get(user);
        if (!member) return refusal(ErrorCode.NOT_FOUND, "Nobody of this name is a member.");
        member.role = role;
        this.audit(id, peer.user, "set_role", user, "", `role ${Role[role].toLowerCase()}`);
        this.deliver(id, room.note(peer.user, SystemKind.ROLE_CHANGED, { user, role }));
        return { case: "memberUpdated", value: { room: id, member: room.membership(user) ?? {} } };
      }
      case "moderate":
        return this.moderate(peer, command.value);
      case "updateRoom": {
        const { room: id, title, topic, settings, archived } = command.value;
        const room = this.room(id);
        if (title !== undefined && title !== room.title) this.deliver(id, room.note(peer.user, SystemKind.TITLE_CHANGED, { text: title }));
        if (settings && settings.slowModeSeconds !== room.slowModeSeconds) this.deliver(id, room.note(peer.user, SystemKind.SETTINGS_CHANGED));
        room.title = title ?? room.title;
        room.topic = topic ?? room.topic;
        room.archived = archived ?? room.archived;
        room.slowModeSeconds = settings?.slowModeSeconds ?? room.slowModeSeconds;
        room.revision += 1;
        const { me: _, ...told } = room.info("");
        this.toAll(id, { case: "roomChanged", value: { room: told } });
        return { case: "roomUpdated", value: { room: room.info(peer.user) } };
      }
      case "createInvite": {
        const { room: id, user, usesMax } = command.value;
        const code = user ? "" : `code${"0".repeat(17)}${this.room(id).invites.length}`;
        this.room(id).invites.unshift({ code, user, creator: peer.user, createdMs: Date.now(), uses: 0, usesMax });
        return { case: "inviteCreated", value: { invite: this.invitations(id)[0] ?? {} } };
      }
      case "listInvites": {
        const { room } = command.value;
        const named = [...this.rooms.keys()].flatMap((id) => this.invitations(id)).filter(({ user }) => user === peer.user);
        return { case: "inviteList", value: { invites: room ? this.invitations(room) : named } };
      }
      case "revokeInvite": {
        const { room, code, user } = command.value;
        const { invites } = this.room(room);
        invites.splice(invites.findIndex((one) => one.code === code && one.user === user), 1);
        return { case: "inviteRevoked", value: { room } };
      }
      case "listAudit": {
        const { audit } = this.room(command.value.room);
        const entries = audit.map((entry, at) => ({ ...entry, number: BigInt(at + 1), atMs: BigInt(entry.atMs), seq: BigInt(entry.seq) })).reverse();
        return { case: "auditList", value: { room: command.value.room, entries, next: 0n } };
      }
      case "setPresence":
        peer.status = { state: command.value.state, text: command.value.text };
        for (const id of peer.rooms) {
          const status = { user: peer.user, ...peer.status };
          this.toAll(id, { case: "presenceChanged", value: { room: id, presentTotal: this.present(id).length, statuses: [status] } });
        }
        return { case: "presenceSet", value: {} };
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

  private publish(peer: Peer, { room: id, cmid, body, thread, replyTo, mentions }: Said<"publish">): ReplyInit | undefined {
    const room = this.room(id);
    const member = room.members.get(peer.user);
    if (body === "/fail") return refusal(ErrorCode.PERMISSION_DENIED, "You may not say this here.");
    if ((member?.mutedUntilMs ?? 0) > Date.now()) return refusal(ErrorCode.MUTED, "You are muted in this room.", true, 600_000);
    const extra = { ...(thread > 0n && { thread }), ...(replyTo > 0n && { replyTo }), mentions };
    return this.store(peer, id, cmid, () => this.say(id, peer.user, body, Date.now(), cmid, extra));
  }

  private write(peer: Peer, id: string, cmid: string, seq: number, change: NonNullable<MessageInit["change"]>): ReplyInit | undefined {
    const room = this.room(id);
    if (!room.text(seq)) return refusal(ErrorCode.NOT_FOUND, "There is no such message.");
    const known = room.log.some((one) => one.author === peer.user && one.cmid === cmid);
    if (!known && room.isDeleted(seq)) return refusal(ErrorCode.GONE, "The message was deleted.");
    return this.store(peer, id, cmid, () => this.say(id, peer.user, "", Date.now(), cmid, { change }));
  }

  private store(peer: Peer, id: string, cmid: string, write: () => Stored): ReplyInit | undefined {
    if (this.rateLimited > 0) {
      this.rateLimited -= 1;
      return refusal(ErrorCode.RATE_LIMITED, "Slower, please.", true, 60);
    }
    const room = this.room(id);
    const known = room.log.find((one) => one.author === peer.user && one.cmid === cmid);
    const stored = known ?? write();
    if (this.breakBeforeAck > 0) {
      this.breakBeforeAck -= 1;
      peer.socket.terminate();
      return undefined;
    }
    return { case: "published", value: { room: id, cmid, epoch: room.epoch, seq: BigInt(stored.seq), atMs: BigInt(stored.atMs), duplicate: known !== undefined } };
  }

  private history(peer: Peer, { room: id, anchor, limit, view, thread }: Said<"history">): ReplyInit {
    const room = this.room(id);
    const wanted: FakeView = view === View.EVERYTHING ? "everything" : view === View.THREAD ? { thread: Number(thread) } : "room";
    const all = room.view(wanted);
    const size = Math.min(100, limit || 50);
    const behind = (seq: number) => all.filter((one) => one.seq <= seq).length;
    let from: number;
    if (anchor.case === "afterSeq") from = behind(Number(anchor.value));
    else if (anchor.case === "aroundSeq") from = Math.max(0, behind(Number(anchor.value) - 1) - Math.floor(size / 2));
    else {
      const before = Number(anchor.value ?? 0n) || room.head + 1;
      const upTo = behind(before - 1);
      return this.page(peer, room, all, Math.max(0, upTo - size), upTo);
    }
    return this.page(peer, room, all, from, Math.min(all.length, from + size));
  }

  private page(peer: Peer, room: FakeRoom, all: Stored[], from: number, to: number): ReplyInit {
    const messages = all.slice(from, to).map((stored) => room.row(stored, peer.user));
    return { case: "historyPage", value: { room: room.id, epoch: room.epoch, messages, moreBefore: from > 0, moreAfter: to < all.length, firstAvailable: 1n, head: BigInt(room.head) } };
  }

  private moderate(peer: Peer, { room: id, user, sanction, reason, seconds }: Said<"moderate">): ReplyInit {
    const room = this.room(id);
    const untilMs = seconds === 0n ? FOREVER : BigInt(Date.now()) + seconds * 1_000n;
    const member = room.members.get(user);
    const kinds = { [Sanction.MUTE]: SystemKind.MUTED, [Sanction.UNMUTE]: SystemKind.UNMUTED, [Sanction.KICK]: SystemKind.KICKED, [Sanction.BAN]: SystemKind.BANNED, [Sanction.UNBAN]: SystemKind.UNBANNED } as Partial<Record<Sanction, SystemKind>>;
    if (member && sanction === Sanction.MUTE) Object.assign(member, { mutedUntilMs: Number(untilMs), reason });
    if (member && sanction === Sanction.UNMUTE) member.mutedUntilMs = 0;
    if (sanction === Sanction.BAN) room.banned.set(user, { untilMs: Number(untilMs), reason });
    if (sanction === Sanction.UNBAN) room.banned.delete(user);
    this.audit(id, peer.user, Sanction[sanction].toLowerCase(), user, reason);
    if (sanction === Sanction.KICK || sanction === Sanction.BAN) {
      room.members.delete(user);
      for (const one of this.peers) {
        if (one.user === user && one.rooms.delete(id)) one.push({ case: "roomEvicted", value: { room: id, sanction, reason, untilMs: sanction === Sanction.BAN ? untilMs : 0n } });
      }
      this.toAll(id, { case: "presenceChanged", value: { room: id, left: [user], presentTotal: this.present(id).length } });
    }
    this.deliver(id, room.note(peer.user, kinds[sanction] ?? SystemKind.UNSPECIFIED, { user, untilMs: sanction === Sanction.MUTE || sanction === Sanction.BAN ? untilMs : 0n }));
    return { case: "memberUpdated", value: { room: id, member: room.membership(user) ?? { user } } };
  }

  private audit(id: string, actor: string, action: string, user: string, reason: string, detail = "", seq = 0): void {
    this.room(id).audit.push({ actor, action, user, reason, detail, seq, atMs: Date.now() });
  }

  private invitations(id: string) {
    const { title, invites } = this.room(id);
    return invites.map((one) => ({ room: id, title, code: one.code, user: one.user, creator: one.creator, createdMs: BigInt(one.createdMs), expiresMs: BigInt(one.createdMs + 604_800_000), uses: one.uses, usesMax: one.usesMax }));
  }

  private mayJoin(room: FakeRoom, user: string, code: string): boolean {
    if (room.kind === RoomKind.PUBLIC || room.members.has(user)) return true;
    const invite = room.invites.find((one) => (code !== "" && one.code === code) || one.user === user);
    if (invite) invite.uses += 1;
    return invite !== undefined;
  }

  private admit(room: FakeRoom, user: string, role: Role): void {
    if (!room.members.has(user)) room.members.set(user, { role, joinedMs: Date.now(), mutedUntilMs: 0, reason: "", deliveredSeq: 0, readSeq: 0 });
  }

  private join(peer: Peer, id: string, cursor?: { epoch: bigint; lastSeq: bigint }): MessageInitShape<typeof RoomJoinedSchema> {
    const room = this.room(id);
    this.admit(room, peer.user, Role.MEMBER);
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
    const missed = cursor ? room.head - Number(cursor.lastSeq) : 0;
    const outcome: NonNullable<MessageInitShape<typeof VerdictSchema>["outcome"]> =
      !cursor || cursor.epoch === 0n
        ? { case: "live", value: {} }
        : cursor.epoch !== room.epoch || missed > this.replayMax || missed < 0
          ? { case: "gap", value: { firstAvailable: 1n } }
          : { case: "recovered", value: { messages: BigInt(missed) } };
    const statuses = [...this.peers].filter((one) => one.rooms.has(id)).flatMap(({ user, status }) => (status ? [{ user, ...status }] : []));
    const receipts = present.flatMap((user) => room.membership(user) ?? []).map(({ user, deliveredSeq, readSeq }) => ({ user, deliveredSeq, readSeq }));
    return { room: room.info(peer.user), verdict: { outcome }, present, presentTotal: present.length, statuses, receipts };
  }

  private replay(peer: Peer, id: string, lastSeq: number): void {
    const room = this.room(id);
    const missed = room.log.slice(lastSeq);
    if (missed.length > this.replayMax) return;
    for (const stored of missed) peer.push({ case: "message", value: { message: room.row(stored, peer.user) } });
  }

  private present(id: string): string[] {
    return [...new Set([...this.peers].filter((peer) => peer.rooms.has(id)).map((peer) => peer.user))];
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
