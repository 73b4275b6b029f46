// Links in a worker, and media packets past the page.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Carriage } from "../src/sdk/carriage";
import type { LinkEnd } from "../src/sdk/link";
import { LinkWorker, type WorkerLike } from "../src/sdk/linkworker";
import { writeMedia } from "../src/sdk/media";
import type { FromLinks, ToLinks } from "../src/worker/linkmessages";
import { settle } from "./fakes";

class FakeWorker implements WorkerLike {
  onmessage: WorkerLike["onmessage"] = null;
  onerror: WorkerLike["onerror"] = null;
  readonly heard: ToLinks[] = [];
  moved = 0;

  postMessage(message: ToLinks, transfer: Transferable[] = []): void {
    this.heard.push(message);
    this.moved += transfer.length;
  }

  say(data: FromLinks): void {
    this.onmessage?.({ data } as MessageEvent<FromLinks>);
  }

  crash(): void {
    this.onerror?.({} as ErrorEvent);
  }

  get last(): ToLinks | undefined {
    return this.heard.at(-1);
  }
}

const packet = (handle: number) => writeMedia({ handle, newest: 5, level: 1, fresh: 1, frames: [{ age: 0, rung: 0, switchPoint: false, payload: Uint8Array.of(0xfc) }] });
const silent = { frame: () => {}, datagram: () => {}, media: () => {}, failed: () => {}, ended: () => {} };

async function opened(worker: FakeWorker, links: LinkWorker, number = 1) {
  const opening = links.opener("webtransport", "https://x/wt", ["hash"]).open(new AbortController().signal);
  assert.deepEqual(worker.last, { say: "open", link: number, transport: "webtransport", url: "https://x/wt", hashes: ["hash"] });
  worker.say({ say: "opened", link: number, mediaBytesMax: 1_000 });
  return opening;
}

test("a link in the worker says and hears what one in the page would", async () => {
  const worker = new FakeWorker();
  const link = await opened(worker, new LinkWorker(worker));
  assert.deepEqual([link.transport, link.mediaBytesMax], ["webtransport", 1_000]);
  const heard: unknown[] = [];
  link.start({ frame: (bytes) => heard.push(["frame", bytes[0]]), datagram: (bytes) => heard.push(["datagram", bytes[0]]), media: (bytes) => heard.push(["media", bytes[0]]), failed: (id) => heard.push(["failed", id]), ended: (end) => heard.push(end) });
  link.send("bulk", 7, Uint8Array.of(1));
  assert.deepEqual(worker.last, { say: "send", link: 1, lane: "bulk", id: 7, bytes: Uint8Array.of(1) });
  worker.say({ say: "frame", link: 1, bytes: Uint8Array.of(10) });
  worker.say({ say: "datagram", link: 1, bytes: Uint8Array.of(11) });
  worker.say({ say: "media", link: 1, packet: Uint8Array.of(2) });
  worker.say({ say: "failed", link: 1, id: 7 });
  worker.say({ say: "frame", link: 99, bytes: Uint8Array.of(12) });
  const end: LinkEnd = { code: 4012, reason: "drain" };
  worker.say({ say: "ended", link: 1, end });
  worker.say({ say: "ended", link: 1, end });
  assert.deepEqual(heard, [["frame", 10], ["datagram", 11], ["media", 2], ["failed", 7], end]);
});

test("who closes a link hears nothing more of it", async () => {
  const worker = new FakeWorker();
  const link = await opened(worker, new LinkWorker(worker));
  const heard: unknown[] = [];
  link.start({ ...silent, frame: () => heard.push("frame"), ended: () => heard.push("end") });
  link.close(4000, "bye");
  assert.deepEqual(worker.last, { say: "close", link: 1, code: 4000, reason: "bye" });
  worker.say({ say: "frame", link: 1, bytes: Uint8Array.of(1) });
  worker.say({ say: "ended", link: 1, end: { code: 0, reason: "" } });
  assert.deepEqual(heard, []);
});

test("an attempt is refused or aborted", async () => {
  const worker = new FakeWorker();
  const links = new LinkWorker(worker);
  const refused = links.opener("websocket", "wss://x/ws").open(new AbortController().signal);
  worker.say({ say: "refused", link: 1 });
  await assert.rejects(refused);
  const abort = new AbortController();
  const aborted = links.opener("websocket", "wss://x/ws").open(abort.signal);
  abort.abort();
  assert.deepEqual(worker.last, { say: "abort", link: 2 });
  worker.say({ say: "refused", link: 2 });
  await assert.rejects(aborted);
});

test("a worker that fails takes its links with it, and no new one is tried", async () => {
  const worker = new FakeWorker();
  const links = new LinkWorker(worker);
  const link = await opened(worker, links);
  const ends: LinkEnd[] = [];
  link.start({ ...silent, ended: (end) => ends.push(end) });
  const waiting = links.opener("websocket", "wss://x/ws").open(new AbortController().signal);
  worker.crash();
  await assert.rejects(waiting);
  assert.deepEqual(ends.map(({ code }) => code), [0]);
  assert.ok(links.broken);
  await assert.rejects(links.opener("websocket", "wss://x/ws").open(new AbortController().signal));
});

test("a port moves to the worker once, whatever links carry it", async () => {
  const worker = new FakeWorker();
  const links = new LinkWorker(worker);
  const first = await opened(worker, links);
  const { port1, port2 } = new MessageChannel();
  first.carry(port1, 77);
  assert.deepEqual(worker.heard.slice(-2).map(({ say }) => say), ["port", "carry"]);
  assert.equal(worker.moved, 1);
  const second = await opened(worker, links, 3);
  second.carry(port1, 78);
  assert.deepEqual(worker.last, { say: "carry", link: 3, port: 2, handle: 78 });
  assert.equal(worker.moved, 1);
  port2.close();
});

test("packets go to the port of their handle, and what comes from it is sent by the last link that carries it", async () => {
  const { port1, port2 } = new MessageChannel();
  const heard: number[] = [];
  port2.onmessage = ({ data }: MessageEvent<Uint8Array>) => heard.push(data[4] ?? 0);
  const sent: string[] = [];
  const carriage = new Carriage();
  carriage.carry(port1, 7, () => sent.push("first"));
  assert.ok(carriage.deliver(packet(7)));
  assert.equal(carriage.deliver(packet(8)), false);
  assert.equal(carriage.deliver(Uint8Array.of(2)), false);
  // A datagram's bytes may be a part of more.
  const more = new Uint8Array(100);
  more.set(packet(7), 10);
  assert.ok(carriage.deliver(more.subarray(10, 10 + packet(7).length)));
  assert.equal(more.byteLength, 100, "what is not ours stays");
  carriage.carry(port1, 9, () => sent.push("again"));
  assert.equal(carriage.deliver(packet(7)), false, "the handle of before is nobody's");
  new Carriage().carry(port1, 10, () => sent.push("second"));
  port2.postMessage(packet(10));
  for (let turn = 0; turn < 5; turn++) await settle();
  assert.deepEqual(heard, [7, 7]);
  assert.deepEqual(sent, ["second"]);
  port2.close();
});
