import { activate } from '../activations.ts';
import { float64, optionalFloat64, zeros } from '../arrays.ts';
import type { CausalConv1dInputs, CausalConv1dOptions, CausalConv1dResult } from './causal_conv1d.ts';

/** As `CausalConv1dOptions`, for one token. */
export type CausalConv1dStepOptions = Omit<CausalConv1dOptions, 'length'>;

/**
 * One token of `causalConv1d`: y[b, e] = act(bias[e] + sum_k weight[e, k] * window[b, k, e]), where the window is the
 * K - 1 kept inputs and then x; the new state is the window without its oldest input.
 *
 * Shapes: x and y (B, E), weight (E, K), bias (E), state (B, K - 1, E). Source: `causal_conv1d_update_ref`.
 */
export function causalConv1dStep(inputs: CausalConv1dInputs, options: CausalConv1dStepOptions): CausalConv1dResult {
  const { batch, channels, width, activation = 'none' } = options;
  const kept = width - 1;
  const x = float64('x', inputs.x, batch, channels);
  const weight = float64('weight', inputs.weight, channels, width);
  const bias = optionalFloat64('bias', inputs.bias, channels);
  const before = optionalFloat64('state', inputs.state, batch, kept, channels);
  const y = zeros(batch * channels);
  const state = zeros(batch * kept * channels);
  for (let b = 0; b < batch; b++) {
    for (let e = 0; e < channels; e++) {
      const window = zeros(width);
      for (let k = 0; k < kept; k++) window.set(k, before === undefined ? 0 : before.at((b * kept + k) * channels + e));
      window.set(kept, x.at(b * channels + e));
      let sum = bias === undefined ? 0 : bias.at(e);
      for (let k = 0; k < width; k++) sum += weight.at(e * width + k) * window.at(k);
      y.set(b * channels + e, activate(activation, sum));
      for (let k = 0; k < kept; k++) state.set((b * kept + k) * channels + e, window.at(k + 1));
    }
  }
  return { y: y.values, state: state.values };
}
