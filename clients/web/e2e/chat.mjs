// Two tabs, two people, real WebTransport: VEZA_URL=http://127.0.0.1:8080 SHOTS=/tmp/shots node e2e/chat.mjs
import { assert, hears, roomIsLive, run, say, snapshot, transportIs } from "./browser.mjs";

await run("chat", 60_000, async ({ browser, check, shot, open, figure }) => {
  const nonce = Date.now().toString(36);
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme: "light" });
  const alice = await open(context, "alice", { room: "lobby" });
  const bob = await open(context, "bob", { room: "lobby" });

  await check("both say WebTransport", () => Promise.all([alice, bob].map((page) => transportIs(page, "WebTransport", 15_000))));
  await check("both are in the lobby", () => Promise.all([alice, bob].map((page) => roomIsLive(page))));
  await check("both see each other", () =>
    Promise.all([alice, bob].map((page) => page.waitForFunction(() => ["alice", "bob"].every((name) => window.veza.snapshot().present.includes(name)), undefined, { timeout: 10_000 }))));
  await check("the round trip is measured", () => alice.waitForFunction(() => / ms$/.test(document.querySelector("[data-testid=rtt]").textContent), undefined, { timeout: 5_000 }));

  await check("alice says it, bob hears it", async () => {
    await say(alice, `Hello bob, this is alice (${nonce})`);
    await Promise.all([alice, bob].map((page) => hears(page, `Hello bob, this is alice (${nonce})`)));
  });
  await check("bob types, alice sees that", async () => {
    await bob.locator("[data-testid=composer]").pressSequentially("Hello al", { delay: 20 });
    await alice.waitForFunction(() => document.querySelector("[data-testid=typing]").textContent.includes("bob"), undefined, { timeout: 5_000 });
  });
  await shot(alice, "chat-desktop-light-typing");
  await check("bob answers, typing ends", async () => {
    await say(bob, `Hello alice, this is bob (${nonce})`);
    await hears(alice, `Hello alice, this is bob (${nonce})`);
    await alice.waitForFunction(() => document.querySelector("[data-testid=typing]").textContent === "", undefined, { timeout: 8_000 });
  });
  await check("a quick exchange arrives in the same order on both sides", async () => {
    for (let at = 0; at < 10; at++) await say(at % 2 === 0 ? alice : bob, `line ${at} (${nonce})`);
    for (let at = 0; at < 10; at++) await Promise.all([alice, bob].map((page) => hears(page, `line ${at} (${nonce})`)));
    const [hers, his] = (await Promise.all([snapshot(alice), snapshot(bob)])).map(({ messages }) => messages.filter(({ body }) => body.includes(nonce)).map(({ seq, body }) => `${seq} ${body}`));
    assert(hers.length === 12 && hers.join("\n") === his.join("\n"), `alice has ${hers.length}, bob ${his.length}`);
  });
  await check("an oversize message is not sent", async () => {
    await alice.fill("[data-testid=composer]", "x".repeat(32 * 1024 + 1));
    assert(await alice.locator("[data-testid=send]").isDisabled(), "the button can be pressed");
    await alice.fill("[data-testid=composer]", "");
  });
  const before = await snapshot(alice);
  await check("history survives a reload", async () => {
    await alice.reload();
    await roomIsLive(alice);
    await hears(alice, `Hello bob, this is alice (${nonce})`, 10_000);
    await hears(alice, `line 9 (${nonce})`);
    const after = await snapshot(alice);
    const ours = ({ messages }) => messages.filter(({ body }) => body.includes(nonce)).map(({ seq, epoch, cmid }) => `${epoch}/${seq} ${cmid}`).join();
    assert(ours(after) === ours(before), "the history differs from what was shown");
  });
  await check("alice is on WebTransport again", () => transportIs(alice, "WebTransport", 15_000));
  await alice.waitForFunction(() => window.veza.snapshot().rttMs !== undefined, undefined, { timeout: 5_000 });
  figure("rtt_ms", (await snapshot(alice)).rttMs);

  await shot(alice, "chat-desktop-light");
  const phone = await browser.newContext({ viewport: { width: 390, height: 844 }, colorScheme: "dark", deviceScaleFactor: 2, hasTouch: true });
  const carol = await open(phone, "carol", { room: "lobby" });
  await check("a phone shows the same", async () => {
    await roomIsLive(carol);
    await hears(carol, `line 9 (${nonce})`, 10_000);
    await transportIs(carol, "WebTransport", 15_000);
  });
  await shot(carol, "chat-phone-dark");
  await alice.emulateMedia({ colorScheme: "dark" });
  await shot(alice, "chat-desktop-dark");
});
