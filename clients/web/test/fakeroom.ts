// A room of the small test server: its log, what has become of its messages, who belongs to it. As much of the real
// rules as the client and the page rely on.

import { type MessageSchema, Role, type SystemKind } from "../src/gen/veza/v1/chat_pb";
import { RoomKind, type RoomSchema } from "../src/gen/veza/v1/rooms_pb";
import type { MessageInitShape } from "@bufbuild/protobuf";

/** A message to be made, not one that was made. */
export type MessageInit = Exclude<MessageInitShape<typeof MessageSchema>, { $typeName: "veza.v1.Message" }>;
type RoomInit = MessageInitShape<typeof RoomSchema>;

/** One entry as it was said; `extra` holds what a text or a change carries. */
export interface Stored {
  seq: number;
  cmid: string;
  author: string;
  body: string;
  atMs: number;
  extra?: MessageInit;
}

export interface Member {
  role: Role;
  joinedMs: number;
  mutedUntilMs: number;
  reason: string;
  deliveredSeq: number;
  readSeq: number;
}

export interface Invitation {
  code: string;
  user: string;
  creator: string;
  createdMs: number;
  uses: number;
  usesMax: number;
}

/** What the view of a history command wants. */
export type FakeView = "room" | "everything" | { thread: number };

export class FakeRoom {
  epoch = 1n;
  log: Stored[] = [];
  readonly members = new Map<string, Member>();
  readonly banned = new Map<string, { untilMs: number; reason: string }>();
  readonly invites: Invitation[] = [];
  readonly audit: { actor: string; action: string; user: string; seq: number; reason: string; detail: string; atMs: number }[] = [];
  readonly createdMs = Date.now();
  topic = "";
  kind = RoomKind.PUBLIC;
  slowModeSeconds = 0;
  archived = false;
  revision = 1;
  /** By what they are about. */
  private readonly changes = new Map<number, Stored[]>();
  private readonly replies = new Map<number, Stored[]>();

  constructor(
    readonly id: string,
    public title: string,
  ) {}

  get head(): number {
    return this.log.length;
  }

  append(author: string, cmid: string, body: string, extra: MessageInit = {}, atMs = Date.now()): Stored {
    const stored = { seq: this.log.length + 1, cmid, author, body, atMs, extra };
    this.log.push(stored);
    const index = isText(stored) ? this.replies : this.changes;
    const target = targetOf(stored);
    if (target > 0) index.set(target, [...(index.get(target) ?? []), stored]);
    const member = this.members.get(author);
    if (member && isText(stored)) member.readSeq = member.deliveredSeq = stored.seq;
    return stored;
  }

  note(author: string, kind: SystemKind, more: { user?: string; text?: string; role?: Role; untilMs?: bigint } = {}): Stored {
    return this.append(author, `note-${this.log.length}`, "", { change: { case: "system", value: { kind, ...more } } });
  }

  text(seq: number): Stored | undefined {
    const stored = this.log[seq - 1];
    return stored && isText(stored) ? stored : undefined;
  }

  /** An entry as a delivery carries it. */
  live(stored: Stored): MessageInit {
    const { seq, cmid, author, body, atMs, extra } = stored;
    return { room: this.id, epoch: this.epoch, seq: BigInt(seq), cmid, author, body, atMs: BigInt(atMs), ...extra };
  }

  /** An entry as pages and replays carry it. */
  row(stored: Stored, reader: string): MessageInit {
    const message: MessageInit = this.live(stored);
    if (!isText(stored)) {
      const { change } = message;
      if (change?.case !== "edit" || !this.isDeleted(Number(change.value.target))) return message;
      const { target = 0n, revision = 0 } = change.value;
      return { ...message, change: { case: "edit", value: { target, revision, body: "" } } };
    }
    const about = this.changesOf(stored.seq);
    const edits = about.filter(({ extra }) => extra?.change?.case === "edit");
    const last = edits.at(-1)?.extra?.change;
    if (last?.case === "edit") Object.assign(message, { body: last.value.body, edits: edits.length, editedMs: BigInt(edits.at(-1)?.atMs ?? 0) });
    const replies = this.replies.get(stored.seq) ?? [];
    const lastReply = replies.at(-1);
    if (lastReply) message.replies = { count: replies.length, lastSeq: BigInt(lastReply.seq), lastAtMs: BigInt(lastReply.atMs) };
    const deletion = about.find(({ extra }) => extra?.change?.case === "deletion");
    if (deletion) return { ...message, body: "", mentions: [], attachments: [], deleted: { by: deletion.author, atMs: BigInt(deletion.atMs) } };
    message.pinned = this.isPinned(stored.seq);
    message.reactions = [...this.reactionsOf(stored.seq)].map(([emoji, users]) => ({ emoji, count: users.size, mine: users.has(reader) }));
    return message;
  }

