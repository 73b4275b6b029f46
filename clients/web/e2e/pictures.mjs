// The pictures of the documentation, from a fresh server: VEZA_URL=… SHOTS=../../docs/images node e2e/pictures.mjs
import { roomIsLive, run, transportIs } from "./browser.mjs";

await run("pictures", 90_000, async ({ browser, shot, open }) => {
  const desktop = { viewport: { width: 1280, height: 800 }, colorScheme: "light" };
  const people = {};
  for (const user of ["alice", "mira", "jonas", "tuna"]) {
    people[user] = await open(await browser.newContext(desktop), user, { room: "lobby" });
    await roomIsLive(people[user], 15_000);
  }
  const { alice, mira, jonas, tuna } = people;
  await transportIs(alice, "WebTransport", 15_000);
  /** Something a person does in a room; resolves to the number of what they have written. */
  const act = (page, room, call, ...args) =>
    page.evaluate(([room, call, args]) => window.veza.client.rooms.get(room)[call](...args).stored.then(({ seq }) => seq), [room, call, args]);
  const say = (page, text, extras = {}) => act(page, "listening", "publish", text, extras);

  await alice.evaluate(async () => {
    const { client } = window.veza;
    for (const [id, title] of [["synths", "Synths & patches"], ["vinyl", "Vinyl diggers"], ["listening", "Friday listening"]]) await client.createRoom(id, title, { topic: id === "listening" ? "Eight o'clock, headphones on" : "" });
    await client.createRoom("crew", "Crew only", { kind: "private" });
    for (const id of ["synths", "vinyl", "crew"]) await client.join(id);
    await client.openDirect("mira");
  });
  for (const page of Object.values(people)) await page.evaluate(() => (location.hash = "#/room/listening"));
  for (const page of Object.values(people)) await page.waitForFunction(() => window.veza.snapshot().room === "listening" && window.veza.snapshot().roomState === "live");
  for (const room of ["synths", "vinyl"]) await mira.evaluate((room) => window.veza.client.join(room), room);
  await act(mira, "synths", "publish", "New patch is up");
  await act(mira, "synths", "publish", "@alice this one is for you");
  await act(mira, "vinyl", "publish", "Found it!");
  await alice.evaluate(() => window.veza.client.rooms.get("listening").setRole("mira", "moderator"));
  await jonas.evaluate(() => window.veza.client.setPresence("away", "Back after lunch"));
  await tuna.evaluate(() => window.veza.client.setPresence("do_not_disturb", "In the studio"));

  await say(mira, "Did anybody catch the set last night?");
  const unreal = await say(mira, "The second half was unreal");
  const link = await say(jonas, "The recording: https://example.org/sets/2026-11, from 1:12:00 on");
  await act(mira, "listening", "pin", link);
  const long = await say(alice, "That transition around the hour mark, with the strings over the half-time drums, was the best thing I have herd this month. What is the track?", { replyTo: unreal });
  await act(alice, "listening", "edit", long, "That transition around the hour mark, with the strings over the half-time drums, was the best thing I have heard this month. What is the track?");
  for (const [page, emoji] of [[mira, "🔥"], [jonas, "🔥"], [tuna, "👀"]]) await act(page, "listening", "react", long, emoji);
  for (const [page, text] of [[jonas, "An edit of something old, I think"], [mira, "Nothing finds it"], [alice, "I am asking around"]]) await say(page, text, { thread: long });
  await say(tuna, "@alice it is unreleased 😅");
  const slip = await say(jonas, "Something I should not have said");
  await act(jonas, "listening", "delete", slip);
  await say(alice, "I can wait. Same time on Friday?");
  const last = await say(mira, "I am in");
  for (const page of [jonas, alice]) await act(page, "listening", "react", last, "🎧");

  await alice.waitForFunction((seq) => document.querySelector(`#log [data-seq="${seq}"] [data-testid=reaction]`), last);
  await alice.waitForFunction(() => window.veza.snapshot().rttMs !== undefined && document.querySelector("[data-testid=person][data-user=mira]")?.textContent.includes("mod"));
  await mira.locator("[data-testid=composer]").pressSequentially("hm");
  await alice.waitForFunction(() => window.veza.snapshot().typing.length > 0);
  await alice.mouse.move(640, 30);
  await shot(alice, "page");
  await alice.click(`#log [data-seq="${long}"] [data-testid=thread-link]`);
  await alice.waitForSelector("[data-testid=thread] >> text=I am asking around");
  await alice.emulateMedia({ colorScheme: "dark" });
  await alice.mouse.move(640, 30);
  await shot(alice, "thread");
  await alice.keyboard.press("Escape");
  await alice.emulateMedia({ colorScheme: "light" });
  await alice.click("[data-testid=person][data-user=jonas]");
  await alice.click("[data-testid=person-mute]");
  await alice.fill("[data-testid=moderate-dialog] input", "Something he should not have said");
  await shot(alice, "moderation");

  const phone = await browser.newContext({ viewport: { width: 390, height: 844 }, colorScheme: "dark", deviceScaleFactor: 2, hasTouch: true });
  await alice.close();
  const pocket = await open(phone, "alice", { room: "listening" });
  await roomIsLive(pocket, 15_000);
  await pocket.waitForFunction(() => window.veza.snapshot().rttMs !== undefined && window.veza.snapshot().messages.length > 8);
  await pocket.waitForTimeout(500);
  await shot(pocket, "phone");
});
