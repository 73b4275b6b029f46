import type { Delivery } from "../gen/veza/v1/rooms_pb";
import type { Clock } from "./clock";
import type { Listening } from "./listening";
import type { Outbox } from "./outbox";
import type { Publication } from "./publication";
import type { Command, ResultCase, ResultOf } from "./session";

/** Asks the server: on the current session, or on the next one when it ends before the answer. */
export type Call = <Case extends ResultCase>(command: Command, expected: Case) => Promise<ResultOf<Case>>;

/** What a room needs from the connection. */
export interface RoomPort {
  readonly clock: Clock;
  readonly outbox: Outbox;
  /** Our own name. */
  readonly me: string;
  readonly bodyBytesMax: number;
  readonly delivery: Delivery;
  readonly call: Call;
  tell(command: Command): void;
  newCmid(): string;
}

/** What live audio needs from the connection. */
export interface StreamPort {
  readonly call: Call;
  tell(command: Command): void;
  /** Sends a media packet now or drops it. */
  sendMedia(packet: Uint8Array<ArrayBuffer>): void;
  /** Media packets of this handle go to the port, and the port's to the server, while this session lasts. */
  carry(port: MessagePort, handle: number): void;
  /** The largest packet that goes through now. Bytes. */
  mediaBytesMax(): number;
  /** What should come does not: is anybody there? */
  probe(): void;
  /** It is over. */
  forget(what: Publication | Listening): void;
}
