import type { Room } from "../sdk/index";
import { avatar, byId, coalesce, el } from "./dom";
import { clockTime, fullTime, linkPieces } from "./format";
import { buildRows, type MessageRow, type Row, Span } from "./rows";

/** So close to the end the reader follows what comes. Pixels. */
const PINNED_PX = 80;
/** So close to an edge the next stretch is fetched. Pixels. */
const EDGE_PX = 600;

interface View {
  span: Span;
  /** How far the room was read before, until the first messages are here. */
  before: number | undefined;
  /** The mark stands behind this one. */
  markSeq: number | undefined;
  /** The newest one the reader has had before their eyes. */
  seenSeq: number | undefined;
}

export interface LogViewHooks {
  /** The reader has everything up to `seq` before their eyes. */
  read(room: Room, seq: number): void;
}

/** The conversation: a window onto the loaded part of the room's log that keeps its place while things change around it. */
export class LogView {
  private readonly log = byId("log");
  private readonly jump = byId("jump");
  private readonly jumpText = byId("jump-text");
  private readonly nodes = new Map<string, { node: HTMLElement; signature: string }>();
  private room: Room | undefined;
  private view = newView(undefined);
  private pinned = true;
  private unlisten: (() => void)[] = [];
  private readonly render = coalesce(() => this.draw());

  constructor(
    private readonly me: () => string,
    private readonly hooks: LogViewHooks,
  ) {
    this.log.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.jump.addEventListener("click", () => this.toNewest());
    document.addEventListener("visibilitychange", () => this.render());
    new ResizeObserver(() => {
      if (this.pinned) this.log.scrollTop = this.log.scrollHeight;
    }).observe(this.log);
  }

  /** Shows a room. `readSeq`: what was read before, if that is known. */
  show(room: Room | undefined, readSeq: number | undefined): void {
    for (const end of this.unlisten) end();
    this.room = room;
    this.view = newView(readSeq);
    this.pinned = true;
    this.nodes.clear();
    this.log.replaceChildren();
    this.unlisten = room ? [room.on("timeline", () => this.changed()), room.on("gap", () => this.view.span.toEnd())] : [];
    if (!room) return;
    if (room.messages.length < 50 && room.hasOlder) void room.loadOlder().catch(() => undefined);
    this.draw();
  }

  /** Back to the end, and what is there is no longer new: the reader has answered. */
  toNewest(clearMark = false): void {
    if (clearMark) this.view.markSeq = undefined;
    this.view.span.toEnd();
    this.pinned = true;
    this.draw();
  }

  /** How many message nodes the page holds. */
  get rendered(): number {
    return this.log.querySelectorAll("[data-testid=message]").length;
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
    const { scrollTop, scrollHeight, clientHeight } = this.log;
    const below = scrollHeight - clientHeight - scrollTop;
    this.pinned = below < PINNED_PX && this.view.span.followsEnd;
    if (below < EDGE_PX && this.view.span.growDown(room.messages)) this.draw();
    else if (scrollTop < EDGE_PX && !this.pinned) this.reachUp(room);
    this.updateJump(room);
    if (this.pinned) this.reportRead(room);
  }

  private reachUp(room: Room): void {
    if (this.view.span.growUp(room.messages)) return this.draw();
    if (room.hasOlder) void room.loadOlder().catch(() => undefined);
  }

  private draw(): void {
    const room = this.room;
    if (!room) return;
    const { view } = this;
    if (view.before !== undefined && room.messages.length > 0) {
      if (view.before < lastSeq(room)) view.markSeq = view.before;
      view.before = undefined;
    }
    const anchor = this.pinned ? undefined : this.findAnchor();
    const { from, to } = view.span.range(room.messages);
    const rows = buildRows({
      messages: room.messages,
      from,
      to,
      pending: room.pending,
      me: this.me(),
      readSeq: view.markSeq,
      hasOlder: room.hasOlder,
      nowMs: Date.now(),
    });
    this.reconcile(rows);
    const anchored = anchor && this.log.querySelector<HTMLElement>(`[data-seq="${anchor.seq}"]`);
    if (anchor && anchored) this.log.scrollTop += anchored.offsetTop - anchor.top;
    else if (this.pinned) this.log.scrollTop = this.log.scrollHeight;
    this.updateJump(room);
    if (this.pinned) this.reportRead(room);
    // A short page that does not fill the log cannot be scrolled, so it fetches by itself.
    if (this.log.scrollHeight <= this.log.clientHeight + 1 && room.hasOlder && room.messages.length > 0) {
      void room.loadOlder().catch(() => undefined);
    }
  }

