import { FRAME_SAMPLES } from "../media";

/** A packet of nothing but the first byte of another one: a decoder takes it for a lost packet of the same kind and bridges it. */
export function bridgeFor(payload: Uint8Array): Uint8Array<ArrayBuffer> {
  // The two lowest bits say how many frames follow: none means one, which is lost.
  return Uint8Array.of((payload[0] ?? 0) & 0xfc);
}

/** Whether a payload is one Opus packet of 20 ms (RFC 6716, section 3.1). A decoder must see nothing else. */
export function isFrame(payload: Uint8Array): boolean {
  const toc = payload[0];
  if (toc === undefined) return false;
  const config = toc >> 3;
  const frame = (config < 12 ? [480, 960, 1920, 2880][config & 3] : config < 16 ? [480, 960][config & 1] : [120, 240, 480, 960][config & 3]) ?? 0;
  const code = toc & 3;
  const frames = code === 0 ? 1 : code < 3 ? 2 : (payload[1] ?? 0) & 0x3f;
  return frame * frames === FRAME_SAMPLES;
}

/** 20 ms of silence, full band, stereo. */
export const SILENT_FRAME: Uint8Array<ArrayBuffer> = Uint8Array.of(0xfc, 0xff, 0xfe);
