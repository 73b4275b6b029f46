import { type Action, type Client, needed, type Role, ROLES, type Room, type RoomKind, type Settings } from "../sdk/index";
import { copy } from "./deeds";
import { askForm, type Field, tell, Values } from "./dialogs";
import { el } from "./dom";
import { moment, slug } from "./format";
import { pastedRoute, type Route, routeTo } from "./route";
import { errorToast } from "./toasts";

const KINDS: readonly (readonly [RoomKind, string])[] = [
  ["public", "Public: anybody may join"],
  ["private", "Private: by invitation, unknown to others"],
  ["premium", "Premium: for those with an entitlement"],
];
const ACTIONS: readonly (readonly [Action, string])[] = [
  ["publish", "Write"],
  ["react", "React"],
  ["attach", "Attach files"],
  ["thread", "Write in threads"],
  ["mention_all", "Mention everybody"],
  ["pin", "Pin"],
  ["invite", "Invite"],
  ["delete_any", "Delete what others said"],
  ["moderate", "Moderate"],
  ["manage", "Manage the room"],
];
const SLOW: readonly (readonly [string, string])[] = [["0", "off"], ["5", "5 seconds"], ["30", "30 seconds"], ["60", "1 minute"], ["300", "5 minutes"], ["3600", "1 hour"]];

/** Makes a room. The address follows the title until it is edited. */
export function askNewRoom(client: Client, created: (id: string) => void, address = ""): void {
  let edited = address !== "";
  askForm({
    title: "New room",
    submit: "Create",
    testid: "create-dialog",
    fields: [
      { name: "title", kind: "text", label: "Title", required: true, max: 100, placeholder: "Friday listening", value: address },
      { name: "id", kind: "text", label: "Address", required: true, max: 64, pattern: "[a-z0-9._\\-]+", placeholder: "friday-listening", value: address, hint: "Small letters, digits, dot, dash and underscore. It cannot be changed later." },
      { name: "kind", kind: "choice", label: "Who may join", options: KINDS },
      { name: "entitlement", kind: "text", label: "Entitlement (premium)", max: 64, placeholder: "supporter" },
    ],
    changed: (name, inputs) => {
      const [title, id, kind, entitlement] = ["title", "id", "kind", "entitlement"].map((one) => inputs.get(one));
      if (name === "id") edited = id?.value !== "";
      if (name === "title" && id && title && !edited) id.value = slug(title.value);
      if (entitlement) entitlement.disabled = kind?.value !== "premium";
    },
    run: async (values) => {
      const kind = values.text("kind") as RoomKind;
      const entitlement = values.text("entitlement");
      const settings: Settings | undefined = kind === "premium" ? { ...PLAIN, listed: true, entitlement } : undefined;
      const room = await client.createRoom(values.text("id"), values.text("title"), { kind, ...(settings && { settings }) });
      created(room.id);
    },
  });
}

const PLAIN: Settings = { listed: false, slowModeSeconds: 0, retentionSeconds: 0, retentionEntries: 0, defaultRole: "member", permissions: {}, entitlement: "" };

/** Title, topic, slow mode, retention, permissions. */
export function askSettings(room: Room): void {
  const { info } = room;
  if (!info) return;
  const { settings } = info;
  const slow = String(settings.slowModeSeconds);
  const fields: Field[] = [
    { name: "title", kind: "text", label: "Title", value: info.title, required: true, max: 100 },
    { name: "topic", kind: "area", label: "Topic", value: info.topic, max: 500 },
    { name: "slow", kind: "choice", label: "Slow mode: one message in", value: slow, options: SLOW.some(([value]) => value === slow) ? SLOW : [...SLOW, [slow, `${slow} seconds`]] },
    { name: "days", kind: "text", label: "Keep messages for days (0: for good)", value: String(Math.round(settings.retentionSeconds / 86_400)), pattern: "[0-9]{1,4}" },
    { name: "default", kind: "choice", label: "Who joins becomes", value: settings.defaultRole, options: [["member", "member"], ["guest", "guest, who reads and reacts"]] },
    ...(info.kind === "direct" || info.kind === "private" ? [] : [{ name: "listed", kind: "check", label: "Shown in the list of all rooms", value: settings.listed } as const]),
    { name: "archived", kind: "check", label: "Archived: nothing can be said any more", value: info.archived },
  ];
  const roles = ROLES.map((role) => [role, role] as const);
  const permissions = ACTIONS.map(([action, label]): Field => ({ name: action, kind: "choice", label: `${label}: from`, value: needed(action, info.kind, settings), options: roles }));
  askForm({
    title: "Room settings",
    submit: "Save",
    testid: "settings-dialog",
    fields,
    more: { label: "Who may do what", fields: permissions },
    run: async (values) => {
      const title = values.text("title");
      const topic = values.text("topic");
      const archived = values.checked("archived");
      const wanted: Settings = {
        ...settings,
        listed: info.kind === "direct" || info.kind === "private" ? settings.listed : values.checked("listed"),
        slowModeSeconds: Number(values.text("slow")),
        retentionSeconds: retention(values, settings),
        defaultRole: values.text("default") as Role,
        permissions: Object.fromEntries(ACTIONS.map(([action]) => [action, values.text(action) as Role]).filter(([action, role]) => role !== needed(action as Action, info.kind, { permissions: {} }))),
      };
      await room.update({
        ...(title !== info.title && { title }),
        ...(topic !== info.topic && { topic }),
        ...(archived !== info.archived && { archived }),
        ...(JSON.stringify(wanted) !== JSON.stringify(settings) && { settings: wanted }),
      });
    },
  });
}

