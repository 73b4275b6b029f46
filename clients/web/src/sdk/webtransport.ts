import { Carriage } from "./carriage";
import { concat, DATAGRAM_BYTES_MAX, DATAGRAM_FRAME, delimit, FrameReader, LANE_BYTE } from "./framing";
import { type Lane, type Link, type LinkHandlers, noLink, type Opener } from "./link";
import { MEDIA_KIND, PACKET_BYTES_MAX } from "./media";

const SUBPROTOCOL = "veza.v1.proto";
/** After a lane's stream ends the session's own close, with its code, is awaited this long. Milliseconds. */
const CLOSE_GRACE_MS = 500;
/** Datagrams that wait for a busy page, instead of being dropped: seconds of audio. */
const DATAGRAMS_IN_MAX = 256;
/** Media packets that may wait for the network; one more would be too late when it arrives. */
const MEDIA_WAITING_MAX = 10;

/**
 * Opens a WebTransport session with its control and chat lanes.
 *
 * @param hashes base64 SHA-256 of certificates to trust without a root (development); empty for a CA-issued one.
 */
export function webtransportOpener(url: string, hashes: readonly string[]): Opener {
  return {
    transport: "webtransport",
    async open(signal) {
      if (signal.aborted || typeof WebTransport === "undefined") throw noLink();
      const session = new WebTransport(url, {
        congestionControl: "low-latency",
        protocols: [SUBPROTOCOL],
        ...(hashes.length > 0 && {
          serverCertificateHashes: hashes.map((hash) => ({ algorithm: "sha-256", value: fromBase64(hash) })),
        }),
      });
      // Both promises also reject when nobody waits for them any more.
      session.closed.catch(() => undefined);
      session.ready.catch(() => undefined);
      const abort = () => session.close();
      signal.addEventListener("abort", abort, { once: true });
      try {
        await session.ready;
        const control = await openLane(session, LANE_BYTE.control);
        const chat = await openLane(session, LANE_BYTE.chat);
        if (signal.aborted) throw noLink();
        return new WebTransportLink(session, control, chat);
      } catch (error) {
        session.close();
        throw error;
      } finally {
        signal.removeEventListener("abort", abort);
      }
    },
  };
}

interface LaneStream {
  writer: WritableStreamDefaultWriter<Uint8Array>;
  readable: ReadableStream<Uint8Array>;
}

/** Only the lane byte makes an opened stream visible to the server. */
async function openLane(session: WebTransport, lane: number): Promise<LaneStream> {
  const stream = await session.createBidirectionalStream();
  const writer: WritableStreamDefaultWriter<Uint8Array> = stream.writable.getWriter();
  void writer.write(Uint8Array.of(lane)).catch(() => undefined);
  return { writer, readable: stream.readable };
}

class WebTransportLink implements Link {
  readonly transport = "webtransport";
  private handlers: LinkHandlers | undefined;
  private readonly datagrams: WritableStreamDefaultWriter<Uint8Array> | undefined;
  private readonly carriage = new Carriage();
  private mediaWaiting = 0;

  constructor(
    private readonly session: WebTransport,
    private readonly control: LaneStream,
    private readonly chat: LaneStream,
  ) {
    this.datagrams = datagramWriter(session);
    session.datagrams.incomingHighWaterMark = DATAGRAMS_IN_MAX;
  }

  start(handlers: LinkHandlers): void {
    this.handlers = handlers;
    void this.readLane(this.control);
    void this.readLane(this.chat);
    void this.readDatagrams();
    this.session.closed.then(
      (info) => this.end(info.closeCode ?? 0, info.reason ?? ""),
      (error: unknown) => this.end(0, String(error)),
    );
  }

  send(lane: Lane, id: number, bytes: Uint8Array<ArrayBuffer>): void {
    switch (lane) {
      case "control":
        return this.write(this.control, bytes);
      case "chat":
        return this.write(this.chat, bytes);
      case "bulk":
        void this.exchange(id, bytes);
        return;
      case "volatile":
        return this.sendDatagram(bytes);
    }
  }

