import type { Client, Membership, Role, Room } from "../sdk/index";
import { avatar, byId, coalesce, el } from "./dom";
import { plural, PRESENCE_NAMES, typingText } from "./format";
import { type MenuItem, openMenu } from "./menu";
import { moderationItems, talkTo } from "./moderation";
import type { PanelView } from "./panel";

const PAGES_MAX = 5;
const SHOWN_ROLES: Partial<Record<Role, string>> = { owner: "owner", admin: "admin", moderator: "mod", guest: "guest" };

export interface PeopleHooks {
  room(): Room | undefined;
  go(room: string): void;
  mention(user: string): void;
}

type Filter = "here" | "all" | "muted" | "banned";

/** Who is here, who belongs here, in which role, and what may be done about it. */
export class PeoplePanel {
  private readonly list = el("ul", { class: "present scroll", testid: "present-list" });
  private readonly filter = el("select", { class: "people-filter", label: "Which people", testid: "people-filter" });
  private readonly total = el("span", { class: "muted" });
  private readonly body: HTMLElement;
  private members = new Map<string, Membership>();
  private loads = 0;
  readonly update = coalesce(() => this.draw());
  readonly reload = coalesce(() => void this.load());

  constructor(
    private readonly client: Client,
    private readonly hooks: PeopleHooks,
  ) {
    this.filter.onchange = () => this.reload();
    this.body = el("div", { class: "panel-body" }, el("div", { class: "people-head" }, this.filter, this.total), this.list);
  }

  view(): PanelView {
    return { name: "people", title: "People", body: this.body };
  }

  /** Another room, or another role in it. */
  open(): void {
    this.members = new Map();
    const staff = this.hooks.room()?.can("moderate") ?? false;
    const options: [Filter, string][] = [["here", "Here now"], ["all", "All members"], ...(staff ? ([["muted", "Muted"], ["banned", "Banned"]] as [Filter, string][]) : [])];
    const kept = options.some(([value]) => value === this.filter.value) ? this.filter.value : "here";
    this.filter.replaceChildren(...options.map(([value, label]) => new Option(label, value, false, value === kept)));
    this.update();
    this.reload();
  }

  private async load(): Promise<void> {
    const room = this.hooks.room();
    const mine = ++this.loads;
    if (!room || room.state !== "live") return;
    const wanted = this.filter.value as Filter;
    const members = new Map<string, Membership>();
    try {
      for (let after = "", page = 0; page < PAGES_MAX; page++) {
        const answer = await room.listMembers({ after, limit: 100, ...(wanted !== "here" && wanted !== "all" && { filter: wanted }) });
        for (const member of answer.members) members.set(member.user, member);
        after = answer.next;
        if (after === "") break;
      }
      if (mine !== this.loads || this.hooks.room() !== room) return;
      this.members = members;
    } catch {
      // Who is here is known without it; roles come with the next change.
    }
    this.update();
  }

  private draw(): void {
    const room = this.hooks.room();
    const wanted = (this.filter.value || "here") as Filter;
    const here = room?.people.present ?? [];
    const count = room?.people.total ?? 0;
    byId("people-count").textContent = count > 0 ? String(count) : "";
    const names = wanted === "here" ? [...here] : [...this.members.keys()];
    const { me } = this.client;
    names.sort((a, b) => Number(b === me) - Number(a === me) || Number(room?.people.has(b)) - Number(room?.people.has(a)) || a.localeCompare(b));
    const total = wanted === "here" ? count : names.length;
    this.total.textContent = total > 0 ? String(total) : "";
    const items = names.map((name) => this.person(room, name));
    if (wanted === "here" && count > here.length) items.push(el("li", { class: "more", text: `and ${count - here.length} more` }));
    if (items.length === 0) items.push(el("li", { class: "more", text: "Nobody." }));
    const focused = this.list.querySelector<HTMLElement>("button:focus")?.dataset.user;
    this.list.replaceChildren(...items);
    if (focused) this.list.querySelector<HTMLElement>(`button[data-user="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }

  private person(room: Room | undefined, name: string): HTMLElement {
    const member = this.members.get(name);
    const present = room?.people.has(name) ?? false;
    const { state, text } = room?.people.status(name) ?? { state: "online" as const, text: "" };
    const picture = avatar(name);
    picture.append(el("i", { class: `dot ${present ? state : "absent"}` }));
    const lines = el("span", { class: "person-lines" }, el("span", { class: "person", text: name }));
    if (text !== "") lines.append(el("small", { class: "muted person-text", text }));
    const button = el("button", { class: present ? "person-button" : "person-button absent", testid: "person" }, picture, lines);
    button.type = "button";
    button.dataset.user = name;
    const tags = [name === this.client.me ? "you" : "", SHOWN_ROLES[member?.role ?? "member"] ?? "", (member?.mutedUntilMs ?? 0) > Date.now() ? "muted" : "", (member?.bannedUntilMs ?? 0) > Date.now() ? "banned" : ""];
    for (const tag of tags) if (tag !== "") button.append(el("span", { class: `tag ${tag}`, text: tag }));
    button.setAttribute("aria-label", [name, present ? PRESENCE_NAMES[state] : "not here", text, ...tags].filter(Boolean).join(", "));
    button.onclick = () => this.menu(button, room, name, member);
    return el("li", {}, button);
  }

  private menu(button: HTMLElement, room: Room | undefined, name: string, member: Membership | undefined): void {
    if (!room) return;
    const { me } = this.client;
    const items: MenuItem[] = [];
    if (name !== me) {
      items.push({ label: "Message directly", testid: "person-direct", run: () => void talkTo(this.client, name, this.hooks.go) });
      items.push({ label: "Mention", run: () => this.hooks.mention(name) });
    }
    items.push(...moderationItems(room, name, member, me, () => this.reload()));
    if (items.length === 0) items.push({ label: "This is you", run: () => {} });
    openMenu(button, name, items);
  }
}

/** Below the room's title. */
export function showSubtitle(room: Room | undefined): void {
  const host = byId("room-sub");
  if (!room) return host.replaceChildren();
  if (room.state === "joining") return host.replaceChildren("Joining…");
  if (room.state === "gone") return;
  // Known from the last change only, so whoever came since may not be counted yet.
  const members = Math.max(room.members, room.people.total);
  const counts = `${plural(members, "member")} · ${room.people.total} here`;
  const slow = room.info?.settings.slowModeSeconds ?? 0;
  const more = [room.info?.topic, room.info?.archived ? "archived" : "", slow > 0 ? `slow mode ${slow} s` : ""].filter(Boolean).map((text) => ` · ${text}`);
  host.replaceChildren(el("span", { class: "not-narrow", text: room.info?.kind === "direct" ? "" : `#${room.id} · ` }), counts, ...more);
  host.title = room.info?.topic ?? "";
}

export function showTyping(room: Room | undefined): void {
  byId("typing").textContent = typingText(room?.people.typing ?? []);
}
