import type { Client, RoomInfo } from "../sdk/index";
import { byId, coalesce, el } from "./dom";
import { errorToast } from "./toasts";

/** Rooms of ours that are followed in the background, for their unread counts. */
const FOLLOWED_MAX = 30;
const REFRESH_MS = 30_000;

export interface RoomListHooks {
  active(): string | undefined;
  unread(room: RoomInfo): number;
}

/** The list at the side: the rooms we are members of, or all there are. */
export class RoomList {
  private readonly list = byId<HTMLUListElement>("room-list");
  private readonly tabs = { mine: byId("tab-mine"), all: byId("tab-all") };
  private tab: "mine" | "all" = "mine";
  private mine: RoomInfo[] = [];
  private all: RoomInfo[] = [];
  readonly render = coalesce(() => this.draw());

  constructor(
    private readonly client: Client,
    private readonly hooks: RoomListHooks,
  ) {
    this.tabs.mine.onclick = () => this.choose("mine");
    this.tabs.all.onclick = () => this.choose("all");
    client.on("rooms", () => void this.refresh());
    client.on("welcome", () => void this.refresh());
    setInterval(() => {
      if (document.visibilityState === "visible" && client.status.state === "online") void this.refresh();
    }, REFRESH_MS);
  }

  async refresh(): Promise<void> {
    try {
      this.mine = await this.load(true);
      if (this.tab === "all") this.all = await this.load(false);
      this.render();
      await this.follow();
    } catch (error) {
      if (this.client.status.state === "online") errorToast(error);
    }
  }

  private choose(tab: "mine" | "all"): void {
    this.tab = tab;
    for (const [name, button] of Object.entries(this.tabs)) button.setAttribute("aria-pressed", String(name === tab));
    this.render();
    void this.refresh();
  }

  private async load(mine: boolean): Promise<RoomInfo[]> {
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

  private draw(): void {
    const members = new Set(this.mine.map(({ id }) => id));
    const rooms = this.tab === "mine" ? this.mine : this.all;
    const active = this.hooks.active();
    let unreadElsewhere = false;
    const items = rooms.map((room) => {
      const unread = room.id === active ? 0 : this.hooks.unread(room);
      if (unread > 0) unreadElsewhere = true;
      const link = el(
        "a",
        { class: "room", href: `#/room/${room.id}` },
        el("span", { class: "hash", text: "#" }),
        el("span", { class: "room-name", text: room.title }),
      );
      link.dataset.room = room.id;
      if (room.id === active) link.setAttribute("aria-current", "page");
      if (unread > 0) {
        link.append(el("span", { class: "badge", text: unread > 99 ? "99+" : String(unread), label: `${unread} unread` }));
        link.classList.add("unread");
      } else if (!members.has(room.id)) {
        link.append(el("span", { class: "join", text: "Join" }));
      }
      return el("li", {}, link);
    });
    if (items.length === 0) {
      items.push(el("li", { class: "empty", text: this.tab === "mine" ? "You are in no room yet. Look under All." : "No rooms yet." }));
    }
    this.list.replaceChildren(...items);
    byId("unread-dot").hidden = !unreadElsewhere;
  }
}
