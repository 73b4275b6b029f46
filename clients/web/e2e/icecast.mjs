// A source client of the field (`oggenc`, sent with HTTP's PUT) becomes a stream that a page hears, and it is the same sound.
// VEZA_URL=http://127.0.0.1:8080 VEZA_ICECAST=http://127.0.0.1:8000 node e2e/icecast.mjs
import { spawn } from "node:child_process";
import { request } from "node:http";
import { assert, run, transportIs, url } from "./browser.mjs";
import { isHeard, joined, microphone, openShow, record, recorded } from "./sound.mjs";
import { findMarks, likenessFrom, MARK_EVERY_S, RATE, wav } from "./signal.mjs";

const SECONDS = 120;
/** Sound that is compared at once, and how often that is tried: a busy machine plays late, and in pieces. */
const PIECE_MS = 4_000;
const PIECES_MAX = 8;
const MARKS_MIN = 3;
const ALIKE_MIN = 0.9;

/** The sound as Ogg-Vorbis. */
function encode(sound) {
  const encoder = spawn("oggenc", ["-Q", "-q", "6", "-t", "Storm", "-a", "Somebody", "-o", "-", "-"], { stdio: ["pipe", "pipe", "inherit"] });
  encoder.stdin.end(sound);
  return encoder.stdout;
}

async function token(user) {
  const answer = await fetch(`${url}/dev/login`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ user }) });
  return (await answer.json()).token;
}

await run("icecast", 120_000, async ({ browser, check, open, figure, shot }) => {
  const mount = `radio-${Date.now().toString(36)}`;
  const title = `Radio ${mount}`;
  const sound = wav(SECONDS);
  const headers = { "content-type": "application/ogg", "ice-name": title, expect: "100-continue" };
  const source = request(`${process.env.VEZA_ICECAST ?? "http://127.0.0.1:8000"}/${mount}`, { method: "PUT", auth: `source:${await token("dj")}`, headers });
  source.on("error", () => {});
  await check("the door lets the source in", async () => {
    const [answer] = await Promise.all([new Promise((resolve) => {
      source.once("continue", () => resolve("continue"));
      source.once("response", ({ statusCode }) => resolve(statusCode));
    }), source.flushHeaders()]);
    assert(answer === "continue", `it said ${answer}`);
    encode(sound).pipe(source);
  });
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  const bob = await open(context, "bob", { room: "lobby" });
  await transportIs(bob, "WebTransport", 15_000);
  await check("bob finds the show and hears it", async () => {
    await openShow(bob, title);
    await bob.click("[data-testid=live-play]");
    await isHeard(bob);
  });
  await check("bob reads what is played", () => bob.waitForFunction(() => document.body.innerText.includes("Somebody – Storm"), undefined, { timeout: 10_000 }));
  await shot(bob, "icecast");
  await check("what bob hears is what was sent", async () => {
    // The sound repeats after eight marks: one stretch of the original stands for all.
    const original = new Int16Array(sound.buffer, sound.byteOffset + 44, MARK_EVERY_S * 16 * RATE * 2).filter((_, at) => at % 2 === 0);
    const sent = findMarks(original);
    await record(bob, "player");
    const played = [];
    let report;
    for (let piece = 0; piece < PIECES_MAX; piece++) {
      await bob.waitForTimeout(PIECE_MS);
      played.push(await recorded(bob));
      const heard = joined(played).samples;
      const alike = findMarks(heard).map(({ code, sample }) => likenessFrom(original, sent.find((mark) => mark.code === code).sample, heard, sample, RATE / 20));
      report = { seconds: heard.length / RATE, marks_heard: alike.length, alike_max: Math.max(0, ...alike) };
      if (report.marks_heard >= MARKS_MIN && report.alike_max >= ALIKE_MIN) break;
    }
    figure("heard", report);
    assert(report.marks_heard >= MARKS_MIN, `${report.marks_heard} marks were heard`);
    assert(report.alike_max >= ALIKE_MIN, `the likeness is ${report.alike_max} at best`);
  });
  source.destroy();
}, microphone());
