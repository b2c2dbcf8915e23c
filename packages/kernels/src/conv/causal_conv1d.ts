import { causalConv1dShader } from '../generated/conv/causal_conv1d.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { ceilDivSize } from '../core/size.ts';
import type { ConvOptions, ConvTensors } from './conv.ts';
import { convPlaces, loadChoice, requireConv } from './conv.ts';

/** `ConvTensors` with `...` = (B, L). Without `state` the inputs before x are zeros. */
export type CausalConv1dInputs = ConvTensors;

export type CausalConv1dOptions = ConvOptions;

export interface CausalConv1dResult {
  /** (B, L, E) f32, contiguous */
  readonly y: TensorRef;
  /** (B, K - 1, E) f32, the last K - 1 inputs, oldest first: `inputs.state` where it was given */
  readonly state: TensorRef;
}

const WORKGROUP_SIZE = 64;
/** Tokens of one invocation: it loads this many inputs and K - 1 more. At least K - 1, so that one reads the state. */
const TOKENS = 8;

/**
 * One causal filter per channel: `y[b, l, e] = act(bias[e] + sum_k weight[e, k] x[b, l - K + 1 + k, e])`.
 *
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError if K is not 2, 3 or 4
 *
 * Cost: 2 K B L E flops; 8 B L E bytes. One dispatch. Source: `causal_conv1d_fn` of Dao-AILab/causal-conv1d.
 */
export function causalConv1d(
  recording: Recording,
  inputs: CausalConv1dInputs,
  options: CausalConv1dOptions = {},
): CausalConv1dResult {
  const { x, weight, bias } = inputs;
  const { batch, channels, taps } = requireConv('causalConv1d', inputs, ['B', 'L', 'E']);
  const length = x.shape[1] ?? 1;
  const state = inputs.state ?? recording.scratch('causalConv1d.state', 'f32', [batch, taps - 1, channels]);
  const y = recording.scratch('causalConv1d.y', 'f32', [batch, length, channels]);
  const places = convPlaces(x, weight, state);
  const choices = loadChoice(channels, places.xOffset, places.xStride, places.stateOffset, places.stateStride);
  const width = (choices.load ?? recording.choice(causalConv1dShader, 'load')) === 'vec4' ? 4 : 1;
  recording.dispatch(causalConv1dShader, {
    bindings: { x, weight, bias: bias ?? recording.placeholder(), state, y },
    params: { length, channels, ...places },
    overrides: {
      WORKGROUP_SIZE,
      TOKENS,
      TAPS: taps,
      HAS_BIAS: bias !== undefined,
      HAS_STATE: inputs.state !== undefined,
      SILU: options.activation === 'silu',
    },
    choices,
    workgroups: [Math.ceil(channels / (WORKGROUP_SIZE * width)), ceilDivSize(length, TOKENS), batch],
  });
  return { y, state };
}
