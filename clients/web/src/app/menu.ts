import { el, keepFocus } from "./dom";

export interface MenuItem {
  label: string;
  run(): void;
  danger?: boolean;
  testid?: string;
}

let closeOpen = () => {};

/** A menu below (or above) the element it belongs to. Arrow keys move in it, Escape closes it and gives the focus back. */
export function openMenu(anchor: HTMLElement, label: string, items: readonly MenuItem[]): void {
  closeOpen();
  const giveBackFocus = keepFocus();
  const menu = el("div", { class: "menu", role: "menu", label });
  const close = (giveBack: boolean) => {
    closeOpen = () => {};
    menu.remove();
    document.removeEventListener("pointerdown", outside, true);
    window.removeEventListener("resize", dismiss);
    if (giveBack && !giveBackFocus() && anchor.isConnected) anchor.focus({ preventScroll: true });
  };
  const dismiss = () => close(false);
  const outside = (event: Event) => {
    if (!menu.contains(event.target as Node)) close(false);
  };
  for (const item of items) {
    const button = el("button", {
      class: item.danger ? "menu-item danger" : "menu-item",
      role: "menuitem",
      text: item.label,
      ...(item.testid && { testid: item.testid }),
      click: () => {
        close(true);
        item.run();
      },
    });
    button.type = "button";
    menu.append(button);
  }
  menu.addEventListener("keydown", (event) => {
    const buttons = [...menu.querySelectorAll("button")];
    const at = buttons.indexOf(document.activeElement as HTMLButtonElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
    if (event.key === "Escape" || event.key === "Tab") {
      event.preventDefault();
      event.stopPropagation();
      close(true);
    } else if (to !== undefined) {
      event.preventDefault();
      event.stopPropagation();
      buttons.at(to % buttons.length)?.focus();
    }
  });
  document.body.append(menu);
  put(menu, anchor);
  document.addEventListener("pointerdown", outside, true);
  window.addEventListener("resize", dismiss);
  closeOpen = dismiss;
  menu.querySelector("button")?.focus({ preventScroll: true });
}

/** Near the anchor and inside the window. */
export function put(node: HTMLElement, anchor: HTMLElement): void {
  const box = anchor.getBoundingClientRect();
  const { width, height } = node.getBoundingClientRect();
  const below = box.bottom + 4 + height <= innerHeight - 8;
  node.style.left = `${Math.max(8, Math.min(box.right - width, innerWidth - width - 8))}px`;
  node.style.top = `${Math.max(8, below ? box.bottom + 4 : box.top - height - 4)}px`;
}
