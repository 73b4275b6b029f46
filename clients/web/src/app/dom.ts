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

const SVG = "http://www.w3.org/2000/svg";

/** A line drawing from path data; 20 × 20. */
export function icon(path: string): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

/** A button that is only a drawing; the label is its name and its tooltip. */
export function iconButton(label: string, path: string, click: () => void, testid?: string): HTMLButtonElement {
  const button = el("button", { class: "icon-button", label, title: label, click, ...(testid && { testid }) }, icon(path));
  button.type = "button";
  return button;
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

/**
 * Remembers where the focus is; the result gives it back. A message's node is replaced when the message changes, so one
 * that is gone is looked for by its number. Returns whether that worked.
 */
export function keepFocus(): () => boolean {
  const node = document.activeElement instanceof HTMLElement ? document.activeElement : undefined;
  const seq = node?.closest<HTMLElement>("#log [data-seq]")?.dataset.seq;
  return () => {
    const there = node?.isConnected ? node : seq ? document.querySelector<HTMLElement>(`#log [data-seq="${seq}"]`) : null;
    there?.focus({ preventScroll: true });
    return there !== null && there !== undefined;
  };
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
