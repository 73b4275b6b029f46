// The worker behind a publisher: blocks from the recorder's worklet, packets to the network. A busy page delays neither.

import { give } from "../sdk/carriage";
import { Encoders } from "../sdk/audio/encoders";
import { Recording } from "../sdk/audio/recording";
import { SILENCE } from "../sdk/media";
import type { Recorded, RecordingSays, ToRecording } from "./messages";

/** The page hears of the level so often. Blocks. */
const TELL_EVERY = 3;

const scope = self as unknown as {
  onmessage: ((event: MessageEvent<ToRecording>) => void) | null;
  postMessage(message: RecordingSays): void;
};

let recording: Recording | undefined;

scope.onmessage = ({ data }) => {
  switch (data.say) {
    case "start":
      start(data).then(
        () => scope.postMessage({ say: "ready" }),
        (error: unknown) => scope.postMessage({ say: "failed", why: error instanceof Error ? error.message : String(error) }),
      );
      return;
    case "aim":
      return recording?.aimAt(data.aim);
    case "muted":
      if (recording) recording.muted = data.muted;
      return;
    case "report":
      recording?.follow(data.report);
  }
};

async function start({ recorder, packets, profile, rungs }: Extract<ToRecording, { say: "start" }>): Promise<void> {
  const encoders = await Encoders.open(profile, rungs, {
    frame: (rung, block, level, payload) => recording?.encoded(rung, block, level, payload),
    failed: (why) => scope.postMessage({ say: "failed", why }),
  });
  const started = new Recording(rungs.map(({ rung }) => rung), encoders, (packet) => give(packets, packet));
  recording = started;
  let blocks = 0;
  recorder.onmessage = ({ data: { channels, atMs } }: MessageEvent<Recorded>) => {
    started.handleBlock(channels, atMs);
    blocks += 1;
    if (blocks % TELL_EVERY !== 0) return;
    const { copies, skipped, muted } = started;
    const level = started.takeLevel();
    scope.postMessage({ say: "level", level: muted ? SILENCE : level, copies, skipped });
  };
}
