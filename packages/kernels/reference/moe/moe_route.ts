import { sigmoid } from '../activations.ts';
import { expectDivisible, float64, optionalFloat64, zeros, type Numbers } from '../arrays.ts';

export interface MoeRouteInputs {
  /** (rows, E) */
  readonly logits: Numbers;
  /** (E) */
  readonly correctionBias?: Numbers | undefined;
}

export interface MoeRouteOptions {
  readonly rows: number;
  /** E */
  readonly experts: number;
  /** k */
  readonly topK: number;
  readonly scoring?: 'softmax' | 'sigmoid' | undefined;
  readonly order?: 'scoreThenTopK' | 'topKThenSoftmax' | undefined;
  readonly normalize?: boolean | undefined;
  readonly normalizeEps?: number | undefined;
  readonly scale?: number | undefined;
  readonly groups?: number | undefined;
  readonly topGroups?: number | undefined;
}

export interface MoeRouteResult {
  /** (rows, k) */
  readonly indices: Uint32Array;
  /** (rows, k) */
  readonly weights: Float64Array;
}

const sumOf = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0);

/** exp(v) / sum exp(v) */
function softmaxOf(values: readonly number[]): number[] {
  const largest = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - largest));
  const sum = sumOf(powers);
  return powers.map((power) => power / sum);
}

/** Positions of the `count` largest values, the largest first and the first of equal ones first. */
function largestOf(values: readonly number[], count: number): number[] {
  const order = values.map((_, index) => index).sort((a, b) => (values[b] ?? NaN) - (values[a] ?? NaN) || a - b);
  return order.slice(0, count);
}

/**
 * The k experts of each token and their weights. Experts are chosen by score + bias, or without a bias by logit, which is
 * the same order without ties by rounding; with groups only from the `topGroups` with the largest sums of two choices.
 *
 * Shapes: logits (rows, E), results (rows, k), the best first. Sources: arXiv 2401.04088, section 2.1; arXiv 2412.19437,
 * equations 12 to 16; softmax over the chosen is Granite's and gpt-oss'.
 */
export function moeRoute(inputs: MoeRouteInputs, options: MoeRouteOptions): MoeRouteResult {
  const { rows, experts, topK, scoring = 'softmax', order = 'scoreThenTopK', groups = 1, topGroups = groups } = options;
  expectDivisible('experts', experts, 'groups', groups);
  const all = float64('logits', inputs.logits, rows, experts);
  const bias = optionalFloat64('correctionBias', inputs.correctionBias, experts);
  const indices = new Uint32Array(rows * topK);
  const weights = zeros(rows * topK);
  for (let row = 0; row < rows; row++) {
    const logits = Array.from({ length: experts }, (_, e) => all.at(row * experts + e));
    const scores = scoring === 'softmax' ? softmaxOf(logits) : logits.map(sigmoid);
    const choices = scores.map((score, e) => score + (bias?.at(e) ?? 0));
    const size = experts / groups;
    const groupSums = Array.from({ length: groups }, (_, g) => {
      const own = choices.slice(g * size, (g + 1) * size);
      return sumOf(largestOf(own, 2).map((e) => own[e] ?? NaN));
    });
    const open = largestOf(groupSums, topGroups);
    const allowed = logits.map((_, e) => e).filter((e) => open.includes(Math.floor(e / size)));
    const keys = allowed.map((e) => (bias === undefined ? logits : choices)[e] ?? NaN);
    const chosen = largestOf(keys, topK).map((at) => allowed[at] ?? NaN);
    const own = chosen.map((e) => (order === 'topKThenSoftmax' ? logits : scores)[e] ?? NaN);
    const shares = order === 'topKThenSoftmax' ? softmaxOf(own) : own;
    const sum = options.normalize === true ? sumOf(shares) + (options.normalizeEps ?? 0) : 1;
    indices.set(chosen, row * topK);
    shares.forEach((share, s) => weights.set(row * topK + s, ((options.scale ?? 1) * share) / sum));
  }
  return { indices, weights: weights.values };
}
