import type { Message, Room } from "../sdk/index";
import { el } from "./dom";
import { askForm, tell } from "./dialogs";
import { fullTime } from "./format";
import { routeTo } from "./route";
import { errorToast, reportLater, toast } from "./toasts";

/** What one may do to a message, as far as the page knows; the server decides. */
export interface Allowed {
  react: boolean;
  reply: boolean;
  thread: boolean;
  edit: boolean;
  remove: boolean;
  pin: boolean;
}

export function allowed(room: Room, message: Message, me: string): Allowed {
  const alive = !message.deleted && room.state === "live";
  const own = message.author === me;
  return {
    react: alive && room.can("react"),
    reply: alive && room.can("publish"),
    thread: room.state === "live" && message.thread === 0 && (room.can("thread") || (message.replies?.count ?? 0) > 0) && (alive || message.replies !== undefined),
    edit: alive && own && room.can("publish"),
    remove: alive && (own || room.can("delete_any")),
    pin: alive && room.can("pin"),
  };
}

export function react(room: Room, seq: number, emoji: string, remove: boolean): void {
  attempt(() => reportLater(room, room.react(seq, emoji, remove)));
}

export function togglePin(room: Room, message: Message): void {
  attempt(() => reportLater(room, room.pin(message.seq, message.pinned)));
}

/** Asks first; a foreign message wants a reason for the audit log. */
export function remove(room: Room, message: Message, me: string): void {
  const foreign = message.author !== me;
  askForm({
    title: "Delete this message?",
    note: foreign ? `It was said by ${message.author}. It disappears for everybody; that it was there stays visible.` : "It disappears for everybody; that it was there stays visible.",
    fields: foreign ? [{ name: "reason", kind: "text", label: "Reason, for the audit log", max: 200 }] : [],
    submit: "Delete",
    danger: true,
    testid: "delete-dialog",
    run: (values) => reportLater(room, room.delete(message.seq, values.text("reason"))),
  });
}

export async function copyLink(room: Room, seq: number): Promise<void> {
  const address = new URL(routeTo({ room: room.id, seq }), location.href);
  address.search = "";
  await copy(address.href, "The link is copied.");
}

export async function copy(text: string, done: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    toast(done);
  } catch {
    // Without a secure context there is no clipboard: the text can be copied by hand.
    const line = el("input", { label: "To copy" });
    line.value = text;
    line.readOnly = true;
    tell("Copy this", el("div", { class: "field" }, line));
    line.select();
  }
}

export async function showRevisions(room: Room, seq: number): Promise<void> {
  try {
    const revisions = await room.listRevisions(seq);
    const list = el("ol", { class: "revisions" });
    for (const { body, atMs, revision } of [...revisions].reverse()) {
      const label = revision === 0 ? "As first said" : `Edit ${revision}`;
      list.append(el("li", { testid: "revision" }, el("p", { class: "muted", text: `${label} · ${fullTime(atMs)}` }), el("div", { class: "bubble", text: body })));
    }
    tell("Versions of this message", list, "revisions");
  } catch (error) {
    errorToast(error);
  }
}

function attempt(action: () => void): void {
  try {
    action();
  } catch (error) {
    errorToast(error);
  }
}
