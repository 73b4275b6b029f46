// The page: signs in, connects, and shows one room at a time.

import { type Client, connect, discover, type Room, type TransportName, VezaError } from "../sdk/index";
import { Composer } from "./composer";
import { setUpCreateRoom } from "./createroom";
import { avatar, byId } from "./dom";
import { setUpDrawers } from "./drawers";
import { LogView } from "./logview";
import { showPresence, showTyping } from "./presence";
import { Reading } from "./reading";
import { RoomList } from "./roomlist";
import { askIdentity, type Identity, rememberedIdentity, rememberIdentity, tokenFor } from "./signin";
import { setUpStatus } from "./status";
import { exposeForTests } from "./testhook";
import { setUpTheme } from "./theme";
import { errorToast, toast } from "./toasts";

const FIRST_ROOM = "lobby";
const LAST_ROOM_KEY = "veza.room";
const PROBLEM_KEY = "veza.problem";
const TRANSPORTS: readonly string[] = ["auto", "webtransport", "websocket"];

const query = new URLSearchParams(location.search);

void main();

async function main(): Promise<void> {
  setUpTheme();
  const server = await discover().catch(() => undefined);
  const problem = takeProblem();
  const wanted = query.get("user");
  const identity: Identity = (wanted ? { user: wanted } : rememberedIdentity()) ?? (await askIdentity(server, problem));
  const transport = query.get("transport") ?? "auto";
  const client = connect({
    ...server,
    token: () => tokenFor(identity),
    refreshEndpoints: () => discover(),
    client: `veza-web/${server?.version ?? "?"}`,
    transport: (TRANSPORTS.includes(transport) ? transport : "auto") as "auto" | TransportName,
  });
  client.on("status", (status) => {
    if (status.state === "stopped" && status.error?.code === "unauthenticated" && !client.welcome) signInAgain(status.error.message);
  });
  new Page(client, identity);
}

/** Nobody comes in with this identity: back to the sign-in page, which says why. */
function signInAgain(problem: string): void {
  rememberIdentity(undefined);
  sessionStorage.setItem(PROBLEM_KEY, problem);
  location.replace(location.pathname + location.hash);
}

function takeProblem(): string | undefined {
  const problem = sessionStorage.getItem(PROBLEM_KEY) ?? undefined;
  sessionStorage.removeItem(PROBLEM_KEY);
  return problem;
}

class Page {
  private readonly reading = new Reading(() => this.client.me);
  private readonly log: LogView;
  private readonly list: RoomList;
  private readonly composer: Composer;
  private readonly drawers = setUpDrawers();
  private readonly askForRoom: (id?: string) => void;
  private room: Room | undefined;
  private wanted: string | undefined;
  private unlisten: (() => void)[] = [];

  constructor(
    private readonly client: Client,
    private readonly identity: Identity,
  ) {
    byId("app").hidden = false;
    this.log = new LogView(() => client.me, {
      read: (room, seq) => {
        if (this.reading.read(room, seq)) this.list.render();
      },
    });
    this.list = new RoomList(client, {
      active: () => this.wanted,
      unread: (info) => this.reading.unread(info, client.rooms.get(info.id)),
    });
    this.composer = new Composer(
      () => client.welcome?.limits?.bodyBytesMax || 32 * 1024,
      () => this.log.toNewest(true),
    );
    this.askForRoom = setUpCreateRoom(client, (id) => this.go(id));
    setUpStatus(client);
    this.listen();
    exposeForTests(client, () => this.room, this.log);
    void this.open(this.addressed());
  }

  private listen(): void {
    const { client } = this;
    client.on("welcome", () => this.cameIn());
    client.on("rooms", () => {
      for (const room of client.rooms.values()) this.countUnread(room);
    });
    client.on("status", (status) => {
      if (status.state !== "stopped" || !status.error || !client.welcome) return;
      toast(status.error.message, "error", { label: "Connect again", run: () => location.reload() });
    });
    window.addEventListener("hashchange", () => void this.open(this.addressed()));
    byId("signout").onclick = () => this.signOut();
    byId("room-leave").onclick = byId("room-leave-narrow").onclick = () => void this.leave();
  }

