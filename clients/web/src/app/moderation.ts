import { above, type Client, type Membership, type Role, ROLES, type Room, type SanctionName } from "../sdk/index";
import { askForm } from "./dialogs";
import type { MenuItem } from "./menu";
import { errorToast, toast } from "./toasts";

const DURATIONS: readonly (readonly [string, string])[] = [
  ["600", "10 minutes"],
  ["3600", "1 hour"],
  ["86400", "1 day"],
  ["604800", "1 week"],
  ["0", "until it is lifted"],
];

const TITLES: Record<"mute" | "kick" | "ban", { title: string; submit: string; note: string; length: string }> = {
  mute: { title: "Mute", submit: "Mute", note: "Can read, and says nothing for a while.", length: "For" },
  kick: { title: "Remove", submit: "Remove", note: "Ends the membership. In a public room anybody may come back, once the time is over.", length: "May not come back for" },
  ban: { title: "Ban", submit: "Ban", note: "Ends the membership and keeps out, also with an invitation.", length: "For" },
};

/** What one may do to somebody in a room, as far as the page knows; the server decides. */
export function moderationItems(room: Room, user: string, member: Membership | undefined, me: string, done: () => void): MenuItem[] {
  const own = room.membership?.role;
  const items: MenuItem[] = [];
  if (user === me) return items;
  const banned = (member?.bannedUntilMs ?? 0) > Date.now();
  const below = above(own, member?.role ?? "member") || own === "owner";
  if (room.can("moderate") && below) {
    if (banned) items.push({ label: "Lift the ban", testid: "person-unban", run: () => void decide(room, user, "unban", done) });
    else {
      const muted = (member?.mutedUntilMs ?? 0) > Date.now();
      if (muted) items.push({ label: "Unmute", testid: "person-unmute", run: () => void decide(room, user, "unmute", done) });
      else items.push({ label: "Mute…", testid: "person-mute", run: () => askSanction(room, user, "mute", done) });
      items.push({ label: "Remove from the room…", danger: true, testid: "person-kick", run: () => askSanction(room, user, "kick", done) });
      items.push({ label: "Ban…", danger: true, testid: "person-ban", run: () => askSanction(room, user, "ban", done) });
    }
  }
  if (room.can("manage") && below && member && !banned) {
    items.push({ label: "Change role…", testid: "person-role", run: () => askRole(room, user, member.role, done) });
  }
  return items;
}

/** The room of two with somebody. */
export async function talkTo(client: Client, user: string, go: (room: string) => void): Promise<void> {
  try {
    go((await client.openDirect(user)).id);
  } catch (error) {
    errorToast(error);
  }
}

function askSanction(room: Room, user: string, sanction: "mute" | "kick" | "ban", done: () => void): void {
  const { title, submit, note, length } = TITLES[sanction];
  const options = sanction === "kick" ? ([["0", "not at all"], ...DURATIONS.slice(0, 4)] as const) : DURATIONS;
  askForm({
    title: `${title} ${user}`,
    note,
    testid: "moderate-dialog",
    danger: sanction !== "mute",
    submit,
    fields: [
      { name: "reason", kind: "text", label: "Reason", max: 200, hint: "For the audit log; the user is told too." },
      { name: "seconds", kind: "choice", label: length, options, value: sanction === "kick" ? "0" : "3600" },
    ],
    run: async (values) => {
      await room.moderate(user, sanction, values.text("reason"), Number(values.text("seconds")));
      done();
    },
  });
}

function askRole(room: Room, user: string, role: Role, done: () => void): void {
  const own = room.membership?.role;
  const offered = ROLES.filter((one) => above(own, one) || own === "owner");
  askForm({
    title: `Role of ${user}`,
    submit: "Change",
    testid: "role-dialog",
    ...(own === "owner" && { note: "Who makes somebody else the owner becomes an admin." }),
    fields: [{ name: "role", kind: "choice", label: "Role", value: role, options: offered.map((one) => [one, one] as const) }],
    run: async (values) => {
      await room.setRole(user, values.text("role") as Role);
      done();
    },
  });
}

async function decide(room: Room, user: string, sanction: SanctionName, done: () => void): Promise<void> {
  try {
    await room.moderate(user, sanction);
    toast(sanction === "unban" ? `${user} may come back.` : `${user} may write again.`);
    done();
  } catch (error) {
    errorToast(error);
  }
}
