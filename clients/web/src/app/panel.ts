import { byId, el, iconButton, keepFocus } from "./dom";
import { CLOSE } from "./icons";

/** What the column at the side can show. */
export interface PanelView {
  name: string;
  title: string;
  body: HTMLElement;
  /** Wider than a list of names needs. */
  wide?: boolean;
  /** Gets the focus. */
  focus?(): void;
  closed?(): void;
}

/**
 * The column at the right: people, or whatever was opened in their place. On narrower screens it is a drawer over the
 * conversation. Escape closes it, and the focus goes back to where it came from.
 */
export class Panel {
  private readonly host = byId("panel");
  private readonly app = byId("app");
  private readonly scrim = byId("scrim");
  private readonly rooms = byId("open-rooms");
  private view: PanelView | undefined;
  private giveBack: (() => boolean) | undefined;
  private drawer: "rooms" | "panel" | undefined;

  /** `rest`: what stands there when nothing else does. */
  constructor(private readonly rest: () => PanelView) {
    this.rooms.onclick = () => this.show(this.drawer === "rooms" ? undefined : "rooms");
    this.scrim.onclick = () => this.close();
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.defaultPrevented) return;
      if (this.drawer === undefined && this.view?.name === "people") return;
      event.preventDefault();
      this.close();
    });
    this.fill(rest());
  }

  /** The name of what is shown. */
  get shows(): string {
    return this.view?.name ?? "";
  }

  /** Whether it is in sight. */
  get open(): boolean {
    return !matchMedia("(max-width: 1080px)").matches || this.drawer === "panel";
  }

  put(view: PanelView): void {
    if (!this.host.contains(document.activeElement)) this.giveBack = keepFocus();
    this.fill(view);
    this.show("panel");
    if (view.focus) view.focus();
    else this.host.querySelector<HTMLElement>("button")?.focus({ preventScroll: true });
  }

  /** Opens a view, or closes it when it is the one that is shown. */
  toggle(name: string, view: () => PanelView): void {
    if (this.shows === name && this.open) this.close();
    else this.put(view());
  }

  /** Back to the people; as a drawer it goes away. */
  close(): void {
    const inside = this.host.contains(document.activeElement) || byId("rooms").contains(document.activeElement);
    const drawer = this.drawer;
    this.show(undefined);
    if (this.view?.name !== "people") this.fill(this.rest());
    if (inside && drawer === "rooms") this.rooms.focus();
    else if (inside) this.giveBack?.();
    this.giveBack = undefined;
  }

  private fill(view: PanelView): void {
    const last = this.view;
    this.view = undefined;
    last?.closed?.();
    this.view = view;
    this.host.classList.toggle("wide", view.wide === true);
    this.app.dataset.panel = view.wide ? "wide" : "";
    this.host.setAttribute("aria-label", view.title);
    const close = iconButton("Close", CLOSE, () => this.close(), "panel-close");
    if (view.name === "people") close.classList.add("not-wide");
    this.host.dataset.view = view.name;
    this.host.replaceChildren(el("div", { class: "side-head" }, el("h2", { text: view.title }), close), view.body);
  }

  private show(drawer: "rooms" | "panel" | undefined): void {
    this.drawer = drawer;
    const narrow = matchMedia(drawer === "rooms" ? "(max-width: 760px)" : "(max-width: 1080px)").matches;
    this.app.dataset.drawer = drawer ?? "";
    this.scrim.hidden = !(drawer && narrow);
    this.rooms.setAttribute("aria-expanded", String(drawer === "rooms"));
    if (drawer === "rooms") byId("rooms").querySelector<HTMLElement>("a, button")?.focus({ preventScroll: true });
  }
}