  private reportRead(room: Room): void {
    if (document.visibilityState !== "visible" || room.messages.length === 0) return;
    this.view.seenSeq = lastSeq(room);
    this.hooks.read(room, lastSeq(room));
  }

  private updateJump(room: Room): void {
    this.jump.hidden = this.pinned;
    const fresh = lastSeq(room) - (this.view.seenSeq ?? lastSeq(room));
    this.jumpText.textContent = fresh > 0 ? `${fresh} new` : "Newest";
  }

  /** The first message in sight: what must not move while things change above or below it. */
  private findAnchor(): { seq: string; top: number } | undefined {
    const { scrollTop } = this.log;
    for (const node of this.log.children) {
      if (node instanceof HTMLElement && node.dataset.seq && node.offsetTop + node.offsetHeight > scrollTop) {
        return { seq: node.dataset.seq, top: node.offsetTop };
      }
    }
    return undefined;
  }

  /** Makes the children fit the rows; a row whose content did not change keeps its node. */
  private reconcile(rows: readonly Row[]): void {
    const wanted = new Set(rows.map(({ key }) => key));
    for (const [key, { node }] of this.nodes) {
      if (wanted.has(key)) continue;
      node.remove();
      this.nodes.delete(key);
    }
    let at = this.log.firstElementChild;
    for (const row of rows) {
      const signature = JSON.stringify(row);
      let known = this.nodes.get(row.key);
      if (known?.signature !== signature) {
        const node = this.build(row);
        if (at !== null && at === known?.node) at = node;
        known?.node.replaceWith(node);
        known = { node, signature };
        this.nodes.set(row.key, known);
      }
      if (known.node === at) at = at.nextElementSibling;
      else this.log.insertBefore(known.node, at);
    }
  }

  private build(row: Row): HTMLElement {
    switch (row.kind) {
      case "day":
        return el("div", { class: "day", role: "separator", label: row.label }, el("span", { text: row.label }));
      case "new":
        return el("div", { class: "new", role: "separator", label: "New messages", testid: "new-marker" }, el("span", { text: "New" }));
      case "top":
        return row.loading
          ? el("div", { class: "top", text: "Loading earlier messages…" })
          : el("div", { class: "top", text: "This is where the room begins." });
      case "message":
        return this.buildMessage(row);
    }
  }

  private buildMessage(row: MessageRow): HTMLElement {
    const node = el("article", { class: `message${row.own ? " own" : ""}${row.opens ? " opens" : ""} is-${row.state}`, testid: "message" });
    if (row.seq !== undefined) node.dataset.seq = String(row.seq);
    node.dataset.state = row.state;
    if (!row.own) node.append(row.opens ? avatar(row.author) : el("span", { class: "avatar-space" }));
    const column = el("div", { class: "column" });
    if (row.opens) {
      const time = el("time", { text: clockTime(row.atMs), title: fullTime(row.atMs) });
      time.dateTime = new Date(row.atMs).toISOString();
      column.append(el("header", {}, el("b", { text: row.own ? "You" : row.author }), time));
    }
    const bubble = el("div", { class: "bubble", title: fullTime(row.atMs) });
    for (const { text, href } of linkPieces(row.body)) bubble.append(href ? link(text, href) : text);
    column.append(bubble);
    const room = this.room;
    if (row.state === "queued" || row.state === "sending") column.append(el("p", { class: "fate", text: "Sending…" }));
    if (row.state === "failed" && room) {
      column.append(
        el(
          "p",
          { class: "fate bad" },
          `Not sent. ${row.error ?? ""} `,
          el("button", { text: "Try again", click: () => room.retry(row.cmid) }),
          el("button", { text: "Discard", click: () => room.discard(row.cmid) }),
        ),
      );
    }
    node.append(column);
    return node;
  }
}

function link(text: string, href: string): HTMLElement {
  const anchor = el("a", { text, href });
  anchor.target = "_blank";
  anchor.rel = "noopener noreferrer nofollow";
  return anchor;
}

function newView(before: number | undefined): View {
  return { span: new Span(), before, markSeq: undefined, seenSeq: undefined };
}

function lastSeq(room: Room): number {
  return room.messages.at(-1)?.seq ?? 0;
}
