import { float64, type Numbers } from '../arrays.ts';

export interface SampleLogprobsInputs {
  /** (rows, width) */
  readonly logits: Numbers;
  /** (rows) */
  readonly token: Numbers;
}

export interface SampleLogprobsOptions {
  readonly rows: number;
  /** V */
  readonly width: number;
  /** n, how many of the largest */
  readonly tops: number;
}

export interface SampleLogprobsResult {
  /** (rows) */
  readonly logprob: Float64Array;
  /** (rows, tops), 2^32 - 1 where there are no more */
  readonly topTokens: Uint32Array;
  /** (rows, tops) */
  readonly topLogprobs: Float64Array;
}

/**
 * log softmax of the logits at a token and at the largest logits, the lowest index first on ties. A NaN has no
 * probability, and neither has what is not in the row; infinities share all of it.
 *
 * Shapes: as above. Source: `torch.log_softmax` and `torch.topk`.
 */
export function sampleLogprobs(inputs: SampleLogprobsInputs, options: SampleLogprobsOptions): SampleLogprobsResult {
  const { rows, width, tops } = options;
  const logits = float64('logits', inputs.logits, rows, width);
  const tokens = float64('token', inputs.token, rows);
  const logprob = new Float64Array(rows);
  const topTokens = new Uint32Array(rows * tops).fill(0xffffffff);
  const topLogprobs = new Float64Array(rows * tops).fill(-Infinity);
  for (let row = 0; row < rows; row++) {
    const entries = Array.from(logits.values.subarray(row * width, (row + 1) * width), (logit, index) => [
      logit,
      index,
    ]);
    const sorted = (entries as [number, number][])
      .filter(([logit]) => !Number.isNaN(logit))
      .sort(([a, i], [b, j]) => (a === b ? i - j : b - a));
    const largest = sorted[0]?.[0] ?? NaN;
    const less = (logit: number): number => (logit === largest ? 0 : logit - largest);
    const total = sorted.reduce((sum, [logit]) => sum + Math.exp(less(logit)), 0);
    const isPossible = (logit: number): boolean => logit > -Infinity && (largest < Infinity || logit === largest);
    const of = (logit: number): number => (isPossible(logit) ? less(logit) - Math.log(total) : -Infinity);
    logprob[row] = of(entries[tokens.at(row)]?.[0] ?? NaN);
    for (const [at, [logit, index]] of sorted.slice(0, tops).entries()) {
      topTokens[row * tops + at] = index;
      topLogprobs[row * tops + at] = of(logit);
    }
  }
  return { logprob, topTokens, topLogprobs };
}
