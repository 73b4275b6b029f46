import type { Client, Room } from "../sdk/index";
import type { Live } from "./live/live";
import type { LogView } from "./logview";

/** What an end-to-end test may look at: plain values only, so that it can cross from the page to the test. */
export interface Snapshot {
  user: string;
  state: string;
  transport: string | undefined;
  rttMs: number | undefined;
  room: string | undefined;
  roomState: string | undefined;
  title: string | undefined;
  /** The loaded log of the shown room, ascending. */
  messages: { seq: number; epoch: string; author: string; body: string; cmid: string; atMs: number; edits: number; deleted: boolean; pinned: boolean; reactions: string[]; replies: number; note: string | undefined }[];
  pending: { cmid: string; body: string; state: string }[];
  present: readonly string[];
  presentTotal: number;
  typing: readonly string[];
  unacknowledged: number;
  /** Message nodes in the DOM. */
  rendered: number;
  hasOlder: boolean;
  hasNewer: boolean;
  /** The last number of the log that is held without a hole. */
  head: number;
  role: string | undefined;
  /** By room. */
  unread: Record<string, { unread: number; mentions: number; readSeq: number }>;
}

/** Puts `window.veza` there. */
export function exposeForTests(client: Client, shown: () => Room | undefined, log: LogView, live: Live): void {
  const snapshot = (): Snapshot => {
    const room = shown();
    return {
      user: client.me,
      state: client.status.state,
      transport: client.status.state === "online" ? client.status.transport : undefined,
      rttMs: client.rttMs,
      room: room?.id,
      roomState: room?.state,
      title: room?.title,
      messages: (room?.messages ?? []).map(({ seq, epoch, author, body, cmid, atMs, edits, deleted, pinned, reactions, replies, change }) => ({
        seq,
        epoch: String(epoch),
        author,
        body,
        cmid,
        atMs,
        edits,
        deleted: deleted !== undefined,
        pinned,
        reactions: reactions.map(({ emoji, count, mine }) => `${emoji} ${count}${mine ? " mine" : ""}`),
        replies: replies?.count ?? 0,
        note: change?.kind === "note" ? change.what : undefined,
      })),
      pending: (room?.pending ?? []).map(({ cmid, body, state }) => ({ cmid, body, state })),
      present: room?.people.present ?? [],
      presentTotal: room?.people.total ?? 0,
      typing: room?.people.typing ?? [],
      unacknowledged: client.unacknowledged,
      rendered: log.rendered,
      hasOlder: room?.hasOlder ?? false,
      hasNewer: room?.hasNewer ?? false,
      head: room?.head ?? 0,
      role: room?.membership?.role,
      unread: Object.fromEntries([...client.rooms.keys()].flatMap((id) => [client.unread.of(id) ?? []].flat().map(({ unread, mentions, readSeq }) => [id, { unread, mentions, readSeq }]))),
    };
  };
  Object.defineProperty(window, "veza", { configurable: true, value: { client, snapshot, live } });
}
