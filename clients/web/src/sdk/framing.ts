// Frames among other bytes: behind a varint length on streams, alone in WebSocket messages and datagrams. What is in a
// frame is no matter here: links run where nobody knows.

/** A frame's encoded size, bytes. A larger one is refused unread. */
export const FRAME_BYTES_MAX = 64 * 1024;
/** A datagram's payload, bytes. */
export const DATAGRAM_BYTES_MAX = 1_100;

/** The first byte of a client-opened stream. */
export const LANE_BYTE = { control: 0, chat: 1, bulk: 2 } as const;
/** The first byte of a datagram that holds one frame. */
export const DATAGRAM_FRAME = 1;

export class FrameError extends Error {}

/** The bytes of `payload` behind its varint length. */
export function delimit(payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const prefix: number[] = [];
  let rest = payload.length;
  while (rest > 0x7f) {
    prefix.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  prefix.push(rest);
  return concat(Uint8Array.from(prefix), payload);
}

export function concat(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Cuts a stream's bytes into frames, however they come in. Holds at most one frame and one chunk. */
export class FrameReader {
  private buffer: Uint8Array = new Uint8Array(0);

  /**
   * The frames that `chunk` completes.
   *
   * @throws FrameError when the boundaries are lost; nothing after it can be read.
   */
  push(chunk: Uint8Array): Uint8Array[] {
    this.buffer = this.buffer.length === 0 ? chunk : concat(this.buffer, chunk);
    const frames: Uint8Array[] = [];
    for (;;) {
      const length = readVarint(this.buffer);
      if (!length) break;
      if (length.value > FRAME_BYTES_MAX) throw new FrameError(`a frame of ${length.value} bytes`);
      const end = length.size + length.value;
      if (this.buffer.length < end) break;
      frames.push(this.buffer.subarray(length.size, end));
      this.buffer = this.buffer.subarray(end);
    }
    return frames;
  }
}

function readVarint(bytes: Uint8Array): { value: number; size: number } | undefined {
  let value = 0;
  for (let at = 0; at < 5; at++) {
    const byte = bytes[at];
    if (byte === undefined) return undefined;
    value += (byte & 0x7f) * 2 ** (7 * at);
    if (byte < 0x80) return { value, size: at + 1 };
  }
  throw new FrameError("a frame's length has more than five bytes");
}
