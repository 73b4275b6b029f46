// Takes pictures of every view of the page against the small test server: `node scripts/shots.mjs DIR`.
import { mkdirSync } from "node:fs";
import { chromium } from "playwright-core";
import { furnish, start } from "./scene.mjs";

const dir = process.argv[2] ?? ".test/shots";
mkdirSync(dir, { recursive: true });
const server = await start();
const scene = furnish(server);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const base = `http://127.0.0.1:${server.port}`;

// Others are in the room; one types, one is away.
const others = await browser.newContext();
for (const user of ["mira", "jonas", "tuna"]) {
  const page = await others.newPage();
  await page.goto(`${base}/?user=${user}&room=lobby`);
  await page.waitForFunction(() => window.veza?.snapshot().roomState === "live");
  if (user === "jonas") await page.evaluate(() => window.veza.client.setPresence("away", "Back after lunch"));
  if (user === "tuna") await page.evaluate(() => window.veza.client.setPresence("do_not_disturb", ""));
}

for (const [size, viewport] of Object.entries({ desktop: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } })) {
  for (const colorScheme of ["light", "dark"]) {
    const context = await browser.newContext({ viewport, colorScheme, deviceScaleFactor: size === "phone" ? 2 : 1, hasTouch: size === "phone" });
    const page = await context.newPage();
    page.on("console", (message) => message.type() === "error" && console.log("page:", message.text()));
    page.on("pageerror", (error) => console.log("page error:", error.message));
    const shot = async (name) => {
      await page.waitForTimeout(250);
      await page.screenshot({ path: `${dir}/${size}-${colorScheme}-${name}.png` });
    };
    const press = (id) => page.click(`[data-testid=${id}]`);
    const type = (id, text) => page.fill(`[data-testid=${id}]`, text);
    const article = (seq) => `#log article[data-seq="${seq}"]`;
    const close = () => page.keyboard.press("Escape");

    await page.goto(base);
    await page.waitForSelector("[data-testid=signin-name]");
    if (colorScheme === "light") await shot("signin");
    await page.fill("[data-testid=signin-name]", "alice");
    await press("signin-submit");
    await page.waitForFunction(() => (window.veza?.snapshot().messages.length ?? 0) > 20);
    await page.waitForFunction(() => window.veza.snapshot().rttMs !== undefined);
    const typist = others.pages()[0];
    await typist.fill("[data-testid=composer]", "");
    await typist.locator("[data-testid=composer]").pressSequentially("hm");
    await page.waitForFunction(() => window.veza.snapshot().typing.length > 0);
    await shot("room");
    await page.focus(article(scene.long));
    await shot("tools");
    await press("tool-react");
    await shot("picker");
    await close();
    await page.focus(article(scene.long));
    await press("tool-more");
    await shot("more");
    await close();
    await page.click(`${article(scene.long)} [data-testid=edited]`);
    await shot("revisions");
    await close();
    await page.click(`${article(scene.long)} [data-testid=thread-link]`);
    await page.waitForSelector("[data-testid=thread] article:nth-of-type(3)");
    await shot("thread");
    await press("panel-close");
    await page.focus(article(scene.last));
    await press("tool-reply");
    await type("composer", "See you there, @jo");
    await page.locator("[data-testid=composer]").press("End");
    await page.locator("[data-testid=composer]").pressSequentially("n");
    await shot("answer");
    await close();
    await close();
    await type("composer", "");
    await press("open-search");
    await type("search-input", "set");
    await page.waitForSelector("[data-testid=found]");
    await shot("search");
    await press("panel-close");
    if (size === "desktop") {
      await press("open-pins");
      await page.waitForSelector("[data-testid=found]");
      await shot("pins");
      await press("panel-close");
      await page.keyboard.press("Escape");
      await page.evaluate(() => document.activeElement.blur());
      await page.keyboard.press("?");
      await shot("help");
      await close();
    } else {
      await page.click("#open-rooms");
      await shot("rooms");
      await close();
      await press("open-people");
      await page.waitForTimeout(300);
    }
    await page.click("[data-testid=person][data-user=jonas]");
    await shot("person");
    await press("person-mute");
    await shot("mute");
    await page.fill("[data-testid=moderate-dialog] input", "Too loud");
    await press("dialog-submit");
    await page.waitForSelector("[data-testid=note]");
    await shot("muted");
    await page.evaluate(() => window.veza.client.rooms.get("lobby").moderate("jonas", "unmute"));
    if (size === "phone") await close();
    await press("room-menu");
    await shot("room-menu");
    await press("menu-audit");
    await page.waitForSelector("[data-testid=audit] li");
    await shot("audit");
    await press("panel-close");
    await press("room-menu");
    await press("menu-settings");
    await shot("settings");
    await close();
    await press("room-menu");
    await press("menu-invite");
    await shot("invite");
    await close();
    if (size === "desktop") {
      await press("me-status");
      await shot("status");
      await close();
      await page.click("#room-new");
      await press("menu-new-room");
      await page.fill("[data-testid=create-dialog] input[name=title]", "Friday Listening II");
      await shot("create");
      await close();
    }
    if (size === "phone") await page.click("#open-rooms");
    await press("tab-live");
    await page.waitForSelector("[data-testid=live-item]");
    await page.waitForTimeout(250);
    await shot("live");
    await page.click("[data-testid=live-item]");
    await page.waitForSelector("[data-testid=live-play]");
    await page.waitForTimeout(250);
    await shot("show");
    await page.goto(`${base}/?user=alice#/room/lobby`);
    await page.waitForFunction(() => window.veza?.snapshot().roomState === "live");
    await type("composer", "/fail");
    await page.press("[data-testid=composer]", "Enter");
    await page.waitForSelector(".is-failed");
    await shot("failed");
    await type("composer", "ž".repeat(15_000));
    await page.evaluate(() => (document.getElementById("log").scrollTop -= 900));
    await shot("scrolled");
    await type("composer", "");
    await page.goto(`${base}/?user=alice#/room/nowhere`);
    await page.waitForTimeout(800);
    await shot("nowhere");
    await context.close();
  }
}
// Without a server.
const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme: "light" });
const page = await context.newPage();
await page.goto(`${base}/?user=alice&room=lobby`);
await page.waitForFunction(() => window.veza?.snapshot().roomState === "live");
await server.stop();
await page.fill("[data-testid=composer]", "Can anybody hear me?");
await page.press("[data-testid=composer]", "Enter");
await page.waitForTimeout(3_000);
await page.screenshot({ path: `${dir}/desktop-light-offline.png` });
await browser.close();
process.exit(0);
