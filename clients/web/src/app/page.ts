import { type Client, type Message, type Room, VezaError } from "../sdk/index";
import { Announcer } from "./announcer";
import { auditView } from "./auditpanel";
import { Composer } from "./composer";
import { react, showRevisions } from "./deeds";
import { avatar, byId } from "./dom";
import { roomName } from "./format";
import { setUpKeys } from "./keys";
import { Live } from "./live/live";
import { streamOfRoom } from "./live/livetext";
import { LogView } from "./logview";
import { setUpMe } from "./me";
import { type MenuItem, openMenu } from "./menu";
import { MessageTools } from "./messagetools";
import { Panel } from "./panel";
import { PeoplePanel, showSubtitle, showTyping } from "./peoplepanel";
import { pinsView } from "./pinspanel";
import { askDirect, askInvite, askJoin, askNewRoom, askSettings, showInvites } from "./roomdialogs";
import { RoomList } from "./roomlist";
import { parseRoute, type Route, routeTo } from "./route";
import { searchView } from "./searchpanel";
import { type Identity, rememberIdentity } from "./signin";
import { setUpStatus } from "./status";
import { exposeForTests } from "./testhook";
import { threadView } from "./threadpanel";
import { errorToast, toast } from "./toasts";
import { WaitingChip } from "./waitingchip";

const FIRST_ROOM = "lobby";
const LAST_ROOM_KEY = "veza.room";

/** The page of somebody who has signed in: it shows one room at a time, and what belongs to it at the side. */
export class Page {
  private readonly announcer = new Announcer();
  private readonly log: LogView;
  private readonly list: RoomList;
  private readonly composer: Composer;
  private readonly people: PeoplePanel;
  private readonly panel: Panel;
  private readonly waiting: WaitingChip;
  private readonly live: Live;
  private room: Room | undefined;
  private wanted: string | undefined;
  private unlisten: (() => void)[] = [];

  constructor(
    private readonly client: Client,
    private readonly identity: Identity,
    private readonly first: string | undefined,
  ) {
    byId("app").hidden = false;
    const me = () => client.me;
    this.log = new LogView({
      me,
      read: (room, seq) => this.read(room, seq),
      waiting: (room) => client.unread.of(room.id)?.unread ?? 0,
      react: (seq, emoji, remove) => this.room && react(this.room, seq, emoji, remove),
      openThread: (seq) => this.openThread(seq),
      jump: (seq) => void this.jump(seq),
      showRevisions: (seq) => this.room && void showRevisions(this.room, seq),
    });
    this.composer = new Composer("composer", {
      bytesMax: () => this.bytesMax(),
      sent: () => {
        this.waiting.hide();
        void this.log.toNewest(true);
      },
      editLast: () => this.editLast(),
      escaped: () => {},
    });
    byId("composer-place").append(this.composer.node);
    new MessageTools(byId("log"), {
      room: () => this.room,
      me,
      find: (seq) => this.room?.find(seq),
      answer: (message) => this.composer.answer(message),
      edit: (message) => this.composer.edit(message),
      openThread: (seq) => this.openThread(seq),
    });
    this.people = new PeoplePanel(client, { room: () => this.room, go: (id) => this.go({ room: id }), mention: (user) => this.composer.mention(user) });
    this.panel = new Panel(() => this.people.view());
    this.live = new Live(client, { go: (room) => this.go({ room }), say: (text) => this.announcer.say(text) });
    this.list = new RoomList(client, () => this.wanted, () => void this.live.list.refresh());
    this.waiting = new WaitingChip((seq) => void this.log.jumpBehind(seq).catch(errorToast));
    setUpStatus(client);
    setUpMe(client);
    this.listen();
    exposeForTests(client, () => this.room, this.log, this.live);
    void this.open(this.addressed());
  }

  private listen(): void {
    const { client } = this;
    client.on("welcome", () => this.cameIn());
    client.on("status", (status) => {
      if (status.state !== "stopped" || !status.error || !client.welcome) return;
      toast(status.error.message, "error", { label: "Connect again", run: () => location.reload() });
    });
    window.addEventListener("hashchange", () => void this.open(this.addressed()));
    byId("signout").onclick = () => this.signOut();
    byId("room-new").onclick = () => this.beginMenu();
    byId("room-menu").onclick = () => this.roomMenu();
    byId("open-search").onclick = () => this.search();
    byId("open-pins").onclick = () => {
      const { room } = this;
      if (room) this.panel.toggle("pins", () => this.pins(room));
    };
    byId("open-people").onclick = () => this.panel.toggle("people", () => this.people.view());
    setUpKeys({
      search: () => this.search(),
      listen: () => this.live.toggle(),
      otherRoom: (step) => {
        const id = this.list.beside(step);
        if (id) this.go({ room: id });
      },
      toComposer: () => this.composer.focus(),
      moveBy: (step) => this.log.focusBy(step),
      moveTo: (edge) => (edge === "first" ? this.log.focusEdge("first") : void this.log.toNewest().then(() => this.log.focusEdge("last"))),
    });
  }

