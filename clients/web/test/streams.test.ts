// Publishing and listening over links that break.

import assert from "node:assert/strict";
import { test } from "node:test";
import { AudioProfile, AudioState, QualityPin, QualityReason } from "../src/gen/veza/v1/audio_pb";
import { ErrorCode } from "../src/gen/veza/v1/session_pb";
import { type Client, connect, type Quality, type StreamInfo } from "../src/sdk/index";
import { writeMedia } from "../src/sdk/media";
import { FakeClock, FakeLink, type ReplyInit, type Said, settle } from "./fakes";

const LADDER = [
  { rung: 0, bitsPerSecond: 96_000, channels: 2 },
  { rung: 1, bitsPerSecond: 32_000, channels: 2 },
];
const SHOW = { id: "show", title: "The show", owner: "alice", room: "stream.show", profile: AudioProfile.MUSIC, state: AudioState.LIVE, onAir: true, listeners: 3, startedMs: 5n };
const packet = (handle: number, newest = 10) => writeMedia({ handle, newest, level: 30, fresh: 1, frames: [{ age: 0, rung: 0, switchPoint: false, payload: Uint8Array.of(0xfc, 1) }] });

/** A client whose every link is a new one; handles and indices are others on each. */
class Story {
  readonly clock = new FakeClock();
  readonly links: FakeLink[] = [];
  readonly client: Client;
  refuse: ReplyInit | undefined;

  constructor() {
    const open = async () => {
      const link = new FakeLink("webtransport", (said) => this.answer(said));
      this.links.push(link);
      return link;
    };
    this.client = connect({ token: async () => "t", clock: this.clock, openers: () => [{ transport: "webtransport", open }] });
  }

  get link(): FakeLink {
    const link = this.links.at(-1);
    assert.ok(link);
    return link;
  }

  /** The link breaks without a word, and the client comes back. */
  async breakLink(): Promise<void> {
    this.link.end();
    await settle();
  }

  private answer({ command }: Said): ReplyInit | undefined {
    const nth = this.links.length;
    if (this.refuse && command.case !== "hello" && command.case !== "ping") return this.refuse;
    switch (command.case) {
      case "hello":
        return { case: "welcome", value: { user: "alice", sessionId: "s", resumeToken: "r", tokenExpiresMs: 10n ** 15n } };
      case "ping":
        return { case: "pong", value: {} };
      case "publishStream":
        return { case: "streamPublished", value: { stream: SHOW, handle: 100 + nth, firstIndex: 1_000 * nth, holdMs: 30_000 } };
      case "listen":
        return { case: "listening", value: { stream: SHOW, handle: 200 + nth, rungs: LADDER, quality: { rung: 0, bitsPerSecond: 96_000, packetMs: 20, pin: command.value.pin, reason: QualityReason.START }, reportMs: 250 } };
      case "setQuality":
        return { case: "qualitySet", value: { quality: { rung: 1, bitsPerSecond: 32_000, packetMs: 20, pin: command.value.pin, reason: QualityReason.CHOICE } } };
      case "unlisten":
        return { case: "unlistened", value: {} };
      case "endStream":
        return { case: "streamEnded", value: { stream: { ...SHOW, state: AudioState.ENDED, onAir: false } } };
      case "listStreams":
        return { case: "streamList", value: { streams: [SHOW], nextPageToken: "more" } };
      case "createStream":
        return { case: "streamCreated", value: { stream: { id: command.value.stream, title: command.value.title, profile: command.value.profile, state: AudioState.CREATED } } };
      default:
        return undefined;
    }
  }
}

test("streams are listed and made", async () => {
  const { client, link } = await begun();
  const { streams, next } = await client.streams({ limit: 7 });
  assert.deepEqual(streams, [{ id: "show", title: "The show", description: "", owner: "alice", room: "stream.show", profile: "music", state: "live", onAir: true, listeners: 3, playing: "", startedMs: 5 } satisfies StreamInfo]);
  assert.equal(next, "more");
  const made = await client.createStream("talk", "A talk", { profile: "voice" });
  assert.deepEqual([made.id, made.profile, made.state], ["talk", "voice", "created"]);
  assert.deepEqual(link.of("createStream").map(({ stream, profile }) => [stream, profile]), [["talk", AudioProfile.VOICE]]);
  client.close();
});

