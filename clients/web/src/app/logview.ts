import { isText, type Message, type Room } from "../sdk/index";
import { byId, coalesce, el } from "./dom";
import { buildMessage, type MessageHooks } from "./messagenode";
import { Quotes } from "./quotes";
import { buildRows, fateText, guessHeight, type Row } from "./rows";
import { type Anchor, clamp, Heights, layOut, type Layout, type Range, rowAt, rowsIn, scrollFor } from "./virtual";

/** So close to the end the reader follows what comes. Pixels. */
const PINNED_PX = 80;
/** So close to an edge the next page is fetched. Pixels. */
const EDGE_PX = 2_400;
/** Rows this far out of sight are in the page too. Pixels. */
const OVERSCAN_PX = 700;
/** Measuring changes the layout, which may bring other rows in sight; this often at most per frame. */
const TURNS_MAX = 4;
/** A message that was jumped to stands out for so long. Milliseconds. */
const FLASH_MS = 2_000;
const PIXELS_PER_CHAR = 7.4;

interface View {
  /** How far the room was read before, until the first messages are here. */
  before: number | undefined;
  /** The mark stands behind this one. */
  markSeq: number | undefined;
  /** The newest one the reader has had before their eyes. */
  seenSeq: number | undefined;
}

export interface LogViewHooks extends Omit<MessageHooks, "retry" | "discard"> {
  /** The reader has everything up to `seq` before their eyes. */
  read(room: Room, seq: number): void;
  /** Messages that wait below what is in sight. */
  waiting(room: Room): number;
}

/**
 * The conversation: a window onto the loaded part of the room that keeps its place while things change around it. Only
 * rows near what is in sight are in the page; two spacers stand for the others.
 */
export class LogView {
  private readonly log = byId("log");
  private readonly jump = byId("jump");
  private readonly jumpText = byId("jump-text");
  private readonly above = el("div", { class: "space" });
  private readonly below = el("div", { class: "space" });
  private readonly nodes = new Map<string, { node: HTMLElement; signature: string }>();
  private readonly heights = new Heights();
  private rows: readonly Row[] = [];
  private places = new Map<string, number>();
  private layout: Layout = layOut([], () => 0);
  private range: Range = { from: 0, to: 0 };
  private room: Room | undefined;
  private quotes: Quotes | undefined;
  private view = newView(undefined);
  private pinned = true;
  private anchor: Anchor | undefined;
  private flashing: string | undefined;
  private unlisten: (() => void)[] = [];
  private readonly render = coalesce(() => this.draw());

  constructor(private readonly hooks: LogViewHooks) {
    this.log.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.jump.addEventListener("click", () => void this.toNewest());
    document.addEventListener("visibilitychange", () => this.render());
    window.addEventListener("focus", () => this.render());
    let width = this.log.clientWidth;
    new ResizeObserver(() => {
      if (this.log.clientWidth !== width) this.heights.clear();
      width = this.log.clientWidth;
      this.place();
    }).observe(this.log);
  }

  /** Shows a room. `readSeq`: what was read before, if that is known. */
  show(room: Room | undefined, readSeq: number | undefined): void {
    for (const end of this.unlisten) end();
    this.room = room;
    this.quotes = room && new Quotes(room, this.hooks.me, this.render);
    this.view = newView(readSeq);
    this.pinned = true;
    this.anchor = this.flashing = undefined;
    this.nodes.clear();
    this.heights.clear();
    this.log.replaceChildren(this.above, this.below);
    this.unlisten = room ? [room.on("timeline", () => this.changed()), room.on("receipts", () => this.render()), room.on("gap", () => (this.pinned = true)), () => this.quotes?.stop()] : [];
    if (!room) return;
    room.following = true;
    if (room.hasNewer) void room.loadNewest().catch(() => undefined);
    else if (room.messages.length < 50 && room.hasOlder) void room.loadOlder().catch(() => undefined);
    this.draw();
  }

