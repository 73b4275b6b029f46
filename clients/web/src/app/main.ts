// The page: signs in, connects, and hands over to `Page`.

import { connect, discover, LinkWorker, type TransportName } from "../sdk/index";
import { Page } from "./page";
import { askIdentity, type Identity, rememberedIdentity, rememberIdentity, tokenFor } from "./signin";
import { setUpTheme } from "./theme";

const PROBLEM_KEY = "veza.problem";
const TRANSPORTS: readonly string[] = ["auto", "webtransport", "websocket"];

const query = new URLSearchParams(location.search);

void main();

async function main(): Promise<void> {
  const linkWorker = LinkWorker.open("links.js");
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
    linkWorker,
    client: `veza-web/${server?.version ?? "?"}`,
    transport: (TRANSPORTS.includes(transport) ? transport : "auto") as "auto" | TransportName,
  });
  client.on("status", (status) => {
    if (status.state === "stopped" && status.error?.code === "unauthenticated" && !client.welcome) signInAgain(status.error.message);
  });
  new Page(client, identity, query.get("room") ?? undefined);
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
