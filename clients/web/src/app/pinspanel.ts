import type { Room } from "../sdk/index";
import { togglePin } from "./deeds";
import { coalesce, el } from "./dom";
import { foundNode } from "./foundview";
import type { PanelView } from "./panel";

/** What is pinned in the room, latest first; it follows what is pinned and unpinned meanwhile. */
export function pinsView(room: Room, me: string, jump: (seq: number) => void): PanelView {
  const list = el("div", { class: "scroll found-list", role: "list", label: "Pinned messages", testid: "pins" });
  const load = coalesce(() => {
    room.listPins().then(
      (pins) => {
        const nodes = pins.map((message) => {
          const unpin = { label: "Unpin", run: () => togglePin(room, { ...message, pinned: true }) };
          return foundNode(message, me, () => jump(message.seq), undefined, room.can("pin") ? unpin : undefined);
        });
        list.replaceChildren(...(nodes.length > 0 ? nodes : [el("p", { class: "empty", text: "Nothing is pinned here." })]));
      },
      (error: unknown) => list.replaceChildren(el("p", { class: "empty", text: error instanceof Error ? error.message : String(error) })),
    );
  });
  load();
  const unlisten = room.on("entry", ({ change }) => {
    if (change?.kind === "pin" || change?.kind === "deletion" || change?.kind === "edit") load();
  });
  return { name: "pins", title: "Pinned", wide: true, body: el("div", { class: "panel-body" }, list), closed: unlisten };
}