  /** Back to the end, and what is there is no longer new: the reader has answered. */
  async toNewest(clearMark = false): Promise<void> {
    if (clearMark) this.view.markSeq = undefined;
    await this.room?.loadNewest().catch(() => undefined);
    this.pinned = true;
    this.draw();
  }

  /** Brings a message in sight. Resolves to whether it stands in the room. */
  async jumpTo(seq: number, focus = true): Promise<boolean> {
    const { room } = this;
    if (!room || !(await room.loadAround(seq)) || this.room !== room) return false;
    this.pinned = false;
    this.draw();
    const row = this.rows.find((one) => (one.kind === "message" || one.kind === "note") && one.seq === seq);
    if (!row) return false;
    this.anchor = { key: row.key, offset: this.log.clientHeight / 3 };
    this.flashing = row.key;
    this.place();
    const node = this.nodes.get(row.key)?.node;
    node?.classList.add("flash");
    if (focus) node?.focus({ preventScroll: true });
    setTimeout(() => {
      if (this.flashing === row.key) this.flashing = undefined;
      this.nodes.get(row.key)?.node.classList.remove("flash");
    }, FLASH_MS);
    return true;
  }

  /** Brings the first message behind `seq` in sight, whatever stands at `seq` itself. */
  async jumpBehind(seq: number): Promise<boolean> {
    await this.room?.loadAround(seq);
    const next = this.room?.messages.find((message) => message.seq > seq && isText(message));
    return next !== undefined && this.jumpTo(next.seq);
  }

  /** Moves the focus among messages: by `step` from the one that has it, or to the last one in sight. */
  focusBy(step: number): void {
    const focused = this.log.querySelector<HTMLElement>("article:focus-within");
    const key = [...this.nodes].find(([, { node }]) => node === focused)?.[0];
    let at = key === undefined ? undefined : this.places.get(key);
    if (at === undefined) {
      at = rowAt(this.layout, this.log.scrollTop + this.log.clientHeight - 1) + 1;
      step = -1;
    }
    const direction = Math.sign(step);
    for (let left = Math.abs(step), to = at + direction; to >= 0 && to < this.rows.length; to += direction) {
      const row = this.rows[to];
      if (row?.kind !== "message") continue;
      left -= 1;
      at = to;
      if (left <= 0) break;
    }
    this.focusRow(at);
  }

  /** The first or the last loaded message. */
  focusEdge(edge: "first" | "last"): void {
    const at = edge === "first" ? this.rows.findIndex(({ kind }) => kind === "message") : this.rows.findLastIndex(({ kind }) => kind === "message");
    this.focusRow(at);
  }

  focusSeq(seq: number): void {
    this.log.querySelector<HTMLElement>(`[data-seq="${seq}"]`)?.focus({ preventScroll: true });
  }

  /** How many message nodes the page holds. */
  get rendered(): number {
    return this.log.querySelectorAll("[data-testid=message]").length;
  }

  /** Whether the end of the log is in sight. */
  get atEnd(): boolean {
    return this.pinned;
  }

  private focusRow(at: number): void {
    const row = this.rows[at];
    if (!row) return;
    const top = this.layout.tops[at] ?? 0;
    const bottom = this.layout.tops[at + 1] ?? top;
    const { scrollTop, clientHeight } = this.log;
    const margin = 24;
    if (top - margin < scrollTop) this.scrollKeeping(row.key, margin);
    else if (bottom + margin > scrollTop + clientHeight) this.scrollKeeping(row.key, Math.max(margin, clientHeight - (bottom - top) - margin));
    this.nodes.get(row.key)?.node.focus({ preventScroll: true });
  }

  private scrollKeeping(key: string, offset: number): void {
    this.pinned = false;
    this.anchor = { key, offset };
    this.place();
  }

