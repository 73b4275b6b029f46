import { SILENCE } from "../media";

/** How loud samples are, in −dB below full scale: 0 for a full square wave, 127 for silence (RFC 6464). */
export function levelOf(channels: readonly Float32Array[]): number {
  let loudest = 0;
  for (const samples of channels) {
    let sum = 0;
    for (const sample of samples) sum += sample * sample;
    loudest = Math.max(loudest, samples.length === 0 ? 0 : sum / samples.length);
  }
  return loudest === 0 ? SILENCE : Math.max(0, Math.min(SILENCE, Math.round(-10 * Math.log10(loudest))));
}

/** A level as a share of a meter that shows the upper 60 dB. */
export function meterShare(level: number): number {
  return Math.max(0, Math.min(1, 1 - level / 60));
}
