// Frames as bytes: protobuf.

import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type ClientFrame, ClientFrameSchema, type ServerFrame, ServerFrameSchema } from "../gen/veza/v1/session_pb";
import { FRAME_BYTES_MAX, FrameError } from "./framing";

export function encode(frame: ClientFrame): Uint8Array<ArrayBuffer> {
  return toBinary(ClientFrameSchema, frame) as Uint8Array<ArrayBuffer>;
}

/** @throws FrameError or what protobuf throws when it is none. */
export function decode(bytes: Uint8Array): ServerFrame {
  if (bytes.length > FRAME_BYTES_MAX) throw new FrameError(`a frame of ${bytes.length} bytes`);
  return fromBinary(ServerFrameSchema, bytes);
}
