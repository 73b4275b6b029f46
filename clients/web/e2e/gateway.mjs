// The example gateway of the Go module, in front of a server: people log in there, and the page they see comes through it.
// VEZA_URL=http://127.0.0.1:8090 SHOTS=/tmp/shots node e2e/gateway.mjs
import { assert, hears, roomIsLive, run, say, snapshot, transportIs, url } from "./browser.mjs";

await run("gateway", 60_000, async ({ browser, check, shot, watch, figure }) => {
  const desktop = { viewport: { width: 1280, height: 800 }, colorScheme: "light" };
  /** Logs in as a person would, and gives the page that comes then. */
  const login = async (name) => {
    const page = await watch(await browser.newContext(desktop), name);
    await page.goto(url);
    assert(page.url() === `${url}/login`, `who is not logged in is shown ${page.url()}`);
    if (name === "alice") await shot(page, "gateway-login");
    await page.click(`button[value=${name}]`);
    await roomIsLive(page, 15_000);
    return page;
  };
  const post = (page, path, body, headers = {}) =>
    page.evaluate(
      async ([path, body, headers]) => {
        const answer = await fetch(path, { method: "POST", body: body && JSON.stringify(body), headers });
        return { status: answer.status, body: await answer.json() };
      },
      [path, body, headers],
    );

  const alice = await check("alice logs in at the gateway and is connected by its token", () => login("alice"));
  await check("over WebTransport", () => transportIs(alice, "WebTransport", 15_000));
  assert((await snapshot(alice)).user === "1001", "alice is not number 1001");
  const bob = await check("so is bob", () => login("bob"));

  await check("bob makes a room through Go, twice with one key: it is one room", async () => {
    for (let time = 0; time < 2; time++) {
      const { status, body } = await post(bob, "/rooms", { room: "listening", title: "Friday listening" }, { "Idempotency-Key": "friday" });
      assert(status === 201 && body.room === "listening", `answered ${status}: ${JSON.stringify(body)}`);
    }
    const { status, body } = await post(bob, "/rooms", { room: "Not An Id", title: "x" });
    assert(status === 400 && body.error === "INVALID_ARGUMENT", `a bad one was answered ${status}: ${JSON.stringify(body)}`);
  });
  await check("it shows up in alice's browser, who goes in", async () => {
    await alice.click("#tab-all");
    await alice.click("#room-list a[data-room=listening]", { timeout: 10_000 });
    await alice.waitForFunction(() => window.veza.snapshot().room === "listening" && window.veza.snapshot().roomState === "live", undefined, { timeout: 10_000 });
  });
  await bob.evaluate(() => (location.hash = "#/room/listening"));
  await bob.waitForFunction(() => window.veza.snapshot().room === "listening" && window.veza.snapshot().roomState === "live", undefined, { timeout: 10_000 });
  await check("bob, in whose name Go made it, is its owner", async () => assert((await snapshot(bob)).role === "owner", `bob is ${(await snapshot(bob)).role}`));

  await say(alice, "Eight o'clock, headphones on");
  await hears(bob, "Eight o'clock, headphones on");
  await check("what alice says reaches Go as an event", () =>
    alice.waitForFunction(
      async () => (await (await fetch("/heard")).json()).heard.some(({ room, author, body }) => room === "listening" && author === "1001" && body === "Eight o'clock, headphones on"),
      undefined,
      { timeout: 10_000, polling: 100 },
    ));
  await shot(alice, "gateway-room");

  await check("bob is nobody's judge", async () => {
    const { status } = await post(bob, "/users/alice/revoke");
    assert(status === 404, `answered ${status}`);
  });
  await check("alice revokes bob, who is thrown out", async () => {
    const begun = Date.now();
    const { status, body } = await post(alice, "/users/bob/revoke");
    assert(status === 200 && body.sessionsClosed === 1, `answered ${status}: ${JSON.stringify(body)}`);
    await bob.waitForFunction(() => window.veza.snapshot().state === "stopped", undefined, { timeout: 5_000 });
    figure("thrown_out_after_ms", Date.now() - begun);
  });
  await shot(bob, "gateway-revoked");
  await check("alice sees him go, and he does not come back", async () => {
    await alice.waitForFunction(() => !window.veza.snapshot().present.includes("1002"), undefined, { timeout: 10_000 });
    await bob.goto(url);
    assert(bob.url() === `${url}/login`, `bob is shown ${bob.url()}`);
  });
  await check("alice is still there", async () => {
    await say(alice, "Where did he go?");
    await hears(alice, "Where did he go?");
  });
});
