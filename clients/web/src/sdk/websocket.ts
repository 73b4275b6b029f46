import { Carriage } from "./carriage";
import { type Lane, type Link, type LinkHandlers, noLink, type Opener } from "./link";
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
        if (signal.aborted || typeof WebSocket === "undefined") return reject(noLink());
        const socket = new WebSocket(url, SUBPROTOCOL);
        socket.binaryType = "arraybuffer";
        const abort = () => {
          reject(noLink());
          socket.close();
        };
        signal.addEventListener("abort", abort, { once: true });
        socket.onerror = () => reject(noLink());
        socket.onclose = () => reject(noLink());
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
  private readonly carriage = new Carriage();

  constructor(private readonly socket: WebSocket) {}

  start(handlers: LinkHandlers): void {
    this.socket.onerror = null;
    this.socket.onclose = ({ code, reason }) => handlers.ended({ code, reason });
    this.socket.onmessage = ({ data }) => {
      if (!(data instanceof ArrayBuffer)) return;
      const bytes = new Uint8Array(data);
      if (bytes[0] !== MEDIA_KIND) handlers.frame(bytes);
      else if (!this.carriage.deliver(bytes)) handlers.media(bytes);
    };
  }

  send(lane: Lane, _: number, frame: Uint8Array<ArrayBuffer>): void {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    if (lane === "volatile" && this.socket.bufferedAmount > VOLATILE_BACKLOG_MAX) return;
    this.socket.send(frame);
  }

  sendMedia(packet: Uint8Array<ArrayBuffer>): void {
    if (this.socket.readyState === WebSocket.OPEN && this.socket.bufferedAmount <= MEDIA_BACKLOG_MAX) this.socket.send(packet);
  }

  carry(port: MessagePort, handle: number): void {
    this.carriage.carry(port, handle, (packet) => this.sendMedia(packet));
  }

  close(code: number, reason: string): void {
    this.socket.onclose = this.socket.onmessage = null;
    // A browser may send 1000 and 3000–4999 only; 4000 is this protocol's 1000.
    this.socket.close(code === 4000 ? 1000 : code, reason);
  }
}
