import { isText, type Message } from "../sdk/index";
import { byId } from "./dom";

/** Between two announcements, so that one is not cut off by the next. Milliseconds. */
const EVERY_MS = 1_000;

/**
 * Tells a screen reader what is said. The log itself is silent: rows come and go there while one scrolls, and none of
 * them is news.
 */
export class Announcer {
  private readonly live = byId("announcer");
  private waiting: string[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;

  heard(message: Message, me: string): void {
    const { author, body, deleted } = message;
    if (isText(message) && author !== me && !deleted) this.say(`${author}: ${body.slice(0, 300)}`);
  }

  say(text: string): void {
    this.waiting.push(text);
    this.timer ??= setTimeout(() => this.speak(), 50);
  }

  private speak(): void {
    const many = this.waiting.length > 3;
    this.live.textContent = many ? `${this.waiting.length} new messages` : this.waiting.join(". ");
    this.waiting = [];
    this.timer = setTimeout(() => {
      this.timer = undefined;
      if (this.waiting.length > 0) this.speak();
    }, EVERY_MS);
  }
}
