import { PresenceState, type Receipt as WireReceipt, type UserStatus } from "../gen/veza/v1/chat_pb";
import type { Clock } from "./clock";

/** A `typing` that is not repeated ends after this long: its end may have been lost. Milliseconds. */
export const TYPING_EXPIRES_MS = 6_000;

export type Presence = "online" | "away" | "do_not_disturb";

/** How somebody says to be. */
export interface PersonStatus {
  readonly state: Presence;
  readonly text: string;
}

/** How far somebody has got. */
export interface ReadReceipt {
  readonly deliveredSeq: number;
  readonly readSeq: number;
}

const ONLINE: PersonStatus = { state: "online", text: "" };

/** Who is in a room now, how they are, how far they have read and who types. Volatile: built from pushes that may be lost. */
export class People {
  private names = new Set<string>();
  private counted = 0;
  private readonly typists = new Map<string, () => void>();
  private readonly statuses = new Map<string, PersonStatus>();
  private readonly read = new Map<string, ReadReceipt>();

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

  /** By user; only in small rooms. */
  get receipts(): ReadonlyMap<string, ReadReceipt> {
    return this.read;
  }

  has(name: string): boolean {
    return this.names.has(name);
  }

  /** Online without a text for those who say nothing else. */
  status(name: string): PersonStatus {
    return this.statuses.get(name) ?? ONLINE;
  }

  replace(names: readonly string[], total: number, statuses: readonly UserStatus[] = [], receipts: readonly WireReceipt[] = []): void {
    this.names = new Set(names);
    this.counted = total;
    this.statuses.clear();
    this.setStatuses(statuses);
    this.read.clear();
    this.raiseReceipts(receipts);
  }

  /** Applies a change. Returns whether the names still fit the count; if not, a change was lost. */
  change(joined: readonly string[], left: readonly string[], total: number, statuses: readonly UserStatus[] = []): boolean {
    const complete = this.names.size === this.counted;
    for (const name of joined) this.names.add(name);
    for (const name of left) {
      this.names.delete(name);
      this.statuses.delete(name);
      this.stopTyping(name);
    }
    this.setStatuses(statuses);
    this.counted = total;
    return !complete || this.names.size === total;
  }

  /** Watermarks only rise; one that was overtaken changes nothing. */
  raiseReceipts(receipts: readonly WireReceipt[]): void {
    for (const { user, deliveredSeq, readSeq } of receipts) {
      const known = this.read.get(user) ?? { deliveredSeq: 0, readSeq: 0 };
      this.read.set(user, {
        deliveredSeq: Math.max(known.deliveredSeq, Number(deliveredSeq)),
        readSeq: Math.max(known.readSeq, Number(readSeq)),
      });
    }
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

  /** Who says something has stopped typing, and has read what stands before it; 0 where that is not followed. */
  said(name: string, seq: number): void {
    this.stopTyping(name);
    if (seq > 0) this.read.set(name, { deliveredSeq: seq, readSeq: seq });
  }

  stopTyping(name: string): void {
    if (this.typists.has(name)) this.setTyping(name, false);
  }

  private setStatuses(statuses: readonly UserStatus[]): void {
    for (const { user, state, text } of statuses) {
      const said = presenceFromWire(state);
      if (said === "online" && text === "") this.statuses.delete(user);
      else this.statuses.set(user, { state: said, text });
    }
  }
}

export function presenceToWire(state: Presence): PresenceState {
  return { online: PresenceState.ONLINE, away: PresenceState.AWAY, do_not_disturb: PresenceState.DO_NOT_DISTURB }[state];
}

function presenceFromWire(state: PresenceState): Presence {
  return state === PresenceState.AWAY ? "away" : state === PresenceState.DO_NOT_DISTURB ? "do_not_disturb" : "online";
}
