// A sound that can be found again: a chord that changes, and every 250 ms a burst of noise that tells which one it is.

export const RATE = 48_000;
/** Bursts follow each other like this, and are eight different ones. Seconds. */
export const MARK_EVERY_S = 0.25;
export const CODES = 8;
/** Bursts are looked for at a quarter of the rate. */
const COARSE = 4;
const BURST = 240;
/** Less alike than this, it is another sound. */
const ALIKE = 0.6;

function dice(seed) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** The burst with this number, at the coarse rate. */
function burst(code) {
  const chance = dice(code * 7_919 + 17);
  const raw = Array.from({ length: BURST + 2 }, () => chance() * 2 - 1);
  return Float32Array.from({ length: BURST }, (_, at) => ((raw[at] + 2 * raw[at + 1] + raw[at + 2]) / 4) * Math.sin((Math.PI * (at + 0.5)) / BURST));
}

const BURSTS = Array.from({ length: CODES }, (_, code) => burst(code));

/** The sound as a WAV file, stereo; it can be played in a loop. */
export function wav(seconds) {
  const frames = Math.round(seconds / (MARK_EVERY_S * CODES)) * MARK_EVERY_S * CODES * RATE;
  const data = Buffer.alloc(44 + frames * 4);
  data.write("RIFF", 0);
  data.writeUInt32LE(36 + frames * 4, 4);
  data.write("WAVEfmt ", 8);
  for (const [at, value] of [[16, 16], [24, RATE], [28, RATE * 4], [40, frames * 4]]) data.writeUInt32LE(value, at);
  for (const [at, value] of [[20, 1], [22, 2], [32, 4], [34, 16]]) data.writeUInt16LE(value, at);
  data.write("data", 36);
  const chords = [[220, 277.2, 329.6], [196, 246.9, 293.7], [174.6, 220, 261.6], [164.8, 207.7, 246.9]];
  for (let at = 0; at < frames; at++) {
    const chord = chords[Math.floor(at / (RATE / 2)) % chords.length];
    const decay = Math.exp(-((at % (RATE / 2)) / RATE) * 3);
    const mark = Math.floor(at / (RATE * MARK_EVERY_S));
    const within = Math.floor((at % (RATE * MARK_EVERY_S)) / COARSE);
    const noise = within < BURST ? BURSTS[mark % CODES][within] : 0;
    for (let side = 0; side < 2; side++) {
      const tone = chord.reduce((sum, hertz, nth) => sum + Math.sin((2 * Math.PI * hertz * (1 + side * 0.003) * at) / RATE) / (nth + 1), 0);
      const value = 0.16 * decay * tone + 0.6 * noise;
      data.writeInt16LE(Math.round(Math.max(-1, Math.min(1, value)) * 32_767), 44 + at * 4 + side * 2);
    }
  }
  return data;
}

/** Every burst in a recording (mono, Int16), where it begins and how like the original it is. */
export function findMarks(recording) {
  const coarse = Float32Array.from({ length: Math.floor(recording.length / COARSE) }, (_, at) => {
    let sum = 0;
    for (let part = 0; part < COARSE; part++) sum += recording[at * COARSE + part];
    return sum / COARSE / 32_768;
  });
  const step = (MARK_EVERY_S * RATE) / COARSE;
  const marks = [];
  let at = 0;
  for (let last; at + 2 * step < coarse.length; ) {
    // After one the next is near; before the first and after a loss it may be any one anywhere.
    const found = last ? best(coarse, last.at + step - 600, last.at + step + 600, [(last.code + 1) % CODES]) : best(coarse, at, at + step, [...BURSTS.keys()]);
    if (found.alike < ALIKE) {
      at = (last?.at ?? at) + step;
      last = undefined;
      continue;
    }
    marks.push({ code: found.code, sample: found.at * COARSE, alike: found.alike });
    last = found;
    at = found.at + step / 2;
  }
  return marks;
}

function best(coarse, from, to, codes) {
  let top = { alike: 0, at: 0, code: 0 };
  for (let at = Math.max(0, Math.floor(from)); at < Math.min(to, coarse.length - BURST); at++) {
    for (const code of codes) {
      const alike = likeness(coarse, at, BURSTS[code], 0, BURST);
      if (alike > top.alike) top = { alike, at, code };
    }
  }
  return top;
}

/** Normalized correlation of two stretches. */
export function likeness(one, oneFrom, other, otherFrom, length) {
  let both = 0;
  let first = 0;
  let second = 0;
  for (let at = 0; at < length; at++) {
    const a = one[oneFrom + at];
    const b = other[otherFrom + at];
    both += a * b;
    first += a * a;
    second += b * b;
  }
  return first > 0 && second > 0 ? both / Math.sqrt(first * second) : 0;
}

/** How like what was recorded what was played is, from a mark of both on: the best of small shifts. */
export function likenessFrom(source, sourceAt, played, playedAt, length) {
  let top = 0;
  for (let shift = -COARSE * 3; shift <= COARSE * 3; shift++) {
    if (playedAt + shift < 0 || playedAt + shift + length > played.length || sourceAt + length > source.length) continue;
    top = Math.max(top, likeness(source, sourceAt, played, playedAt + shift, length));
  }
  return top;
}

export function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(sorted.length * share) - 1))];
}
