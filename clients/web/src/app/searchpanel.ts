import type { Client, Message, Room } from "../sdk/index";
import { el } from "./dom";
import { dropDeleted, foundNode } from "./foundview";
import type { PanelView } from "./panel";

/** The last key was so long ago that a word is complete. Milliseconds. */
const SETTLED_MS = 250;

/** Search in the room, or in all rooms of ours. A press on a hit jumps to it. */
export function searchView(client: Client, room: () => Room | undefined, jump: (room: string, seq: number) => void): PanelView {
  const input = el("input", { label: "Search", testid: "search-input" });
  input.type = "search";
  input.placeholder = "Words; the last may end with *";
  input.maxLength = 200;
  const scope = el("select", { label: "Where to search", testid: "search-scope" });
  scope.append(new Option("In this room", "room"), new Option("In all my rooms", "all"));
  const status = el("p", { class: "note", role: "status", testid: "search-status" });
  const hits = el("div", { class: "scroll found-list", role: "list", label: "Hits" });
  const more = el("button", { class: "button quiet", text: "Older hits" });
  more.hidden = true;

  let search = 0;
  let found = 0;
  const run = async (next?: { before: number; cursor: string }) => {
    const query = input.value.trim();
    const mine = ++search;
    if (!next) {
      found = 0;
      hits.replaceChildren();
    }
    more.hidden = true;
    if (query === "") return void (status.textContent = "");
    status.textContent = "Searching…";
    try {
      const here = room();
      const all = scope.value === "all" || !here;
      const page = all
        ? await client.search(query, { cursor: next?.cursor ?? "" }).then(({ messages, next }) => ({ messages, before: 0, cursor: next }))
        : await here.search(query, { before: next?.before ?? 0 }).then(({ messages, next }) => ({ messages, before: next, cursor: "" }));
      if (mine !== search) return;
      for (const message of page.messages) hits.append(hit(client, message, all, jump));
      found += page.messages.length;
      more.hidden = page.before === 0 && page.cursor === "";
      more.onclick = () => void run(page);
      status.textContent = found === 0 ? "Nothing was found." : `${found}${more.hidden ? "" : "+"} found, newest first`;
    } catch (error) {
      if (mine === search) status.textContent = error instanceof Error ? error.message : String(error);
    }
  };
  let timer: ReturnType<typeof setTimeout> | undefined;
  input.oninput = () => {
    clearTimeout(timer);
    timer = setTimeout(() => void run(), SETTLED_MS);
  };
  scope.onchange = () => void run();
  const form = el("form", { class: "search-form", role: "search" }, input, scope);
  form.onsubmit = (event) => {
    event.preventDefault();
    clearTimeout(timer);
    void run();
  };
  return { name: "search", title: "Search", wide: true, body: el("div", { class: "panel-body" }, form, status, hits, more), focus: () => input.focus(), closed: dropDeleted(client, hits) };
}

function hit(client: Client, message: Message, all: boolean, jump: (room: string, seq: number) => void): HTMLElement {
  const where = all ? (client.rooms.get(message.room)?.title ?? message.room) : undefined;
  return foundNode(message, client.me, () => jump(message.room, message.seq), where && `in ${where}`);
}
