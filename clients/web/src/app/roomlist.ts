import type { Client, RoomInfo } from "../sdk/index";
import { byId, coalesce, el } from "./dom";
import { KIND_ICONS, plural, roomName } from "./format";
import { routeTo } from "./route";
import { errorToast } from "./toasts";

/** Rooms of ours that are followed in the background, for their unread counts. */
const FOLLOWED_MAX = 30;
const REFRESH_MS = 30_000;

/** The list at the side: the rooms we are members of, or all there are. */
export class RoomList {
  private readonly list = byId<HTMLUListElement>("room-list");
  private readonly tabs = { mine: byId("tab-mine"), all: byId("tab-all"), live: byId("tab-live") };
  private tab: keyof RoomList["tabs"] = "mine";
  private mine: RoomInfo[] = [];
  private all: RoomInfo[] = [];
  private refreshing = false;
  private again = false;
  readonly render = coalesce(() => this.draw());

  constructor(
    private readonly client: Client,
    private readonly active: () => string | undefined,
    /** The list of shows comes in sight. */
    private readonly live: () => void,
  ) {
    this.tabs.mine.onclick = () => this.choose("mine");
    this.tabs.all.onclick = () => this.choose("all");
    this.tabs.live.onclick = () => this.choose("live");
    client.on("rooms", () => void this.refresh());
    client.on("welcome", () => void this.refresh());
    client.on("unread", this.render);
    setInterval(() => {
      if (document.visibilityState === "visible" && client.status.state === "online") void this.refresh();
    }, REFRESH_MS);
  }

  /** Asks for everything anew. What is asked meanwhile is asked once, behind it. */
  async refresh(): Promise<void> {
    if (this.refreshing) return void (this.again = true);
    this.refreshing = true;
    try {
      do {
        this.again = false;
        await this.load();
      } while (this.again);
    } finally {
      this.refreshing = false;
    }
  }

  private async load(): Promise<void> {
    try {
      this.mine = await this.pages(true);
      if (this.tab === "all") this.all = await this.pages(false);
      this.render();
      await this.client.refreshUnread();
      await this.follow();
    } catch (error) {
      if (this.client.status.state === "online") errorToast(error);
    }
  }

  /** The room `step` places below the one that is shown. */
  beside(step: number): string | undefined {
    const ids = this.ordered().map(({ id }) => id);
    const at = ids.indexOf(this.active() ?? "");
    return ids[(at + step + ids.length) % Math.max(1, ids.length)];
  }

  /** Shows the list of this name. */
  choose(tab: keyof RoomList["tabs"]): void {
    this.tab = tab;
    for (const [name, button] of Object.entries(this.tabs)) button.setAttribute("aria-pressed", String(name === tab));
    this.list.hidden = tab === "live";
    for (const id of ["live-list", "go-live"]) byId(id).hidden = tab !== "live";
    if (tab === "live") return this.live();
    this.render();
    void this.refresh();
  }

  private async pages(mine: boolean): Promise<RoomInfo[]> {
    const rooms: RoomInfo[] = [];
    // A few pages at most: a side bar is no directory.
    for (let after = "", page = 0; page < 3; page++) {
      const answer = await this.client.listRooms({ mine, after, limit: 100 });
      rooms.push(...answer.rooms);
      after = answer.next;
      if (after === "") break;
    }
    return rooms;
  }

  private async follow(): Promise<void> {
    for (const { id } of this.mine.slice(0, FOLLOWED_MAX)) {
      if (!this.client.rooms.has(id)) await this.client.join(id).catch(() => undefined);
    }
  }

  /** Rooms first, then people. */
  private ordered(): RoomInfo[] {
    const rooms = this.tab === "all" ? this.all : this.mine;
    return [...rooms].sort((a, b) => Number(a.kind === "direct") - Number(b.kind === "direct"));
  }

  private draw(): void {
    const members = new Set(this.mine.map(({ id }) => id));
    const active = this.active();
    let unreadElsewhere = false;
    const focused = this.list.querySelector<HTMLElement>("a:focus")?.dataset.room;
    const items = this.ordered().map((room) => {
      const live = this.client.rooms.get(room.id)?.info ?? room;
      const count = this.client.unread.of(room.id);
      const unread = count?.unread ?? 0;
      if (unread > 0 && room.id !== active) unreadElsewhere = true;
      const link = el(
        "a",
        { class: "room", href: routeTo({ room: room.id }) },
        el("span", { class: "hash", text: KIND_ICONS[live.kind] }),
        el("span", { class: "room-name", text: roomName(live, this.client.me) }),
      );
      link.dataset.room = room.id;
      if (room.id === active) link.setAttribute("aria-current", "page");
      const hidden = room.id === active && document.hasFocus();
      if (unread > 0 && !hidden) {
        link.classList.add("unread");
        const mentions = count?.mentions ?? 0;
        if (mentions > 0) link.append(el("span", { class: "badge mentions", text: "@", role: "img", label: plural(mentions, "mention"), testid: "mention-badge" }));
        link.append(el("span", { class: "badge", text: unread > 99 ? "99+" : String(unread), role: "img", label: `${unread} unread`, testid: "unread-badge" }));
      } else if (!members.has(room.id)) {
        link.append(el("span", { class: "join", text: "Join" }));
      }
      return el("li", {}, link);
    });
    if (items.length === 0) {
      items.push(el("li", { class: "empty", text: this.tab === "all" ? "No rooms yet." : "You are in no room yet. Look under All." }));
    }
    this.list.replaceChildren(...items);
    if (focused) this.list.querySelector<HTMLElement>(`a[data-room="${focused}"]`)?.focus({ preventScroll: true });
    byId("unread-dot").hidden = !unreadElsewhere;
  }
}
