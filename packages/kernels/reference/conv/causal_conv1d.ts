import { activate, type Activation } from '../activations.ts';
import { float64, optionalFloat64, zeros, type Numbers, type Reals } from '../arrays.ts';

export interface CausalConv1dInputs {
  /** (B, L, E) */
  readonly x: Numbers;
  /** (E, K); tap K - 1 multiplies the current token */
  readonly weight: Numbers;
  /** (E) */
  readonly bias?: Numbers | undefined;
  /** (B, K - 1, E), the inputs before x, oldest first; zeros when left out */
  readonly state?: Numbers | undefined;
  /** (B, L), the sequence of each token; negative for padding. The state belongs to that of token 0. */
  readonly sequenceIds?: Numbers | undefined;
  /** (S + 1): sequence s has the tokens starts[s] to starts[s + 1] - 1, counted through the batch */
  readonly starts?: Numbers | undefined;
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
  /** (B, K - 1, E), the last K - 1 inputs of the last token's sequence, oldest first */
  readonly state: Float64Array;
  /** (S, K - 1, E) where `starts` is given, the last K - 1 inputs of each sequence, 0 before its first */
  readonly sequenceStates?: Float64Array;
}

/**
 * y[b, l, e] = act(bias[e] + sum_k weight[e, k] * x[b, l - K + 1 + k, e]), one filter per channel; negative positions
 * read the carried state. With `sequenceIds` inputs of another sequence count as 0, and so does the output of padding.
 * Source: `causal_conv1d_ref`, and `torch.nn.functional.conv1d` with groups = E.
 */
export function causalConv1d(inputs: CausalConv1dInputs, options: CausalConv1dOptions): CausalConv1dResult {
  const { batch, length, channels, width, activation = 'none' } = options;
  const x = float64('x', inputs.x, batch, length, channels);
  const weight = float64('weight', inputs.weight, channels, width);
  const bias = optionalFloat64('bias', inputs.bias, channels);
  const before = optionalFloat64('state', inputs.state, batch, width - 1, channels);
  const ids = optionalFloat64('sequenceIds', inputs.sequenceIds, batch, length);
  const kept = width - 1;
  const input = (b: number, l: number, e: number): number => {
    if (l >= 0) return x.at((b * length + l) * channels + e);
    return before === undefined ? 0 : before.at((b * kept + kept + l) * channels + e);
  };
  const id = (b: number, l: number): number => (ids === undefined ? 0 : ids.at(b * length + Math.max(l, 0)));
  const y = zeros(batch * length * channels);
  const state = zeros(batch * kept * channels);
  for (let b = 0; b < batch; b++) {
    for (let e = 0; e < channels; e++) {
      // Input l as token `of` sees it
      const seen = (l: number, of: number): number => (id(b, of) >= 0 && id(b, l) === id(b, of) ? input(b, l, e) : 0);
      for (let l = 0; l < length; l++) {
        let sum = bias === undefined ? 0 : bias.at(e);
        for (let k = 0; k < width; k++) sum += weight.at(e * width + k) * seen(l - kept + k, l);
        y.set((b * length + l) * channels + e, id(b, l) < 0 ? 0 : activate(activation, sum));
      }
      for (let k = 0; k < kept; k++) state.set((b * kept + k) * channels + e, seen(length - kept + k, length - 1));
    }
  }
  const { starts } = inputs;
  if (starts === undefined) return { y: y.values, state: state.values };
  return { y: y.values, state: state.values, sequenceStates: lastInputs(x, starts, channels, kept) };
}

/** The last `kept` rows of each sequence, 0 before its first. */
function lastInputs(x: Reals, starts: Numbers, channels: number, kept: number): Float64Array {
  const bounds = float64('starts', starts, starts.length);
  const states = zeros((starts.length - 1) * kept * channels);
  for (let s = 0; s + 1 < starts.length; s++) {
    for (let k = 0; k < kept; k++) {
      const row = bounds.at(s + 1) - kept + k;
      for (let e = 0; e < channels; e++) {
        if (row >= bounds.at(s)) states.set((s * kept + k) * channels + e, x.at(row * channels + e));
      }
    }
  }
  return states.values;
}
