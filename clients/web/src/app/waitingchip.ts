import type { Room } from "../sdk/index";
import { byId } from "./dom";
import { plural } from "./format";

/** Few new messages are in sight anyway. */
const WORTH_IT = 8;

/** When a room is opened with much unread: a way up to where the reader stopped. */
export class WaitingChip {
  private readonly chip = byId("first-unread");

  constructor(private readonly jump: (seq: number) => void) {}

  show(room: Room | undefined, readSeq: number | undefined, unread = 0): void {
    this.hide();
    if (!room || readSeq === undefined || unread < WORTH_IT) return;
    this.chip.hidden = false;
    byId("first-unread-text").textContent = `${plural(unread, "new message")}: to the first`;
    this.chip.onclick = () => {
      this.hide();
      this.jump(readSeq);
    };
  }

  /** The reader has taken it, or has gone on. */
  hide(): void {
    this.chip.hidden = true;
  }
}
