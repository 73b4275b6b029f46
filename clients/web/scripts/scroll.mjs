// Measures the page in a room with very many messages: `node scripts/scroll.mjs [MESSAGES]`. It scrolls up through the
// room's past with the wheel, jumps into its middle and back to its end, and prints frames, nodes and heap.
//
// Against the small test server; with VEZA_URL against a real one, whose room VEZA_ROOM has the messages already.
import { bringOwnPage, launch } from "../e2e/browser.mjs";
import { start } from "./scene.mjs";

const count = Number(process.argv[2] ?? 50_000);
/** 18,000 pixels a second: a hard fling. */
const WHEEL_PX = 300;
const WHEEL_EVERY_MS = 16;

let server;
let base = process.env.VEZA_URL;
const room = process.env.VEZA_ROOM ?? "lobby";
if (!base) {
  server = await start();
  server.room("lobby", "Lobby");
  const words = ["so", "this", "is", "what", "people", "say", "to", "each", "other", "about", "music", "all", "day", "long"];
  for (let at = 1; at <= count; at++) {
    const body = Array.from({ length: 1 + ((at * 7) % 40) }, (_, word) => words[(at + word) % words.length]).join(" ");
    server.room("lobby").append(["mira", "jonas", "tuna"][(at >> 2) % 3], `c${at}`, body, {}, Date.now() - (count - at) * 20_000);
  }
  base = `http://127.0.0.1:${server.port}`;
}
const browser = await launch(["--enable-precise-memory-info", "--js-flags=--expose-gc"]);
const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
await bringOwnPage(context);
const page = await context.newPage();
page.on("pageerror", (error) => console.error("page error:", error.message));
await page.goto(`${base}/?user=alice&room=${room}`);
await page.waitForFunction(() => (window.veza?.snapshot().messages.length ?? 0) >= 50);
await page.waitForTimeout(500);

const measure = (seconds, step) =>
  page.evaluate(
    async ({ seconds, step, px, everyMs }) => {
      const log = document.getElementById("log");
      const frames = [];
      let blank = 0;
      let nodesMax = 0;
      let last = performance.now();
      const until = last + seconds * 1_000;
      let moved = last;
      const tasks = [];
      const observer = new PerformanceObserver((list) => tasks.push(...list.getEntries().map(({ duration }) => duration)));
      observer.observe({ entryTypes: ["longtask"] });
      while (performance.now() < until) {
        const now = await new Promise(requestAnimationFrame);
        frames.push(now - last);
        last = now;
        if (now - moved >= everyMs) {
          log.scrollTop += step * px;
          moved = now;
        }
        // Whether the middle of the window shows a row, and not a spacer.
        const box = log.getBoundingClientRect();
        const under = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
        if (under?.classList.contains("space")) blank += 1;
        nodesMax = Math.max(nodesMax, log.querySelectorAll("*").length);
      }
      observer.disconnect();
      frames.sort((a, b) => a - b);
      const at = (part) => Math.round(frames[Math.floor((frames.length - 1) * part)] * 10) / 10;
      const { messages } = window.veza.snapshot();
      return { frames: frames.length, fps: Math.round(frames.length / seconds), p50_ms: at(0.5), p95_ms: at(0.95), p99_ms: at(0.99), long_tasks: tasks.length, longest_task_ms: Math.round(Math.max(0, ...tasks)), blank_frames: blank, log_nodes_max: nodesMax, loaded: messages.length, first_seq: messages[0]?.seq };
    },
    { seconds, step, px: WHEEL_PX, everyMs: WHEEL_EVERY_MS },
  );
const heapMb = () => page.evaluate(() => (globalThis.gc?.(), Math.round(performance.memory.usedJSHeapSize / 1024 / 102.4) / 10));

const report = { messages: count, at_start: { heap_mb: await heapMb(), nodes: await page.evaluate(() => document.querySelectorAll("*").length) } };
report.idle = await measure(2, 0);
report.up = await measure(20, -1);
report.up.heap_mb = await heapMb();
report.down = await measure(10, 1);
report.down.heap_mb = await heapMb();
const middle = Math.floor(count / 2);
let began = Date.now();
await page.evaluate((hash) => (location.hash = hash), `#/room/${room}/${middle}`);
await page.waitForSelector(`#log article[data-seq="${middle}"].flash`);
report.jump_to_the_middle_ms = Date.now() - began;
report.around_the_middle = await measure(5, -1);
began = Date.now();
await page.click("#jump");
await page.waitForFunction((last) => !window.veza.snapshot().hasNewer && document.querySelector(`#log article[data-seq="${last}"]`), count);
report.back_to_the_end_ms = Date.now() - began;
report.at_end = { heap_mb: await heapMb(), nodes: await page.evaluate(() => document.querySelectorAll("*").length) };
console.log(JSON.stringify(report, null, 2));
await browser.close();
process.exit(0);
