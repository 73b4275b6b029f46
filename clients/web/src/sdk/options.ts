// What a caller says to a client, and what a client says back.

import type { Welcome } from "../gen/veza/v1/session_pb";
import type { Clock } from "./clock";
import type { VezaError } from "./errors";
import type { Opener, TransportName } from "./link";
import type { LinkWorker } from "./linkworker";
import type { StreamInfo } from "./streaminfo";

/** Where a server is reached; what `GET /veza.json` answers. */
export interface Endpoints {
  /** `https://host:port/wt`; without it there is no WebTransport. */
  webtransportUrl?: string | undefined;
  /** `wss://host:port/ws` or, in development, `ws://…`. */
  websocketUrl?: string | undefined;
  /** Base64 SHA-256 of self-signed certificates to trust (development); empty or missing otherwise. */
  certificateHashes?: readonly string[] | undefined;
}

export interface Options extends Endpoints {
  /** A JWT; asked for before the first hello, when the old one ends and when it is refused. */
  token(): Promise<string>;
  /** `auto` (the default) races both; the others use one only. */
  transport?: "auto" | TransportName;
  /** Asked before each attempt after a failed one: addresses and certificate hashes may have changed. */
  refreshEndpoints?(): Promise<Endpoints>;
  /** Deliver by datagram where possible, repaired through the stream. Default true. */
  fast?: boolean;
  /**
   * `LinkWorker.open("links.js")`: links live in that worker, so that a busy page holds up neither what is published nor
   * what is heard. Without it they live in the page.
   */
  linkWorker?: LinkWorker | undefined;
  /** Product and version for the server's logs. */
  client?: string;
  /** For tests. */
  clock?: Clock;
  openers?: (endpoints: Endpoints) => Opener[];
}

export type Status =
  | { state: "connecting"; attempt: number }
  | { state: "online"; transport: TransportName; sessionId: string }
  /** Between two attempts. `retryAtMs`: milliseconds since 1970-01-01 UTC. */
  | { state: "waiting"; retryAtMs: number; attempt: number; reason: string }
  /** For good: `close` was called, or the server said not to come back; then `error` says why. */
  | { state: "stopped"; error?: VezaError };

export interface ClientEvents {
  status: Status;
  /** The measured round trip, milliseconds. */
  rtt: number;
  /** A session begins, new or resumed. */
  welcome: Welcome;
  /** A room was joined, left, or refused. */
  rooms: undefined;
  /** `client.unread` changed. */
  unread: undefined;
  /** A stream that we publish or listen to is another than before. */
  stream: StreamInfo;
}
