/** The element of the page with this id. The page and the program are built together, so a missing one is a mistake. */
export function byId<E extends HTMLElement = HTMLElement>(id: string): E {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element as E;
}

interface Attributes {
  class?: string;
  text?: string;
  testid?: string;
  title?: string;
  label?: string;
  role?: string;
  href?: string;
  click?: () => void;
}

/** A new element. Text only ever enters through `textContent`. */
export function el<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Attributes = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag);
  const { class: classes, text, testid, title, label, role, href, click } = attributes;
  if (classes) element.className = classes;
  if (text !== undefined) element.textContent = text;
  if (testid) element.dataset.testid = testid;
  if (title) element.title = title;
  if (label) element.setAttribute("aria-label", label);
  if (role) element.setAttribute("role", role);
  if (href) element.setAttribute("href", href);
  if (click) element.addEventListener("click", click);
  element.append(...children);
  return element;
}

/** A round picture of a name: its first letter on a colour of its own. */
export function avatar(name: string): HTMLElement {
  const node = el("span", { class: `avatar tint-${tint(name)}`, text: initial(name) });
  node.setAttribute("aria-hidden", "true");
  return node;
}

export function initial(name: string): string {
  return ([...name.trim()][0] ?? "?").toLocaleUpperCase();
}

/** One of eight colours, the same for a name everywhere. */
export function tint(name: string): number {
  let hash = 7;
  for (const char of name) hash = (hash * 31 + (char.codePointAt(0) ?? 0)) >>> 0;
  return hash % 8;
}

/** Runs `action` once per frame at most; in a hidden tab, where there are no frames, shortly after. */
export function coalesce(action: () => void): () => void {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    let done = false;
    const run = () => {
      if (done) return;
      done = true;
      due = false;
      action();
    };
    requestAnimationFrame(run);
    setTimeout(run, 100);
  };
}
