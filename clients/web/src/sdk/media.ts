// Media packets: Opus frames of a stream, with copies of earlier ones. By hand, because there are fifty a second;
// docs/MEDIA.md draws them.

/** The first byte of a datagram or a binary message that holds a media packet. */
export const MEDIA_KIND = 2;
/** What every frame lasts. Packets of 40 and 60 ms hold two and three. */
export const FRAME_MS = 20;
/** The same in samples of the 48 kHz clock. */
export const FRAME_SAMPLES = 960;
export const SAMPLE_RATE = 48_000;
export const RUNGS_MAX = 8;
/** Frames of one packet. */
export const FRAMES_MAX = 15;
/** How many frames older than the newest one of its packet a frame may be. */
export const AGE_MAX = 15;
/** Bytes before the first frame's tag. */
export const HEADER_BYTES = 11;
/** A packet's bytes, whatever carries it. */
export const PACKET_BYTES_MAX = 1_100;
/** The level of silence (RFC 6464). */
export const SILENCE = 127;

/** One Opus frame of 20 ms on one rung. */
export interface MediaFrame {
  /** Its index is the packet's newest minus this. */
  age: number;
  rung: number;
  /** Coded without prediction from the frames before: a decoder may come from another rung here. */
  switchPoint: boolean;
  /** An Opus packet (RFC 6716) of 20 ms, or an encrypted one. */
  payload: Uint8Array;
}

export interface MediaPacket {
  /** Names the stream on one node. */
  handle: number;
  /** The index of the newest frame. */
  newest: number;
  /** How loud the newest frame is, in −dB below full scale, 0 to 127 (RFC 6464). */
  level: number;
  /** Frames younger than this are here for the first time, 1 to 3; older ones are copies. */
  fresh: number;
  frames: MediaFrame[];
}

/** Why bytes are no media packet, or a packet cannot become bytes. */
export class MediaError extends Error {}

/** Which stream a packet is of, without reading the rest. */
export function handleOf(bytes: Uint8Array): number | undefined {
  return bytes.length < HEADER_BYTES ? undefined : view(bytes).getUint32(1);
}

/**
 * Reads a packet; the frames share its memory.
 *
 * @throws MediaError: the whole packet is to be dropped.
 */
export function readMedia(bytes: Uint8Array): MediaPacket {
  if (bytes.length > PACKET_BYTES_MAX) throw new MediaError(`a media packet of ${bytes.length} bytes`);
  if (bytes[0] !== MEDIA_KIND) throw new MediaError("not a media packet");
  if (bytes.length < HEADER_BYTES) throw new MediaError("the media packet ends too early");
  const head = view(bytes);
  const newest = head.getUint32(5);
  const counts = head.getUint8(10);
  const fresh = counts >> 4;
  const count = counts & 0x0f;
  if (count === 0 || fresh < 1 || fresh > 3) throw new MediaError(`a media packet of ${count} frames, ${fresh} of them fresh`);
  const frames: MediaFrame[] = [];
  let at = HEADER_BYTES;
  for (let left = count - 1; left >= 0; left--) {
    const tagBytes = left === 0 ? 1 : 3;
    if (at + tagBytes > bytes.length) throw new MediaError("the media packet ends too early");
    const tag = head.getUint8(at);
    const length = left === 0 ? bytes.length - at - 1 : head.getUint16(at + 1);
    at += tagBytes;
    if (length === 0 || at + length > bytes.length) throw new MediaError("the media packet ends too early");
    const age = tag & 0x0f;
    if (age > newest) throw new MediaError("a frame is from before the stream began");
    frames.push({ age, rung: (tag >> 4) & 0x07, switchPoint: (tag & 0x80) !== 0, payload: bytes.subarray(at, at + length) });
    at += length;
  }
  return { handle: head.getUint32(1), newest, level: head.getUint8(9) & 0x7f, fresh, frames };
}

/** Bytes a packet of these frames takes. */
export function mediaBytes(frames: readonly { payload: Uint8Array }[]): number {
  return frames.reduce((sum, { payload }) => sum + payload.length, HEADER_BYTES) + Math.max(0, 3 * frames.length - 2);
}

/** @throws MediaError when it is a packet that could not be read back. */
export function writeMedia({ handle, newest, level, fresh, frames }: MediaPacket): Uint8Array<ArrayBuffer> {
  const length = mediaBytes(frames);
  if (length > PACKET_BYTES_MAX) throw new MediaError(`a media packet of ${length} bytes`);
  if (frames.length < 1 || frames.length > FRAMES_MAX || fresh < 1 || fresh > 3) throw new MediaError(`a media packet of ${frames.length} frames, ${fresh} of them fresh`);
  const bytes = new Uint8Array(length);
  const to = view(bytes);
  to.setUint8(0, MEDIA_KIND);
  to.setUint32(1, handle);
  to.setUint32(5, newest);
  to.setUint8(9, Math.min(SILENCE, level));
  to.setUint8(10, (fresh << 4) | frames.length);
  let at = HEADER_BYTES;
  frames.forEach(({ age, rung, switchPoint, payload }, position) => {
    if (age > Math.min(AGE_MAX, newest)) throw new MediaError("a frame is from before the stream began");
    if (payload.length === 0) throw new MediaError("a frame without a payload");
    to.setUint8(at, (switchPoint ? 0x80 : 0) | ((rung & 0x07) << 4) | age);
    at += 1;
    if (position + 1 < frames.length) {
      to.setUint16(at, payload.length);
      at += 2;
    }
    bytes.set(payload, at);
    at += payload.length;
  });
  return bytes;
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
