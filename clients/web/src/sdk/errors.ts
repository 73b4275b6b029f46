import { ErrorCode, type Error as WireError } from "../gen/veza/v1/session_pb";

/** The stable words a program may branch on: the protocol's error codes in lower case, and four of the client's own. */
export type VezaErrorCode = Lowercase<keyof typeof ErrorCode> | "connection_lost" | "timeout" | "closed" | "unsupported";

/** Why something did not happen. `temporary`: the same call may succeed later, not before `retryAfterMs`. */
export class VezaError extends Error {
  override readonly name = "VezaError";

  constructor(
    readonly code: VezaErrorCode,
    message: string,
    readonly temporary = false,
    readonly retryAfterMs = 0,
    /** The close code that ended the session, where one did. */
    readonly closeCode?: number,
  ) {
    super(message);
  }

  /** An error frame of the server. */
  static fromWire(error: WireError): VezaError {
    const code = (ErrorCode[error.code] ?? "UNSPECIFIED").toLowerCase() as VezaErrorCode;
    return new VezaError(code, error.message || code, error.temporary, error.retryAfterMs);
  }
}

/** The link ended before the answer came; whether the command took effect is unknown. */
export function connectionLost(): VezaError {
  return new VezaError("connection_lost", "The connection was lost before the answer came.", true);
}

/** Anything thrown, as a VezaError. */
export function toVezaError(error: unknown): VezaError {
  if (error instanceof VezaError) return error;
  return new VezaError("connection_lost", error instanceof Error ? error.message : String(error), true);
}
