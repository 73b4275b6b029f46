import type { Endpoints } from "./options";
import { VezaError } from "./errors";

/** A server that is half gone must not hold up the next attempt. Milliseconds. */
const TIMEOUT_MS = 5_000;

/** What a server says about itself at `GET /veza.json`. */
export interface Discovery extends Endpoints {
  development?: boolean;
  version?: string;
}

/** Asks a server where its transports are. `origin` is the page's own by default. */
export async function discover(origin = ""): Promise<Discovery> {
  const response = await fetch(`${origin}/veza.json`, { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!response.ok) throw new VezaError("unavailable", `veza.json answered ${response.status}.`, true);
  return (await response.json()) as Discovery;
}
