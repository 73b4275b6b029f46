import type { Message, Room } from "../sdk/index";
import { allowed, copyLink, react, remove, showRevisions, togglePin } from "./deeds";
import { tell } from "./dialogs";
import { el, iconButton, keepFocus } from "./dom";
import { EDIT, MORE, REPLY, SMILE, THREAD, TRASH } from "./icons";
import { type MenuItem, openMenu, put } from "./menu";

/** What the picker offers; any other emoji can be had from who used it first. */
export const EMOJI: readonly string[] = ["👍", "❤️", "😂", "🎉", "😮", "😢", "🔥", "👀", "🎧", "🙏"];

export interface ToolHooks {
  room(): Room | undefined;
  me(): string;
  /** A message of the list by its number. */
  find(seq: number): Message | undefined;
  answer(message: Message): void;
  edit(message: Message): void;
  openThread?: (seq: number) => void;
}

/** The tools of the message that is pointed at or has the focus, and their keys. One set serves a whole list. */
export class MessageTools {
  private readonly bar = el("div", { class: "tools", role: "toolbar", label: "Message actions", testid: "tools" });
  private shownFor = "";

  constructor(
    private readonly list: HTMLElement,
    private readonly hooks: ToolHooks,
  ) {
    // Not when the list moves under a pointer that rests: the focus may be elsewhere.
    list.addEventListener("pointermove", (event) => this.attend(event.target));
    list.addEventListener("focusin", (event) => this.attend(event.target));
    list.addEventListener("pointerleave", () => {
      if (!list.contains(document.activeElement)) this.bar.remove();
    });
    list.addEventListener("focusout", ({ relatedTarget }) => {
      if (relatedTarget instanceof Node && !list.contains(relatedTarget)) this.bar.remove();
    });
    list.addEventListener("click", (event) => this.attend(event.target));
    list.addEventListener("keydown", (event) => this.key(event));
  }

  private attend(target: EventTarget | null): void {
    const article = target instanceof Element ? target.closest<HTMLElement>("article[data-seq]") : null;
    const room = this.hooks.room();
    const message = article && this.hooks.find(Number(article.dataset.seq));
    if (!article || !message || !room) return;
    const signature = `${message.seq} ${message.edits} ${message.pinned} ${message.deleted !== undefined}`;
    if (article.contains(this.bar) && this.shownFor === signature) return;
    this.shownFor = signature;
    this.bar.replaceChildren(...this.buttons(room, message));
    if (this.bar.childElementCount > 0) article.append(this.bar);
    else this.bar.remove();
  }

  private buttons(room: Room, message: Message): HTMLElement[] {
    const may = allowed(room, message, this.hooks.me());
    const { openThread } = this.hooks;
    const buttons: HTMLButtonElement[] = [];
    const add = (when: boolean, ...[label, path, run, testid]: [string, string, () => void, string]) => {
      if (when) buttons.push(iconButton(label, path, run, testid));
    };
    add(may.react, "React", SMILE, () => this.pick(message.seq), "tool-react");
    add(may.reply, "Answer", REPLY, () => this.hooks.answer(message), "tool-reply");
    add(may.thread && openThread !== undefined, "Thread", THREAD, () => openThread?.(message.seq), "tool-thread");
    add(may.edit, "Edit", EDIT, () => this.hooks.edit(message), "tool-edit");
    add(may.remove, "Delete", TRASH, () => remove(room, message, this.hooks.me()), "tool-delete");
    const more = iconButton("More", MORE, () => openMenu(more, "More actions", this.more(room, message)), "tool-more");
    more.classList.add("dots");
    more.setAttribute("aria-haspopup", "menu");
    buttons.push(more);
    return buttons;
  }

  private more(room: Room, message: Message): MenuItem[] {
    const items: MenuItem[] = [{ label: "Copy link", run: () => void copyLink(room, message.seq) }];
    if (allowed(room, message, this.hooks.me()).pin) {
      items.push({ label: message.pinned ? "Unpin" : "Pin", testid: "menu-pin", run: () => togglePin(room, message) });
    }
    if (message.edits > 0 && !message.deleted) items.push({ label: "Earlier versions", testid: "menu-revisions", run: () => void showRevisions(room, message.seq) });
    for (const { emoji } of message.reactions) {
      items.push({ label: `Who reacted with ${emoji}`, run: () => void whoReacted(room, message.seq, emoji) });
    }
    return items;
  }

  private pick(seq: number): void {
    const room = this.hooks.room();
    const anchor = this.list.querySelector<HTMLElement>(`article[data-seq="${seq}"]`);
    if (!room || !anchor) return;
    const mine = (emoji: string) => this.hooks.find(seq)?.reactions.some((one) => one.emoji === emoji && one.mine) ?? false;
    openPicker(anchor, (emoji) => react(room, seq, emoji, mine(emoji)));
  }

  /** Single letters, while a message itself has the focus. */
  private key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.target instanceof HTMLElement) || event.target.tagName !== "ARTICLE") return;
    const room = this.hooks.room();
    const message = this.hooks.find(Number(event.target.dataset.seq));
    if (!room || !message) return;
    const may = allowed(room, message, this.hooks.me());
    const run = {
      e: may.edit && (() => this.hooks.edit(message)),
      r: may.reply && (() => this.hooks.answer(message)),
      t: may.thread && this.hooks.openThread && (() => this.hooks.openThread?.(message.seq)),
      "+": may.react && (() => this.pick(message.seq)),
      p: may.pin && (() => togglePin(room, message)),
      l: () => void copyLink(room, message.seq),
      Delete: may.remove && (() => remove(room, message, this.hooks.me())),
      Enter: () => {
        this.attend(event.target);
        this.bar.querySelector("button")?.focus();
      },
    }[event.key];
    if (!run) return;
    event.preventDefault();
    run();
  }
}

async function whoReacted(room: Room, seq: number, emoji: string): Promise<void> {
  const { users, total } = await room.listReactions(seq, emoji).catch(() => ({ users: [], total: 0 }));
  const list = el("ul", { class: "names" }, ...users.map((user) => el("li", { text: user })));
  if (total > users.length) list.append(el("li", { class: "muted", text: `and ${total - users.length} more` }));
  tell(`Reacted with ${emoji}`, list);
}

function openPicker(anchor: HTMLElement, chosen: (emoji: string) => void): void {
  const giveBack = keepFocus();
  const picker = el("div", { class: "picker", role: "dialog", label: "Choose a reaction", testid: "picker" });
  const close = () => {
    document.removeEventListener("pointerdown", outside, true);
    picker.remove();
    if (!giveBack() && anchor.isConnected) anchor.focus({ preventScroll: true });
  };
  const outside = (event: Event) => {
    if (!picker.contains(event.target as Node)) close();
  };
  for (const emoji of EMOJI) {
    const button = el("button", { class: "pick", text: emoji, label: emoji, click: () => (close(), chosen(emoji)) });
    button.type = "button";
    picker.append(button);
  }
  picker.addEventListener("keydown", (event) => {
    const buttons = [...picker.querySelectorAll("button")];
    const at = buttons.indexOf(document.activeElement as HTMLButtonElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + 5, ArrowUp: at - 5 }[event.key];
    if (event.key === "Escape") close();
    else if (to !== undefined) buttons.at(to % buttons.length)?.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  document.body.append(picker);
  put(picker, anchor.querySelector<HTMLElement>(".tools") ?? anchor);
  document.addEventListener("pointerdown", outside, true);
  picker.querySelector("button")?.focus({ preventScroll: true });
}
