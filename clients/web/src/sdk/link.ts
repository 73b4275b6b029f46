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
  /** A frame came in, in its order. */
  frame(bytes: Uint8Array): void;
  /** A frame came in by datagram: one that is broken is a lost one. */
  datagram(bytes: Uint8Array): void;
  /** A media packet came in that no port is for. */
  media(packet: Uint8Array): void;
  /** The bulk stream of command `id` broke, the link itself did not. */
  failed(id: number): void;
  /** Called once, and not after `close`. */
  ended(end: LinkEnd): void;
}

/** One open connection to the server, whatever carries it. It knows lanes, frames as bytes, and media packets; not sessions. */
export interface Link {
  readonly transport: TransportName;
  /** Begins reading. Called once. */
  start(handlers: LinkHandlers): void;
  /** Never blocks. A volatile frame may be dropped; any other arrives or the link ends. `id` is the command's. */
  send(lane: Lane, id: number, frame: Uint8Array<ArrayBuffer>): void;
  /** The largest media packet that goes through. Bytes. */
  readonly mediaBytesMax: number;
  /** Sends a media packet; one that would have to wait for long is dropped. */
  sendMedia(packet: Uint8Array<ArrayBuffer>): void;
  /** From now on what comes for this handle goes to the port, and what comes from the port goes to the server. */
  carry(port: MessagePort, handle: number): void;
  /** Ends the link; the handlers hear nothing more. */
  close(code: number, reason: string): void;
}

/** A way to get a link. Rejects when the transport is missing, refused or aborted. */
export interface Opener {
  readonly transport: TransportName;
  open(signal: AbortSignal): Promise<Link>;
}

/** The one reason why there is no link: none could be had. */
export function noLink(): Error {
  return new Error("The connection was lost before the answer came.");
}
