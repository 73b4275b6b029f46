import type { Room } from "../sdk/index";
import { avatar, byId, el } from "./dom";
import { typingText } from "./format";

/** Who is here and who is typing. */
export function showPresence(room: Room | undefined, me: string): void {
  const names = room?.people.present ?? [];
  const total = room?.people.total ?? 0;
  byId("people-total").textContent = total > 0 ? String(total) : "";
  byId("people-count").textContent = total > 0 ? String(total) : "";
  byId("room-sub").replaceChildren(...(room ? subtitle(room, total) : []));
  const first = [...names].sort((a, b) => Number(b === me) - Number(a === me));
  const items = first.map((name) => {
    const item = el("li", {}, avatar(name), el("span", { class: "person", text: name }));
    if (name === me) item.append(el("span", { class: "muted", text: "you" }));
    return item;
  });
  if (total > names.length) items.push(el("li", { class: "more", text: `and ${total - names.length} more` }));
  byId("present").replaceChildren(...items);
}

export function showTyping(room: Room | undefined): void {
  byId("typing").textContent = typingText(room?.people.typing ?? []);
}

function subtitle(room: Room, here: number): (Node | string)[] {
  if (room.state === "joining") return ["Joining…"];
  // Known from the join only, so whoever came since may not be counted yet.
  const members = Math.max(room.members, here);
  return [el("span", { class: "not-narrow", text: `#${room.id} · ` }), `${members === 1 ? "1 member" : `${members} members`} · ${here} here`];
}
