import type { ClientFrame, ServerFrame } from "../gen/veza/v1/session_pb";
import type { VezaError } from "./errors";

export type TransportName = "webtransport" | "websocket";

/**
 * Where a frame travels. WebTransport has a stream for control, one for chat, one per bulk command and datagrams for
 * what is volatile; on WebSocket all of them share the connection.
 */
export type Lane = "control" | "chat" | "bulk" | "volatile";

/** Why a link ended. `code` is 0 when the transport broke without saying. */
export interface LinkEnd {
  code: number;
  reason: string;
}

export interface LinkHandlers {
  frame(frame: ServerFrame): void;
  /** A media packet came in; it is ours to keep. */
  media(packet: Uint8Array): void;
  /** The bulk stream of command `id` broke, the link itself did not. */
  failed(id: number, error: VezaError): void;
  /** Called once, and not after `close`. */
  ended(end: LinkEnd): void;
}

/** One open connection to the server, whatever carries it. It knows frames, lanes and media packets, not sessions. */
export interface Link {
  readonly transport: TransportName;
  /** Begins reading. Called once. */
  start(handlers: LinkHandlers): void;
  /** Never blocks. A volatile frame may be dropped; any other arrives or the link ends. */
  send(lane: Lane, frame: ClientFrame): void;
  /** The largest media packet that goes through now. Bytes. */
  readonly mediaBytesMax: number;
  /** Sends a media packet; `false` when it was dropped because those before it still wait. */
  sendMedia(packet: Uint8Array<ArrayBuffer>): boolean;
  /** Ends the link; the handlers hear nothing more. */
  close(code: number, reason: string): void;
}

/** A way to get a link. Rejects when the transport is missing, refused or aborted. */
export interface Opener {
  readonly transport: TransportName;
  open(signal: AbortSignal): Promise<Link>;
}
