import { applyChange, type Message, type Room } from "../sdk/index";

/** Quoted messages that are not loaded, kept; the oldest of them go first. */
const KEPT_MAX = 200;

/** The messages that others answer, also those that are not loaded. What is edited or deleted is so here too. */
export class Quotes {
  private readonly fetched = new Map<number, Message | undefined>();
  readonly stop: () => void;

  constructor(
    private readonly room: Room,
    me: () => string,
    private readonly changed: () => void,
  ) {
    this.stop = room.on("entry", (entry) => {
      const target = entry.change && entry.change.kind !== "note" ? entry.change.target : 0;
      const known = this.fetched.get(target);
      if (!known) return;
      this.fetched.set(target, applyChange(known, entry, me()));
      this.changed();
    });
  }

  /** What is known; the rest is asked for, once. */
  get(seq: number): Message | undefined {
    const loaded = this.room.find(seq);
    if (loaded || this.fetched.has(seq)) return loaded ?? this.fetched.get(seq);
    this.fetched.set(seq, undefined);
    for (const old of this.fetched.keys()) {
      if (this.fetched.size <= KEPT_MAX) break;
      this.fetched.delete(old);
    }
    void this.room.entry(seq).then(
      (message) => {
        if (!message) return;
        this.fetched.set(seq, message);
        this.changed();
      },
      () => this.fetched.delete(seq),
    );
    return undefined;
  }
}
