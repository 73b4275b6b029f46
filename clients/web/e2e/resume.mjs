// The server is killed during a burst and started again; the pages come back by themselves and show each acknowledged
// message once, in sequence. VEZA_URL=… RESTART_CMD='kill -9 …; start …' node e2e/resume.mjs
//
// RESTART_CMD returns when the server has been started (it may leave it in the background).
import { spawn } from "node:child_process";
import { assert, roomIsLive, run, snapshot, transportIs } from "./browser.mjs";

const COMMAND = process.env.RESTART_CMD ?? process.env.VEZA_CONTROL;
const PER_PAGE = 60;
const EVERY_MS = 60;

await run("resume", 110_000, async ({ browser, check, shot, open, figure }) => {
  assert(COMMAND, "RESTART_CMD is not set");
  const room = `resume-${Date.now().toString(36)}`;
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  const alice = await open(context, "alice", { room: "lobby" });
  await roomIsLive(alice);
  await alice.evaluate((id) => window.veza.client.createRoom(id, "Resume"), room);
  await alice.evaluate((id) => (location.hash = `#/room/${id}`), room);
  const bob = await open(await browser.newContext(), "bob", { room, transport: "websocket" });
  const pages = { alice, bob };
  for (const page of Object.values(pages)) {
    await page.waitForFunction((id) => window.veza?.snapshot().room === id && window.veza.snapshot().roomState === "live", room, { timeout: 15_000 });
  }
  await check("alice is on WebTransport, bob on WebSocket", () =>
    Promise.all([transportIs(alice, "WebTransport", 15_000), transportIs(bob, "WebSocket", 5_000)]));

  // Each page says its lines on a schedule and notes what is acknowledged, and when it was away.
  for (const [user, page] of Object.entries(pages)) {
    await page.evaluate(
      ({ user, id, count, everyMs }) => {
        const said = (window.said = { acknowledged: {}, failed: [], done: 0, lostAt: 0, backAt: 0 });
        window.veza.client.on("status", ({ state }) => {
          if (state !== "online") said.lostAt ||= Date.now();
          else if (said.lostAt) said.backAt = Date.now();
        });
        const room = window.veza.client.rooms.get(id);
        let at = 0;
        const timer = setInterval(() => {
          if (at === count) return clearInterval(timer);
          at += 1;
          const outgoing = room.publish(`${user} ${at}`);
          outgoing.stored.then(
            ({ seq }) => (said.acknowledged[outgoing.cmid] = seq),
            (error) => said.failed.push(String(error.message)),
          ).finally(() => (said.done += 1));
        }, everyMs);
      },
      { user, id: room, count: PER_PAGE, everyMs: EVERY_MS },
    );
  }
  await new Promise((resolve) => setTimeout(resolve, (PER_PAGE * EVERY_MS) / 3));
  const before = Object.keys(await alice.evaluate(() => window.said.acknowledged)).length;
  figure("acknowledged_by_alice_before_restart", before);
  const restartedMs = Date.now();
  await check("the server was restarted", () => restart(COMMAND));
  figure("restart_command_ms", Date.now() - restartedMs);

  await check("both pages come back and everything is acknowledged", () =>
    Promise.all(
      Object.values(pages).map((page) =>
        page.waitForFunction((count) => window.said.done === count && window.veza.snapshot().state === "online" && window.veza.snapshot().roomState === "live", PER_PAGE, { timeout: 60_000 }),
      ),
    ));
  const carol = await open(await browser.newContext(), "carol", { room });
  await roomIsLive(carol, 15_000);
  const truth = await check("a fresh page reads the whole history", async () => {
    await carol.evaluate(async (id) => {
      const fresh = window.veza.client.rooms.get(id);
      while (fresh.hasOlder) await fresh.loadOlder();
    }, room);
    return (await snapshot(carol)).messages;
  });
  await check("the history is dense and holds each line once", () => {
    assert(truth.length === 2 * PER_PAGE, `${truth.length} messages for ${2 * PER_PAGE} lines`);
    truth.forEach(({ seq }, at) => assert(seq === at + 1, `seq ${seq} at place ${at + 1}`));
    assert(new Set(truth.map(({ author, body }) => `${author}: ${body}`)).size === truth.length, "a line is there twice");
  });
  for (const [user, page] of Object.entries(pages)) {
    const said = await page.evaluate(() => window.said);
    figure(`${user}_away_ms`, said.backAt - said.lostAt);
    await check(`${user}: nothing failed, every acknowledgement is in the history at its place`, () => {
      assert(said.failed.length === 0, said.failed.join("; "));
      assert(said.lostAt > 0 && said.backAt >= said.lostAt, "the page never noticed that the server was gone");
      for (const [cmid, seq] of Object.entries(said.acknowledged)) {
        assert(truth[seq - 1]?.cmid === cmid && truth[seq - 1]?.author === user, `acknowledged ${seq} is not there`);
      }
      assert(Object.keys(said.acknowledged).length === PER_PAGE, `${Object.keys(said.acknowledged).length} acknowledgements`);
    });
    await check(`${user}: the page shows exactly the history, once and in sequence`, async () => {
      await page.waitForFunction((count) => window.veza.snapshot().messages.length === count, truth.length, { timeout: 10_000 });
      const shown = (await snapshot(page)).messages;
      assert(JSON.stringify(shown) === JSON.stringify(truth), "the page's log differs from the fresh one's");
      // Only what is near the window is in the page: walk down through all of it.
      const inDom = await page.evaluate(async () => {
        const log = document.getElementById("log");
        const seen = [];
        for (log.scrollTop = 0; ; log.scrollTop += log.clientHeight / 2) {
          await new Promise((resolve) => setTimeout(resolve, 150));
          for (const node of log.querySelectorAll("[data-testid=message]")) if (!seen.includes(Number(node.dataset.seq))) seen.push(Number(node.dataset.seq));
          if (log.scrollTop + log.clientHeight >= log.scrollHeight - 2) return seen;
        }
      });
      assert(inDom.every((seq, at) => at === 0 || seq === inDom[at - 1] + 1), `the page shows ${inDom.join()}`);
      assert(inDom.length === truth.length, `${inDom.length} nodes for ${truth.length} messages`);
    });
  }
  await shot(alice, "resume");
});

function restart(command) {
  return new Promise((resolve, reject) => {
    const shell = spawn("sh", ["-c", command], { stdio: ["ignore", "ignore", "inherit"] });
    shell.on("error", reject);
    shell.on("exit", (code) => (code === 0 ? resolve() : reject(new Error(`RESTART_CMD ended with ${code}`))));
  });
}
