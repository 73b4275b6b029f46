import type { Delivery } from "../gen/veza/v1/rooms_pb";
import type { Clock } from "./clock";
import type { Outbox } from "./outbox";
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
