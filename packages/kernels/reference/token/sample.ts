import { float64, type Numbers } from '../arrays.ts';
import { sampleAdjusted, type SampleAdjustedInputs, type SampleAdjustedOptions } from './sample_adjusted.ts';
import { sampleKept } from './sample_kept.ts';

/** High and low word of a 64-bit product. */
function multiplyWide(a: number, b: number): readonly [number, number] {
  const product = BigInt(a) * BigInt(b);
  return [Number(product >> 32n), Number(product & 0xffffffffn)];
}

/** Philox-4x32-10: four 32-bit words for a counter of four words and a key of two. Source: Salmon et al., SC 2011. */
export function philox(counter: readonly number[], key: readonly number[]): readonly number[] {
  let [c0 = 0, c1 = 0, c2 = 0, c3 = 0] = counter;
  let [k0 = 0, k1 = 0] = key;
  for (let round = 0; round < 10; round++) {
    const [high0, low0] = multiplyWide(0xd2511f53, c0);
    const [high1, low1] = multiplyWide(0xcd9e8d57, c2);
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

export interface SampleInputs extends SampleAdjustedInputs {
  /** (rows) the counter of the random numbers; 0 by default */
  readonly position?: Numbers | undefined;
}

export interface SampleOptions extends SampleAdjustedOptions {
  /** 0, the default: the largest logit. */
  readonly temperature?: number | undefined;
  /** 0, the default: all. */
  readonly topK?: number | undefined;
  /** 1, the default: all. */
  readonly topP?: number | undefined;
  /** 0, the default: all. */
  readonly minP?: number | undefined;
  /** Low and high word. */
  readonly seed?: readonly [number, number] | undefined;
}

/**
 * score = logit + temperature * gumbel of the adjusted logits, whose largest element is the drawn token; NaN where none
 * may be drawn, which includes what top-k, top-p and min-p drop where there is a temperature.
 * gumbel = -log(-log(u)) with u = 1 - (r + 1/2) / 2^32 and r = word i % 4 of philox((position, floor(i / 4), 0, 0), seed).
 *
 * Shapes: logits and scores (rows, width), position (rows). Source: Gumbel-max, arXiv 1411.0030, section 2.
 */
export function sampleScores(inputs: SampleInputs, options: SampleOptions): Float64Array {
  const { rows, width, temperature = 0, seed = [0, 0] } = options;
  const logits = float64('logits', sampleAdjusted(inputs, options), rows, width);
  const kept = temperature > 0 ? sampleKept({ logits: logits.values }, { ...options, temperature }) : logits.values;
  const position = float64('position', inputs.position ?? new Float64Array(rows), rows);
  return Float64Array.from({ length: rows * width }, (_, at) => {
    const i = at % width;
    const logit = logits.at(at);
    if (!(temperature > 0) || Number.isNaN(logit) || logit === Infinity) return logit;
    if (kept[at] !== 1) return NaN;
    const words = philox([position.at(Math.floor(at / width)), Math.floor(i / 4), 0, 0], seed);
    const w = ((words[i % 4] ?? NaN) + 0.5) / 2 ** 32;
    return logit + temperature * -Math.log(-Math.log1p(-w));
  });
}

/** The token of each row: the index of its largest score, the first one on ties, 2^32 - 1 if there is none. */
export function sample(inputs: SampleInputs, options: SampleOptions): Uint32Array {
  const scores = sampleScores(inputs, options);
  return Uint32Array.from({ length: options.rows }, (_, row) => {
    let best = 0xffffffff;
    let largest = NaN;
    for (let i = 0; i < options.width; i++) {
      const score = scores[row * options.width + i] ?? NaN;
      if (!Number.isNaN(score) && !(score <= largest)) {
        best = i;
        largest = score;
      }
    }
    return best;
  });
}
