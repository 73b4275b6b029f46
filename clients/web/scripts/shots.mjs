// Takes pictures of the page against the small test server: `node scripts/shots.mjs DIR`.
import { mkdirSync } from "node:fs";
import { build } from "esbuild";
import { chromium } from "playwright-core";

const dir = process.argv[2] ?? ".test/shots";
mkdirSync(dir, { recursive: true });
await build({ entryPoints: ["test/fakeserver.ts"], outfile: ".test/fakeserver.mjs", bundle: true, platform: "node", format: "esm", external: ["ws"] });
const { FakeServer } = await import("../.test/fakeserver.mjs");
const server = await FakeServer.start();

const MINUTE = 60_000;
const now = Date.now();
const day = 24 * 60 * MINUTE;
for (const [id, title] of [["lobby", "Lobby"], ["friday-listening", "Friday listening"], ["synths", "Synths & patches"], ["vinyl", "Vinyl diggers"], ["late-night", "Late night radio"]]) server.room(id, title);
for (let at = 0; at < 70; at++) server.say("lobby", ["mira", "jonas", "tuna"][at % 3], `Message number ${at} from a longer past.`, now - 2 * day + at * MINUTE);
const talk = [
  ["mira", "Morning! Did anybody catch the set last night?", -50],
  ["mira", "The second half was unreal", -49],
  ["jonas", "Listening to the recording now: https://example.org/sets/2024-11 (starts at 1:12:00)", -44],
  ["alice", "Yes — I stayed until the end.", -40],
  ["alice", "That transition around the hour mark, with the strings over the half-time drums, was the best thing I have heard this month. I would love to know what the track is.", -39],
  ["tuna", "I asked. It is unreleased 😅", -31],
  ["tuna", "for (const track of set) {\n  if (!track.released) sigh();\n}", -30],
  ["jonas", "Of course it is.", -12],
  ["alice", "I can wait. Friday listening, same time?", -9],
  ["mira", "I am in", -3],
];
for (const [author, body, minutes] of talk) server.say("lobby", author, body, now + minutes * MINUTE);
for (const id of ["friday-listening", "synths", "vinyl"]) {
  for (let at = 0; at < 5; at++) server.say(id, "mira", `hello ${at}`, now - day);
  server.room(id).members.add("alice");
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const base = `http://127.0.0.1:${server.port}`;

// Somebody else is in the room, and types.
const others = await browser.newContext();
for (const user of ["mira", "jonas"]) {
  const page = await others.newPage();
  await page.goto(`${base}/?user=${user}&room=lobby`);
  await page.waitForFunction(() => window.veza?.snapshot().roomState === "live");
}

for (const [size, viewport] of Object.entries({ desktop: { width: 1280, height: 800 }, phone: { width: 390, height: 844 } })) {
  for (const colorScheme of ["light", "dark"]) {
    const context = await browser.newContext({ viewport, colorScheme, deviceScaleFactor: size === "phone" ? 2 : 1, hasTouch: size === "phone" });
    const page = await context.newPage();
    page.on("console", (message) => message.type() === "error" && console.log("page:", message.text()));
    page.on("pageerror", (error) => console.log("page error:", error.message));
    const shot = (name) => page.screenshot({ path: `${dir}/${size}-${colorScheme}-${name}.png` });
    await page.goto(base);
    await page.waitForSelector("[data-testid=signin-name]");
    if (colorScheme === "light" || size === "phone") await shot("signin");
    await page.evaluate(() => {
      for (const [room, seq] of [["friday-listening", 2], ["synths", 5], ["lobby", 77]]) localStorage.setItem(`veza.read:alice:${room}`, String(seq));
    });
    await page.fill("[data-testid=signin-name]", "alice");
    await page.click("[data-testid=signin-submit]");
    await page.waitForFunction(() => (window.veza?.snapshot().messages.length ?? 0) > 20);
    await page.waitForFunction(() => window.veza.snapshot().rttMs !== undefined);
    const typist = others.pages()[0];
    await typist.fill("[data-testid=composer]", "");
    await typist.locator("[data-testid=composer]").pressSequentially("hm");
    await page.waitForFunction(() => window.veza.snapshot().typing.length > 0);
    await page.waitForTimeout(200);
    await shot("room");
    if (size === "phone") {
      await page.click("#open-rooms");
      await page.waitForTimeout(300);
      await shot("rooms");
      await page.keyboard.press("Escape");
      await page.click("#open-people");
      await page.waitForTimeout(300);
      await shot("people");
      await page.keyboard.press("Escape");
    }
    await page.fill("[data-testid=composer]", "/fail");
    await page.press("[data-testid=composer]", "Enter");
    await page.waitForSelector(".is-failed");
    await shot("failed");
    await page.fill("[data-testid=composer]", "ž".repeat(15_000));
    await page.evaluate(() => (document.getElementById("log").scrollTop -= 900));
    await page.waitForTimeout(300);
    await shot("scrolled");
    await page.fill("[data-testid=composer]", "two\nlines of a draft");
    await page.click("#jump");
    server.drop();
    await page.evaluate(() => window.veza.client.rooms.get("lobby"));
    await page.waitForTimeout(100);
    await page.goto(`${base}/?user=alice#/room/nowhere`);
    await page.waitForTimeout(800);
    await shot("nowhere");
    if (size === "desktop") {
      await page.click("#room-new");
      await page.fill("#create-title", "Friday Listening II");
      await shot("create");
    }
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
