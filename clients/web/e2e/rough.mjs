// A show over a rough network: packets get lost, come late, come from another address, and at last UDP dies.
// VEZA_URL=http://127.0.0.1:8080 SECONDS=10 node e2e/rough.mjs
import { assert, run, transportIs } from "./browser.mjs";
import { Relay } from "./relay.mjs";
import { compare, goLive, isHeard, joined, microphone, moveWebTransport, openShow, record, recorded } from "./sound.mjs";

const SECONDS = Number(process.env.SECONDS ?? 10);
const ALIKE_MIN = 0.85;

await run("rough", 180_000 + SECONDS * 8_000, async ({ browser, check, shot, open, figure }) => {
  const { webtransportUrl } = await (await fetch(`${process.env.VEZA_URL ?? "http://127.0.0.1:8080"}/veza.json`)).json();
  const serverPort = Number(new URL(webtransportUrl).port);
  const [uplink, downlink] = await Promise.all([new Relay(serverPort).start(), new Relay(serverPort).start()]);
  const page = async (user, relay) => {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme: "dark" });
    await moveWebTransport(context, relay.port);
    const opened = await open(context, user, { room: "lobby" });
    await transportIs(opened, "WebTransport", 15_000);
    return opened;
  };
  const alice = await page("alice", uplink);
  const bob = await page("bob", downlink);
  const title = `Storm ${Date.now().toString(36)}`;
  await goLive(alice, title);
  await openShow(bob, title);
  await bob.click("[data-testid=live-play]");
  await isHeard(bob);
  await bob.click("[data-testid=live-details]");
  await bob.evaluate(() => {
    window.totals = {};
    window.veza.live.player.on("playing", ({ reception }) => {
      for (const [name, value] of Object.entries(reception)) window.totals[name] = (window.totals[name] ?? 0) + value;
    });
  });
  await Promise.all([record(alice, "publisher"), record(bob, "player")]);

  /** Lets some time pass under these conditions and tells how it was heard. */
  const phase = async (name, { settleMs = 2_000, seconds = SECONDS, heard = 0.8 } = {}) => {
    await bob.waitForTimeout(settleMs);
    await Promise.all([recorded(alice), recorded(bob)]);
    await bob.evaluate(() => (window.totals = {}));
    await bob.waitForTimeout(seconds * 1_000);
    const [source, played] = (await Promise.all([recorded(alice), recorded(bob)])).map((piece) => joined([piece]));
    const report = compare(source, played);
    const state = await bob.evaluate(() => {
      const { player } = window.veza.live;
      const { received, lost, late, recovered, packetsLost, underruns } = window.totals;
      return { received, lost, late, recovered, packets_lost: packetsLost, underruns, target_ms: Math.round(player.playing.targetMs), quality: player.listening.quality };
    });
    figure(name, { ...report, ...state });
    await check(`the show is heard: ${name}`, () => {
      assert(report.marks_heard >= report.marks_expected * heard, `${report.marks_heard} of ${report.marks_expected} marks were heard`);
      assert(report.alike_p50 >= ALIKE_MIN, `the likeness is ${report.alike_p50}`);
    });
  };

  await phase("a clean network");
  downlink.loss = 0.02;
  await phase("2 % of the packets get lost on the way to bob");
  downlink.loss = 0.1;
  await phase("10 % get lost", { heard: 0.6, settleMs: 4_000 });
  downlink.loss = 0;
  downlink.jitterMs = 200;
  await phase("packets take up to 200 ms longer", { settleMs: 6_000, heard: 0.6 });
  downlink.jitterMs = 0;
  uplink.loss = 0.02;
  await phase("2 % get lost on the way from alice", { settleMs: 4_000 });
  figure("uplink", await alice.evaluate(() => ({ ...window.veza.live.publisher.publication.report, copies: window.veza.live.publisher.copies })));
  uplink.loss = 0;
  downlink.rebind();
  uplink.rebind();
  await phase("both come from another address", { settleMs: 500 });
  await shot(bob, "rough-graph");
  await check("neither has lost its session by that", async () => {
    for (const one of [alice, bob]) await transportIs(one, "WebTransport", 1_000);
  });

  const diedMs = Date.now();
  downlink.dead = true;
  uplink.dead = true;
  await check("UDP is dead: both go on over WebSocket", async () => {
    await Promise.all([alice, bob].map((one) => transportIs(one, "WebSocket", 30_000)));
    figure("on_websocket_after_ms", Date.now() - diedMs);
    await isHeard(bob, 20_000);
    figure("heard_again_after_ms", Date.now() - diedMs);
  });
  await phase("over WebSocket", { settleMs: 3_000 });
  downlink.stop();
  uplink.stop();
}, microphone());
