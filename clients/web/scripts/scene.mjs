// A furnished evening for pictures and measurements: rooms, people, a conversation with everything in it.
// `FakeServer` is the small test server, bundled; see `start`.
import { build } from "esbuild";

const MINUTE = 60_000;

export async function start() {
  await build({ entryPoints: ["test/fakeserver.ts"], outfile: ".test/fakeserver.mjs", bundle: true, platform: "node", format: "esm", external: ["ws"] });
  const { FakeServer } = await import("../.test/fakeserver.mjs");
  return FakeServer.start();
}

export function furnish(server, now = Date.now()) {
  const day = 24 * 60 * MINUTE;
  for (const [id, title] of [["lobby", "Lobby"], ["friday-listening", "Friday listening"], ["synths", "Synths & patches"], ["vinyl", "Vinyl diggers"], ["late-night", "Late night radio"]]) server.room(id, title);
  const admit = (room, user, role, readSeq = 0) => server.room(room).members.set(user, { role, joinedMs: now - day, mutedUntilMs: 0, reason: "", deliveredSeq: readSeq, readSeq });
  const show = (id, title, owner, listeners, playing, onAir = true) => ({ id, title, owner, room: `stream.${id}`, state: 2, onAir, listeners, playing, startedMs: BigInt(now - 20 * MINUTE) });
  server.streams = [show("night", "Late night radio", "mira", 41, "Halves – Polana"), show("patch", "Patching live", "tuna", 6, "", false)];
  server.room("stream.night", "Late night radio");
  server.room("lobby").topic = "What we listen to this week";
  for (const [user, role] of [["alice", 5], ["mira", 3], ["jonas", 2], ["tuna", 2]]) admit("lobby", user, role);
  for (let at = 0; at < 70; at++) server.say("lobby", ["mira", "jonas", "tuna"][at % 3], `Message number ${at} from a longer past.`, now - 2 * day + at * MINUTE);
  const say = (author, body, minutes, extra = {}) => server.say("lobby", author, body, now + minutes * MINUTE, undefined, extra).seq;
  const change = (author, change, minutes) => server.say("lobby", author, "", now + minutes * MINUTE, undefined, { change });
  say("mira", "Morning! Did anybody catch the set last night?", -50);
  const unreal = say("mira", "The second half was unreal", -49);
  const link = say("jonas", "Listening to the recording now: https://example.org/sets/2024-11 (starts at 1:12:00)", -44);
  say("alice", "Yes — I stayed until the end.", -40, { replyTo: BigInt(unreal) });
  const long = say("alice", "That transition around the hour mark, with the strings over the half-time drums, was the best thing I have heard this month. I wuold love to know what the track is.", -39);
  change("alice", { case: "edit", value: { target: BigInt(long), body: "That transition around the hour mark, with the strings over the half-time drums, was the best thing I have heard this month. I would love to know what the track is.", revision: 1 } }, -38);
  for (const [user, emoji, count] of [["mira", "🔥", 1], ["jonas", "🔥", 2], ["tuna", "👀", 1]]) change(user, { case: "reaction", value: { target: BigInt(long), emoji, count } }, -37);
  for (const [user, text, at] of [["jonas", "I think it is an edit of something old", -36], ["mira", "Shazam says nothing", -35], ["alice", "Asking around.", -34]]) say(user, text, at, { thread: BigInt(long) });
  say("tuna", "@alice I asked. It is unreleased 😅", -31, { mentions: ["alice"] });
  const gone = say("jonas", "Something I should not have said", -30);
  change("jonas", { case: "deletion", value: { target: BigInt(gone) } }, -29);
  change("mira", { case: "pin", value: { target: BigInt(link) } }, -28);
  say("tuna", "```\nfor (const track of set) {\n  if (!track.released) sigh();\n}\n```", -28);
  const read = say("jonas", "Of course it is.", -12);
  say("alice", "I can wait. Friday listening, same time?", -9);
  const last = say("mira", "I am in", -3);
  for (const user of ["mira", "jonas"]) change(user, { case: "reaction", value: { target: BigInt(last), emoji: "🎧", count: user === "mira" ? 1 : 2 } }, -2);
  server.room("lobby").members.get("alice").readSeq = last;
  server.room("lobby").members.get("mira").readSeq = server.room("lobby").head;
  for (const id of ["friday-listening", "synths", "vinyl"]) {
    admit(id, "alice", id === "synths" ? 4 : 2, 2);
    for (let at = 0; at < 5; at++) server.say(id, "mira", `hello ${at}`, now - day, undefined, at === 4 && id === "friday-listening" ? { mentions: ["alice"] } : {});
  }
  server.room("vinyl").members.get("alice").readSeq = 5;
  const crew = server.room("crew", "Crew only");
  crew.kind = 2;
  admit("crew", "alice", 5);
  admit("crew", "mira", 4);
  server.say("crew", "mira", "Doors at eight.", now - 40 * MINUTE);
  const pair = server.room("dm.alice.mira", "alice and mira");
  pair.kind = 3;
  admit("dm.alice.mira", "alice", 2);
  admit("dm.alice.mira", "mira", 2);
  server.say("dm.alice.mira", "mira", "Psst. Surprise set on Friday.", now - 20 * MINUTE);
  return { read, long, link, last };
}
