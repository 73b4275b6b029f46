import { EVERYBODY, type Room } from "../sdk/index";
import { el } from "./dom";

const OFFERED_MAX = 6;
const BEGUN = /(?:^|[\s(])@([\p{L}\p{N}_.-]*)$/u;

/** Offers the names of those who are here while "@…" is written. Arrow keys choose, Enter or Tab takes, Escape leaves. */
export class MentionBox {
  private readonly list = el("ul", { class: "mention-box", role: "listbox", label: "People to mention" });
  private names: string[] = [];
  private chosen = 0;

  constructor(
    private readonly input: HTMLTextAreaElement,
    private readonly room: () => Room | undefined,
  ) {
    this.list.hidden = true;
    this.list.id = `names-${Math.random().toString(36).slice(2)}`;
    input.setAttribute("aria-controls", this.list.id);
    input.setAttribute("aria-autocomplete", "list");
    input.addEventListener("input", () => this.offer());
    input.addEventListener("blur", () => this.close());
  }

  /** Returns whether the key was meant for the names. */
  key(event: KeyboardEvent): boolean {
    if (this.names.length === 0) return false;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      this.chosen = (this.chosen + (event.key === "ArrowDown" ? 1 : this.names.length - 1)) % this.names.length;
      this.draw();
    } else if (event.key === "Enter" || event.key === "Tab") this.take(this.names[this.chosen] ?? "");
    else if (event.key === "Escape") this.close();
    else return false;
    event.preventDefault();
    event.stopPropagation();
    return true;
  }

  private offer(): void {
    const room = this.room();
    const begun = BEGUN.exec(this.input.value.slice(0, this.input.selectionStart))?.[1];
    if (begun === undefined || !room) return this.close();
    const start = begun.toLocaleLowerCase();
    const everybody = room.can("mention_all") ? [EVERYBODY] : [];
    this.names = [...room.people.present, ...everybody].filter((name) => name.toLocaleLowerCase().startsWith(start)).slice(0, OFFERED_MAX);
    this.chosen = 0;
    this.draw();
  }

  private take(name: string): void {
    const { value, selectionStart: at } = this.input;
    const from = value.slice(0, at).lastIndexOf("@");
    this.input.value = `${value.slice(0, from)}@${name} ${value.slice(at)}`;
    this.input.setSelectionRange(from + name.length + 2, from + name.length + 2);
    this.close();
    this.input.dispatchEvent(new Event("input"));
  }

  private close(): void {
    this.names = [];
    this.draw();
  }

  private draw(): void {
    if (!this.list.isConnected) this.input.before(this.list);
    this.list.hidden = this.names.length === 0;
    this.input.removeAttribute("aria-activedescendant");
    this.list.replaceChildren(
      ...this.names.map((name, at) => {
        const option = el("li", { class: "mention-option", role: "option", text: `@${name}` });
        option.id = `${this.list.id}-${at}`;
        option.setAttribute("aria-selected", String(at === this.chosen));
        if (at === this.chosen) this.input.setAttribute("aria-activedescendant", option.id);
        // Before the text loses the focus.
        option.addEventListener("pointerdown", (event) => {
          event.preventDefault();
          this.take(name);
        });
        return option;
      }),
    );
  }
}
