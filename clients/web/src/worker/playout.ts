// The worker behind a player: packets from the network, blocks to the player's worklet, which asks for them. No timers:
// the sound card's clock comes with the asks.

import { Playout, type Sink } from "../sdk/audio/playout";
import { Ring } from "../sdk/audio/ring";
import { openDecoder, probeBridging } from "./decoder";
import { type Ask, type Given, type PlayoutSays, type PlayoutStart, RING_FRAMES } from "./messages";

const scope = self as unknown as {
  onmessage: ((event: MessageEvent<PlayoutStart>) => void) | null;
  postMessage(message: PlayoutSays): void;
};

scope.onmessage = ({ data: { player, packets, memory, reportMs } }) => {
  const playout = new Playout(openDecoder, memory ? sharedSink(new Ring(memory, 2, RING_FRAMES)) : messageSink(player));
  const report = (nowMs: number) => {
    const playing = playout.report(reportMs, nowMs);
    if (playing) scope.postMessage({ playing });
  };
  packets.onmessage = ({ data }: MessageEvent<Uint8Array>) => {
    const nowMs = performance.now();
    playout.handlePacket(data, nowMs);
    report(nowMs);
  };
  player.onmessage = ({ data: { blocks, starved, leadMs } }: MessageEvent<Ask>) => {
    const nowMs = performance.now();
    playout.handleAsk(blocks, starved, leadMs, nowMs);
    report(nowMs);
  };
  probeBridging().then(
    (bridges) => playout.ready(bridges),
    (error: unknown) => scope.postMessage({ failed: String(error) }),
  );
};

function sharedSink(ring: Ring): Sink {
  return {
    play: (block, rate) => {
      ring.rate = rate;
      ring.write(block);
    },
  };
}

function messageSink(player: MessagePort): Sink {
  return {
    play: (channels, rate) => player.postMessage({ channels, rate } satisfies Given, channels.map(({ buffer }) => buffer)),
  };
}
