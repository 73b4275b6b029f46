import { meterShare } from "../../sdk/audio/index";
import { coalesce, el } from "../dom";

/** Falls by this much of its length per drawing, so that it can be read. */
const FALL = 0.06;
/** How often it is told to a screen reader. Milliseconds. */
const TELL_EVERY_MS = 1_000;

/** A level meter. It draws when there is a frame to draw in, and costs nothing in a hidden tab. */
export class Meter {
  readonly node = el("div", { class: "meter", role: "meter", label: "Level", testid: "live-meter" });
  private readonly bar = el("i");
  private share = 0;
  private wanted = 0;
  private toldMs = 0;
  private readonly draw = coalesce(() => {
    this.share = Math.max(this.wanted, this.share - FALL);
    this.bar.style.clipPath = `inset(0 ${((1 - this.share) * 100).toFixed(1)}% 0 0)`;
    if (performance.now() - this.toldMs < TELL_EVERY_MS) return;
    this.toldMs = performance.now();
    this.node.setAttribute("aria-valuenow", String(Math.round(this.share * 100)));
  });

  constructor() {
    this.node.setAttribute("aria-valuemin", "0");
    this.node.setAttribute("aria-valuemax", "100");
    this.node.setAttribute("aria-valuenow", "0");
    this.node.append(this.bar);
  }

  /** In −dB below full scale. */
  show(level: number): void {
    this.wanted = meterShare(level);
    this.draw();
  }
}
