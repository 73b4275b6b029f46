import { MemberFilter, Sanction, type AuditEntry as WireAuditEntry } from "../gen/veza/v1/rooms_pb";
import { VezaError } from "./errors";
import { fromWire, type Message } from "./message";
import { kindToWire, type Role, type RoomKind, roleToWire, type Settings, settingsToWire } from "./permissions";
import type { RoomPort } from "./port";
import { type Invite, invite, type Membership, membership, type RoomInfo, roomInfo } from "./roominfo";

export type SanctionName = "mute" | "unmute" | "kick" | "ban" | "unban";

export interface AuditEntry {
  number: number;
  atMs: number;
  actor: string;
  action: string;
  user: string;
  seq: number;
  reason: string;
  /** What changed, for people. */
  detail: string;
}

export interface Revision {
  /** 0 for the first body. */
  revision: number;
  body: string;
  atMs: number;
}

export interface SearchPage {
  /** Newest first. */
  messages: Message[];
  /** Hits before this one follow; 0 at the end. */
  next: number;
}

/** What may be asked about a room and decided in it. Each resolves when the server has answered. */
export abstract class RoomCalls {
  abstract readonly id: string;
  protected abstract readonly port: RoomPort;

  /** Title, topic, kind and settings; what is left out stays as it is. */
  async update(change: { title?: string; topic?: string; kind?: RoomKind; settings?: Settings; archived?: boolean }): Promise<RoomInfo> {
    const { title, topic, kind, settings, archived } = change;
    const value = {
      room: this.id,
      ...(title !== undefined && { title }),
      ...(topic !== undefined && { topic }),
      ...(kind !== undefined && { kind: kindToWire(kind) }),
      ...(settings && { settings: settingsToWire(settings) }),
      ...(archived !== undefined && { archived }),
    };
    const { room } = await this.port.call({ case: "updateRoom", value }, "roomUpdated");
    if (!room) throw new VezaError("malformed", "The server did not say which room.");
    return roomInfo(room);
  }

  /** A page of members by name. `next` is the `after` of the page that follows; empty at the end. */
  async listMembers(query: { after?: string; limit?: number; filter?: "staff" | "muted" | "banned" } = {}): Promise<{ members: Membership[]; next: string }> {
    const { after = "", limit = 0, filter } = query;
    const wanted = filter === "staff" ? MemberFilter.STAFF : filter === "muted" ? MemberFilter.MUTED : filter === "banned" ? MemberFilter.BANNED : MemberFilter.UNSPECIFIED;
    const value = { room: this.id, after, limit, filter: wanted };
    const { members, next } = await this.port.call({ case: "listMembers", value }, "memberList");
    return { members: members.map(membership), next };
  }

  async setRole(user: string, role: Role): Promise<Membership | undefined> {
    const { member } = await this.port.call({ case: "setRole", value: { room: this.id, user, role: roleToWire(role) } }, "memberUpdated");
    return member && membership(member);
  }

  /** `seconds`: how long a mute or ban holds, or a kick keeps the user out; 0 until it is lifted. */
  async moderate(user: string, sanction: SanctionName, reason = "", seconds = 0): Promise<Membership | undefined> {
    const name = sanction.toUpperCase() as keyof typeof Sanction;
    const value = { room: this.id, user, sanction: Sanction[name], reason, seconds: BigInt(seconds) };
    const { member } = await this.port.call({ case: "moderate", value }, "memberUpdated");
    return member && membership(member);
  }

  /** Without a user: a code that anybody may use. `usesMax` 0: any number of times; `seconds` 0: seven days. */
  async createInvite(wanted: { user?: string; usesMax?: number; seconds?: number } = {}): Promise<Invite> {
    const { user = "", usesMax = 0, seconds = 0 } = wanted;
    const value = { room: this.id, user, usesMax, seconds: BigInt(seconds) };
    const created = (await this.port.call({ case: "createInvite", value }, "inviteCreated")).invite;
    if (!created) throw new VezaError("malformed", "The server did not say which invitation.");
    return invite(created);
  }

  async listInvites(): Promise<Invite[]> {
    const { invites } = await this.port.call({ case: "listInvites", value: { room: this.id } }, "inviteList");
    return invites.map(invite);
  }

  async revokeInvite({ code, user }: Pick<Invite, "code" | "user">): Promise<void> {
    await this.port.call({ case: "revokeInvite", value: { room: this.id, code, user } }, "inviteRevoked");
  }

  /** A page of the audit log, newest first; `next` is the `before` of the page that follows, 0 at the end. */
  async listAudit(before = 0, limit = 0): Promise<{ entries: AuditEntry[]; next: number }> {
    const value = { room: this.id, before: BigInt(before), limit };
    const { entries, next } = await this.port.call({ case: "listAudit", value }, "auditList");
    return { entries: entries.map(auditEntry), next: Number(next) };
  }

  /** Every body a message had, oldest first. */
  async listRevisions(seq: number): Promise<Revision[]> {
    const { revisions } = await this.port.call({ case: "listRevisions", value: { room: this.id, seq: BigInt(seq) } }, "revisionList");
    return revisions.map(({ revision, body, atMs }) => ({ revision, body, atMs: Number(atMs) }));
  }

  async listReactions(seq: number, emoji: string): Promise<{ users: string[]; total: number }> {
    const value = { room: this.id, seq: BigInt(seq), emoji };
    const { users, total } = await this.port.call({ case: "listReactions", value }, "reactionList");
    return { users, total };
  }

  /** Latest pin first, all of them: those that do not fit in one answer are asked for behind it. */
  async listPins(): Promise<Message[]> {
    const pins = new Map<number, Message>();
    for (let more = true; more; ) {
      const page = await this.port.call({ case: "listPins", value: { room: this.id, skip: pins.size } }, "pinList");
      const before = pins.size;
      for (const message of page.messages) pins.set(Number(message.seq), fromWire(message));
      // Pins that change meanwhile shift the pages; an answer with nothing new is the last.
      more = page.more && pins.size > before;
    }
    return [...pins.values()];
  }

  async search(query: string, more: { author?: string; before?: number; limit?: number } = {}): Promise<SearchPage> {
    const { author = "", before = 0, limit = 0 } = more;
    const value = { room: this.id, query, author, beforeSeq: BigInt(before), limit };
    const found = await this.port.call({ case: "search", value }, "searchResult");
    return { messages: found.messages.map(fromWire), next: Number(found.nextBeforeSeq) };
  }
}

function auditEntry({ number, atMs, actor, action, user, seq, reason, detail }: WireAuditEntry): AuditEntry {
  return { number: Number(number), atMs: Number(atMs), actor, action, user, seq: Number(seq), reason, detail };
}
