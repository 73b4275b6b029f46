import { VezaError } from "../errors";
import type { StreamProfile } from "../streaminfo";

export type SourceKind = "microphone" | "file" | "tab";

/** Sound that can be published. */
export interface Source {
  kind: SourceKind;
  node: AudioNode;
  /** What it is, for people: the file's or the device's name. */
  label: string;
  /** Resolves when it has nothing more to give: the file is over, the tab was closed, the microphone unplugged. */
  over: Promise<void>;
  stop(): void;
}

/** Asks for the microphone. For music nothing may be done to the sound; a voice is freed of echo and noise. */
export async function openMicrophone(context: AudioContext, profile: StreamProfile, deviceId?: string): Promise<Source> {
  const clean = profile === "voice";
  const audio: MediaTrackConstraints = {
    echoCancellation: clean,
    noiseSuppression: clean,
    autoGainControl: clean,
    channelCount: clean ? 1 : 2,
    ...(deviceId && { deviceId: { exact: deviceId } }),
  };
  return fromStream(context, "microphone", await asked(() => navigator.mediaDevices.getUserMedia({ audio })));
}

/** Asks for a tab, or what else the browser offers, and takes its sound. */
export async function openTab(context: AudioContext): Promise<Source> {
  if (!("getDisplayMedia" in navigator.mediaDevices)) throw new VezaError("unsupported", "This browser cannot share the sound of a tab.");
  const audio: MediaTrackConstraints = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 2 };
  const stream = await asked(() => navigator.mediaDevices.getDisplayMedia({ audio, video: true }));
  if (stream.getAudioTracks().length === 0) {
    for (const track of stream.getTracks()) track.stop();
    throw new VezaError("invalid_argument", "What you chose was shared without its sound. Choose a tab, and its sound with it.");
  }
  return fromStream(context, "tab", stream);
}

/** Reads a whole file that the browser can decode. */
export async function openFile(context: AudioContext, file: File): Promise<Source> {
  let buffer: AudioBuffer;
  try {
    buffer = await context.decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new VezaError("invalid_argument", `${file.name} is no sound that this browser can read.`);
  }
  const node = new AudioBufferSourceNode(context, { buffer });
  const over = new Promise<void>((resolve) => (node.onended = () => resolve()));
  node.start();
  return { kind: "file", node, label: file.name, over, stop: () => node.stop() };
}

function fromStream(context: AudioContext, kind: SourceKind, stream: MediaStream): Source {
  const [track] = stream.getAudioTracks();
  if (!track) throw new VezaError("unsupported", "There is no sound to record.");
  const over = new Promise<void>((resolve) => track.addEventListener("ended", () => resolve()));
  const stop = () => {
    for (const one of stream.getTracks()) one.stop();
  };
  return { kind, node: new MediaStreamAudioSourceNode(context, { mediaStream: stream }), label: track.label, over, stop };
}

async function asked(ask: () => Promise<MediaStream>): Promise<MediaStream> {
  try {
    return await ask();
  } catch (error) {
    const name = error instanceof DOMException ? error.name : "";
    if (name === "NotAllowedError") throw new VezaError("permission_denied", "You did not allow it, or this page may not ask.");
    if (name === "NotFoundError") throw new VezaError("not_found", "There is no microphone.");
    if (name === "NotReadableError") throw new VezaError("unavailable", "Another program holds the microphone.", true);
    throw error;
  }
}