  private cameIn(): void {
    const { me } = this.client;
    rememberIdentity(this.identity);
    byId("me-name").textContent = me;
    byId("me-avatar").className = avatar(me).className;
    byId("me-avatar").textContent = avatar(me).textContent;
  }

  /** The room that the address names, or the last one, or the first one everybody sees. */
  private addressed(): string {
    const inHash = /^#\/room\/([a-z0-9._-]{1,64})$/.exec(location.hash)?.[1];
    return inHash ?? query.get("room") ?? localStorage.getItem(LAST_ROOM_KEY) ?? FIRST_ROOM;
  }

  private go(id: string): void {
    if (location.hash === `#/room/${id}`) void this.open(id);
    else location.hash = `#/room/${id}`;
  }

  private async open(id: string): Promise<void> {
    this.drawers.close();
    if (this.room?.id === id && this.room.state !== "gone") return;
    this.wanted = id;
    this.show(undefined);
    byId("room-title").textContent = id;
    this.list.render();
    try {
      const room = await this.enterRoom(id);
      if (this.wanted !== id) return;
      localStorage.setItem(LAST_ROOM_KEY, id);
      if (!location.hash) history.replaceState(null, "", `#/room/${id}`);
      this.show(room);
      this.composer.focus();
    } catch (error) {
      if (this.wanted === id) this.notOpened(id, error);
    }
  }

  private async enterRoom(id: string): Promise<Room> {
    try {
      return await this.client.join(id);
    } catch (error) {
      if (id !== FIRST_ROOM || !(error instanceof VezaError) || error.code !== "not_found") throw error;
      // The first visitor of a fresh server finds no room; somebody else may be making it at this moment.
      await this.client.createRoom(FIRST_ROOM, "Lobby").catch(() => undefined);
      return this.client.join(FIRST_ROOM);
    }
  }

  private notOpened(id: string, error: unknown): void {
    byId("room-sub").textContent = error instanceof Error ? error.message : String(error);
    if (error instanceof VezaError && error.code === "not_found") {
      if (localStorage.getItem(LAST_ROOM_KEY) === id) localStorage.removeItem(LAST_ROOM_KEY);
      toast(`There is no room #${id}.`, "error", { label: "Create it", run: () => this.askForRoom(id) });
    } else errorToast(error);
  }

  private show(room: Room | undefined): void {
    for (const end of this.unlisten) end();
    this.unlisten = [];
    this.room = room;
    this.log.show(room, room && this.reading.seqOf(room.id));
    this.composer.open(room);
    byId("room-leave").hidden = byId("room-leave-narrow").hidden = !room;
    const people = () => showPresence(room, this.client.me);
    const state = () => {
      if (room) byId("room-title").textContent = room.title;
      document.title = room ? `${room.title} · Veza` : "Veza";
      people();
      if (room?.state === "gone" && room.error?.code !== "closed") this.notOpened(room.id, room.error);
    };
    if (room) {
      this.unlisten = [
        room.on("presence", people),
        room.on("typing", () => showTyping(room)),
        room.on("state", state),
        room.on("gap", () => toast("A part of the conversation was skipped. Scroll up to load it.")),
      ];
    }
    state();
    showTyping(room);
  }

  private readonly counted = new WeakSet<Room>();

  /** A followed room's messages change its unread count. */
  private countUnread(room: Room): void {
    if (this.counted.has(room)) return;
    this.counted.add(room);
    room.on("message", () => this.list.render());
  }

  private async leave(): Promise<void> {
    const { room } = this;
    if (!room) return;
    try {
      await this.client.leave(room.id);
      toast(`You left ${room.title}.`, "info", { label: "Join again", run: () => this.go(room.id) });
      const next = [...this.client.rooms.keys()][0];
      localStorage.removeItem(LAST_ROOM_KEY);
      if (next) this.go(next);
      else {
        this.wanted = undefined;
        this.show(undefined);
        byId("room-title").textContent = "No room";
        byId("room-sub").textContent = "Choose one from the list.";
      }
    } catch (error) {
      errorToast(error);
    }
  }

  private signOut(): void {
    rememberIdentity(undefined);
    this.client.close();
    location.assign(location.pathname);
  }
}