  view(view: FakeView): Stored[] {
    if (view === "everything") return this.log;
    if (view === "room") return this.log.filter((one) => (isText(one) ? !one.extra?.thread : one.extra?.change?.case === "system"));
    return this.log.filter((one) => isText(one) && (one.seq === view.thread || one.extra?.thread === BigInt(view.thread)));
  }

  isDeleted(seq: number): boolean {
    return this.changesOf(seq).some(({ extra }) => extra?.change?.case === "deletion");
  }

  isPinned(seq: number): boolean {
    const last = this.changesOf(seq).findLast(({ extra }) => extra?.change?.case === "pin")?.extra?.change;
    return last?.case === "pin" && !last.value.removed;
  }

  reactionsOf(seq: number): Map<string, Set<string>> {
    const found = new Map<string, Set<string>>();
    for (const { author, extra } of this.changesOf(seq)) {
      if (extra?.change?.case !== "reaction") continue;
      const { emoji = "", removed } = extra.change.value;
      const users = found.get(emoji) ?? new Set();
      if (removed) users.delete(author);
      else users.add(author);
      found.set(emoji, users);
      if (users.size === 0) found.delete(emoji);
    }
    return found;
  }

  revisions(seq: number): { revision: number; body: string; atMs: bigint }[] {
    const first = this.text(seq);
    if (!first || this.isDeleted(seq)) return [];
    const edits = this.changesOf(seq).flatMap(({ extra, atMs }) => (extra?.change?.case === "edit" ? [{ body: extra.change.value.body ?? "", atMs: BigInt(atMs) }] : []));
    return [{ body: first.body, atMs: BigInt(first.atMs) }, ...edits].map((one, revision) => ({ revision, ...one }));
  }

  unread(user: string): { unread: number; mentions: number } {
    const read = this.members.get(user)?.readSeq ?? 0;
    const waiting = this.log.filter((one) => one.seq > read && isText(one) && one.author !== user && !this.isDeleted(one.seq));
    const mentions = waiting.filter(({ extra }) => extra?.mentions?.some((name) => name === user || name === "*"));
    return { unread: waiting.length, mentions: mentions.length };
  }

  membership(user: string) {
    const member = this.members.get(user);
    const ban = this.banned.get(user);
    if (!member && !ban) return undefined;
    return {
      user,
      role: member?.role ?? Role.UNSPECIFIED,
      joinedMs: BigInt(member?.joinedMs ?? 0),
      mutedUntilMs: BigInt(member?.mutedUntilMs ?? 0),
      bannedUntilMs: BigInt(ban?.untilMs ?? 0),
      reason: ban?.reason ?? member?.reason ?? "",
      deliveredSeq: BigInt(member?.deliveredSeq ?? 0),
      readSeq: BigInt(member?.readSeq ?? 0),
    };
  }

  info(reader: string): RoomInit {
    const { id, title, epoch, createdMs, topic, kind, archived, revision, slowModeSeconds } = this;
    const me = this.membership(reader);
    const direct = kind === RoomKind.DIRECT ? [...this.members.keys()] : [];
    const settings = { listed: kind === RoomKind.PUBLIC, slowModeSeconds, defaultRole: Role.MEMBER };
    return { id, title, epoch, head: BigInt(this.head), members: this.members.size, createdMs: BigInt(createdMs), topic, kind, archived, revision: BigInt(revision), direct, settings, ...(me && { me }) };
  }

  private changesOf(seq: number): readonly Stored[] {
    return this.changes.get(seq) ?? [];
  }
}

/** The entry that a change or a reply is about; 0 for none. */
function targetOf({ extra }: Stored): number {
  const change = extra?.change;
  if (change === undefined || change.case === undefined) return Number(extra?.thread ?? 0);
  return change.case === "system" ? 0 : Number(change.value.target);
}

export function isText({ extra }: Stored): boolean {
  return extra?.change === undefined || extra.change.case === undefined;
}
