import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { ServerFrameSchema } from "../src/gen/veza/v1/session_pb";
import { decode } from "../src/sdk/codec";
import { concat, delimit, FRAME_BYTES_MAX, FrameError, FrameReader } from "../src/sdk/framing";

const pong = (id: number, text = "") =>
  toBinary(ServerFrameSchema, create(ServerFrameSchema, { frame: { case: "reply", value: { id, result: { case: "error", value: { message: text } } } } }));
const idOf = (bytes: Uint8Array) => {
  const { frame } = decode(bytes);
  return frame.case === "reply" ? frame.value.id : -1;
};

test("frames come out whole however they come in", () => {
  const bytes = concat(delimit(pong(1)), delimit(pong(2, "x".repeat(300))), delimit(new Uint8Array(0)));
  for (const size of [1, 2, 7, 100, bytes.length]) {
    const reader = new FrameReader();
    const seen = [];
    for (let at = 0; at < bytes.length; at += size) seen.push(...reader.push(bytes.subarray(at, at + size)));
    assert.deepEqual(seen.map(idOf), [1, 2, -1], `in pieces of ${size}`);
  }
});

test("a frame at the limit and one past", () => {
  const ofSize = (size: number) => {
    const text = "x".repeat(size - (pong(1, "x".repeat(60_000)).length - 60_000));
    return pong(1, text);
  };
  assert.equal(ofSize(FRAME_BYTES_MAX).length, FRAME_BYTES_MAX);
  assert.equal(new FrameReader().push(delimit(ofSize(FRAME_BYTES_MAX))).length, 1);
  assert.throws(() => new FrameReader().push(delimit(ofSize(FRAME_BYTES_MAX + 1)).subarray(0, 5)), FrameError);
});

test("a length without end is refused", () => {
  const reader = new FrameReader();
  assert.deepEqual(reader.push(new Uint8Array(4).fill(0xff)), []);
  assert.throws(() => reader.push(Uint8Array.of(0xff)), FrameError);
});
