import { byId } from "./dom";
import { showHelp } from "./help";

export interface KeyHooks {
  search(): void;
  /** Listens to the show, or stops. */
  listen(): void;
  /** One room up or down in the list. */
  otherRoom(step: number): void;
  toComposer(): void;
  moveBy(step: number): void;
  moveTo(edge: "first" | "last"): void;
}

/** The keys that work anywhere, and those that move among messages. */
export function setUpKeys(hooks: KeyHooks): void {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || document.querySelector("dialog[open]") || byId("app").hidden) return;
    if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      event.preventDefault();
      return hooks.otherRoom(event.key === "ArrowUp" ? -1 : 1);
    }
    if (event.ctrlKey || event.metaKey || event.altKey || writes(event.target)) return;
    if (event.key === "?") showHelp();
    else if (event.key === "/") hooks.search();
    else if (event.key === "s") hooks.listen();
    else return;
    event.preventDefault();
  });
  const log = byId("log");
  log.addEventListener("keydown", (event) => {
    const inside = event.target instanceof Element && event.target.closest(".tools") !== null;
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const steps: Partial<Record<string, number>> = { ArrowUp: -1, ArrowDown: 1, PageUp: -10, PageDown: 10 };
    const step = steps[event.key];
    if (step !== undefined) hooks.moveBy(step);
    else if (event.key === "Home" || event.key === "End") hooks.moveTo(event.key === "Home" ? "first" : "last");
    else if (event.key === "Escape" && !inside) hooks.toComposer();
    else if (event.key === "Escape") (event.target as Element).closest<HTMLElement>("article")?.focus();
    else return;
    event.preventDefault();
  });
}

function writes(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.matches("input, textarea, select, [contenteditable]");
}