test("who publishes goes on over the next link, with another handle and index", async () => {
  const story = await begun();
  const { client, clock } = story;
  const publication = await client.publish("show", { rungs: LADDER });
  const states: string[] = [];
  publication.on("state", (state) => states.push(state));
  assert.deepEqual([publication.handle, publication.firstIndex, publication.holdMs, publication.stream.title], [101, 1_000, 30_000, "The show"]);
  publication.send(packet(101));
  assert.equal(story.link.media.length, 1);

  await story.breakLink();
  publication.send(packet(101));
  await clock.pass(1_000);
  assert.deepEqual(states, ["waiting", "on_air"]);
  assert.deepEqual([publication.handle, publication.firstIndex], [102, 2_000]);
  assert.equal(story.link.media.length, 0, "what is said without a link is dropped");
  publication.send(packet(102));
  assert.equal(story.link.media.length, 1);
  assert.deepEqual(story.link.of("publishStream")[0]?.rungs.map(({ rung, bitsPerSecond }) => [rung, bitsPerSecond]), [[0, 96_000], [1, 32_000]]);

  await publication.end();
  assert.deepEqual([publication.state, publication.error, publication.stream.state], ["over", undefined, "ended"]);
  await story.breakLink();
  await clock.pass(1_000);
  assert.equal(story.link.of("publishStream").length, 0, "what is over stays over");
  client.close();
});

test("a stream that did not wait is over for its publisher, who is told why", async () => {
  const story = await begun();
  const publication = await story.client.publish("show", { rungs: LADDER });
  story.refuse = { case: "error", value: { code: ErrorCode.GONE, message: "The stream is over." } };
  await story.breakLink();
  await story.clock.pass(1_000);
  assert.deepEqual([publication.state, publication.error?.code], ["over", "gone"]);
  story.refuse = undefined;
  await story.client.publish("show", { rungs: LADDER });
  story.client.close();
});

test("a link that breaks before the answer does not publish twice", async () => {
  const story = await begun();
  const waiting = story.client.publish("show", { rungs: LADDER });
  await story.breakLink();
  await story.clock.pass(1_000);
  assert.equal((await waiting).handle, 102);
  assert.equal(story.link.of("publishStream").length, 1);
  story.client.close();
});

test("reports on the present handle are heard, older ones are not", async () => {
  const { client, link } = await begun();
  const publication = await client.publish("show", { rungs: LADDER });
  link.push({ case: "ingestReport", value: { handle: 99, frames: 9n } });
  link.push({ case: "ingestReport", value: { handle: 101, frames: 50n, lost: 2n, refused: 1n, refusal: "no" } });
  assert.deepEqual(publication.report, { frames: 50, lost: 2, recovered: 0, late: 0, refused: 1, refusal: "no", displaced: false });
  assert.equal(publication.state, "on_air");
  client.close();
});

test("a publisher whose place another takes is over, and does not take it back over the next link", async () => {
  const story = await begun();
  const publication = await story.client.publish("show", { rungs: LADDER });
  story.link.push({ case: "ingestReport", value: { handle: 101, frames: 50n, refusal: "somebody else does", displaced: true } });
  assert.deepEqual([publication.state, publication.error?.code, publication.report.displaced], ["over", "gone", true]);
  await story.breakLink();
  await story.clock.pass(1_000);
  assert.equal(story.link.of("publishStream").length, 0);
  story.client.close();
});

