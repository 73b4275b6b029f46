// One page publishes its microphone, another one hears it: once over WebTransport, once with UDP dead.
// VEZA_URL=http://127.0.0.1:8080 SECONDS=20 node e2e/audio.mjs
import { createSocket } from "node:dgram";
import { assert, hears, roomIsLive, run, say, transportIs } from "./browser.mjs";
import { compare, goLive, isHeard, joined, microphone, moveWebTransport, openShow, record, recorded } from "./sound.mjs";

const SECONDS = Number(process.env.SECONDS ?? 20);
/** What comes before is the beginning: the target is found, the machine warms up. */
const SETTLE_MS = 3_000;
/** Recordings are fetched piece by piece. */
const PIECE_S = 20;
/** Interruptions in a minute that are still called playing; a clean network has none. */
const UNDERRUNS_PER_MINUTE_MAX = 12;
const ALIKE_MIN = 0.9;

await run("audio", 120_000 + 2 * SECONDS * 1_500, async ({ browser, check, shot, open, figure }) => {
  // Bound and silent, like a network that drops UDP.
  const silent = createSocket("udp4");
  await new Promise((resolve) => silent.bind(0, "127.0.0.1", resolve));

  for (const [transport, label] of [["webtransport", "WebTransport"], ["websocket", "WebSocket"]]) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
    if (transport === "websocket") await moveWebTransport(context, silent.address().port);
    const title = `Evening by ${label} ${Date.now().toString(36)}`;
    const alice = await open(context, "alice", { room: "lobby" });
    const bob = await open(context, "bob", { room: "lobby" });
    await check(`both are on ${label}`, () => Promise.all([alice, bob].map((page) => transportIs(page, label, 15_000))));
    await check(`alice goes live over ${label}`, () => goLive(alice, title, () => shot(alice, `golive-${transport}`)));
    await check(`bob finds the show and hears it over ${label}`, async () => {
      await openShow(bob, title);
      if (transport === "webtransport") await bob.click("[data-testid=live-play]");
      else {
        // The same without a pointer.
        await bob.evaluate(() => document.activeElement.blur());
        await bob.keyboard.press("s");
      }
      await isHeard(bob);
      await bob.click("[data-testid=live-details]");
    });
    await check(`they talk in the show's room over ${label}`, async () => {
      await Promise.all([alice, bob].map((page) => roomIsLive(page)));
      await say(alice, "Can you hear me?");
      await hears(bob, "Can you hear me?");
      await say(bob, "Loud and clear");
      await hears(alice, "Loud and clear");
    });
    await bob.waitForTimeout(SETTLE_MS);
    await bob.evaluate(() => {
      const { player } = window.veza.live;
      window.underruns = 0;
      window.starvedBefore = player.starved;
      player.on("playing", ({ reception }) => (window.underruns += reception.underruns));
    });
    await Promise.all([record(alice, "publisher"), record(bob, "player")]);
    const pieces = { alice: [], bob: [] };
    for (let left = SECONDS; left > 0; left -= PIECE_S) {
      await bob.waitForTimeout(Math.min(PIECE_S, left) * 1_000);
      pieces.alice.push(await recorded(alice));
      pieces.bob.push(await recorded(bob));
    }
    const report = compare(joined(pieces.alice), joined(pieces.bob));
    const listener = await bob.evaluate(() => {
      const { starved, playing, context, listening } = window.veza.live.player;
      return {
        underruns: window.underruns,
        starved: starved - window.starvedBefore,
        output_latency_ms: Math.round(context.outputLatency * 1_000),
        sound_card_underruns: context.playbackStats?.underrunEvents,
        target_ms: Math.round(playing.targetMs),
        spread_p95_ms: playing.reception.spreadP95Us / 1_000,
        quality: listening.quality,
      };
    });
    const publisher = await alice.evaluate(() => {
      const { publication, skipped } = window.veza.live.publisher;
      return { ...publication.report, skipped };
    });
    figure(transport, { ...report, ...listener, publisher });
    await check(`what bob heard over ${label} is what alice played`, () => {
      assert(report.marks_heard >= report.marks_expected * 0.9, `${report.marks_heard} of ${report.marks_expected} marks were heard`);
      assert(report.alike_p50 >= ALIKE_MIN, `the likeness is ${report.alike_p50}`);
    });
    await check(`it went on without a break over ${label}`, () => assert(listener.underruns <= Math.ceil((SECONDS / 60) * UNDERRUNS_PER_MINUTE_MAX), `${listener.underruns} underruns in ${SECONDS} s`));
    await shot(alice, `publish-${transport}`);
    await shot(bob, `listen-${transport}`);
    await check(`bob goes to another room and hears on over ${label}`, async () => {
      await bob.evaluate(() => (location.hash = "#/room/lobby"));
      await bob.waitForFunction(() => window.veza.snapshot().room === "lobby" && window.veza.snapshot().roomState === "live");
      await bob.waitForTimeout(500);
      await isHeard(bob);
      await shot(bob, `elsewhere-${transport}`);
    });
    await check(`bob is told that it is over over ${label}`, async () => {
      await alice.click("[data-testid=live-end]");
      await alice.click("[data-testid=end-dialog] [data-testid=dialog-submit]");
      await bob.waitForFunction(() => window.veza.live.player === undefined, undefined, { timeout: 10_000 });
      await alice.waitForFunction(() => window.veza.live.publisher === undefined, undefined, { timeout: 10_000 });
    });
    await context.close();
  }
  silent.close();
}, microphone());
