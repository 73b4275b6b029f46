import { tell } from "./dialogs";
import { el } from "./dom";

const KEYS: readonly (readonly [string, readonly (readonly [string, string])[]])[] = [
  ["Anywhere", [["?", "this sheet"], ["/", "search"], ["s", "listen to the show, or stop"], ["Alt ↑ / Alt ↓", "the room above or below"], ["Esc", "close what is open; back to the composer"]]],
  ["Writing", [["Enter", "send"], ["Shift Enter", "a new line"], ["↑ in an empty composer", "edit your last message"], ["@", "names of those who are here"], ["Shift Tab", "to the messages"]]],
  ["Among messages", [["↑ ↓", "move"], ["Page Up / Page Down", "ten at once"], ["Home / End", "first loaded, newest"], ["+", "react"], ["r", "answer"], ["t", "thread"], ["e", "edit"], ["Delete", "delete"], ["p", "pin"], ["l", "copy its link"], ["Enter", "to its buttons"]]],
];

/** The sheet of keys. */
export function showHelp(): void {
  const content = el("div", { class: "keys" });
  for (const [heading, keys] of KEYS) {
    const list = el("dl");
    for (const [key, does] of keys) list.append(el("dt", {}, el("kbd", { text: key })), el("dd", { text: does }));
    content.append(el("section", {}, el("h3", { text: heading }), list));
  }
  tell("Keys", content, "help", true);
}