  private changed(): void {
    const room = this.room;
    if (!room) return;
    const { view } = this;
    const unseen = document.visibilityState === "hidden" || !this.pinned;
    if (unseen && view.seenSeq !== undefined && view.seenSeq < lastSeq(room)) view.markSeq = Math.max(view.seenSeq, view.markSeq ?? 0);
    this.render();
  }

  private scrolled(): void {
    const room = this.room;
    if (!room) return;
    const { scrollTop, clientHeight } = this.log;
    this.pinned = this.layout.total - clientHeight - scrollTop < PINNED_PX && !room.hasNewer;
    room.following = this.pinned;
    this.anchor = this.pinned ? undefined : this.anchorAt(scrollTop);
    const covered = (this.layout.tops[this.range.from] ?? 0) <= Math.max(0, scrollTop - OVERSCAN_PX / 3) && (this.layout.tops[this.range.to] ?? 0) >= Math.min(this.layout.total, scrollTop + clientHeight + OVERSCAN_PX / 3);
    if (!covered) this.place();
    else this.reachOut(room);
    this.updateJump(room);
    if (this.pinned) this.reportRead(room);
  }

  /** Near an edge, what lies behind it is fetched. */
  private reachOut(room: Room): void {
    const { scrollTop, clientHeight } = this.log;
    // The rows in front of them say why they are there: they end when nothing more comes.
    if (scrollTop < EDGE_PX && room.hasOlder && room.messages.length > 0) void room.loadOlder().catch(() => undefined);
    if (this.layout.total - clientHeight - scrollTop < EDGE_PX && room.hasNewer) void room.loadNewer().catch(() => undefined);
  }

  private draw(): void {
    const room = this.room;
    if (!room) return;
    const { view } = this;
    if (view.before !== undefined && room.messages.length > 0) {
      if (view.before < lastSeq(room)) view.markSeq = view.before;
      view.before = undefined;
    }
    const me = this.hooks.me();
    const pending = room.pending.filter(({ draft }) => draft.kind !== "message" || draft.thread === 0);
    this.rows = buildRows({
      messages: room.messages,
      pending,
      me,
      readSeq: view.markSeq,
      hasOlder: room.hasOlder,
      hasNewer: room.hasNewer,
      nowMs: Date.now(),
      quoted: (seq) => this.quotes?.get(seq),
      fate: (seq) => fateText(seq, me, room.people.receipts),
    });
    this.places = new Map(this.rows.map(({ key }, at) => [key, at]));
    this.heights.keepOnly(this.places);
    this.place();
    this.updateJump(room);
    if (this.pinned) this.reportRead(room);
  }

  /** Puts the rows near what is in sight into the page, and what is in sight where it was. */
  private place(): void {
    const { room, log } = this;
    if (!room) return;
    const visible = log.clientHeight;
    let top = log.scrollTop;
    for (let turn = 0; turn < TURNS_MAX; turn++) {
      const charsPerLine = Math.max(20, Math.min(600, log.clientWidth * 0.8) / PIXELS_PER_CHAR);
      this.layout = layOut(this.rows, (row) => this.heights.of(row.key, () => guessHeight(row, charsPerLine)));
      const { total, tops } = this.layout;
      const wanted = this.pinned ? total - visible : (this.anchor && scrollFor(this.layout, this.places.get(this.anchor.key), this.anchor)) ?? top;
      top = clamp(wanted, 0, Math.max(0, total - visible));
      this.range = rowsIn(this.layout, top - OVERSCAN_PX, top + visible + OVERSCAN_PX);
      this.reconcile(this.rows.slice(this.range.from, this.range.to));
      this.above.style.height = `${tops[this.range.from] ?? 0}px`;
      this.below.style.height = `${total - (tops[this.range.to] ?? total)}px`;
      if (!this.measure()) break;
    }
    if (Math.abs(log.scrollTop - top) > 0.5) log.scrollTop = top;
    if (!this.pinned) this.anchor ??= this.anchorAt(top);
    this.reachOut(room);
  }

