import type { ClientFrame } from "../gen/veza/v1/session_pb";
import { decode, encode } from "./codec";
import { connectionLost } from "./errors";
import type { Lane, Link, LinkHandlers, Opener } from "./link";
import { MEDIA_KIND, PACKET_BYTES_MAX } from "./media";

const SUBPROTOCOL = "veza.v1.proto";
/** With more than this unsent, volatile frames are dropped: they would be stale when they arrive. Bytes. */
const VOLATILE_BACKLOG_MAX = 16 * 1024;
/** The same for media packets: about 200 ms of the largest ladder. Bytes. */
const MEDIA_BACKLOG_MAX = 16 * 1024;

/** Opens the fallback: one connection, a binary protobuf frame or a media packet per message. */
export function websocketOpener(url: string): Opener {
  return {
    transport: "websocket",
    open: (signal) =>
      new Promise((resolve, reject) => {
        if (signal.aborted || typeof WebSocket === "undefined") return reject(connectionLost());
        const socket = new WebSocket(url, SUBPROTOCOL);
        socket.binaryType = "arraybuffer";
        const abort = () => {
          reject(connectionLost());
          socket.close();
        };
        signal.addEventListener("abort", abort, { once: true });
        socket.onerror = () => reject(connectionLost());
        socket.onclose = () => reject(connectionLost());
        socket.onopen = () => {
          signal.removeEventListener("abort", abort);
          resolve(new WebSocketLink(socket));
        };
      }),
  };
}

class WebSocketLink implements Link {
  readonly transport = "websocket";
  readonly mediaBytesMax = PACKET_BYTES_MAX;

  constructor(private readonly socket: WebSocket) {}

  start(handlers: LinkHandlers): void {
    this.socket.onerror = null;
    this.socket.onclose = ({ code, reason }) => handlers.ended({ code, reason });
    this.socket.onmessage = ({ data }) => {
      if (!(data instanceof ArrayBuffer)) return;
      const bytes = new Uint8Array(data);
      if (bytes[0] === MEDIA_KIND) return handlers.media(bytes);
      try {
        handlers.frame(decode(bytes));
      } catch (error) {
        console.error("the server sent what is not a frame", error);
        this.close(4400, "malformed");
        handlers.ended({ code: 0, reason: "malformed frame" });
      }
    };
  }

  send(lane: Lane, frame: ClientFrame): void {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    if (lane === "volatile" && this.socket.bufferedAmount > VOLATILE_BACKLOG_MAX) return;
    this.socket.send(encode(frame));
  }

  sendMedia(packet: Uint8Array<ArrayBuffer>): boolean {
    const goes = this.socket.readyState === WebSocket.OPEN && this.socket.bufferedAmount <= MEDIA_BACKLOG_MAX;
    if (goes) this.socket.send(packet);
    return goes;
  }

  close(code: number, reason: string): void {
    this.socket.onclose = this.socket.onmessage = null;
    // A browser may send 1000 and 3000–4999 only; 4000 is this protocol's 1000.
    this.socket.close(code === 4000 ? 1000 : code, reason);
  }
}
