import { type Activation } from '../activations.ts';
import { float64, optionalFloat64, zeros, type Numbers } from '../arrays.ts';
import { expertMatmul } from './expert_matmul.ts';

export interface MoeMlpInputs {
  /** (rows, D) */
  readonly x: Numbers;
  /** (rows, slots) */
  readonly indices: Numbers;
  /** (rows, slots) */
  readonly weights: Numbers;
  /** (E, F, D); left out for feed-forward layers without a gate */
  readonly gate?: Numbers | undefined;
  /** (E, F, D) */
  readonly up: Numbers;
  /** (E, D, F) */
  readonly down: Numbers;
  /** (rows, D) */
  readonly residual?: Numbers | undefined;
}

export interface MoeMlpOptions {
  readonly rows: number;
  /** Experts of a token, k */
  readonly slots: number;
  /** E */
  readonly experts: number;
  /** D */
  readonly width: number;
  /** F */
  readonly hidden: number;
  readonly activation: Activation;
  /** Multiplies the sum of the experts, not the residual; 1 by default. */
  readonly scale?: number | undefined;
}

/**
 * y = residual + scale * sum_s weights[s] (act(x gate[e]^T) * (x up[e]^T)) down[e]^T with e = indices[s]; without a gate
 * the first factor is act(x up[e]^T) alone.
 *
 * Shapes: x, residual and y (rows, D). Source: arXiv 2401.04088, section 2.1.
 */
export function moeMlp(inputs: MoeMlpInputs, options: MoeMlpOptions): Float64Array {
  const { rows, slots, experts, width, hidden, activation, scale = 1 } = options;
  const { x, indices, gate, up, down } = inputs;
  const weights = float64('weights', inputs.weights, rows, slots);
  const sizes = { rows, slots, experts };
  const first = { ...sizes, inner: width, outputs: hidden };
  const activated = expertMatmul({ x, weight: gate ?? up, indices }, { ...first, activation });
  const plain = gate === undefined ? undefined : expertMatmul({ x, weight: up, indices }, first);
  const h = activated.map((value, i) => value * (plain?.[i] ?? 1));
  const last = { ...sizes, inner: hidden, outputs: width, paired: true };
  const parts = float64('parts', expertMatmul({ x: h, weight: down, indices }, last), rows, slots, width);
  const y = optionalFloat64('residual', inputs.residual, rows, width) ?? zeros(rows * width);
  for (let pair = 0; pair < rows * slots; pair++) {
    for (let d = 0; d < width; d++) {
      y.add(Math.floor(pair / slots) * width + d, scale * weights.at(pair) * parts.at(pair * width + d));
    }
  }
  return y.values;
}
