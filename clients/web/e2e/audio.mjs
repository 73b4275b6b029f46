// One page publishes its microphone, another one hears it: once over WebTransport, once with UDP dead.
// VEZA_URL=http://127.0.0.1:8080 SECONDS=20 node e2e/audio.mjs
import { createSocket } from "node:dgram";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, run, transportIs } from "./browser.mjs";
import { findMarks, likenessFrom, MARK_EVERY_S, quantile, RATE, wav } from "./signal.mjs";

const SECONDS = Number(process.env.SECONDS ?? 20);
/** What comes before is the beginning: the target is found, the machine warms up. */
const SETTLE_MS = 3_000;
/** Interruptions in a minute that are still called playing; a clean network has none. */
const UNDERRUNS_PER_MINUTE_MAX = 12;
const ALIKE_MIN = 0.9;
const LADDER = "music";

const folder = mkdtempSync(join(tmpdir(), "veza-audio-"));
const file = join(folder, "source.wav");
writeFileSync(file, wav(8));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

const FLAGS = [
  "--use-fake-device-for-media-stream",
  "--use-fake-ui-for-media-stream",
  `--use-file-for-fake-audio-capture=${file}`,
  "--autoplay-policy=no-user-gesture-required",
];

await run("audio", 60_000 + 2 * (SECONDS * 3_000 + 30_000), async ({ browser, check, shot, open, figure }) => {
  const silent = createSocket("udp4");
  await new Promise((resolve) => silent.bind(0, "127.0.0.1", resolve));

  for (const [transport, label] of [["webtransport", "WebTransport"], ["websocket", "WebSocket"]]) {
    // The page's policy names the server's own port; here another one is meant to be tried.
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, bypassCSP: transport === "websocket" });
    if (transport === "websocket") {
      await context.route("**/veza.json", async (route) => {
        const response = await route.fetch();
        const json = await response.json();
        await route.fulfill({ response, json: { ...json, webtransportUrl: `https://127.0.0.1:${silent.address().port}/wt` } });
      });
    }
    const name = `show-${transport}-${Date.now().toString(36)}`;
    const alice = await open(context, "alice", { room: "lobby" });
    const bob = await open(context, "bob", { room: "lobby" });
    await check(`both are on ${label}`, () => Promise.all([alice, bob].map((page) => transportIs(page, label, 15_000))));
    await check(`alice goes live over ${label}`, () =>
      alice.evaluate(async ([id, profile]) => {
        const { client, audio } = window.veza;
        await client.createStream(id, "A show", { profile });
        window.publisher = await audio.Publisher.open(client, id, { profile, source: { kind: "microphone" } });
      }, [name, LADDER]));
    await check(`bob hears something over ${label}`, async () => {
      await bob.evaluate(async (id) => {
        const { client, audio } = window.veza;
        window.player = await audio.Player.open(await client.listen(id));
      }, name);
      await bob.waitForFunction(() => window.player.playing?.playing && window.player.level < 60, undefined, { timeout: 15_000 });
    });
    await bob.waitForTimeout(SETTLE_MS);
    await record(alice, "publisher", "source");
    await record(bob, "player", "output");
    const before = await bob.evaluate(() => ({ starved: window.player.starved }));
    const underruns = await bob.evaluate(async (ms) => {
      let underruns = 0;
      const stop = window.player.on("playing", ({ reception }) => (underruns += reception.underruns));
      await new Promise((resolve) => setTimeout(resolve, ms));
      stop();
      return underruns;
    }, SECONDS * 1_000);
    const [source, played] = await Promise.all([recorded(alice), recorded(bob)]);
    const report = compare(source, played);
    const outputMs = await bob.evaluate(() => window.player.context.outputLatency * 1_000);
    const state = await bob.evaluate(() => window.player.playing);
    figure(transport, {
      ...report,
      output_latency_ms: Math.round(outputMs),
      underruns,
      starved: (await bob.evaluate(() => window.player.starved)) - before.starved,
      playback_stats: await bob.evaluate(() => window.player.context.playbackStats?.toJSON?.()),
      target_ms: Math.round(state.targetMs),
      spread_p95_ms: state.reception.spreadP95Us / 1_000,
      rate_ppm: Math.round(state.rate * 1e6),
      quality: await bob.evaluate(() => window.player.listening.quality),
      ingest: await alice.evaluate(() => ({ ...window.publisher.publication.report, dropped: window.publisher.publication.dropped, skipped: window.publisher.skipped })),
    });
    await check(`what bob heard over ${label} is what alice played`, () => {
      assert(report.marks_heard >= report.marks_expected * 0.9, `${report.marks_heard} of ${report.marks_expected} marks were heard`);
      assert(report.alike_p50 >= ALIKE_MIN, `the likeness is ${report.alike_p50}`);
    });
    await check(`it went on without a break over ${label}`, () => assert(underruns <= Math.ceil((SECONDS / 60) * UNDERRUNS_PER_MINUTE_MAX), `${underruns} underruns in ${SECONDS} s`));
    await shot(bob, `audio-${transport}`);
    await alice.evaluate(() => window.publisher.end());
    await check(`bob is told that it is over over ${label}`, () => bob.waitForFunction(() => window.player.listening.state === "over", undefined, { timeout: 10_000 }));
    await context.close();
  }
  silent.close();
}, FLAGS);

