// UDP does not answer: the page goes to WebSocket and says how long it took. The head start by itself is tested
// against a clock of its own in test/race.test.ts. VEZA_URL=… node e2e/fallback.mjs
import { createSocket } from "node:dgram";
import { assert, hears, roomIsLive, run, say, transportIs } from "./browser.mjs";

await run("fallback", 60_000, async ({ browser, check, shot, open, figure }) => {
  // Bound and silent, like a network that drops UDP.
  const silent = createSocket("udp4");
  let packets = 0;
  silent.on("message", () => (packets += 1));
  await new Promise((resolve) => silent.bind(0, "127.0.0.1", resolve));

  // The page's policy names the server's own port; here another one is meant to be tried.
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, bypassCSP: true });
  await context.route("**/veza.json", async (route) => {
    const response = await route.fetch();
    const json = await response.json();
    await route.fulfill({ response, json: { ...json, webtransportUrl: `https://127.0.0.1:${silent.address().port}/wt` } });
  });

  const user = "alice";
  const page = await check("on WebSocket", async () => {
    const opened = await open(context, user, { room: "lobby" });
    await transportIs(opened, "WebSocket", 15_000);
    figure("first_visit_ms", Math.round(await opened.evaluate(() => performance.now())));
    return opened;
  });
  await check("UDP was really tried", async () => {
    figure("udp_packets", packets);
    assert(packets > 0, "no packet reached the silent port");
  });
  await check("chat works", async () => {
    await roomIsLive(page);
    const text = `By WebSocket ${Date.now().toString(36)}`;
    await say(page, text);
    await hears(page, text);
  });
  await check("the next visit begins with what won, and is on WebSocket too", async () => {
    const kept = await page.evaluate(() => Object.entries(localStorage).filter(([key]) => key.startsWith("veza.transport:")).map(([, value]) => value));
    assert(kept.length === 1 && JSON.parse(kept[0]).transport === "websocket", `remembered: ${kept.join()}`);
    await page.reload();
    await transportIs(page, "WebSocket", 15_000);
    figure("next_visit_ms", Math.round(await page.evaluate(() => performance.now())));
  });
  await roomIsLive(page);
  await shot(page, "fallback");
  silent.close();

  // UDP is back: the remembered winner must not keep the page on WebSocket for a day.
  await check("WebTransport is found again in the background", async () => {
    await context.unroute("**/veza.json");
    await page.reload();
    await transportIs(page, "WebTransport", 25_000);
    figure("back_on_webtransport_ms", Math.round(await page.evaluate(() => performance.now())));
    await roomIsLive(page);
    const text = `By WebTransport again ${Date.now().toString(36)}`;
    await say(page, text);
    await hears(page, text);
  });
});
