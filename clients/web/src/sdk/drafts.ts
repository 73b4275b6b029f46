import type { Attachment } from "./message";
import type { Command } from "./session";

/** What we want to stand in the log. */
export type Draft =
  | {
      readonly kind: "message";
      readonly body: string;
      readonly thread: number;
      readonly replyTo: number;
      readonly mentions: readonly string[];
      readonly attachments: readonly Attachment[];
    }
  | { readonly kind: "edit"; readonly seq: number; readonly body: string; readonly mentions: readonly string[] }
  | { readonly kind: "deletion"; readonly seq: number; readonly reason: string }
  | { readonly kind: "reaction"; readonly seq: number; readonly emoji: string; readonly remove: boolean }
  | { readonly kind: "pin"; readonly seq: number; readonly remove: boolean };

/** The command that asks for it; the same for every attempt. */
export function commandOf(room: string, cmid: string, draft: Draft): Command {
  switch (draft.kind) {
    case "message": {
      const { body, thread, replyTo, mentions } = draft;
      const attachments = draft.attachments.map((one) => ({ ...one, sizeBytes: BigInt(one.sizeBytes) }));
      const value = { room, cmid, body, thread: BigInt(thread), replyTo: BigInt(replyTo), mentions: [...mentions], attachments };
      return { case: "publish", value };
    }
    case "edit":
      return { case: "editMessage", value: { room, cmid, seq: BigInt(draft.seq), body: draft.body, mentions: [...draft.mentions] } };
    case "deletion":
      return { case: "deleteMessage", value: { room, cmid, seq: BigInt(draft.seq), reason: draft.reason } };
    case "reaction":
      return { case: "react", value: { room, cmid, seq: BigInt(draft.seq), emoji: draft.emoji, remove: draft.remove } };
    case "pin":
      return { case: "pin", value: { room, cmid, seq: BigInt(draft.seq), remove: draft.remove } };
  }
}
