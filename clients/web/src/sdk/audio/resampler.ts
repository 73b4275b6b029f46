/** Input samples on either side of an output sample. */
const REACH = 8;
const TAPS = 2 * REACH;
const PHASES = 128;

/** A windowed sinc for every phase, and one more row so that two neighbours can always be mixed. */
const KERNEL = (() => {
  const rows = new Float32Array((PHASES + 1) * TAPS);
  for (let phase = 0; phase <= PHASES; phase++) {
    let sum = 0;
    for (let tap = 0; tap < TAPS; tap++) {
      const x = tap - (REACH - 1) - phase / PHASES;
      const window = Math.abs(x) >= REACH ? 0 : 0.42 + 0.5 * Math.cos((Math.PI * x) / REACH) + 0.08 * Math.cos((2 * Math.PI * x) / REACH);
      const value = (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x)) * window;
      rows[phase * TAPS + tap] = value;
      sum += value;
    }
    for (let tap = 0; tap < TAPS; tap++) rows[phase * TAPS + tap] = (rows[phase * TAPS + tap] ?? 0) / sum;
  }
  return rows;
})();

/** Plays a little faster or slower. Only for changes of a few thousandths: it does not guard against aliasing. */
export class Resampler {
  private readonly weights = new Float32Array(TAPS);
  /** Where the next output sample lies behind the one in the middle of the window, 0 to 1 input samples. */
  private phase = 0;

  /** How many input samples `count` output samples need in front of them, at `step` input samples each. */
  needs(count: number, step: number): number {
    return Math.floor(this.phase + (count - 1) * step) + TAPS;
  }

  /**
   * Fills each of `outputs` from its input.
   *
   * @returns how many input samples are used up: the next call's inputs begin behind them.
   */
  run(inputs: readonly Float32Array[], outputs: readonly Float32Array[], step: number): number {
    let from = 0;
    let { phase } = this;
    const count = outputs[0]?.length ?? 0;
    for (let at = 0; at < count; at++) {
      const row = phase * PHASES;
      const base = Math.floor(row) * TAPS;
      const part = row - Math.floor(row);
      for (let tap = 0; tap < TAPS; tap++) {
        const low = KERNEL[base + tap] ?? 0;
        this.weights[tap] = low + ((KERNEL[base + TAPS + tap] ?? 0) - low) * part;
      }
      outputs.forEach((output, channel) => {
        const input = inputs[channel];
        let sum = 0;
        for (let tap = 0; tap < TAPS; tap++) sum += (input?.[from + tap] ?? 0) * (this.weights[tap] ?? 0);
        output[at] = sum;
      });
      phase += step;
      const whole = Math.floor(phase);
      from += whole;
      phase -= whole;
    }
    this.phase = phase;
    return from;
  }
}
