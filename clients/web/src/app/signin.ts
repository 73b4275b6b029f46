import { type Discovery, VezaError } from "../sdk/index";
import { byId } from "./dom";

/** Who we are in this tab: a name in development, a token in production. Two tabs may be two people. */
export type Identity = { user: string } | { token: string };

const KEY = "veza.identity";

export function rememberedIdentity(): Identity | undefined {
  try {
    return (JSON.parse(sessionStorage.getItem(KEY) ?? "null") as Identity | null) ?? undefined;
  } catch {
    return undefined;
  }
}

export function rememberIdentity(identity: Identity | undefined): void {
  if (!identity) return sessionStorage.removeItem(KEY);
  sessionStorage.setItem(KEY, JSON.stringify(identity));
  if ("user" in identity) localStorage.setItem("veza.name", identity.user);
}

/** A token for the identity: the development login's, or the pasted one. */
export async function tokenFor(identity: Identity): Promise<string> {
  if ("token" in identity) return identity.token;
  const response = await fetch("dev/login", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ user: identity.user }),
    signal: AbortSignal.timeout(10_000),
  });
  if (response.ok) return ((await response.json()) as { token: string }).token;
  if (response.status === 404) throw new VezaError("unauthenticated", "Signing in by name is switched off on this server.");
  if (response.status >= 500 || response.status === 429) throw new VezaError("unavailable", "The server cannot sign you in now.", true, 1_000);
  throw new VezaError("unauthenticated", await refusal(response));
}

async function refusal(response: Response): Promise<string> {
  try {
    const body = (await response.json()) as { message?: string; error?: string };
    return body.message ?? body.error ?? "This name cannot be used.";
  } catch {
    return "This name cannot be used.";
  }
}

/** Shows the sign-in page until somebody has come in. */
export function askIdentity(server: Discovery | undefined, error?: string): Promise<Identity> {
  const byName = server?.development !== false;
  const name = byId<HTMLInputElement>("signin-name");
  const token = byId<HTMLInputElement>("signin-token");
  const problem = byId("signin-error");
  byId("signin").hidden = false;
  byId("app").hidden = true;
  byId("signin-name-field").hidden = !byName;
  byId("signin-token-field").hidden = byName;
  byId("signin-note").textContent = byName
    ? "Development sign-in: any name will do. Open a second tab to be somebody else."
    : "Paste the token that the platform gave you. It stays in this tab.";
  problem.textContent = error ?? "";
  name.value ||= localStorage.getItem("veza.name") ?? "";
  (byName ? name : token).focus();

  return new Promise((resolve) => {
    byId<HTMLFormElement>("signin-form").onsubmit = (event) => {
      event.preventDefault();
      const value = (byName ? name : token).value.trim();
      if (value === "") {
        problem.textContent = byName ? "Please say who you are." : "Please paste a token.";
        return;
      }
      byId("signin").hidden = true;
      resolve(byName ? { user: value } : { token: value });
    };
  });
}
