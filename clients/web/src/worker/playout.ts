// The worker behind a player: packets from the page, blocks to the player's worklet, which asks for them. No timers: the
// sound card's clock comes with the asks.

import { Playout, type Sink } from "../sdk/audio/playout";
import { Ring } from "../sdk/audio/ring";
import { openDecoder, probeBridging } from "./decoder";
import { type Ask, type Given, type PlayoutSays, type PlayoutStart, RING_FRAMES } from "./messages";

const scope = self as unknown as {
  onmessage: ((event: MessageEvent<PlayoutStart | Uint8Array>) => void) | null;
  postMessage(message: PlayoutSays): void;
};

scope.onmessage = ({ data }) => {
  if (data instanceof Uint8Array) return;
  start(data);
};

function start({ port, memory, reportMs }: PlayoutStart): void {
  const playout = new Playout(openDecoder, memory ? sharedSink(new Ring(memory, 2, RING_FRAMES)) : messageSink(port));
  const report = (nowMs: number) => {
    const playing = playout.report(reportMs, nowMs);
    if (playing) scope.postMessage({ playing });
  };
  scope.onmessage = ({ data }) => {
    if (!(data instanceof Uint8Array)) return;
    const nowMs = performance.now();
    playout.handlePacket(data, nowMs);
    report(nowMs);
  };
  port.onmessage = ({ data: { blocks, starved, leadMs } }: MessageEvent<Ask>) => {
    const nowMs = performance.now();
    playout.handleAsk(blocks, starved, leadMs, nowMs);
    report(nowMs);
  };
  probeBridging().then(
    (bridges) => playout.ready(bridges),
    (error: unknown) => scope.postMessage({ failed: String(error) }),
  );
}

function sharedSink(ring: Ring): Sink {
  return {
    play: (block, rate) => {
      ring.rate = rate;
      ring.write(block);
    },
  };
}

function messageSink(port: MessagePort): Sink {
  return {
    play: (channels, rate) => port.postMessage({ channels, rate } satisfies Given, channels.map(({ buffer }) => buffer)),
  };
}
