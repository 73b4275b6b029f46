import type { Clock } from "./clock";

/** A `typing` that is not repeated ends after this long: its end may have been lost. Milliseconds. */
export const TYPING_EXPIRES_MS = 6_000;

/** Who is in a room now and who is typing there. Volatile: built from pushes that may be lost. */
export class People {
  private names = new Set<string>();
  private counted = 0;
  private readonly typists = new Map<string, () => void>();

  constructor(
    private readonly clock: Clock,
    private readonly typingChanged: () => void,
  ) {}

  /** Known names, sorted. At most the first hundred of a large room. */
  get present(): readonly string[] {
    return [...this.names].sort((a, b) => a.localeCompare(b));
  }

  /** How many are here, also when not all names are known. */
  get total(): number {
    return Math.max(this.counted, this.names.size);
  }

  get typing(): readonly string[] {
    return [...this.typists.keys()];
  }

  replace(names: readonly string[], total: number): void {
    this.names = new Set(names);
    this.counted = total;
  }

  /** Applies a change. Returns whether the names still fit the count; if not, a change was lost. */
  change(joined: readonly string[], left: readonly string[], total: number): boolean {
    const complete = this.names.size === this.counted;
    for (const name of joined) this.names.add(name);
    for (const name of left) {
      this.names.delete(name);
      this.stopTyping(name);
    }
    this.counted = total;
    return !complete || this.names.size === total;
  }

  setTyping(name: string, active: boolean): void {
    this.typists.get(name)?.();
    this.typists.delete(name);
    if (active) {
      this.typists.set(
        name,
        this.clock.after(TYPING_EXPIRES_MS, () => this.stopTyping(name)),
      );
    }
    this.typingChanged();
  }

  stopTyping(name: string): void {
    if (this.typists.has(name)) this.setTyping(name, false);
  }
}
