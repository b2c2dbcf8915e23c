import { activate } from '../activations.ts';
import { float64, optionalFloat64, zeros, type Numbers } from '../arrays.ts';
import type { CausalConv1dInputs, CausalConv1dOptions, CausalConv1dResult } from './causal_conv1d.ts';

export interface CausalConv1dStepInputs extends Omit<CausalConv1dInputs, 'sequenceIds' | 'starts'> {
  /** (B): the state of sequence b is state[slots[b]], which must be given; negative or beyond it for padding */
  readonly slots?: Numbers | undefined;
}

/** As `CausalConv1dOptions`, for one token or L. */
export type CausalConv1dStepOptions = Omit<CausalConv1dOptions, 'length'> & { readonly length?: number | undefined };

/**
 * The next L tokens of `causalConv1d` (1 by default): y[b, l, e] = act(bias[e] + sum_k weight[e, k] * window[l + k, e]),
 * where the window is the K - 1 kept inputs of sequence b and then x; its last K - 1 inputs are the new state. Padding
 * gives 0 and keeps no state.
 *
 * Shapes: x and y (B, L, E), weight (E, K), bias (E), state (B or slots, K - 1, E). Source: `causal_conv1d_update_ref`.
 */
export function causalConv1dStep(inputs: CausalConv1dStepInputs, options: CausalConv1dStepOptions): CausalConv1dResult {
  const { batch, length = 1, channels, width, activation = 'none' } = options;
  const kept = width - 1;
  const x = float64('x', inputs.x, batch, length, channels);
  const weight = float64('weight', inputs.weight, channels, width);
  const bias = optionalFloat64('bias', inputs.bias, channels);
  const slots = optionalFloat64('slots', inputs.slots, batch);
  const room = slots === undefined ? batch : (inputs.state?.length ?? 0) / (kept * channels);
  const state = optionalFloat64('state', inputs.state, room, kept, channels) ?? zeros(room * kept * channels);
  const y = zeros(batch * length * channels);
  for (let b = 0; b < batch; b++) {
    const slot = slots === undefined ? b : slots.at(b);
    if (slot < 0 || slot >= room) continue;
    for (let e = 0; e < channels; e++) {
      const window = zeros(kept + length);
      for (let k = 0; k < kept; k++) window.set(k, state.at((slot * kept + k) * channels + e));
      for (let l = 0; l < length; l++) window.set(kept + l, x.at((b * length + l) * channels + e));
      for (let l = 0; l < length; l++) {
        let sum = bias === undefined ? 0 : bias.at(e);
        for (let k = 0; k < width; k++) sum += weight.at(e * width + k) * window.at(l + k);
        y.set((b * length + l) * channels + e, activate(activation, sum));
      }
      for (let k = 0; k < kept; k++) state.set((slot * kept + k) * channels + e, window.at(length + k));
    }
  }
  return { y: y.values, state: state.values };
}
