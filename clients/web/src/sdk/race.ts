import { type Clock } from "./clock";
import { connectionLost } from "./errors";
import type { Link, Opener, TransportName } from "./link";

/** How long the second transport waits for the first one. Blocked UDP is silent for half a minute, so nobody waits for that. */
export const HEAD_START_MS = 400;
/** An attempt that has neither opened nor failed by then is given up. */
export const OPEN_TIMEOUT_MS = 10_000;
/** How long the transport that won is tried first. */
export const REMEMBER_MS = 24 * 60 * 60 * 1000;

/**
 * Opens the first of `openers` at once, each later one after a head start more, or as soon as every earlier one has
 * failed. The first link that opens wins; the others are cancelled. Rejects when all have failed.
 */
export function race(openers: readonly Opener[], clock: Clock, signal?: AbortSignal): Promise<Link> {
  return new Promise((resolve, reject) => {
    const attempts: AbortController[] = [];
    let settled = false;
    let failed = 0;
    let cancelHeadStart = () => {};

    const settle = (winner?: AbortController) => {
      settled = true;
      cancelHeadStart();
      cancelTimeout();
      for (const attempt of attempts) if (attempt !== winner) attempt.abort();
    };
    const fail = (error: unknown) => {
      if (settled) return;
      settle();
      reject(error);
    };
    const cancelTimeout = clock.after(OPEN_TIMEOUT_MS, () => fail(connectionLost()));
    if (signal?.aborted) return fail(connectionLost());
    signal?.addEventListener("abort", () => fail(connectionLost()), { once: true });

    const startNext = () => {
      cancelHeadStart();
      const opener = openers[attempts.length];
      if (!opener || settled) return;
      const attempt = new AbortController();
      attempts.push(attempt);
      if (attempts.length < openers.length) cancelHeadStart = clock.after(HEAD_START_MS, startNext);
      opener.open(attempt.signal).then(
        (link) => {
          if (settled) return link.close(4000, "another transport was faster");
          settle(attempt);
          resolve(link);
        },
        (error: unknown) => {
          failed += 1;
          if (failed === openers.length) fail(error);
          else if (failed === attempts.length) startNext();
        },
      );
    };
    if (openers.length === 0) fail(connectionLost());
    else startNext();
  });
}

/** Which transport won last, per server, for a day. Without storage (private windows) every race starts from the default. */
export class WinnerMemory {
  constructor(
    private readonly origin: string,
    private readonly clock: Clock,
    private readonly storage: Pick<Storage, "getItem" | "setItem"> | undefined = defaultStorage(),
  ) {}

  recall(): TransportName | undefined {
    try {
      const kept = JSON.parse(this.storage?.getItem(this.key) ?? "null") as { transport?: string; until?: number } | null;
      if (!kept || typeof kept.until !== "number" || kept.until <= this.clock.now()) return undefined;
      return kept.transport === "websocket" || kept.transport === "webtransport" ? kept.transport : undefined;
    } catch {
      return undefined;
    }
  }

  remember(transport: TransportName): void {
    try {
      this.storage?.setItem(this.key, JSON.stringify({ transport, until: this.clock.now() + REMEMBER_MS }));
    } catch {
      // Storage may be full or forbidden; the next race is then a plain one.
    }
  }

  private get key(): string {
    return `veza.transport:${this.origin}`;
  }
}

function defaultStorage(): Storage | undefined {
  try {
    return typeof localStorage === "undefined" ? undefined : localStorage;
  } catch {
    return undefined;
  }
}
