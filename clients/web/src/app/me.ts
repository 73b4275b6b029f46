import type { Client, Presence } from "../sdk/index";
import { askForm } from "./dialogs";
import { byId } from "./dom";
import { PRESENCE_NAMES } from "./format";

const KEY = "veza.presence";

/** How we say to be: kept in this tab, told by the client on every new session. */
export function setUpMe(client: Client): void {
  const button = byId("me-status");
  const dot = byId("me-dot");
  const line = byId("me-text");
  const show = () => {
    const { state, text } = client.presence;
    dot.className = `dot ${state}`;
    line.textContent = text || PRESENCE_NAMES[state];
    button.setAttribute("aria-label", `Your status: ${PRESENCE_NAMES[state]}${text ? `, ${text}` : ""}. Change it.`);
  };
  const kept = JSON.parse(sessionStorage.getItem(KEY) ?? "null") as { state: Presence; text: string } | null;
  if (kept) client.presence = kept;
  button.onclick = () =>
    askForm({
      title: "Your status",
      submit: "Set",
      testid: "status-dialog",
      fields: [
        { name: "state", kind: "choice", label: "You are", value: client.presence.state, options: Object.entries(PRESENCE_NAMES) },
        { name: "text", kind: "text", label: "In a few words", value: client.presence.text, max: 60, placeholder: "Listening to the new record" },
      ],
      run: async (values) => {
        await client.setPresence(values.text("state") as Presence, values.text("text"));
        sessionStorage.setItem(KEY, JSON.stringify(client.presence));
        show();
      },
    });
  show();
}
