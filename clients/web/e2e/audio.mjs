// One page publishes its microphone, another one hears it: once over WebTransport, once with UDP dead.
// VEZA_URL=http://127.0.0.1:8080 SECONDS=20 node e2e/audio.mjs; with TRANSPORT=webtransport or websocket only that one, with PIECE=300 the
// recording is fetched once.
import { assert, hears, roomIsLive, run, say, url } from "./browser.mjs";
import { wav } from "./signal.mjs";
import { compare, goLive, isHeard, joined, microphone, onEachTransport, openShow, record, recorded } from "./sound.mjs";

const SECONDS = Number(process.env.SECONDS ?? 20);
/** What comes before is the beginning: the target is found, the machine warms up. */
const SETTLE_MS = 3_000;
/** Recordings are fetched piece by piece; what that takes of a small machine is heard, so a quiet one fetches once. */
const PIECE_S = Number(process.env.PIECE ?? 20);
/** Interruptions in a minute that are still called playing; a clean network has none. */
const UNDERRUNS_PER_MINUTE_MAX = 12;
const ALIKE_MIN = 0.9;

await run("audio", 120_000 + 2 * SECONDS * 1_500, async ({ browser, check, shot, open, figure }) => {
  const only = process.env.TRANSPORT;
  await onEachTransport({ browser, check, open }, only, async ({ transport, label, title, alice, bob }) => {
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
    let listener;
    for (let left = SECONDS; left > 0; left -= PIECE_S) {
      await bob.waitForTimeout(Math.min(PIECE_S, left) * 1_000);
      // Before the recording is fetched, which takes a page some time.
      listener = await bob.evaluate(() => {
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
      pieces.alice.push(await recorded(alice));
      pieces.bob.push(await recorded(bob));
    }
    const report = compare(joined(pieces.alice), joined(pieces.bob));
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
  });
  if (only) return;

  // A voice from a file, to a browser that shares no memory between its threads.
  const context = await browser.newContext({ viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, colorScheme: "dark" });
  const plain = await browser.newContext({ viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true });
  await plain.route(({ origin, pathname }) => origin === url && pathname === "/", async (route) => {
    const response = await route.fetch();
    const headers = Object.fromEntries(Object.entries(response.headers()).filter(([name]) => !name.startsWith("cross-origin-")));
    await route.fulfill({ response, headers });
  });
  const carol = await open(context, "carol", { room: "lobby" });
  const dave = await open(plain, "dave", { room: "lobby" });
  const title = `A story ${Date.now().toString(36)}`;
  await check("carol goes live with a file, as a voice", async () => {
    await carol.click("#open-rooms");
    await goLive(carol, title, async () => {
      await carol.selectOption("[data-testid=golive-dialog] select[name=source]", "file");
      await carol.setInputFiles("[data-testid=golive-dialog] input[name=file]", { name: "story.wav", mimeType: "audio/wav", buffer: wav(60) });
      await carol.selectOption("[data-testid=golive-dialog] select[name=profile]", "voice");
      await shot(carol, "golive-phone");
    });
  });
  await check("dave hears it on a phone, without shared memory, and pins the quality", async () => {
    assert((await dave.evaluate(() => crossOriginIsolated)) === false, "memory can be shared");
    await dave.click("#open-rooms");
    await openShow(dave, title);
    await dave.click("[data-testid=live-play]");
    await isHeard(dave);
    const rate = (expected) => dave.waitForFunction((expected) => document.querySelector("[data-testid=live-state]").textContent === expected, expected, { timeout: 5_000 });
    await rate("24 kb/s");
    await dave.selectOption("[data-testid=live-quality]", "low");
    await rate("12 kb/s");
    await dave.click("[data-testid=live-details]");
    await dave.waitForTimeout(3_000);
    await isHeard(dave);
    await Promise.all([shot(carol, "publish-phone"), shot(dave, "listen-phone")]);
  });
  await check("carol says what is heard, and mutes herself", async () => {
    await carol.click("[data-testid=live-playing]");
    await carol.fill("[data-testid=playing-dialog] input[name=playing]", "The first chapter");
    await carol.click("[data-testid=playing-dialog] [data-testid=dialog-submit]");
    await dave.waitForFunction(() => document.querySelector("[data-testid=live-about]").textContent.includes("The first chapter"), undefined, { timeout: 5_000 });
    await carol.click("[data-testid=live-mute]");
    await dave.waitForFunction(() => window.veza.live.player.level > 100, undefined, { timeout: 5_000 });
    await carol.click("[data-testid=live-mute]");
    await isHeard(dave);
  });
}, microphone());
