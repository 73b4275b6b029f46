// Everything a person does with messages, rooms and people, by keyboard and by pointer, in two pages:
// VEZA_URL=http://127.0.0.1:8080 SHOTS=/tmp/shots node e2e/features.mjs
import { assert, hears, roomIsLive, run, say, snapshot } from "./browser.mjs";

await run("features", 110_000, async ({ browser, check, shot, open, figure }) => {
  const nonce = Date.now().toString(36);
  const id = `hall-${nonce}`;
  const desktop = { viewport: { width: 1280, height: 800 }, colorScheme: "light" };
  const alice = await open(await browser.newContext(desktop), "alice", { room: "lobby" });
  const bob = await open(await browser.newContext(desktop), "bob", { room: "lobby" });
  const byText = (page, text) => page.locator("#log [data-testid=message]", { hasText: text });
  const press = (page, testid) => page.click(`[data-testid=${testid}]`);
  const until = (page, condition, argument) => page.waitForFunction(condition, argument, { timeout: 10_000 });
  const message = async (page, body) => (await snapshot(page)).messages.find((one) => one.body === body);
  const inRoom = (page, room) => until(page, (room) => window.veza?.snapshot().room === room && window.veza.snapshot().roomState === "live", room);
  /** Puts the focus on a message, as somebody who walks there by keys. */
  const focus = (page, text) => byText(page, text).last().focus();

  await check("alice makes a room by its dialog, bob comes by its address", async () => {
    await Promise.all([alice, bob].map((page) => roomIsLive(page, 15_000)));
    await alice.click("#room-new");
    await press(alice, "menu-new-room");
    await alice.fill("[data-testid=create-dialog] input[name=title]", "Hall");
    await alice.fill("[data-testid=create-dialog] input[name=id]", id);
    await press(alice, "dialog-submit");
    await inRoom(alice, id);
    await bob.evaluate((hash) => (location.hash = hash), `#/room/${id}`);
    await inRoom(bob, id);
    assert((await snapshot(alice)).role === "owner", "who makes a room owns it");
  });

  await check("two people talk", async () => {
    await say(alice, "Helo bob");
    await say(bob, "Hello alice");
    for (const page of [alice, bob]) await Promise.all(["Helo bob", "Hello alice"].map((text) => hears(page, text)));
  });

  await check("arrow up edits the last message, and its versions can be read", async () => {
    await alice.press("[data-testid=composer]", "ArrowUp");
    assert((await alice.inputValue("[data-testid=composer]")) === "Helo bob", "the text is not there to edit");
    await say(alice, "Hello bob");
    await hears(bob, "Hello bob");
    await byText(bob, "Hello bob").locator("[data-testid=edited]").click();
    await bob.waitForSelector("[data-testid=revision]");
    const versions = await bob.$$eval("[data-testid=revision] .bubble", (nodes) => nodes.map((node) => node.textContent));
    assert(versions.join() === "Hello bob,Helo bob", `versions are ${versions.join()}`);
    await bob.keyboard.press("Escape");
  });

  await check("a reaction is given by the picker, joined by a press, and taken back", async () => {
    await focus(bob, "Hello bob");
    await bob.keyboard.press("+");
    await bob.waitForSelector("[data-testid=picker]");
    await bob.keyboard.press("Enter");
    const chip = (page) => byText(page, "Hello bob").locator("[data-testid=reaction]");
    await chip(alice).click();
    for (const page of [alice, bob]) await until(page, () => document.querySelector("#log [data-testid=reaction] .reaction-count")?.textContent === "2");
    assert((await chip(bob).getAttribute("aria-pressed")) === "true", "bob's own is not marked");
    await chip(bob).click();
    for (const page of [alice, bob]) await until(page, () => document.querySelector("#log [data-testid=reaction] .reaction-count")?.textContent === "1");
    await until(bob, () => document.querySelector("#log [data-testid=reaction]")?.getAttribute("aria-pressed") === "false");
  });

  await check("an answer quotes what it answers", async () => {
    await focus(bob, "Hello bob");
    await bob.keyboard.press("r");
    await say(bob, "Nice to see you");
    await hears(alice, "Nice to see you");
    assert((await byText(alice, "Nice to see you").locator("[data-testid=quote]").innerText()).includes("Hello bob"), "the quote is not there");
  });

  await check("a thread: its replies stand beside the room, its root counts them", async () => {
    await focus(bob, "Hello alice");
    await bob.keyboard.press("t");
    await bob.waitForSelector("[data-testid=thread] article");
    await bob.fill("[data-testid=thread-composer]", "a word aside");
    await bob.press("[data-testid=thread-composer]", "Enter");
    await byText(alice, "Hello alice").locator("[data-testid=thread-link]").click();
    await alice.waitForSelector("[data-testid=thread] >> text=a word aside");
    await alice.fill("[data-testid=thread-composer]", "and one back");
    await alice.press("[data-testid=thread-composer]", "Enter");
    await bob.waitForSelector("[data-testid=thread] >> text=and one back");
    await until(bob, () => document.querySelector("#log [data-testid=thread-link] b")?.textContent === "2 replies");
    assert(!(await snapshot(bob)).messages.some(({ body }) => body === "a word aside"), "a reply stands in the room");
  });
  await shot(alice, "features-thread");
  await check("Escape closes the thread and gives the focus back", async () => {
    await bob.keyboard.press("Escape");
    await until(bob, () => document.getElementById("panel").dataset.view === "people");
    assert(await bob.evaluate(() => document.activeElement.closest("#log article") !== null), "the focus is not back at the message");
    await press(alice, "panel-close");
  });

  await check("a pin shows, and in the panel", async () => {
    await focus(alice, "Hello alice");
    await alice.keyboard.press("p");
    await byText(bob, "Hello alice").locator("[data-testid=pinned]").waitFor();
    await press(bob, "open-pins");
    await bob.waitForSelector("[data-testid=pins] [data-testid=found]");
    await press(bob, "panel-close");
  });

  await check("what is deleted leaves a tombstone, here and in a fresh page", async () => {
    await say(bob, `a slip of the tongue ${nonce}`);
    await hears(alice, `a slip of the tongue ${nonce}`);
    const { seq } = await message(bob, `a slip of the tongue ${nonce}`);
    await focus(bob, "a slip of the tongue");
    await bob.keyboard.press("Delete");
    await bob.waitForSelector("[data-testid=delete-dialog]");
    await press(bob, "dialog-submit");
    for (const page of [alice, bob]) await page.waitForSelector(`#log [data-seq="${seq}"] [data-testid=tombstone]`, { timeout: 10_000 });
    await alice.reload();
    await inRoom(alice, id);
    await alice.waitForSelector(`#log [data-seq="${seq}"] [data-testid=tombstone]`, { timeout: 10_000 });
    assert(!(await alice.content()).includes("a slip of the tongue"), "the text is still in the page");
  });

  await check("unread and mention badges, and the mark where one stopped", async () => {
    await until(alice, (room) => window.veza.snapshot().unread[room]?.unread === 0, id);
    await alice.evaluate(() => (location.hash = "#/room/lobby"));
    await inRoom(alice, "lobby");
    await say(bob, "are you gone?");
    await say(bob, "@alice, come back");
    const row = `#room-list a[data-room="${id}"]`;
    await until(alice, (row) => document.querySelector(`${row} [data-testid=unread-badge]`)?.textContent === "2" && document.querySelector(`${row} [data-testid=mention-badge]`), row);
    await shot(alice, "features-unread");
    await alice.click(row);
    await inRoom(alice, id);
    await hears(alice, "@alice, come back");
    await alice.waitForSelector("[data-testid=new-marker]");
    await until(alice, (row) => !document.querySelector(`${row} [data-testid=unread-badge]`), row);
  });

  await check("much unread: a way up to the first of it", async () => {
    await alice.evaluate(() => (location.hash = "#/room/lobby"));
    await inRoom(alice, "lobby");
    for (let at = 0; at < 30; at++) await say(bob, `filling the room with line ${at}`);
    await until(alice, (room) => window.veza.snapshot().unread[room].unread === 30, id);
    await alice.click(`#room-list a[data-room="${id}"]`);
    await inRoom(alice, id);
    await press(alice, "first-unread");
    await until(alice, () => document.querySelector("#log .flash")?.textContent.includes("filling the room with line 0"));
    await press(alice, "jump");
    await hears(alice, "filling the room with line 29");
  });

  await check("bob sees that alice has read", () => until(bob, () => document.querySelector("#log [data-testid=fate]")?.textContent === "Read by alice"));

  await check("search finds an edited text by a part of it, and jumps there", async () => {
    await alice.evaluate(() => document.activeElement.blur());
    await alice.keyboard.press("/");
    await alice.fill("[data-testid=search-input]", "hello bob");
    await alice.waitForSelector("[data-testid=found]", { timeout: 10_000 });
    assert((await alice.$$("[data-testid=found]")).length === 1, "not exactly one hit");
    await shot(alice, "features-search");
    await press(alice, "found");
    const { seq } = await message(alice, "Hello bob");
    await alice.waitForSelector(`#log [data-seq="${seq}"].flash`, { timeout: 10_000 });
    await alice.fill("[data-testid=search-input]", "line 29");
    await alice.waitForSelector("[data-testid=found] >> text=filling the room with line 29", { timeout: 10_000 });
    const slip = await message(bob, "filling the room with line 29");
    await bob.evaluate(([room, seq]) => window.veza.client.rooms.get(room).delete(seq).stored, [id, slip.seq]);
    await until(alice, () => document.querySelector("[data-testid=found]") === null);
    await alice.selectOption("[data-testid=search-scope]", "all");
    await alice.fill("[data-testid=search-input]", "tongue");
    await until(alice, () => document.querySelector("[data-testid=search-status]").textContent === "Nothing was found.");
    await press(alice, "panel-close");
  });

  await check("a deep link shows its message, one to a reply opens its thread", async () => {
    const { seq } = await message(bob, "Hello alice");
    const fresh = await open(await browser.newContext(desktop), "alice");
    await fresh.goto(`${fresh.url().split("/?")[0]}/?user=alice#/room/${id}/${seq}`);
    await fresh.waitForSelector(`#log [data-seq="${seq}"].flash`, { timeout: 15_000 });
    await fresh.evaluate((hash) => (location.hash = hash), `#/room/${id}/${await replySeq(fresh, id, seq)}`);
    await fresh.waitForSelector("[data-testid=thread] >> text=a word aside", { timeout: 10_000 });
    await fresh.close();
  });

  await check("status is seen by others", async () => {
    await press(bob, "me-status");
    await bob.selectOption("[data-testid=status-dialog] select", "away");
    await bob.fill("[data-testid=status-dialog] input", "Back soon");
    await press(bob, "dialog-submit");
    await until(alice, () => document.querySelector("[data-testid=person][data-user=bob]")?.getAttribute("aria-label").includes("Away, Back soon"));
  });

  const person = async (action) => {
    await press(alice, "person][data-user=bob");
    await press(alice, action);
  };
  await check("a mute is told, holds, and is lifted", async () => {
    await person("person-mute");
    await alice.fill("[data-testid=moderate-dialog] input", "a moment of silence");
    await press(alice, "dialog-submit");
    await until(bob, () => document.querySelector("[data-testid=composer]").disabled && document.querySelector("[data-testid=composer]").placeholder.startsWith("You are muted"));
    await until(bob, () => [...document.querySelectorAll("[data-testid=note]")].some((node) => node.textContent.startsWith("alice muted bob until ")));
    await shot(bob, "features-muted");
    await until(alice, () => document.querySelector("[data-testid=person][data-user=bob]")?.textContent.includes("muted"));
    await person("person-unmute");
    await until(bob, () => !document.querySelector("[data-testid=composer]").disabled);
  });

  await check("slow mode is shown and counted down", async () => {
    await press(alice, "room-menu");
    await press(alice, "menu-settings");
    await alice.selectOption("[data-testid=settings-dialog] select[name=slow]", "30");
    await press(alice, "dialog-submit");
    await until(bob, () => document.getElementById("room-sub").textContent.includes("slow mode 30 s"));
    await say(bob, "slowly now");
    await until(bob, () => document.querySelector("[data-testid=composer]").placeholder.startsWith("Slow mode"));
    await press(alice, "room-menu");
    await press(alice, "menu-settings");
    await alice.selectOption("[data-testid=settings-dialog] select[name=slow]", "0");
    await press(alice, "dialog-submit");
    await until(bob, () => !document.querySelector("[data-testid=composer]").placeholder.startsWith("Slow mode"));
  });

  await check("a new role shows at once", async () => {
    await person("person-role");
    await alice.selectOption("[data-testid=role-dialog] select", "moderator");
    await press(alice, "dialog-submit");
    await until(bob, () => window.veza.snapshot().role === "moderator");
    await until(alice, () => document.querySelector("[data-testid=person][data-user=bob]")?.textContent.includes("mod"));
  });

  await check("a ban puts bob out, with its reason, and nothing more is heard", async () => {
    await person("person-ban");
    await alice.fill("[data-testid=moderate-dialog] input", "enough");
    await press(alice, "dialog-submit");
    await until(bob, () => window.veza.snapshot().roomState === "gone");
    await until(bob, () => document.getElementById("room-sub").textContent.includes("enough") && document.querySelector("[data-testid=composer]").disabled);
    const head = (await snapshot(bob)).head;
    await say(alice, "bob does not hear this");
    await hears(alice, "bob does not hear this");
    await shot(bob, "features-banned");
    assert((await snapshot(bob)).head === head && !(await bob.content()).includes("bob does not hear this"), "bob heard it");
  });

  await check("the audit log tells it, with the reasons", async () => {
    await press(alice, "room-menu");
    await press(alice, "menu-audit");
    await alice.waitForSelector("[data-testid=audit] >> text=enough");
    await alice.waitForSelector("[data-testid=audit] >> text=a moment of silence");
    await shot(alice, "features-audit");
    await press(alice, "panel-close");
  });

  await check("a private room is nowhere without its invitation, and opens with it", async () => {
    const vault = `vault-${nonce}`;
    await alice.evaluate((vault) => window.veza.client.createRoom(vault, "Vault", { kind: "private" }), vault);
    await alice.evaluate((hash) => (location.hash = hash), `#/room/${vault}`);
    await inRoom(alice, vault);
    await bob.evaluate((hash) => (location.hash = hash), `#/room/${vault}`);
    await bob.waitForSelector("[data-testid=toast] >> text=There is no room");
    await press(alice, "room-menu");
    await press(alice, "menu-invite");
    await press(alice, "dialog-submit");
    const link = await alice.inputValue("[data-testid=invite-link]");
    await alice.keyboard.press("Escape");
    await bob.click("#room-new");
    await press(bob, "menu-join");
    await bob.fill("[data-testid=join-dialog] input[name=link]", link);
    await press(bob, "dialog-submit");
    await inRoom(bob, vault);
    await say(bob, "let in");
    await hears(alice, "let in");
  });

  await check("a direct message opens a room of two", async () => {
    await press(alice, "person][data-user=bob");
    await press(alice, "person-direct");
    await until(alice, () => window.veza.snapshot().room?.startsWith("dm."));
    await until(alice, () => document.getElementById("room-title").textContent === "bob");
    await say(alice, "just us");
    await hears(alice, "just us");
    await bob.click("#tab-mine"); // Asks for the list anew.
    await until(bob, () => [...document.querySelectorAll("#room-list .room-name")].some((node) => node.textContent === "alice"));
  });

  await check("every control has a name", async () => {
    for (const page of [alice, bob]) {
      await page.evaluate(() => document.activeElement.blur());
      await page.keyboard.press("/");
      await page.waitForSelector("[data-testid=search-input]");
      const nameless = await page.evaluate(() => {
        const controls = [...document.querySelectorAll("button, a[href], input, select, textarea, [tabindex='0'], dialog, aside, nav")];
        const named = (node) => node.getAttribute("aria-label") || node.labels?.length > 0 || node.getAttribute("aria-labelledby") || node.textContent.trim();
        return controls.filter((node) => node.offsetParent !== null && !named(node)).map((node) => node.outerHTML.slice(0, 120));
      });
      assert(nameless.length === 0, `without a name: ${nameless.join("; ")}`);
      await page.keyboard.press("Escape");
    }
  });

  await check("the sheet of keys opens and closes, and the focus is back", async () => {
    await alice.focus("#open-search");
    await alice.keyboard.press("?");
    await alice.waitForSelector("[data-testid=help]");
    await alice.keyboard.press("Escape");
    assert(await alice.evaluate(() => document.activeElement.id === "open-search"), "the focus went elsewhere");
  });
  figure("rendered", (await snapshot(alice)).rendered);
});

/** The number of the first reply in a thread: pages know it, the page shows it only in the thread. */
function replySeq(page, room, root) {
  return page.evaluate(
    async ([room, root]) => {
      const thread = window.veza.client.rooms.get(room).openThread(root);
      await thread.load();
      thread.close();
      return thread.replies[0].seq;
    },
    [room, root],
  );
}
