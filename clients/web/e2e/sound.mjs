// Shows that are heard, for the stories about live audio: a microphone that plays a known sound, and ears that know it.
import { createSocket } from "node:dgram";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { transportIs } from "./browser.mjs";
import { findMarks, likenessFrom, MARK_EVERY_S, quantile, RATE, wav } from "./signal.mjs";

/** The flags of a browser whose microphone plays the sound over and over, and whose pages may be loud at once. */
export function microphone() {
  const folder = mkdtempSync(join(tmpdir(), "veza-audio-"));
  const file = join(folder, "source.wav");
  writeFileSync(file, wav(8));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  return ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", `--use-file-for-fake-audio-capture=${file}`, "--autoplay-policy=no-user-gesture-required"];
}

/** Tells the pages of a context that WebTransport is at another port. */
export async function moveWebTransport(context, port) {
  await context.route("**/veza.json", async (route) => {
    const response = await route.fetch();
    const json = await response.json();
    await route.fulfill({ response, json: { ...json, webtransportUrl: `https://127.0.0.1:${port}/wt` } });
  });
}

/** Goes live with the microphone, through the page. */
export async function goLive(page, title, shot = async () => {}) {
  await page.click("[data-testid=tab-live]");
  await page.click("[data-testid=go-live]");
  await page.fill("[data-testid=golive-dialog] input[name=title]", title);
  await shot();
  await page.press("[data-testid=golive-dialog] input[name=title]", "Enter");
  await page.waitForSelector("[data-testid=live-air]", { timeout: 15_000 });
  await page.waitForFunction(() => /sent/.test(document.querySelector("[data-testid=live-ingest]").textContent), undefined, { timeout: 15_000 });
}

/** Alice and bob in the lobby, on WebTransport and then, with UDP dead, on WebSocket: `scene` plays each. */
export async function onEachTransport({ browser, check, open }, only, scene) {
  // Bound and silent, like a network that drops UDP.
  const silent = createSocket("udp4");
  await new Promise((resolve) => silent.bind(0, "127.0.0.1", resolve));
  for (const [transport, label] of [["webtransport", "WebTransport"], ["websocket", "WebSocket"]]) {
    if (only && only !== transport) continue;
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
    if (transport === "websocket") await moveWebTransport(context, silent.address().port);
    const title = `Evening by ${label} ${Date.now().toString(36)}`;
    const alice = await open(context, "alice", { room: "lobby" });
    const bob = await open(context, "bob", { room: "lobby" });
    await check(`both are on ${label}`, () => Promise.all([alice, bob].map((page) => transportIs(page, label, 15_000))));
    await scene({ transport, label, title, alice, bob });
    await context.close();
  }
  silent.close();
}

/** Opens the show of this title. */
export async function openShow(page, title) {
  await page.click("[data-testid=tab-live]");
  await page.locator("[data-testid=live-item]", { hasText: title }).click();
  await page.waitForSelector("[data-testid=live-play]");
}

/** The page says that it plays, and something comes out. */
export const isHeard = (page, timeout = 15_000) =>
  page.waitForFunction(() => /kb.s/.test(document.querySelector("[data-testid=live-state]").textContent) && window.veza.live.player.level < 60, undefined, { timeout });

/** Begins to keep what the publisher's source gives, or what the player plays, with the time at which the page had it. */
export function record(page, owner) {
  return page.evaluate((owner) => {
    const { context, source, output } = window.veza.live[owner];
    const recorder = new AudioWorkletNode(context, "veza-recorder", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    window.blocks = [];
    recorder.port.onmessage = ({ data }) => {
      const samples = Int16Array.from(data.channels[0], (sample) => Math.max(-1, Math.min(1, sample)) * 32_767);
      window.blocks.push({ atMs: performance.timeOrigin + performance.now(), samples });
    };
    (source?.node ?? output).connect(recorder);
  }, owner);
}

/** What was kept since the last time. */
export async function recorded(page) {
  const { text, times } = await page.evaluate(() => {
    const { blocks } = window;
    window.blocks = [];
    const all = new Int16Array(blocks.length * 960);
    blocks.forEach(({ samples }, at) => all.set(samples, at * 960));
    const bytes = new Uint8Array(all.buffer);
    let text = "";
    for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
    return { text: btoa(text), times: blocks.map(({ atMs }) => atMs) };
  });
  return { samples: Buffer.from(text, "base64"), times };
}

/** Pieces of a recording as one. */
export function joined(pieces) {
  const bytes = Buffer.concat(pieces.map(({ samples }) => samples));
  const samples = new Int16Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  // A block's time is that of its arrival in the page. The fastest of those around it show when it was really there.
  const lags = pieces.flatMap(({ times }) => times).map((atMs, block) => atMs - block * 20);
  const atMs = (sample) => {
    const block = Math.floor(sample / 960);
    return Math.min(...lags.slice(Math.max(0, block - 100), block + 101)) + (sample / RATE) * 1_000 - 20;
  };
  return { samples, atMs };
}

/** How much of what was recorded was heard, how like it was, and how much later. */
export function compare(source, played) {
  const sent = findMarks(source.samples);
  const heard = findMarks(played.samples);
  const latencies = [];
  const alike = [];
  for (const mark of heard) {
    const at = played.atMs(mark.sample);
    const origin = sent.findLast((one) => one.code === mark.code && source.atMs(one.sample) < at);
    if (!origin || at - source.atMs(origin.sample) > 1_900) continue;
    latencies.push(at - source.atMs(origin.sample));
    // Short, because what is played a little faster or slower slides along what was recorded.
    const length = RATE / 20;
    if (mark.sample + length + 960 < played.samples.length && origin.sample + length < source.samples.length) alike.push(likenessFrom(source.samples, origin.sample, played.samples, mark.sample, length));
  }
  const round = (value, digits = 1) => Number(value?.toFixed(digits));
  return {
    seconds: round(played.samples.length / RATE),
    // Some at either end are cut off, or were sent before the recording began.
    marks_expected: Math.floor(played.samples.length / RATE / MARK_EVERY_S) - 4,
    marks_sent: sent.length,
    marks_heard: latencies.length,
    mouth_to_ear_p50_ms: round(quantile(latencies, 0.5)),
    mouth_to_ear_p99_ms: round(quantile(latencies, 0.99)),
    mouth_to_ear_min_ms: round(quantile(latencies, 0)),
    alike_p50: round(quantile(alike, 0.5), 3),
    alike_p5: round(quantile(alike, 0.05), 3),
    alike_max: round(quantile(alike, 1), 3),
  };
}
