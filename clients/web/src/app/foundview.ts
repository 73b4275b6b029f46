import type { Client, Message } from "../sdk/index";
import { avatar, el } from "./dom";
import { moment } from "./format";
import { fillText } from "./messagenode";

/** A message in a list of search hits or pins: a press jumps to it. */
export function foundNode(message: Message, me: string, jump: () => void, where?: string, action?: { label: string; run(): void }): HTMLElement {
  const { author, atMs, body, deleted } = message;
  const text = el("div", { class: "found-text" });
  if (deleted) text.textContent = "This message was deleted.";
  else fillText(text, body.length > 280 ? `${body.slice(0, 280)}…` : body, me);
  const head = el("div", { class: "found-head" }, avatar(author), el("b", { text: author }), el("time", { class: "muted", text: moment(atMs, Date.now()) }));
  if (where) head.append(el("span", { class: "muted", text: where }));
  const node = el("div", { class: "found", role: "link", testid: "found", click: jump }, head, text);
  node.tabIndex = 0;
  node.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target === node) jump();
  });
  const item = el("div", { role: "listitem" }, node);
  item.dataset.message = `${message.room}/${message.seq}`;
  if (action) item.append(el("button", { class: "button quiet small", text: action.label, click: action.run }));
  return item;
}

/** What is deleted meanwhile leaves a list that was made before. The result ends that. */
export function dropDeleted(client: Client, list: HTMLElement): () => void {
  const ends = [...client.rooms.values()].map((room) =>
    room.on("entry", ({ change }) => {
      if (change?.kind === "deletion") list.querySelector(`[data-message="${room.id}/${change.target}"]`)?.remove();
    }),
  );
  return () => ends.forEach((end) => end());
}