/** A retention that is not whole days stays as it is unless it is changed. */
function retention(values: Values, { retentionSeconds }: Settings): number {
  const days = Number(values.text("days"));
  return days === Math.round(retentionSeconds / 86_400) ? retentionSeconds : days * 86_400;
}

export function inviteAddress(room: string, code: string): string {
  const address = new URL(routeTo({ room, invite: code }), location.href);
  address.search = "";
  return address.href;
}

/** Makes an invitation: a link for whoever has it, or for one user. */
export function askInvite(room: Room): void {
  askForm({
    title: `Invite to ${room.title}`,
    submit: "Make the invitation",
    testid: "invite-dialog",
    fields: [
      { name: "user", kind: "text", label: "For one user only (leave empty for a link)", max: 128 },
      { name: "uses", kind: "choice", label: "How many may use the link", options: [["0", "any number"], ["1", "one"], ["10", "ten"], ["100", "a hundred"]] },
      { name: "seconds", kind: "choice", label: "It holds for", options: [["0", "seven days"], ["3600", "an hour"], ["86400", "a day"], ["2592000", "thirty days"]] },
    ],
    run: async (values) => {
      const user = values.text("user");
      const made = await room.createInvite({ user, usesMax: user ? 1 : Number(values.text("uses")), seconds: Number(values.text("seconds")) });
      if (user) return tell("Invited", el("p", { class: "note", text: `${user} finds the invitation under “Join by link” and may come in.` }));
      const address = inviteAddress(room.id, made.code);
      const line = el("input", { label: "Invitation", testid: "invite-link" });
      line.value = address;
      line.readOnly = true;
      tell("The invitation", el("div", { class: "field" }, line, el("button", { class: "button small", text: "Copy", click: () => void copy(address, "The invitation is copied.") })));
      line.select();
    },
  });
}

/** The invitations of a room, and an end to them. */
export async function showInvites(room: Room): Promise<void> {
  try {
    const list = el("ul", { class: "invites" });
    const draw = async () => {
      const invites = await room.listInvites();
      const items = invites.map((invite) => {
        const what = invite.user === "" ? `link, used ${invite.uses}${invite.usesMax > 0 ? ` of ${invite.usesMax}` : ""} times` : `for ${invite.user}`;
        const until = `until ${moment(invite.expiresMs, Date.now())}, by ${invite.creator}`;
        const item = el("li", {}, el("span", { text: what }), el("span", { class: "muted", text: until }));
        if (invite.code) item.append(el("button", { class: "button quiet small", text: "Copy link", click: () => void copy(inviteAddress(room.id, invite.code), "The invitation is copied.") }));
        item.append(el("button", { class: "button quiet small", text: "Revoke", click: () => void room.revokeInvite(invite).then(draw).catch(errorToast) }));
        return item;
      });
      list.replaceChildren(...(items.length > 0 ? items : [el("li", { class: "empty", text: "There are none." })]));
    };
    await draw();
    tell("Invitations", list, "invites-dialog");
  } catch (error) {
    errorToast(error);
  }
}

/** The way into a room one has been invited to. */
export async function askJoin(client: Client, go: (route: Route) => void): Promise<void> {
  const invites = await client.listInvites().catch(() => []);
  const choices = [["", "—"] as const, ...invites.map(({ room, title, creator }) => [room, `${title || room}, by ${creator}`] as const)];
  askForm({
    title: "Join by link",
    submit: "Join",
    testid: "join-dialog",
    fields: [
      { name: "link", kind: "text", label: "The link you were given", placeholder: "https://…#/room/…?invite=…" },
      ...(invites.length > 0 ? [{ name: "room", kind: "choice", label: "Or an invitation for you", options: choices } as const] : []),
    ],
    run: (values) => {
      const chosen = values.text("room");
      const route = chosen ? { room: chosen } : pastedRoute(values.text("link"));
      if (!route) throw new Error("This is not a link to a room.");
      go(route);
    },
  });
}

/** Somebody to talk to alone. */
export function askDirect(client: Client, go: (room: string) => void): void {
  askForm({
    title: "Message somebody directly",
    submit: "Open",
    testid: "direct-dialog",
    fields: [{ name: "user", kind: "text", label: "Their name", required: true, max: 128 }],
    run: async (values) => go((await client.openDirect(values.text("user"))).id),
  });
}
