import type { Outgoing, Room } from "../sdk/index";
import { byId, el } from "./dom";

const SHOWN_MS = 6_000;
const SHOWN_MAX = 3;

/** A short notice at the edge of the page. With an action it offers one thing to do. */
export function toast(text: string, kind: "info" | "error" = "info", action?: { label: string; run(): void }): void {
  const host = byId("toasts");
  const node = el("div", { class: `toast ${kind}`, role: kind === "error" ? "alert" : "status", testid: "toast" }, el("span", { text }));
  if (action) {
    node.append(
      el("button", {
        class: "button small",
        text: action.label,
        click: () => {
          node.remove();
          action.run();
        },
      }),
    );
  }
  host.append(node);
  while (host.children.length > SHOWN_MAX) host.firstElementChild?.remove();
  setTimeout(() => node.remove(), SHOWN_MS);
}

export function errorToast(error: unknown): void {
  toast(error instanceof Error ? error.message : String(error), "error");
}

/** A change of a message has no place in the log to show its failure, so it is told, and forgotten. */
export function reportLater(room: Room, outgoing: Outgoing): void {
  outgoing.stored.catch((error: unknown) => {
    room.discard(outgoing.cmid);
    if (room.state !== "gone") errorToast(error);
  });
}
