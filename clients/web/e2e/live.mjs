// One page publishes its microphone, another one hears it, over WebTransport and by WebSocket: whether it is the same sound,
// however long the machine takes. How fast and how well is what audio.mjs measures.
import { assert, run } from "./browser.mjs";
import { compare, goLive, isHeard, joined, microphone, onEachTransport, openShow, record, recorded } from "./sound.mjs";

/** Sound that is compared at once, and how often that is tried: a busy machine plays late, and in pieces. */
const PIECE_MS = 4_000;
const PIECES_MAX = 8;
const MARKS_MIN = 3;
const ALIKE_MIN = 0.9;

await run("live", 120_000, async ({ browser, check, open, figure }) => {
  await onEachTransport({ browser, check, open }, undefined, async ({ transport, label, title, alice, bob }) => {
    await check(`alice goes live over ${label}`, () => goLive(alice, title));
    await check(`bob finds the show and hears it over ${label}`, async () => {
      await openShow(bob, title);
      await bob.click("[data-testid=live-play]");
      await isHeard(bob);
    });
    await check(`what bob hears over ${label} is what alice plays`, async () => {
      await Promise.all([record(alice, "publisher"), record(bob, "player")]);
      const [played, heard] = [[], []];
      let report;
      for (let piece = 0; piece < PIECES_MAX; piece++) {
        await bob.waitForTimeout(PIECE_MS);
        played.push(await recorded(alice));
        heard.push(await recorded(bob));
        report = compare(joined(played), joined(heard));
        if (report.marks_heard >= MARKS_MIN && report.alike_max >= ALIKE_MIN) break;
      }
      figure(transport, report);
      assert(report.marks_heard >= MARKS_MIN, `${report.marks_heard} marks were heard`);
      assert(report.alike_max >= ALIKE_MIN, `the likeness is ${report.alike_max} at best`);
    });
    await check(`bob is told that it is over over ${label}`, async () => {
      await alice.click("[data-testid=live-end]");
      await alice.click("[data-testid=end-dialog] [data-testid=dialog-submit]");
      await bob.waitForFunction(() => window.veza.live.player === undefined, undefined, { timeout: 20_000 });
    });
  });
}, microphone());
