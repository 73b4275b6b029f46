import type { Client } from "../sdk/index";
import { byId } from "./dom";
import { slug } from "./format";

/** The dialog that makes a room. The address follows the title until it is edited. */
export function setUpCreateRoom(client: Client, created: (id: string) => void): (id?: string) => void {
  const dialog = byId<HTMLDialogElement>("create");
  const title = byId<HTMLInputElement>("create-title");
  const id = byId<HTMLInputElement>("create-id");
  const problem = byId("create-error");
  let edited = false;

  title.oninput = () => {
    if (!edited) id.value = slug(title.value);
  };
  id.oninput = () => (edited = id.value !== "");
  byId("create-cancel").onclick = () => dialog.close();
  byId<HTMLFormElement>("create-form").onsubmit = async (event) => {
    event.preventDefault();
    problem.textContent = "";
    try {
      const room = await client.createRoom(id.value, title.value.trim());
      dialog.close();
      created(room.id);
    } catch (error) {
      problem.textContent = error instanceof Error ? error.message : String(error);
    }
  };
  const open = (address = "") => {
    title.value = id.value = address;
    edited = address !== "";
    problem.textContent = "";
    dialog.showModal();
    title.focus();
  };
  byId("room-new").onclick = () => open();
  return open;
}