  get mediaBytesMax(): number {
    return Math.min(PACKET_BYTES_MAX, this.session.datagrams.maxDatagramSize);
  }

  sendMedia(packet: Uint8Array<ArrayBuffer>): void {
    if (!this.datagrams || !this.handlers || this.mediaWaiting >= MEDIA_WAITING_MAX || packet.length > this.mediaBytesMax) return;
    const gone = () => {
      this.mediaWaiting -= 1;
    };
    this.mediaWaiting += 1;
    this.datagrams.write(packet).then(gone, gone);
  }

  carry(port: MessagePort, handle: number): void {
    this.carriage.carry(port, handle, (packet) => this.sendMedia(packet));
  }

  close(code: number, reason: string): void {
    this.handlers = undefined;
    try {
      this.session.close({ closeCode: code, reason });
    } catch {
      // Already closed, which is what was asked for.
    }
  }

  private write(lane: LaneStream, bytes: Uint8Array): void {
    lane.writer.write(delimit(bytes)).catch((error: unknown) => this.broke(error));
  }

  private sendDatagram(bytes: Uint8Array): void {
    const size = bytes.length + 1;
    const max = Math.min(DATAGRAM_BYTES_MAX, this.session.datagrams.maxDatagramSize);
    if (!this.datagrams || size > max) return this.write(this.control, bytes);
    // A full queue means the network is behind: what is volatile is dropped rather than sent late. Media packets in front
    // of it are not that network's fault.
    if ((this.datagrams.desiredSize ?? 1) + this.mediaWaiting <= 0) return;
    this.datagrams.write(concat(Uint8Array.of(DATAGRAM_FRAME), bytes)).catch(() => undefined);
  }

  /** One command on a stream of its own, and its one reply. */
  private async exchange(id: number, bytes: Uint8Array): Promise<void> {
    try {
      const stream = await this.session.createBidirectionalStream();
      const writer: WritableStreamDefaultWriter<Uint8Array> = stream.writable.getWriter();
      void writer.write(concat(Uint8Array.of(LANE_BYTE.bulk), delimit(bytes))).catch(() => undefined);
      void writer.close().catch(() => undefined);
      await this.pump(stream.readable);
    } catch {
      // Broken before the answer or ended without one: the same to whoever waits.
    }
    this.handlers?.failed(id);
  }

  private async readLane(lane: LaneStream): Promise<void> {
    try {
      await this.pump(lane.readable);
      this.broke("the server ended a lane");
    } catch (error) {
      this.broke(error);
    }
  }

  private async pump(readable: ReadableStream<Uint8Array>): Promise<void> {
    const reader = readable.getReader();
    const frames = new FrameReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      for (const frame of frames.push(value)) this.handlers?.frame(frame);
    }
  }

  private async readDatagrams(): Promise<void> {
    const reader: ReadableStreamDefaultReader<Uint8Array> = this.session.datagrams.readable.getReader();
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        if (value[0] === MEDIA_KIND) {
          if (!this.carriage.deliver(value)) this.handlers?.media(value);
        } else if (value[0] === DATAGRAM_FRAME) this.handlers?.datagram(value.subarray(1));
      }
    } catch {
      // The session ended; `closed` says how.
    }
  }

  private broke(cause: unknown): void {
    setTimeout(() => {
      if (!this.handlers) return;
      this.session.close();
      this.end(0, String(cause));
    }, CLOSE_GRACE_MS);
  }

  private end(code: number, reason: string): void {
    const handlers = this.handlers;
    this.handlers = undefined;
    handlers?.ended({ code, reason });
  }
}

/** Chrome has `writable`, Safari `createWritable`; without either typing travels on the control lane. */
function datagramWriter(session: WebTransport): WritableStreamDefaultWriter<Uint8Array> | undefined {
  const datagrams = session.datagrams as {
    writable?: WritableStream<Uint8Array>;
    createWritable?: () => WritableStream<Uint8Array>;
  };
  return (datagrams.createWritable?.() ?? datagrams.writable)?.getWriter();
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}
