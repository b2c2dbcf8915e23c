import { activate, type Activation } from '../activations.ts';
import { float64, zeros, type Numbers } from '../arrays.ts';

export interface ExpertMatmulInputs {
  /** (rows, inner), or (rows, slots, inner) where `paired` */
  readonly x: Numbers;
  /** (experts, outputs, inner) */
  readonly weight: Numbers;
  /** (rows, slots) */
  readonly indices: Numbers;
}

export interface ExpertMatmulOptions {
  readonly rows: number;
  /** Experts of a token, k */
  readonly slots: number;
  readonly experts: number;
  readonly inner: number;
  readonly outputs: number;
  /** Whether every expert of a token has a row of x of its own. */
  readonly paired?: boolean | undefined;
  readonly activation?: Activation | undefined;
}

/**
 * y[m, s] = act(weight[indices[m, s]] x[m]), or x[m, s] where `paired`.
 *
 * Shapes: y (rows, slots, outputs). Source: arXiv 2401.04088, section 2.1.
 */
export function expertMatmul(inputs: ExpertMatmulInputs, options: ExpertMatmulOptions): Float64Array {
  const { rows, slots, experts, inner, outputs, paired = false, activation = 'none' } = options;
  const x = float64('x', inputs.x, paired ? rows * slots : rows, inner);
  const weight = float64('weight', inputs.weight, experts, outputs, inner);
  const indices = float64('indices', inputs.indices, rows, slots);
  const y = zeros(rows * slots * outputs);
  for (let pair = 0; pair < rows * slots; pair++) {
    const row = paired ? pair : Math.floor(pair / slots);
    for (let output = 0; output < outputs; output++) {
      const start = (indices.at(pair) * outputs + output) * inner;
      let sum = 0;
      for (let k = 0; k < inner; k++) sum += x.at(row * inner + k) * weight.at(start + k);
      y.set(pair * outputs + output, activate(activation, sum));
    }
  }
  return y.values;
}
