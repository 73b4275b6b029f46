import type { FromLinks, ToLinks } from "../worker/linkmessages";
import { type Lane, type Link, type LinkHandlers, noLink, type Opener, type TransportName } from "./link";

interface Opening {
  opened(mediaBytesMax: number): void;
  refused(): void;
}

/** What this needs of a `Worker`. */
export interface WorkerLike {
  onmessage: ((event: MessageEvent<FromLinks>) => void) | null;
  onerror: ((event: ErrorEvent) => void) | null;
  postMessage(message: ToLinks, transfer?: Transferable[]): void;
}

/** Links that live in a worker, where a busy page does not hold them up. */
export class LinkWorker {
  /** It cannot be used: links must be had otherwise. */
  broken = false;
  private readonly opening = new Map<number, Opening>();
  private readonly links = new Map<number, WorkerLink>();
  private readonly ports = new WeakMap<MessagePort, number>();
  private next = 1;

  /** Begins to load it, from where `links.js` is. The earlier, the better: it takes as long as the page's own script. */
  static open(file: string | URL): LinkWorker | undefined {
    return typeof Worker === "undefined" ? undefined : new LinkWorker(new Worker(file, { type: "module" }) as WorkerLike);
  }

  constructor(private readonly worker: WorkerLike) {
    worker.onmessage = ({ data }) => this.receive(data);
    worker.onerror = () => this.fail();
  }

  opener(transport: TransportName, url: string, hashes: readonly string[] = []): Opener {
    return {
      transport,
      open: (signal) =>
        new Promise((resolve, reject) => {
          if (signal.aborted || this.broken) return reject(noLink());
          const number = this.next++;
          const abort = () => this.tell({ say: "abort", link: number });
          signal.addEventListener("abort", abort, { once: true });
          const done = () => {
            this.opening.delete(number);
            signal.removeEventListener("abort", abort);
          };
          this.opening.set(number, {
            opened: (mediaBytesMax) => {
              done();
              const link = new WorkerLink(this, number, transport, mediaBytesMax);
              this.links.set(number, link);
              resolve(link);
            },
            refused: () => {
              done();
              reject(noLink());
            },
          });
          this.tell({ say: "open", link: number, transport, url, hashes });
        }),
    };
  }

  tell(message: ToLinks, transfer: Transferable[] = []): void {
    this.worker.postMessage(message, transfer);
  }

  /** The number of a port, which moves to the worker when it is asked for the first time. */
  numberOf(port: MessagePort): number {
    let number = this.ports.get(port);
    if (number === undefined) {
      number = this.next++;
      this.ports.set(port, number);
      this.tell({ say: "port", port: number, end: port }, [port]);
    }
    return number;
  }

  forget(link: number): void {
    this.links.delete(link);
  }

  private receive(said: FromLinks): void {
    const { link } = said;
    switch (said.say) {
      case "opened":
        return this.opening.get(link)?.opened(said.mediaBytesMax);
      case "refused":
        return this.opening.get(link)?.refused();
      case "frame":
        return this.links.get(link)?.handlers?.frame(said.bytes);
      case "datagram":
        return this.links.get(link)?.handlers?.datagram(said.bytes);
      case "media":
        return this.links.get(link)?.handlers?.media(said.packet);
      case "failed":
        return this.links.get(link)?.handlers?.failed(said.id);
      case "ended": {
        const ended = this.links.get(link);
        this.links.delete(link);
        return ended?.handlers?.ended(said.end);
      }
    }
  }

  /** The worker's file is not there, or it has crashed. */
  private fail(): void {
    this.broken = true;
    for (const { refused } of [...this.opening.values()]) refused();
    for (const link of this.links.values()) link.handlers?.ended({ code: 0, reason: "the worker failed" });
    this.links.clear();
  }
}

class WorkerLink implements Link {
  handlers: LinkHandlers | undefined;

  constructor(
    private readonly worker: LinkWorker,
    private readonly number: number,
    readonly transport: TransportName,
    readonly mediaBytesMax: number,
  ) {}

  start(handlers: LinkHandlers): void {
    this.handlers = handlers;
    this.worker.tell({ say: "start", link: this.number });
  }

  send(lane: Lane, id: number, bytes: Uint8Array<ArrayBuffer>): void {
    this.worker.tell({ say: "send", link: this.number, lane, id, bytes });
  }

  sendMedia(packet: Uint8Array<ArrayBuffer>): void {
    this.worker.tell({ say: "media", link: this.number, packet });
  }

  carry(port: MessagePort, handle: number): void {
    this.worker.tell({ say: "carry", link: this.number, port: this.worker.numberOf(port), handle });
  }

  close(code: number, reason: string): void {
    this.handlers = undefined;
    this.worker.forget(this.number);
    this.worker.tell({ say: "close", link: this.number, code, reason });
  }
}
