import { FRAME_SAMPLES, SAMPLE_RATE } from "../media";
import type { Rung, StreamProfile } from "../streaminfo";
import type { Encoding } from "./recording";

/** An encoder with so much before it does not keep up; what comes now is a gap. Blocks. */
const WAITING_MAX = 10;

/** TypeScript does not know these members of WebCodecs' Opus registration yet. */
type OpusConfig = AudioEncoderConfig & { opus: { format: "opus"; frameDuration: number; application: string; complexity: number; usedtx: boolean } };

function configOf(profile: StreamProfile, { bitsPerSecond, channels }: Rung): OpusConfig {
  return {
    codec: "opus",
    sampleRate: SAMPLE_RATE,
    numberOfChannels: channels,
    bitrate: bitsPerSecond,
    bitrateMode: "variable",
    // A family of its own for each profile: a listener's decoder goes from rung to rung without a click.
    opus: { format: "opus", frameDuration: 20_000, application: profile === "voice" ? "voip" : "lowdelay", complexity: 9, usedtx: false },
  };
}

export interface EncoderEvents {
  /** A rung's frame of the block with this number. */
  frame(rung: number, block: number, level: number, payload: Uint8Array): void;
  /** Says why, for people. */
  failed(why: string): void;
}

/** One Opus encoder for every rung, fed with the same blocks of 20 ms. */
export class Encoders implements Encoding {
  private readonly all: { rung: Rung; encoder: AudioEncoder; blocks: { block: number; level: number }[] }[] = [];

  private constructor() {}

  /** @throws Error when the browser does not encode Opus like that. */
  static async open(profile: StreamProfile, rungs: readonly Rung[], { frame, failed }: EncoderEvents): Promise<Encoders> {
    const encoders = new Encoders();
    for (const rung of rungs) {
      const config = configOf(profile, rung);
      const { supported } = await AudioEncoder.isConfigSupported(config);
      if (!supported) throw new Error("This browser cannot encode Opus as live audio needs it.");
      const blocks: { block: number; level: number }[] = [];
      const encoder = new AudioEncoder({
        output: (chunk) => {
          const of = blocks.shift();
          const payload = new Uint8Array(chunk.byteLength);
          chunk.copyTo(payload);
          if (of && payload.length > 0) frame(rung.rung, of.block, of.level, payload);
        },
        error: ({ message }) => failed(`The encoder failed: ${message}`),
      });
      encoder.configure(config);
      encoders.all.push({ rung, encoder, blocks });
    }
    return encoders;
  }

  /** Encodes a block on every rung, or on none. `false` when the encoders do not keep up. */
  encode(channels: readonly Float32Array<ArrayBuffer>[], block: number, level: number): boolean {
    if (this.all.some(({ encoder }) => encoder.state !== "configured" || encoder.encodeQueueSize > WAITING_MAX)) return false;
    for (const { rung, encoder, blocks } of this.all) {
      const numberOfChannels = rung.channels;
      const data = new Float32Array(FRAME_SAMPLES * numberOfChannels);
      if (numberOfChannels === 1) mix(channels, data);
      else for (let channel = 0; channel < numberOfChannels; channel++) data.set(channels[channel] ?? channels[0] ?? [], channel * FRAME_SAMPLES);
      const timestamp = (block * FRAME_SAMPLES * 1_000_000) / SAMPLE_RATE;
      const audio = new AudioData({ format: "f32-planar", sampleRate: SAMPLE_RATE, numberOfFrames: FRAME_SAMPLES, numberOfChannels, timestamp, data });
      blocks.push({ block, level });
      encoder.encode(audio);
      audio.close();
    }
    return true;
  }
}

function mix(channels: readonly Float32Array[], into: Float32Array): void {
  for (const samples of channels) {
    for (let at = 0; at < into.length; at++) into[at] = (into[at] ?? 0) + (samples[at] ?? 0) / channels.length;
  }
}
