import type { Client, TransportName } from "../sdk/index";
import { byId } from "./dom";
import { countdown, rttText } from "./format";

const NAMES: Record<TransportName, string> = { webtransport: "WebTransport", websocket: "WebSocket" };
/** Shorter breaks are not worth a banner. Milliseconds. */
const BANNER_AFTER_MS = 1_000;

/** Which transport carries us, how long a round trip takes, and what happens when nothing does. */
export function setUpStatus(client: Client): void {
  const chip = byId("status");
  const transport = byId("status-transport");
  const rtt = byId("rtt");
  const banner = byId("banner");
  const bannerText = byId("banner-text");
  let lostAtMs: number | undefined;
  let ticking: ReturnType<typeof setInterval> | undefined;

  const show = () => {
    const { status } = client;
    chip.dataset.state = status.state;
    rtt.textContent = status.state === "online" ? rttText(client.rttMs) : "";
    switch (status.state) {
      case "online":
        transport.textContent = NAMES[status.transport];
        chip.title = `Connected by ${NAMES[status.transport]}. Measure the round trip now.`;
        break;
      case "connecting":
        transport.textContent = client.welcome ? "Reconnecting" : "Connecting";
        chip.title = "";
        break;
      case "waiting":
        transport.textContent = `Reconnecting in ${countdown(status.retryAtMs, Date.now())}`;
        chip.title = "Try now";
        break;
      case "stopped":
        transport.textContent = "Disconnected";
        chip.title = status.error?.message ?? "";
    }
    const lost = status.state === "waiting" || status.state === "connecting";
    if (!lost) lostAtMs = undefined;
    else lostAtMs ??= Date.now();
    banner.hidden = !(lostAtMs !== undefined && Date.now() - lostAtMs >= BANNER_AFTER_MS);
    if (!banner.hidden) {
      const kept = client.unacknowledged > 0 ? " What you write is kept and sent when we are back." : "";
      bannerText.textContent = (client.welcome ? "The connection is lost." : "The server cannot be reached.") + kept;
    }
    if (lost) ticking ??= setInterval(show, 250);
    else {
      clearInterval(ticking);
      ticking = undefined;
    }
  };

  client.on("status", show);
  client.on("rtt", show);
  chip.onclick = () => client.reconnectNow();
  byId("banner-retry").onclick = () => client.reconnectNow();
  show();
}
