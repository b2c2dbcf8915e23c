import { shortConvShader } from '../generated/conv/short_conv.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { ceilDivSize, loadChoice } from '../core/size.ts';
import type { ShortConvTensors } from './conv.ts';
import { requireShortConv, shortConvPlaces } from './conv.ts';

/** `ShortConvTensors` with `...` = (B, L). Without `state` the products before x are zeros. */
export type ShortConvInputs = ShortConvTensors;

export interface ShortConvResult {
  /** (B, L, E) f32, contiguous */
  readonly y: TensorRef;
  /** (B, K - 1, E) f32, the last K - 1 products B x, oldest first: `inputs.state` where it was given */
  readonly state: TensorRef;
}

const WORKGROUP_SIZE = 64;
/** Tokens of one invocation, as in `causalConv1d`. At least K - 1, so that one reads the state. */
const TOKENS = 8;

/**
 * LFM2's gated convolution: `y = C * causalConv1d(B * x)`, elementwise gates and one causal filter per channel.
 *
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError if K is not 2, 3 or 4
 *
 * Cost: (2 K + 2) B L E flops; 16 B L E bytes. One dispatch. Source: `Lfm2ShortConv` of transformers.
 */
export function shortConv(recording: Recording, inputs: ShortConvInputs): ShortConvResult {
  const { B, C, x, weight, bias } = inputs;
  const { batch, channels, taps } = requireShortConv('shortConv', inputs, ['B', 'L', 'E']);
  const length = x.shape[1] ?? 1;
  const state = inputs.state ?? recording.scratch('shortConv.state', 'f32', [batch, taps - 1, channels]);
  const y = recording.scratch('shortConv.y', 'f32', [batch, length, channels]);
  // The taps are read one at a time.
  const { weightOffset, weightStride, ...loaded } = shortConvPlaces(inputs, state);
  const choices = loadChoice(channels, ...Object.values(loaded));
  const width = (choices.load ?? recording.choice(shortConvShader, 'load')) === 'vec4' ? 4 : 1;
  recording.dispatch(shortConvShader, {
    bindings: { B, C, x, weight, bias: bias ?? recording.placeholder(), state, y },
    params: { length, channels, weightOffset, weightStride, ...loaded },
    overrides: {
      WORKGROUP_SIZE,
      TOKENS,
      TAPS: taps,
      HAS_BIAS: bias !== undefined,
      HAS_STATE: inputs.state !== undefined,
    },
    choices,
    workgroups: [Math.ceil(channels / (WORKGROUP_SIZE * width)), ceilDivSize(length, TOKENS), batch],
  });
  return { y, state };
}
