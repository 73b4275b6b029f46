import { type Block, type Decoder, type DecoderEvents, FRAME_US } from "../sdk/audio/playout";
import { bridgeFor, SILENT_FRAME } from "../sdk/audio/opus";
import { FRAME_SAMPLES, SAMPLE_RATE } from "../sdk/media";

/** Always 48 kHz and stereo: a mono frame comes out on both sides. */
const CONFIG: AudioDecoderConfig = { codec: "opus", sampleRate: SAMPLE_RATE, numberOfChannels: 2 };

/** The browser's Opus decoder. */
export function openDecoder({ block, failed }: DecoderEvents): Decoder {
  let count = 0;
  const decoder = new AudioDecoder({
    output: (data) => {
      block(blockOf(data));
      data.close();
    },
    error: failed,
  });
  decoder.configure(CONFIG);
  return {
    decode: (payload) => {
      if (decoder.state !== "configured") return;
      decoder.decode(new EncodedAudioChunk({ type: "key", timestamp: count++ * FRAME_US, data: payload as Uint8Array<ArrayBuffer> }));
    },
    close: () => {
      if (decoder.state !== "closed") decoder.close();
    },
  };
}

/** Whether the decoder bridges a lost frame that it is shown as a packet of one byte: not said anywhere, so it is tried. */
export async function probeBridging(): Promise<boolean> {
  const lengths: number[] = [];
  const decoder = new AudioDecoder({
    output: (data) => {
      lengths.push(data.numberOfFrames);
      data.close();
    },
    error: () => undefined,
  });
  try {
    decoder.configure(CONFIG);
    for (const [at, data] of [SILENT_FRAME, bridgeFor(SILENT_FRAME), SILENT_FRAME].entries()) {
      decoder.decode(new EncodedAudioChunk({ type: "key", timestamp: at * FRAME_US, data }));
    }
    await decoder.flush();
    decoder.close();
  } catch {
    return false;
  }
  return lengths.length === 3 && lengths.every((length) => length === FRAME_SAMPLES);
}

function blockOf(data: AudioData): Block {
  const channel = (planeIndex: number) => {
    const samples = new Float32Array(FRAME_SAMPLES);
    const frameCount = Math.min(FRAME_SAMPLES, data.numberOfFrames);
    data.copyTo(samples, { planeIndex: Math.min(planeIndex, data.numberOfChannels - 1), format: "f32-planar", frameCount });
    return samples;
  };
  return [channel(0), channel(1)];
}
