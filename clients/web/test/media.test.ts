import assert from "node:assert/strict";
import { test } from "node:test";
import { HEADER_BYTES, handleOf, MediaError, type MediaFrame, type MediaPacket, mediaBytes, PACKET_BYTES_MAX, readMedia, writeMedia } from "../src/sdk/media";

const frame = (age: number, rung: number, bytes: number): MediaFrame => ({ age, rung, switchPoint: age === 0, payload: new Uint8Array(bytes).fill(age) });
const packet = (frames: MediaFrame[], more: Partial<MediaPacket> = {}): MediaPacket => ({ handle: 7, newest: 1_000, level: 42, fresh: 1, frames, ...more });
const back = (packet: MediaPacket) => readMedia(writeMedia(packet));

test("packets read back", () => {
  const whole = packet([frame(2, 1, 30), frame(1, 1, 30), frame(0, 1, 31)]);
  assert.deepEqual(back(whole), whole);
  assert.equal(writeMedia(whole).length, mediaBytes(whole.frames));
  const large = packet([frame(0, 7, 5)], { handle: 0xfffffffe, newest: 0xffffffff, level: 127, fresh: 3 });
  assert.deepEqual(back(large), large);
  assert.equal(handleOf(writeMedia(large)), 0xfffffffe);
});

test("bytes stand where the document draws them", () => {
  const wire = [2, 0, 0, 0, 7, 0, 0, 3, 232, 42, 0x12, 0x31, 0, 2, 1, 1, 0xb0, 0];
  assert.deepEqual([...writeMedia(packet([frame(1, 3, 2), frame(0, 3, 1)]))], wire);
});

test("bounds at their limit and one past", () => {
  const ages = (count: number) => Array.from({ length: count }, (_, age) => frame(age, 0, 5));
  assert.equal(back(packet(ages(15))).frames.length, 15);
  assert.throws(() => back(packet(ages(16))), MediaError);
  assert.throws(() => back(packet([])), MediaError);
  const room = PACKET_BYTES_MAX - HEADER_BYTES - 1;
  assert.equal(writeMedia(packet([frame(0, 0, room)])).length, PACKET_BYTES_MAX);
  assert.throws(() => back(packet([frame(0, 0, room + 1)])), MediaError);
  assert.throws(() => readMedia(new Uint8Array(PACKET_BYTES_MAX + 1).fill(2)), MediaError);
  const oldest = packet([frame(15, 0, 5)], { newest: 15 });
  assert.deepEqual(back(oldest), oldest);
  assert.throws(() => back({ ...oldest, newest: 14 }), MediaError);
  assert.throws(() => back({ ...oldest, fresh: 4 }), MediaError);
  assert.throws(() => back({ ...oldest, fresh: 0 }), MediaError);
  assert.throws(() => back(packet([frame(0, 0, 0)])), MediaError);
});

test("a packet cut anywhere is none", () => {
  const bytes = writeMedia(packet([frame(1, 1, 3), frame(0, 1, 3)]));
  // The last frame takes the rest, so that it can be cut down to one byte and no one can tell.
  for (let length = 0; length < bytes.length - 2; length++) assert.throws(() => readMedia(bytes.subarray(0, length)), MediaError, String(length));
  assert.throws(() => readMedia(Uint8Array.of(1)), MediaError);
  assert.equal(handleOf(bytes.subarray(0, 10)), undefined);
});

test("what a server counts wrong is refused, not misread", () => {
  const bytes = writeMedia(packet([frame(1, 1, 3), frame(0, 1, 3)]));
  for (const counts of [0x10, 0x02, 0x42]) {
    const wrong = bytes.slice();
    wrong[10] = counts;
    assert.throws(() => readMedia(wrong), MediaError, counts.toString(16));
  }
});
