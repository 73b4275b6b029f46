// What the page and the worker that holds its links say to each other. Links are numbered by the page; so are ports.

import type { Lane, LinkEnd, TransportName } from "../sdk/link";

export type ToLinks =
  | { say: "open"; link: number; transport: TransportName; url: string; hashes: readonly string[] }
  /** It is not wanted any more. */
  | { say: "abort"; link: number }
  | { say: "start"; link: number }
  | { say: "send"; link: number; lane: Lane; id: number; bytes: Uint8Array<ArrayBuffer> }
  | { say: "media"; link: number; packet: Uint8Array<ArrayBuffer> }
  | { say: "port"; port: number; end: MessagePort }
  | { say: "carry"; link: number; port: number; handle: number }
  | { say: "close"; link: number; code: number; reason: string };

export type FromLinks =
  | { say: "opened"; link: number; mediaBytesMax: number }
  | { say: "refused"; link: number }
  | { say: "frame"; link: number; bytes: Uint8Array }
  | { say: "datagram"; link: number; bytes: Uint8Array }
  | { say: "media"; link: number; packet: Uint8Array }
  | { say: "failed"; link: number; id: number }
  | { say: "ended"; link: number; end: LinkEnd };
