import { byId } from "./dom";

type Side = "rooms" | "people";

/** On narrow screens the columns at the sides become drawers over the conversation. */
export function setUpDrawers(): { close(): void } {
  const scrim = byId("scrim");
  const app = byId("app");
  let opened: Side | undefined;
  const openers: Record<Side, HTMLElement> = { rooms: byId("open-rooms"), people: byId("open-people") };

  const show = (side: Side | undefined) => {
    const previous = opened;
    opened = side;
    app.dataset.drawer = side ?? "";
    scrim.hidden = side === undefined;
    for (const [name, button] of Object.entries(openers)) button.setAttribute("aria-expanded", String(name === side));
    if (side) byId(side).querySelector<HTMLElement>("a, button")?.focus({ preventScroll: true });
    else if (previous && document.activeElement && byId(previous).contains(document.activeElement)) openers[previous].focus();
  };
  openers.rooms.onclick = () => show(opened === "rooms" ? undefined : "rooms");
  openers.people.onclick = () => show(opened === "people" ? undefined : "people");
  byId("close-people").onclick = () => show(undefined);
  scrim.onclick = () => show(undefined);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && opened) show(undefined);
  });
  return { close: () => show(undefined) };
}
