import { type Activation } from '../activations.ts';
import { type Numbers } from '../arrays.ts';
import { matmul, type MatmulOptions } from '../linear/matmul.ts';

export interface FusedMlpInputs {
  /** (rows, D) */
  readonly x: Numbers;
  /** (F, D); left out for a feed-forward layer without a gate */
  readonly gate?: Numbers | undefined;
  /** (F, D) */
  readonly up: Numbers;
  /** (D, F) */
  readonly down: Numbers;
  /** (rows, D) */
  readonly residual?: Numbers | undefined;
  /** (D), the RMS norm of x; left out for an x that is normalised */
  readonly normWeight?: Numbers | undefined;
  /** (F) */
  readonly gateBias?: Numbers | undefined;
  /** (F) */
  readonly upBias?: Numbers | undefined;
  /** (D) */
  readonly downBias?: Numbers | undefined;
}

export interface FusedMlpOptions extends Pick<MatmulOptions, 'scale' | 'normEps' | 'normWeightOffset'> {
  readonly rows: number;
  /** D */
  readonly width: number;
  /** F */
  readonly hidden: number;
  readonly activation: Activation;
}

/**
 * y = residual + scale * (h down^T + downBias), h = act(x gate^T + gateBias) * (x up^T + upBias) with a gate, and
 * h = act(x up^T + upBias) without; x may be RMS-normalised first.
 *
 * Shapes: x, residual and y (rows, D), gate and up (F, D), down (D, F). Source: *GLU Variants Improve Transformer*
 * (arXiv 2002.05202), equation 6; without a gate, equation 2.
 */
export function fusedMlp(inputs: FusedMlpInputs, options: FusedMlpOptions): Float64Array {
  const { x, gate, up, down, residual, normWeight, gateBias, upBias, downBias } = inputs;
  const { rows, width, hidden, activation, scale, normEps, normWeightOffset } = options;
  const first = { rows, inner: width, outputs: hidden, normEps, normWeightOffset };
  const product = (weight: Numbers, bias: Numbers | undefined, act: Activation): Float64Array =>
    matmul({ x, weight, bias, normWeight }, { ...first, activation: act });
  const gates = gate === undefined ? undefined : product(gate, gateBias, activation);
  const ups = product(up, upBias, gates === undefined ? activation : 'none');
  const h = gates === undefined ? ups : ups.map((value, i) => value * (gates[i] ?? NaN));
  return matmul({ x: h, weight: down, bias: downBias, residual }, { rows, inner: hidden, outputs: width, scale });
}