  private cameIn(): void {
    const { me } = this.client;
    rememberIdentity(this.identity);
    byId("me-name").textContent = me;
    byId("me-avatar").className = avatar(me).className;
    byId("me-avatar").textContent = avatar(me).textContent;
  }

  // ---- which room ----

  /** The room that the address names, or the last one, or the first one everybody sees. */
  private addressed(): Route {
    return parseRoute(location.hash) ?? { room: this.first ?? localStorage.getItem(LAST_ROOM_KEY) ?? FIRST_ROOM };
  }

  private go(route: Route): void {
    const hash = routeTo(route);
    if (location.hash === hash) void this.open(route);
    else location.hash = hash;
  }

  private async open({ room: id, seq, invite }: Route): Promise<void> {
    if (this.room?.id !== id || this.room.state === "gone") {
      this.panel.close();
      this.wanted = id;
      this.show(undefined);
      this.live.showRoom(id);
      byId("room-title").textContent = id;
      this.list.render();
      try {
        const room = await this.enterRoom(id, invite);
        if (this.wanted !== id) return;
        localStorage.setItem(LAST_ROOM_KEY, id);
        // An invitation is used up: a reload or a copied address must not try it again.
        if (!location.hash || invite) history.replaceState(null, "", routeTo({ room: id }));
        this.show(room);
        if (seq === undefined) this.composer.focus();
      } catch (error) {
        if (this.wanted === id) this.notOpened(id, error);
        return;
      }
    } else this.panel.close();
    if (seq !== undefined) await this.jump(seq);
  }

  private async enterRoom(id: string, invite = ""): Promise<Room> {
    try {
      return await this.client.join(id, invite);
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
      const stream = streamOfRoom(id);
      if (stream !== undefined) toast(`There is no show “${stream}”.`, "error");
      else toast(`There is no room #${id}, or you are not invited.`, "error", { label: "Create it", run: () => askNewRoom(this.client, (made) => this.go({ room: made }), id) });
    } else errorToast(error);
  }

  private show(room: Room | undefined): void {
    for (const end of this.unlisten) end();
    this.unlisten = [];
    this.room = room;
    const readSeq = room && this.readBefore(room);
    // Counted before it is shown: what is in sight is read.
    const unread = room && this.client.unread.of(room.id)?.unread;
    this.log.show(room, readSeq);
    this.composer.open(room);
    this.people.open();
    this.waiting.show(room, readSeq, unread);
    for (const id of ["room-menu", "open-pins"]) byId(id).hidden = !room;
    let role = room?.membership?.role;
    const state = () => {
      if (!room) document.title = "Veza";
      else if (room.info) {
        const name = roomName(room.info, this.client.me);
        byId("room-title").textContent = name;
        document.title = `${name} · Veza`;
      }
      showSubtitle(room);
      if (room?.membership?.role !== role) this.people.open();
      role = room?.membership?.role;
      if (room?.state === "gone") this.putOut(room);
    };
    if (room) {
      this.unlisten = [
        room.on("presence", () => (this.people.update(), showSubtitle(room))),
        room.on("typing", () => showTyping(room)),
        room.on("state", () => (state(), this.people.reload())),
        room.on("gap", () => toast("A part of the conversation was skipped. Scroll up to load it.")),
        room.on("message", (message) => this.announcer.heard(message, this.client.me)),
      ];
    }
    state();
    this.people.update();
    showTyping(room);
  }

  /** How far we had read when the room was opened; nothing for somebody who has just come. */
  private readBefore(room: Room): number | undefined {
    const seq = this.client.unread.of(room.id)?.readSeq || room.membership?.readSeq;
    return seq ? seq : undefined;
  }

  /** The room is ours no more, not by our own wish. */
  private putOut(room: Room): void {
    if (room.error?.code === "closed" && this.wanted !== room.id) return;
    this.composer.open(room);
    this.panel.close();
    byId("room-sub").textContent = room.error?.message ?? "";
    if (localStorage.getItem(LAST_ROOM_KEY) === room.id) localStorage.removeItem(LAST_ROOM_KEY);
    if (room.error && room.error.code !== "closed") toast(room.error.message, "error");
    this.announcer.say(room.error?.message ?? "");
  }

