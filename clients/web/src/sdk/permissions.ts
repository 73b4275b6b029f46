import { Role as WireRole } from "../gen/veza/v1/chat_pb";
import { Action as WireAction, RoomKind as WireKind, type RoomSettings as WireSettings } from "../gen/veza/v1/rooms_pb";

export type Role = "guest" | "member" | "moderator" | "admin" | "owner";
export type RoomKind = "public" | "private" | "direct" | "premium";
export type Action = Exclude<Lowercase<keyof typeof WireAction>, "unspecified">;

/** Lowest first. */
export const ROLES: readonly Role[] = ["guest", "member", "moderator", "admin", "owner"];

const DEFAULTS: Record<Action, Role> = {
  publish: "member",
  react: "guest",
  attach: "member",
  thread: "member",
  mention_all: "moderator",
  pin: "moderator",
  invite: "member",
  delete_any: "moderator",
  moderate: "moderator",
  manage: "admin",
};

/** How a room is set up; what is 0 or empty is off. */
export interface Settings {
  listed: boolean;
  slowModeSeconds: number;
  retentionSeconds: number;
  retentionEntries: number;
  defaultRole: Role;
  /** Who may do what, where that is not the default. */
  permissions: Partial<Record<Action, Role>>;
  entitlement: string;
}

/** The lowest role that may do it in a room of this kind. */
export function needed(action: Action, kind: RoomKind, settings: Pick<Settings, "permissions">): Role {
  const own = settings.permissions[action];
  if (own) return own;
  return action === "invite" && kind === "private" ? "moderator" : DEFAULTS[action];
}

export function atLeast(role: Role | undefined, wanted: Role): boolean {
  return role !== undefined && ROLES.indexOf(role) >= ROLES.indexOf(wanted);
}

export function above(role: Role | undefined, other: Role): boolean {
  return role !== undefined && ROLES.indexOf(role) > ROLES.indexOf(other);
}

/** A role this version does not know counts as the least. */
export function roleFromWire(role: WireRole): Role {
  return ROLES.find((name) => WireRole[role] === name.toUpperCase()) ?? "guest";
}

export function roleToWire(role: Role): WireRole {
  return WireRole[role.toUpperCase() as keyof typeof WireRole];
}

export function kindFromWire(kind: WireKind): RoomKind {
  return kind === WireKind.PRIVATE ? "private" : kind === WireKind.DIRECT ? "direct" : kind === WireKind.PREMIUM ? "premium" : "public";
}

export function kindToWire(kind: RoomKind): WireKind {
  return WireKind[kind.toUpperCase() as keyof typeof WireKind];
}

export function settingsFromWire(settings: WireSettings | undefined): Settings {
  const permissions: Settings["permissions"] = {};
  for (const { action, atLeast: role } of settings?.permissions ?? []) {
    const name = (WireAction[action] ?? "").toLowerCase();
    if (name in DEFAULTS) permissions[name as Action] = roleFromWire(role);
  }
  return {
    listed: settings?.listed ?? false,
    slowModeSeconds: settings?.slowModeSeconds ?? 0,
    retentionSeconds: Number(settings?.retentionSeconds ?? 0),
    retentionEntries: Number(settings?.retentionEntries ?? 0),
    defaultRole: settings && settings.defaultRole !== WireRole.UNSPECIFIED ? roleFromWire(settings.defaultRole) : "member",
    permissions,
    entitlement: settings?.entitlement ?? "",
  };
}

export function settingsToWire(settings: Settings) {
  const permissions = Object.entries(settings.permissions).map(([action, role]) => ({
    action: WireAction[action.toUpperCase() as keyof typeof WireAction],
    atLeast: roleToWire(role),
  }));
  return {
    listed: settings.listed,
    slowModeSeconds: settings.slowModeSeconds,
    retentionSeconds: BigInt(settings.retentionSeconds),
    retentionEntries: BigInt(settings.retentionEntries),
    defaultRole: roleToWire(settings.defaultRole),
    permissions,
    entitlement: settings.entitlement,
  };
}