test("who listens hears the packets of the stream, and goes on over the next link with the same wish", async () => {
  const story = await begun();
  const { client, clock } = story;
  const listening = await client.listen("show", { pin: "low" });
  const heard: number[] = [];
  const qualities: Quality[] = [];
  listening.on("packet", (bytes) => heard.push(bytes[4] ?? 0));
  listening.on("quality", (quality) => qualities.push(quality));
  assert.deepEqual([listening.handle, listening.reportMs, listening.quality?.reason, listening.rungs.length], [201, 250, "start", 2]);
  for (const handle of [201, 7, 201]) story.link.hear(packet(handle));
  assert.deepEqual(heard, [201, 201]);

  await listening.setQuality("high");
  story.link.push({ case: "qualityChanged", value: { handle: 201, quality: { rung: 1, bitsPerSecond: 32_000, packetMs: 60, redundancy: 2, pin: QualityPin.AUTO, reason: QualityReason.LOSS } } });
  assert.deepEqual(qualities.map(({ reason, packetMs, pin }) => [reason, packetMs, pin]), [["choice", 20, "high"], ["loss", 60, "auto"]]);
  listening.reportReception({ highest: 10, received: 5 });
  assert.deepEqual(story.link.said.filter(({ command }) => command.case === "receiverReport").map(({ lane, id }) => [lane, id]), [["volatile", 0]]);
  assert.equal(story.link.of("receiverReport")[0]?.handle, 201);

  await story.breakLink();
  await clock.pass(1_000);
  assert.equal(story.link.of("listen")[0]?.pin, QualityPin.HIGH);
  story.link.hear(packet(202));
  story.link.hear(packet(201));
  assert.deepEqual(heard, [201, 201, 202]);

  await listening.end();
  assert.equal(story.link.of("unlisten").length, 1);
  story.link.hear(packet(202));
  assert.equal(heard.length, 3);
  client.close();
});

test("a stream that ends is over for its listeners", async () => {
  const { client, link } = await begun();
  const listening = await client.listen("show");
  const told: string[] = [];
  client.on("stream", ({ id, onAir, state }) => told.push(`${id} ${onAir ? "on" : "off"} ${state}`));
  link.push({ case: "streamChanged", value: { stream: { ...SHOW, onAir: false } } });
  assert.deepEqual([listening.state, listening.stream.onAir], ["listening", false]);
  link.push({ case: "streamChanged", value: { stream: { ...SHOW, onAir: true }, rungs: LADDER.slice(1) } });
  assert.deepEqual(listening.rungs.map(({ rung }) => rung), [1]);
  link.push({ case: "streamChanged", value: { stream: { ...SHOW, onAir: false, state: AudioState.ENDED } } });
  assert.deepEqual([listening.state, listening.error?.code], ["over", "gone"]);
  assert.deepEqual(told, ["show off live", "show on live", "show off ended"]);
  client.close();
});

test("who stops listening before the answer is not sent anything", async () => {
  const { client, link } = await begun();
  const answer = link.answer;
  let reply = () => {};
  link.answer = (said, link) => {
    if (said.command.case !== "listen") return answer(said, link);
    reply = () => link.reply(said.id, answer(said, link) ?? { case: "pong", value: {} });
    return undefined;
  };
  const asked = client.listen("show");
  await settle();
  client.close();
  await assert.rejects(asked);
  reply();

  const other = await begun();
  const { link: second } = other;
  const plain = second.answer;
  second.answer = (said, link) => {
    if (said.command.case !== "listen") return plain(said, link);
    reply = () => link.reply(said.id, plain(said, link) ?? { case: "pong", value: {} });
    return undefined;
  };
  const listening = other.client.listen("show");
  await settle();
  const known = await other.client.listen("show");
  await known.end();
  reply();
  await listening;
  await settle();
  assert.equal(second.of("unlisten").length, 1);
  other.client.close();
});

async function begun(): Promise<Story> {
  const story = new Story();
  await story.clock.pass(10);
  return story;
}

test("ports are carried by every new link under its handle", async () => {
  const story = await begun();
  const { client, clock } = story;
  const { port1, port2 } = new MessageChannel();
  const publication = await client.publish("show", { rungs: LADDER });
  const listening = await client.listen("show");
  publication.sendFrom(port1);
  listening.deliverTo(port2);
  assert.deepEqual(story.link.carried, [101, 201]);
  await story.breakLink();
  await clock.pass(1_000);
  assert.deepEqual(story.link.carried, [102, 202]);
  client.close();
  port1.close();
});
