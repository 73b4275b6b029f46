import type { Message, Room } from "../sdk/index";
import { el, icon, iconButton } from "./dom";
import { obstacle } from "./obstacle";
import { CLOSE, SEND } from "./icons";
import { MentionBox } from "./mentionbox";
import { errorToast, reportLater } from "./toasts";

/** The counter appears when this much of the bound is used. */
const COUNT_FROM = 0.8;
/** No key for this long: we have stopped typing. Milliseconds. */
const IDLE_MS = 4_000;

export interface ComposerHooks {
  bytesMax(): number;
  sent(): void;
  /** Arrow up in an empty composer. Returns whether there was something to edit. */
  editLast(): boolean;
  /** What the composer was busy with is over: where the focus goes. */
  escaped(): void;
}

/** Where messages are written, or edited. Each room and thread keeps its own draft. */
export class Composer {
  readonly node: HTMLElement;
  private readonly form = el("form", { class: "composer" });
  private readonly input: HTMLTextAreaElement;
  private readonly counter = el("span", { class: "counter", role: "status" });
  private readonly chip = el("div", { class: "composer-chip" });
  private readonly button: HTMLButtonElement;
  private readonly mentions: MentionBox;
  private readonly drafts = new Map<string, string>();
  private room: Room | undefined;
  private place = "";
  /** The first message of the thread this writes into; 0 for the room itself. */
  private thread = 0;
  private answers: Message | undefined;
  private editing: Message | undefined;
  private idle: ReturnType<typeof setTimeout> | undefined;
  private ticking: ReturnType<typeof setInterval> | undefined;
  private unlisten = () => {};

  /** `name`: the test id of the text, and what it is called. */
  constructor(
    private readonly name: "composer" | "thread-composer",
    private readonly hooks: ComposerHooks,
  ) {
    this.input = el("textarea", { testid: name, label: name === "composer" ? "Message" : "Reply in thread" });
    this.input.rows = 1;
    this.input.autocomplete = "off";
    this.input.enterKeyHint = "send";
    this.button = el("button", { class: "send", label: "Send", testid: name === "composer" ? "send" : "thread-send" }, icon(SEND));
    this.mentions = new MentionBox(this.input, () => this.room);
    this.form.append(this.input, this.button);
    this.node = el("div", { class: "composer-box" }, this.chip, this.form, el("div", { class: "foot-line" }, this.counter));
    this.listen();
    this.update();
  }

  open(room: Room | undefined, thread = 0): void {
    if (this.room) {
      this.room.setTyping(false);
      if (!this.editing) this.drafts.set(this.place, this.input.value);
    }
    this.unlisten();
    this.room = room;
    this.thread = thread;
    this.place = room ? `${room.id}/${thread}` : "";
    this.answers = this.editing = undefined;
    this.input.value = this.drafts.get(this.place) ?? "";
    this.unlisten = room?.on("state", () => this.update()) ?? (() => {});
    this.update();
  }

  /** Not on a phone, where the keyboard would cover the room. */
  focus(): void {
    if (matchMedia("(pointer: fine)").matches) this.input.focus();
  }

  /** The next message answers this one. */
  answer(message: Message): void {
    this.editing = undefined;
    this.answers = message;
    this.update();
    this.input.focus();
  }

  /** The text of this message is written anew. */
  edit(message: Message): void {
    if (!this.editing) this.drafts.set(this.place, this.input.value);
    this.answers = undefined;
    this.editing = message;
    this.input.value = message.body;
    this.update();
    this.input.focus();
    this.input.setSelectionRange(message.body.length, message.body.length);
  }

  /** Adds a mention to what is written. */
  mention(user: string): void {
    const { value } = this.input;
    this.input.value = `${value}${value === "" || value.endsWith(" ") ? "" : " "}@${user} `;
    this.update();
    this.input.focus();
  }

  private listen(): void {
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    this.input.addEventListener("keydown", (event) => {
      // While an input method composes, Enter chooses a word; while names are offered, the keys choose a name.
      if (event.isComposing || this.mentions.key(event)) return;
      if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        this.submit();
      } else if (event.key === "ArrowUp" && this.input.value === "" && !event.altKey && !event.ctrlKey) {
        if (this.hooks.editLast()) event.preventDefault();
      } else if (event.key === "Escape" && (this.editing || this.answers)) {
        event.preventDefault();
        event.stopPropagation();
        this.settle();
      }
    });
    this.input.addEventListener("input", () => {
      this.update();
      const writing = this.input.value.trim() !== "" && !this.editing;
      this.room?.setTyping(writing);
      clearTimeout(this.idle);
      if (writing) this.idle = setTimeout(() => this.room?.setTyping(false), IDLE_MS);
    });
  }

  private submit(): void {
    const body = this.input.value.trim();
    if (!this.room || this.button.disabled || body === "") return;
    try {
      clearTimeout(this.idle);
      this.room.setTyping(false);
      const { editing, answers, thread } = this;
      if (editing) {
        if (body !== editing.body) reportLater(this.room, this.room.edit(editing.seq, body));
        return this.settle();
      }
      this.room.publish(body, { thread, ...(answers && { replyTo: answers.seq }) });
      this.input.value = "";
      this.answers = undefined;
      this.update();
      this.hooks.sent();
    } catch (error) {
      errorToast(error);
    }
  }

  /** Neither editing nor answering any more. */
  private settle(): void {
    if (this.editing) this.input.value = this.drafts.get(this.place) ?? "";
    this.editing = this.answers = undefined;
    this.update();
    this.hooks.escaped();
    this.input.focus();
  }

  private update(): void {
    const { room, thread, editing, answers } = this;
    const max = this.hooks.bytesMax();
    const bytes = new TextEncoder().encode(this.input.value.trim()).length;
    const over = bytes > max;
    this.counter.hidden = bytes < max * COUNT_FROM;
    this.counter.textContent = `${(bytes / 1024).toFixed(1)} of ${max / 1024} KiB`;
    this.counter.classList.toggle("bad", over);
    this.input.setAttribute("aria-invalid", String(over));

    const stop = room && obstacle(room, thread !== 0, Date.now());
    // A wait ends by itself, so one may write on meanwhile.
    this.input.disabled = !room || (stop !== undefined && !stop.waiting && !editing);
    this.button.disabled = bytes === 0 || over || !room || (stop !== undefined && !editing);
    this.input.placeholder = stop?.text ?? (thread ? "Reply in thread" : room ? `Message ${room.title}` : "Message");
    this.watchWait(stop?.waiting ?? false);

    const about = editing ? "Editing your message" : answers ? `Answering ${answers.author}: ${answers.body.slice(0, 90)}` : stop?.waiting ? stop.text : "";
    this.chip.hidden = about === "";
    this.chip.replaceChildren(el("span", { text: about }));
    if (editing || answers) this.chip.append(iconButton("Cancel", CLOSE, () => this.settle(), `${this.name}-cancel`));
    this.input.style.height = "auto";
    // What is not in the page yet has no height to fit.
    if (this.input.scrollHeight > 0) this.input.style.height = `${this.input.scrollHeight}px`;
  }

  private watchWait(waiting: boolean): void {
    if (!waiting) {
      clearInterval(this.ticking);
      this.ticking = undefined;
    } else this.ticking ??= setInterval(() => this.update(), 500);
  }
}