  /** Returns whether a row is not as high as was thought. */
  private measure(): boolean {
    let news = false;
    for (const [key, { node }] of this.nodes) if (this.heights.measure(key, node.getBoundingClientRect().height)) news = true;
    return news;
  }

  /** The first message in sight: what must not move while things change above or below it. */
  private anchorAt(scrollTop: number): Anchor | undefined {
    for (let at = Math.max(0, rowAt(this.layout, scrollTop)); at < this.rows.length; at++) {
      const row = this.rows[at];
      if (row?.kind === "message" || row?.kind === "note") return { key: row.key, offset: (this.layout.tops[at] ?? 0) - scrollTop };
    }
    return undefined;
  }

  private reportRead(room: Room): void {
    if (document.visibilityState !== "visible" || !document.hasFocus() || room.messages.length === 0) return;
    this.view.seenSeq = lastSeq(room);
    this.hooks.read(room, Math.max(room.head, lastSeq(room)));
  }

  private updateJump(room: Room): void {
    this.jump.hidden = this.pinned;
    const fresh = this.pinned ? 0 : this.hooks.waiting(room);
    this.jumpText.textContent = fresh > 0 ? `${fresh} new` : "Newest";
  }

  /** Makes the nodes fit the rows; a row whose content did not change keeps its node. */
  private reconcile(rows: readonly Row[]): void {
    const wanted = new Set(rows.map(({ key }) => key));
    for (const [key, { node }] of this.nodes) {
      if (wanted.has(key)) continue;
      // Who stood there goes on from the list itself.
      if (node.contains(document.activeElement)) this.log.focus({ preventScroll: true });
      node.remove();
      this.nodes.delete(key);
    }
    let at = this.above.nextElementSibling;
    for (const row of rows) {
      const signature = JSON.stringify(row);
      let known = this.nodes.get(row.key);
      if (known?.signature !== signature) {
        const node = this.build(row);
        if (at !== null && at === known?.node) at = node;
        if (known) swap(known.node, node);
        known = { node, signature };
        this.nodes.set(row.key, known);
      }
      if (known.node === at) at = at.nextElementSibling;
      else this.log.insertBefore(known.node, at);
    }
  }

  private build(row: Row): HTMLElement {
    const room = this.room;
    switch (row.kind) {
      case "day":
        return el("div", { class: "day", role: "separator", label: row.label }, el("span", { text: row.label }));
      case "new":
        return el("div", { class: "new", role: "separator", label: "New messages", testid: "new-marker" }, el("span", { text: "New" }));
      case "note":
        return noteNode(row);
      case "top":
        return el("div", { class: "top", text: row.loading ? "Loading earlier messages…" : "This is where the room begins." });
      case "bottom":
        return el("div", { class: "top", text: "Loading later messages…" });
      case "message": {
        const node = buildMessage(row, { ...this.hooks, retry: (cmid) => room?.retry(cmid), discard: (cmid) => room?.discard(cmid) });
        if (row.key === this.flashing) node.classList.add("flash");
        return node;
      }
    }
  }
}

/** Whoever stood on the old node, or on one of its parts, stands on the new one. */
function swap(old: HTMLElement, node: HTMLElement): void {
  const focused = old.contains(document.activeElement);
  old.replaceWith(node);
  if (focused) node.focus({ preventScroll: true });
}

function noteNode({ text, seq }: Extract<Row, { kind: "note" }>): HTMLElement {
  const node = el("div", { class: "note-line", testid: "note" }, el("span", { text }));
  node.dataset.note = String(seq);
  return node;
}

function newView(before: number | undefined): View {
  return { before, markSeq: undefined, seenSeq: undefined };
}

function lastSeq(room: Room): number {
  return (room.messages.findLast((message: Message) => isText(message)) ?? room.messages.at(-1))?.seq ?? 0;
}
