import type { AuditEntry, Room } from "../sdk/index";
import { el } from "./dom";
import { moment, span } from "./format";
import type { PanelView } from "./panel";

const DONE: Record<string, string> = {
  delete: "deleted a message",
  pin: "pinned a message",
  unpin: "unpinned a message",
  update_room: "changed the room",
  set_role: "changed the role of",
  mute: "muted",
  unmute: "unmuted",
  kick: "removed",
  ban: "banned",
  unban: "lifted the ban of",
  invite: "invited",
  revoke_invite: "took back an invitation",
  expire: "removed old messages",
};

/** What was done, to whom and how, as a sentence behind the name of who did it. */
export function auditText({ action, user, detail }: Pick<AuditEntry, "action" | "user" | "detail">): string {
  const done = DONE[action] ?? action.replaceAll("_", " ");
  const whom = user ? `${action === "delete" || action.endsWith("pin") ? " of" : ""} ${user}` : "";
  const how = detail.replace(/\b(\d+) s\b/g, (_, seconds: string) => (seconds === "0" ? "off" : span(Number(seconds))));
  return `${done}${whom}${how ? `: ${how}` : ""}`;
}

/** What was decided in the room, newest first. */
export function auditView(room: Room, jump: (seq: number) => void): PanelView {
  const list = el("ul", { class: "scroll audit", testid: "audit" });
  const more = el("button", { class: "button quiet", text: "Earlier entries" });
  const status = el("p", { class: "note", role: "status" });
  const load = async (before: number) => {
    more.hidden = true;
    try {
      const { entries, next } = await room.listAudit(before);
      for (const entry of entries) {
        const { atMs, actor, seq, reason } = entry;
        const item = el("li", {}, el("span", { class: "muted", text: moment(atMs, Date.now()) }), el("div", {}, el("b", { text: actor }), ` ${auditText(entry)}`));
        if (reason) item.append(el("div", { class: "muted", text: `“${reason}”` }));
        if (seq > 0) item.append(el("button", { class: "link-button", text: `message ${seq}`, click: () => jump(seq) }));
        list.append(item);
      }
      more.hidden = next === 0;
      more.onclick = () => void load(next);
      status.textContent = list.childElementCount === 0 ? "Nothing was decided yet." : "";
    } catch (error) {
      status.textContent = error instanceof Error ? error.message : String(error);
    }
  };
  void load(0);
  return { name: "audit", title: "Audit log", wide: true, body: el("div", { class: "panel-body" }, status, list, more) };
}