/** Begins to keep what passes a node, in blocks with the time at which the page had them. */
function record(page, owner, of) {
  return page.evaluate(([owner, of]) => {
    const { context } = window[owner];
    const node = of === "source" ? window[owner].source.node : window[owner].output;
    const recorder = new AudioWorkletNode(context, "veza-recorder", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    window.blocks = [];
    recorder.port.onmessage = ({ data }) => {
      const samples = Int16Array.from(data.channels[0], (sample) => Math.max(-1, Math.min(1, sample)) * 32_767);
      window.blocks.push({ atMs: performance.timeOrigin + performance.now(), samples });
    };
    node.connect(recorder);
  }, [owner, of]);
}

async function recorded(page) {
  const { text, times } = await page.evaluate(() => {
    const blocks = window.blocks;
    const all = new Int16Array(blocks.length * 960);
    blocks.forEach(({ samples }, at) => all.set(samples, at * 960));
    const bytes = new Uint8Array(all.buffer);
    let text = "";
    for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
    return { text: btoa(text), times: blocks.map(({ atMs }) => atMs) };
  });
  const bytes = Buffer.from(text, "base64");
  const samples = new Int16Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  // A block's time is that of its arrival in the page. The fastest of those around it show when it was really there.
  const lags = times.map((atMs, block) => atMs - block * 20);
  const atMs = (sample) => {
    const block = Math.floor(sample / 960);
    const around = lags.slice(Math.max(0, block - 100), block + 101);
    return Math.min(...around) + (sample / RATE) * 1_000 - 20;
  };
  return { samples, atMs };
}

function compare(source, played) {
  const sent = findMarks(source.samples);
  const heard = findMarks(played.samples);
  const latencies = [];
  const alike = [];
  for (const mark of heard) {
    const at = played.atMs(mark.sample);
    const origin = sent.findLast((one) => one.code === mark.code && source.atMs(one.sample) < at);
    if (!origin || at - source.atMs(origin.sample) > 1_900) continue;
    latencies.push(at - source.atMs(origin.sample));
    const length = MARK_EVERY_S * RATE - 960;
    if (mark.sample + length + 960 < played.samples.length && origin.sample + length < source.samples.length) alike.push(likenessFrom(source.samples, origin.sample, played.samples, mark.sample, length));
  }
  const round = (value, digits = 1) => Number(value?.toFixed(digits));
  return {
    seconds: round(played.samples.length / RATE),
    marks_expected: Math.floor(played.samples.length / RATE / MARK_EVERY_S) - 4,
    marks_sent: sent.length,
    marks_heard: latencies.length,
    mouth_to_ear_p50_ms: round(quantile(latencies, 0.5)),
    mouth_to_ear_p99_ms: round(quantile(latencies, 0.99)),
    mouth_to_ear_min_ms: round(quantile(latencies, 0)),
    alike_p50: round(quantile(alike, 0.5), 3),
    alike_p5: round(quantile(alike, 0.05), 3),
  };
}
