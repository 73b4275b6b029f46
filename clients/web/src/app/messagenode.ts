import { avatar, el } from "./dom";
import { bytesText, clockTime, fullTime, moment, plural, textPieces } from "./format";
import type { MessageRow } from "./rows";

/** What can be done by a press on a part of a message. */
export interface MessageHooks {
  /** Whose mentions stand out. */
  me(): string;
  react(seq: number, emoji: string, remove: boolean): void;
  /** Absent inside of a thread. */
  openThread?: (seq: number) => void;
  jump(seq: number): void;
  showRevisions(seq: number): void;
  retry(cmid: string): void;
  discard(cmid: string): void;
}

/** A message as an element. It can be focused; its tools are put into it by `MessageTools`. */
export function buildMessage(row: MessageRow, hooks: MessageHooks): HTMLElement {
  const flags = [row.own && "own", row.opens && "opens", row.calls && "calls", row.changing && "changing", row.deletedBy && "is-deleted"];
  const node = el("article", { class: ["message", `is-${row.state}`, ...flags].filter(Boolean).join(" "), testid: "message" });
  node.tabIndex = -1;
  if (row.seq !== undefined) node.dataset.seq = String(row.seq);
  node.dataset.state = row.state;
  if (!row.own) node.append(row.opens ? avatar(row.author) : el("span", { class: "avatar-space" }));
  const column = el("div", { class: "column" });
  const time = el("time", { text: clockTime(row.atMs), title: fullTime(row.atMs) });
  time.dateTime = new Date(row.atMs).toISOString();
  column.append(el("header", { class: row.opens ? "" : "sr" }, el("b", { text: row.own ? "You" : row.author }), time));
  if (row.quote) column.append(quote(row.quote, hooks));
  column.append(row.deletedBy ? tombstone(row) : bubble(row, hooks));
  const reactions = reactionRow(row, hooks);
  if (reactions) column.append(reactions);
  if (row.replies && row.seq !== undefined && hooks.openThread) column.append(threadLink(row.seq, row.replies, hooks.openThread));
  if (row.state === "queued" || row.state === "sending") column.append(el("p", { class: "fate", text: "Sending…" }));
  if (row.state === "failed") column.append(failure(row, hooks));
  if (row.fate) column.append(el("p", { class: "fate", testid: "fate", text: row.fate }));
  node.append(column);
  return node;
}

/** A text with its links, mentions and code; everything else stays text. */
export function fillText(host: HTMLElement, body: string, me: string): void {
  for (const { text, href, user, code } of textPieces(body)) {
    if (href) host.append(link(text, href));
    else if (user) host.append(el("span", { class: user === me || user === "*" ? "mention mine" : "mention", text }));
    else if (code) host.append(el("code", { text, class: text.includes("\n") ? "block" : "" }));
    else host.append(text);
  }
}

function bubble(row: MessageRow, hooks: MessageHooks): HTMLElement {
  const node = el("div", { class: "bubble", title: fullTime(row.atMs) });
  fillText(node, row.body, hooks.me());
  for (const { url, name, sizeBytes } of row.attachments) {
    node.append(el("div", { class: "attachment" }, link(name || url, url), el("span", { class: "muted", text: ` ${bytesText(sizeBytes)}` })));
  }
  const parts = el("div", { class: "bubble-line" }, node);
  const marks = el("span", { class: "marks" });
  if (row.pinned) marks.append(el("span", { class: "mark-pin", text: "pinned", testid: "pinned" }));
  const { seq } = row;
  if (row.edits > 0 && seq !== undefined) {
    const edited = el("button", { class: "edited", text: "edited", testid: "edited", title: `Edited ${fullTime(row.editedMs)}. Show earlier versions.`, click: () => hooks.showRevisions(seq) });
    edited.type = "button";
    marks.append(edited);
  }
  if (row.changing) marks.append(el("span", { class: "muted", text: "saving…" }));
  if (marks.childElementCount > 0) parts.append(marks);
  return parts;
}

function tombstone(row: MessageRow): HTMLElement {
  const by = row.deletedBy === row.author ? "" : ` by ${row.deletedBy}`;
  return el("div", { class: "bubble tombstone", testid: "tombstone", text: `This message was deleted${by}.` });
}

function quote({ seq, author, body, deleted }: NonNullable<MessageRow["quote"]>, hooks: MessageHooks): HTMLElement {
  const text = deleted ? "a deleted message" : body || "an earlier message";
  const node = el("button", { class: "quote", testid: "quote", title: "Show the message this answers", click: () => hooks.jump(seq) }, el("b", { text: author || "Answer to" }), el("span", { text }));
  node.type = "button";
  return node;
}

function reactionRow(row: MessageRow, hooks: MessageHooks): HTMLElement | undefined {
  const { seq } = row;
  if (row.reactions.length === 0 || seq === undefined) return undefined;
  const node = el("div", { class: "reactions", role: "group", label: "Reactions" });
  for (const { emoji, count, mine } of row.reactions) {
    const chip = el(
      "button",
      { class: "reaction", testid: "reaction", label: `${emoji} ${count}${mine ? ", yours" : ""}`, click: () => hooks.react(seq, emoji, mine) },
      el("span", { text: emoji }),
      el("span", { class: "reaction-count", text: String(count) }),
    );
    chip.type = "button";
    chip.dataset.emoji = emoji;
    chip.setAttribute("aria-pressed", String(mine));
    node.append(chip);
  }
  return node;
}

function threadLink(seq: number, { count, lastAtMs }: NonNullable<MessageRow["replies"]>, open: (seq: number) => void): HTMLElement {
  const node = el(
    "button",
    { class: "thread-link", testid: "thread-link", click: () => open(seq) },
    el("b", { text: plural(count, "reply", "replies") }),
    el("span", { class: "muted", text: `last ${moment(lastAtMs, Date.now())}` }),
  );
  node.type = "button";
  return node;
}

function failure(row: MessageRow, hooks: MessageHooks): HTMLElement {
  return el(
    "p",
    { class: "fate bad", role: "alert" },
    `Not sent. ${row.error ?? ""} `,
    el("button", { text: "Try again", click: () => hooks.retry(row.cmid) }),
    el("button", { text: "Discard", click: () => hooks.discard(row.cmid) }),
  );
}

function link(text: string, href: string): HTMLElement {
  const anchor = el("a", { text, href });
  anchor.target = "_blank";
  anchor.rel = "noopener noreferrer nofollow";
  return anchor;
}