  private async leave(): Promise<void> {
    const { room } = this;
    if (!room) return;
    try {
      this.wanted = undefined;
      await this.client.leave(room.id);
      toast(`You left ${room.title}.`, "info", { label: "Join again", run: () => this.go({ room: room.id }) });
      const next = [...this.client.rooms.keys()][0];
      localStorage.removeItem(LAST_ROOM_KEY);
      if (next) return this.go({ room: next });
      this.show(undefined);
      byId("room-title").textContent = "No room";
      byId("room-sub").textContent = "Choose one from the list.";
    } catch (error) {
      this.wanted = room.id;
      errorToast(error);
    }
  }

  private signOut(): void {
    rememberIdentity(undefined);
    this.client.close();
    location.assign(location.pathname);
  }

  // ---- within the room ----

  private bytesMax(): number {
    return this.client.welcome?.limits?.bodyBytesMax || 32 * 1024;
  }

  private read(room: Room, seq: number): void {
    room.markRead(seq);
    const count = this.client.unread.of(room.id);
    if (!count || count.unread > 0 || count.readSeq < seq) this.client.unread.marked(room.id, seq, { unread: 0, mentions: 0 });
  }

  /** Brings a message in sight, wherever it stands: in the room, in a thread, or what was changed by it. */
  private async jump(seq: number): Promise<void> {
    const { room } = this;
    if (!room) return;
    try {
      if (await this.log.jumpTo(seq)) return;
      const entry = await room.entry(seq);
      if (this.room !== room) return;
      if (entry && entry.thread > 0) {
        await this.log.jumpTo(entry.thread, false);
        this.openThread(entry.thread, seq);
      } else if (entry?.change && entry.change.kind !== "note") await this.jump(entry.change.target);
      else toast("This message is not there any more.");
    } catch (error) {
      errorToast(error);
    }
  }

  private openThread(seq: number, highlight?: number): void {
    const { room } = this;
    if (!room) return;
    const hooks = { me: () => this.client.me, bytesMax: () => this.bytesMax(), jump: (wanted: number) => void this.jump(wanted) };
    this.panel.put(threadView(room, seq, hooks, highlight));
  }

  private editLast(): boolean {
    const { me } = this.client;
    const last = this.room?.messages.findLast((message: Message) => message.author === me && !message.deleted && !message.change);
    if (last) this.composer.edit(last);
    return last !== undefined;
  }

  private search(): void {
    this.panel.toggle("search", () => searchView(this.client, () => this.room, (room, seq) => this.found(room, seq)));
  }

  /** The hit is shown, and on a wide screen the hits stay. */
  private found(room: string, seq: number): void {
    if (room === this.room?.id) {
      if (matchMedia("(max-width: 1080px)").matches) this.panel.close();
      void this.jump(seq);
    } else this.go({ room, seq });
  }

  private pins(room: Room) {
    return pinsView(room, this.client.me, (seq) => this.found(room.id, seq));
  }

  private beginMenu(): void {
    const { client } = this;
    openMenu(byId("room-new"), "Begin", [
      { label: "Go live…", testid: "menu-go-live", run: () => this.live.goLive() },
      { label: "New room…", testid: "menu-new-room", run: () => askNewRoom(client, (id) => this.go({ room: id })) },
      { label: "Message somebody…", testid: "menu-direct", run: () => askDirect(client, (id) => this.go({ room: id })) },
      { label: "Join by link…", testid: "menu-join", run: () => void askJoin(client, (route) => this.go(route)) },
    ]);
  }

  private roomMenu(): void {
    const { room } = this;
    if (!room) return;
    const items: MenuItem[] = [];
    const direct = room.info?.kind === "direct";
    if (byId("open-pins").offsetParent === null) items.push({ label: "Pinned messages", testid: "menu-pins", run: () => this.panel.put(this.pins(room)) });
    if (room.can("invite") && !direct) {
      items.push({ label: "Invite…", testid: "menu-invite", run: () => askInvite(room) });
      items.push({ label: "Invitations", testid: "menu-invites", run: () => void showInvites(room) });
    }
    const owner = room.membership?.role === "owner" || room.membership?.role === "admin";
    if ((room.can("manage") || (room.info?.archived && owner)) && !direct) items.push({ label: "Settings…", testid: "menu-settings", run: () => askSettings(room) });
    if (room.can("moderate") && !direct) items.push({ label: "Audit log", testid: "menu-audit", run: () => this.panel.put(auditView(room, (seq) => void this.jump(seq))) });
    items.push({ label: "Leave this room", danger: true, testid: "menu-leave", run: () => void this.leave() });
    openMenu(byId("room-menu"), "Room", items);
  }
}
