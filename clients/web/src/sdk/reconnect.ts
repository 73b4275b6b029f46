import type { Clock } from "./clock";

export const BACKOFF_BASE_MS = 250;
export const BACKOFF_CAP_MS = 20_000;

/** Full jitter: each wait is uniform below a ceiling that doubles, so that a thousand clients do not return together. */
export class Backoff {
  private failures = 0;

  constructor(private readonly clock: Clock) {}

  /** How long to wait before the next attempt. Milliseconds. */
  next(): number {
    const ceiling = Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** this.failures);
    this.failures += 1;
    return Math.round(this.clock.random() * ceiling);
  }

  reset(): void {
    this.failures = 0;
  }

  get attempts(): number {
    return this.failures;
  }
}

/** What a close code asks of the client. 0 and 1006 are a transport that broke without a word. */
export type Comeback = "retry" | "new_token" | "stop";

export function comeback(code: number): Comeback {
  if (code === 4401) return "new_token";
  if (code === 4000 || code === 1000) return "stop";
  if (code >= 4500 && code < 4600) return "stop";
  return "retry";
}

/** Calls `back` when the network or the page returns: a moment at which waiting longer makes no sense. */
export function watchReturn(back: () => void): () => void {
  if (typeof window === "undefined" || typeof document === "undefined") return () => {};
  const visible = () => {
    if (document.visibilityState === "visible") back();
  };
  window.addEventListener("online", back);
  document.addEventListener("visibilitychange", visible);
  return () => {
    window.removeEventListener("online", back);
    document.removeEventListener("visibilitychange", visible);
  };
}
