import type { Room } from "../sdk/index";
import { byId } from "./dom";
import { errorToast } from "./toasts";

/** The counter appears when this much of the bound is used. */
const COUNT_FROM = 0.8;
/** No key for this long: we have stopped typing. Milliseconds. */
const IDLE_MS = 4_000;

/** Where messages are written. Each room keeps its own draft. */
export class Composer {
  private readonly form = byId<HTMLFormElement>("composer");
  private readonly input = byId<HTMLTextAreaElement>("body");
  private readonly counter = byId("counter");
  private readonly button = byId<HTMLButtonElement>("send");
  private readonly drafts = new Map<string, string>();
  private room: Room | undefined;
  private idle: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly bytesMax: () => number,
    private readonly sent: () => void,
  ) {
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    this.input.addEventListener("keydown", (event) => {
      // While an input method composes, Enter chooses a word.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.submit();
    });
    this.input.addEventListener("input", () => {
      this.update();
      const writing = this.input.value.trim() !== "";
      this.room?.setTyping(writing);
      clearTimeout(this.idle);
      if (writing) this.idle = setTimeout(() => this.room?.setTyping(false), IDLE_MS);
    });
  }

  open(room: Room | undefined): void {
    if (this.room) {
      this.room.setTyping(false);
      this.drafts.set(this.room.id, this.input.value);
    }
    this.room = room;
    this.input.disabled = !room;
    this.input.value = room ? (this.drafts.get(room.id) ?? "") : "";
    this.input.placeholder = room ? `Message ${room.title}` : "Message";
    this.update();
  }

  /** Not on a phone, where the keyboard would cover the room. */
  focus(): void {
    if (matchMedia("(pointer: fine)").matches) this.input.focus();
  }

  private submit(): void {
    const body = this.input.value.trim();
    if (!this.room || body === "" || byteLength(body) > this.bytesMax()) return;
    try {
      clearTimeout(this.idle);
      this.room.setTyping(false);
      this.room.publish(body);
      this.input.value = "";
      this.update();
      this.sent();
    } catch (error) {
      errorToast(error);
    }
  }

  private update(): void {
    const max = this.bytesMax();
    const bytes = byteLength(this.input.value.trim());
    const over = bytes > max;
    this.counter.hidden = bytes < max * COUNT_FROM;
    this.counter.textContent = `${(bytes / 1024).toFixed(1)} of ${max / 1024} KiB`;
    this.counter.classList.toggle("bad", over);
    this.input.setAttribute("aria-invalid", String(over));
    this.button.disabled = bytes === 0 || over || !this.room;
    this.input.style.height = "auto";
    this.input.style.height = `${this.input.scrollHeight}px`;
  }
}

function byteLength(text: string): number {
  return new TextEncoder().encode(text).length;
}
