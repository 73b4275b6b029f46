// What the end-to-end scripts share: a browser, checks that are printed as JSON, and one deadline.
import { mkdirSync, readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // A page that a test brings comes from nowhere, in the browser's eyes, and may not speak to this machine.
  ...(process.env.DIST ? ["--disable-features=LocalNetworkAccessChecks"] : []),
];

/** The server under test. */
export const url = (process.env.VEZA_URL ?? "http://127.0.0.1:8080").replace(/\/$/, "");

export const launch = (more = []) => chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: [...FLAGS, ...more] });

/** With DIST set the page is the one in that folder instead of the server's own: to try a page without building a server. */
export async function bringOwnPage(context) {
  const dist = process.env.DIST;
  if (!dist) return;
  await context.route(({ origin, pathname }) => origin === url && /^\/(|(app|links|record|playout|worklets)\.js|style\.css)$/.test(pathname), async (route) => {
    const name = new URL(route.request().url()).pathname.slice(1) || "index.html";
    const response = await route.fetch();
    const contentType = { html: "text/html", js: "text/javascript", css: "text/css" }[name.split(".").pop()];
    await route.fulfill({ response, status: 200, contentType, body: readFileSync(`${dist}/${name}`, "utf8") });
  });
}

/** Runs `story` with a browser that has these `flags` more, prints one JSON summary and sets the exit code. */
export async function run(name, deadlineMs, story, flags = []) {
  const summary = { name, ok: false, ms: 0, checks: [], figures: {}, shots: [], errors: [] };
  const started = Date.now();
  const finish = (code) => {
    summary.ms = Date.now() - started;
    console.log(JSON.stringify(summary, null, 2));
    process.exit(code);
  };
  const timer = setTimeout(() => {
    summary.errors.push(`not finished after ${deadlineMs} ms`);
    finish(1);
  }, deadlineMs);
  let browser;
  try {
    browser = await launch(flags);
    await story({ browser, ...tools(summary) });
    summary.ok = summary.errors.length === 0;
  } catch (error) {
    summary.errors.push(String(error?.message ?? error));
  }
  clearTimeout(timer);
  await browser?.close().catch(() => undefined);
  finish(summary.ok ? 0 : 1);
}

function tools(summary) {
  /** A named step; what it throws ends the story. */
  const check = async (what, step) => {
    const started = Date.now();
    try {
      const value = await step();
      summary.checks.push({ what, ok: true, ms: Date.now() - started });
      return value;
    } catch (error) {
      summary.checks.push({ what, ok: false, ms: Date.now() - started });
      throw new Error(`${what}: ${error?.message ?? error}`);
    }
  };
  const shot = async (page, name) => {
    if (!process.env.SHOTS) return;
    mkdirSync(process.env.SHOTS, { recursive: true });
    const path = `${process.env.SHOTS}/${name}.png`;
    await page.screenshot({ path });
    summary.shots.push(path);
  };
  /** A page whose errors are errors of the run. */
  const watch = async (context, user) => {
    await bringOwnPage(context);
    const page = await context.newPage();
    page.on("pageerror", (error) => summary.errors.push(`${user}: ${error.message}`));
    return page;
  };
  /** Opens the page signed in as somebody. */
  const open = async (context, user, query = {}) => {
    const page = await watch(context, user);
    await page.goto(`${url}/?${new URLSearchParams({ user, ...query })}`);
    return page;
  };
  return { check, shot, watch, open, figure: (name, value) => (summary.figures[name] = value) };
}

export const transportIs = (page, name, timeout) =>
  page.waitForFunction((wanted) => document.querySelector("[data-testid=status-transport]")?.textContent === wanted, name, { timeout });

export const roomIsLive = (page, timeout = 10_000) =>
  page.waitForFunction(() => window.veza?.snapshot().roomState === "live", undefined, { timeout });

export const snapshot = (page) => page.evaluate(() => window.veza.snapshot());

export const say = async (page, text) => {
  await page.fill("[data-testid=composer]", text);
  await page.press("[data-testid=composer]", "Enter");
};

/** The message stands in the page as delivered: it has a sequence number. */
export const hears = (page, text, timeout = 5_000) =>
  page.waitForFunction(
    (wanted) => [...document.querySelectorAll("[data-testid=message][data-seq] .bubble")].some((node) => node.textContent === wanted),
    text,
    { timeout },
  );

export function assert(condition, says) {
  if (!condition) throw new Error(says);
}
