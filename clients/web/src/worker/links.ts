// The worker that holds the page's links, so that what is live does not wait for a busy page: media packets go from here
// straight to the workers that play and record.

import type { Link, Opener } from "../sdk/link";
import { websocketOpener } from "../sdk/websocket";
import { webtransportOpener } from "../sdk/webtransport";
import type { FromLinks, ToLinks } from "./linkmessages";

const scope = self as unknown as {
  onmessage: ((event: MessageEvent<ToLinks>) => void) | null;
  postMessage(message: FromLinks): void;
};

const opening = new Map<number, AbortController>();
const links = new Map<number, Link>();
const ports = new Map<number, MessagePort>();

scope.onmessage = ({ data }) => {
  switch (data.say) {
    case "open":
      return open(data.link, data.transport === "webtransport" ? webtransportOpener(data.url, data.hashes) : websocketOpener(data.url));
    case "abort":
      return opening.get(data.link)?.abort();
    case "start":
      return start(data.link);
    case "send":
      return links.get(data.link)?.send(data.lane, data.id, data.bytes);
    case "media":
      return links.get(data.link)?.sendMedia(data.packet);
    case "port":
      ports.set(data.port, data.end);
      return;
    case "carry": {
      const port = ports.get(data.port);
      if (port) links.get(data.link)?.carry(port, data.handle);
      return;
    }
    case "close":
      links.get(data.link)?.close(data.code, data.reason);
      links.delete(data.link);
  }
};

function open(link: number, opener: Opener): void {
  const attempt = new AbortController();
  opening.set(link, attempt);
  opener.open(attempt.signal).then(
    (opened) => {
      opening.delete(link);
      links.set(link, opened);
      scope.postMessage({ say: "opened", link, mediaBytesMax: opened.mediaBytesMax });
    },
    () => {
      opening.delete(link);
      scope.postMessage({ say: "refused", link });
    },
  );
}

function start(link: number): void {
  links.get(link)?.start({
    frame: (bytes) => scope.postMessage({ say: "frame", link, bytes }),
    datagram: (bytes) => scope.postMessage({ say: "datagram", link, bytes }),
    media: (packet) => scope.postMessage({ say: "media", link, packet }),
    failed: (id) => scope.postMessage({ say: "failed", link, id }),
    ended: (end) => {
      links.delete(link);
      scope.postMessage({ say: "ended", link, end });
    },
  });
}
