import { float64, type Numbers } from '../arrays.ts';

export interface SampleKeptInputs {
  /** (rows, width) */
  readonly logits: Numbers;
}

export interface SampleKeptOptions {
  readonly rows: number;
  /** V */
  readonly width: number;
  readonly temperature: number;
  /** 0, the default: all. */
  readonly topK?: number | undefined;
  /** 1, the default: all. */
  readonly topP?: number | undefined;
  /** 0, the default: all. */
  readonly minP?: number | undefined;
}

/**
 * 1 where top-k, top-p and min-p keep a token of softmax(logits / temperature), 0 where not. Each works on what the one
 * before left; tokens of equal logits are kept or dropped together.
 *
 * Shapes: logits and result (rows, width). Source: `TopKLogitsWarper`, `TopPLogitsWarper` and `MinPLogitsWarper` of
 * Hugging Face transformers, which sort as this does.
 */
export function sampleKept(inputs: SampleKeptInputs, options: SampleKeptOptions): Float64Array {
  const { rows, width, temperature, topK = 0, topP = 1, minP = 0 } = options;
  const logits = float64('logits', inputs.logits, rows, width);
  const kept = new Float64Array(rows * width);
  for (let row = 0; row < rows; row++) {
    const values = logits.values.subarray(row * width, (row + 1) * width);
    const sorted = values.filter((logit) => logit > -Infinity).sort((a, b) => b - a);
    const [largest = NaN] = sorted;
    // Where the largest is infinite, its equals have all the mass.
    const mass = (logit: number): number => (logit === largest ? 1 : Math.exp((logit - largest) / temperature));
    let least = sorted[Math.min(topK === 0 ? Infinity : topK, sorted.length) - 1] ?? NaN;
    const left = sorted.filter((logit) => logit >= least);
    const goal = topP * left.reduce((sum, logit) => sum + mass(logit), 0);
    let sum = 0;
    if (topP < 1) least = left.find((logit) => (sum += mass(logit)) >= goal) ?? least;
    for (let i = 0; i < width; i++) {
      const logit = values[i] ?? NaN;
      if (logit >= least && mass(logit) >= minP) kept[row * width + i] = 1;
    }
  }
  return kept;
}
