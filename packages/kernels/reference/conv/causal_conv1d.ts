import { activate, type Activation } from '../activations.ts';
import { float64, optionalFloat64, zeros, type Numbers } from '../arrays.ts';

export interface CausalConv1dInputs {
  /** (B, L, E) */
  readonly x: Numbers;
  /** (E, K); tap K - 1 multiplies the current token */
  readonly weight: Numbers;
  /** (E) */
  readonly bias?: Numbers | undefined;
  /** (B, K - 1, E), the inputs before x, oldest first; zeros when left out */
  readonly state?: Numbers | undefined;
}

export interface CausalConv1dOptions {
  readonly batch: number;
  readonly length: number;
  readonly channels: number;
  readonly width: number;
  readonly activation?: Activation | undefined;
}

export interface CausalConv1dResult {
  /** (B, L, E) */
  readonly y: Float64Array;
  /** (B, K - 1, E), the last K - 1 inputs, oldest first */
  readonly state: Float64Array;
}

/**
 * y[b, l, e] = act(bias[e] + sum_k weight[e, k] * x[b, l - K + 1 + k, e]), one filter per channel; negative positions
 * read the carried state. Source: `causal_conv1d_ref`, and `torch.nn.functional.conv1d` with groups = E.
 */
export function causalConv1d(inputs: CausalConv1dInputs, options: CausalConv1dOptions): CausalConv1dResult {
  const { batch, length, channels, width, activation = 'none' } = options;
  const x = float64('x', inputs.x, batch, length, channels);
  const weight = float64('weight', inputs.weight, channels, width);
  const bias = optionalFloat64('bias', inputs.bias, channels);
  const before = optionalFloat64('state', inputs.state, batch, width - 1, channels);
  const kept = width - 1;
  const input = (b: number, l: number, e: number): number => {
    if (l >= 0) return x.at((b * length + l) * channels + e);
    return before === undefined ? 0 : before.at((b * kept + kept + l) * channels + e);
  };
  const y = zeros(batch * length * channels);
  const state = zeros(batch * kept * channels);
  for (let b = 0; b < batch; b++) {
    for (let e = 0; e < channels; e++) {
      for (let l = 0; l < length; l++) {
        let sum = bias === undefined ? 0 : bias.at(e);
        for (let k = 0; k < width; k++) sum += weight.at(e * width + k) * input(b, l - kept + k, e);
        y.set((b * length + l) * channels + e, activate(activation, sum));
      }
      for (let k = 0; k < kept; k++) state.set((b * kept + k) * channels + e, input(b, length - kept + k, e));
    }
  }
  return { y: y.values, state: state.values };
}
