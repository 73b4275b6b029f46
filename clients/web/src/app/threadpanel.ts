import type { Room, Thread } from "../sdk/index";
import { Composer } from "./composer";
import { react, showRevisions } from "./deeds";
import { coalesce, el } from "./dom";
import { plural } from "./format";
import { buildMessage } from "./messagenode";
import { MessageTools } from "./messagetools";
import type { PanelView } from "./panel";
import { Quotes } from "./quotes";
import { buildRows } from "./rows";
import { errorToast } from "./toasts";

export interface ThreadHooks {
  me(): string;
  bytesMax(): number;
  jump(seq: number): void;
}

/** A thread beside the room: its first message, the replies, and a composer of its own. */
export function threadView(room: Room, seq: number, hooks: ThreadHooks, highlight?: number): PanelView {
  const list = el("div", { class: "thread-log", role: "log", label: "Thread", testid: "thread" });
  list.tabIndex = 0;
  list.setAttribute("aria-live", "polite");
  const thread = room.openThread(seq);
  const quotes = new Quotes(room, hooks.me, () => draw());
  const find = (wanted: number) => (thread.root?.seq === wanted ? thread.root : thread.replies.find((reply) => reply.seq === wanted));
  const composer = new Composer("thread-composer", {
    bytesMax: hooks.bytesMax,
    sent: () => (list.scrollTop = list.scrollHeight),
    editLast: () => {
      const last = thread.replies.findLast(({ author, deleted }) => author === hooks.me() && !deleted);
      if (last) composer.edit(last);
      return last !== undefined;
    },
    escaped: () => {},
  });
  composer.open(room, seq);
  new MessageTools(list, { room: () => room, me: hooks.me, find, answer: (message) => composer.answer(message), edit: (message) => composer.edit(message) });

  let shown = -1;
  const draw = coalesce(() => {
    const pinned = list.scrollHeight - list.clientHeight - list.scrollTop < 60 || shown < 0;
    const focused = list.querySelector<HTMLElement>("article:focus-within")?.dataset.seq;
    fill(list, room, thread, hooks, quotes);
    if (focused) list.querySelector<HTMLElement>(`[data-seq="${focused}"]`)?.focus({ preventScroll: true });
    if (highlight && find(highlight)) {
      const node = list.querySelector<HTMLElement>(`[data-seq="${highlight}"]`);
      node?.classList.add("flash");
      node?.scrollIntoView({ block: "center" });
      highlight = undefined;
    } else if (pinned && thread.replies.length !== shown) list.scrollTop = list.scrollHeight;
    shown = thread.replies.length;
  });
  const unlisten = [thread.on("change", draw), room.on("timeline", draw)];
  thread.load().then(draw, errorToast);
  draw();
  return {
    name: "thread",
    title: "Thread",
    wide: true,
    body: el("div", { class: "panel-body" }, list, composer.node),
    focus: () => composer.focus(),
    closed: () => {
      composer.open(undefined);
      quotes.stop();
      thread.close();
      for (const end of unlisten) end();
    },
  };
}

function fill(list: HTMLElement, room: Room, thread: Thread, hooks: ThreadHooks, quotes: Quotes): void {
  const me = hooks.me();
  const pending = room.pending.filter(({ draft }) => draft.kind !== "message" || draft.thread === thread.seq);
  const common = { pending, me, readSeq: undefined, hasOlder: false, nowMs: Date.now(), quoted: (wanted: number) => quotes.get(wanted) };
  const messageHooks = {
    me: hooks.me,
    react: (seq: number, emoji: string, remove: boolean) => react(room, seq, emoji, remove),
    jump: hooks.jump,
    showRevisions: (seq: number) => void showRevisions(room, seq),
    retry: (cmid: string) => room.retry(cmid),
    discard: (cmid: string) => room.discard(cmid),
  };
  const nodes: Node[] = [];
  const add = (rows: ReturnType<typeof buildRows>) => {
    for (const row of rows) if (row.kind === "message") nodes.push(buildMessage(row, messageHooks));
  };
  if (thread.root) add(buildRows({ ...common, messages: [thread.root], hasNewer: true }));
  const count = thread.root?.replies?.count ?? thread.replies.length;
  nodes.push(el("div", { class: "day" }, el("span", { text: count === 0 ? "No replies yet" : plural(count, "reply", "replies") })));
  if (thread.hasOlder) nodes.push(el("button", { class: "button quiet small", text: "Earlier replies", click: () => void thread.loadOlder().catch(errorToast) }));
  add(buildRows({ ...common, messages: thread.replies, hasNewer: false }));
  list.replaceChildren(...nodes);
}
