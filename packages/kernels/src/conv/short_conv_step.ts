import { shortConvStepShader } from '../generated/conv/short_conv_step.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { loadChoice } from '../core/size.ts';
import type { ShortConvTensors } from './conv.ts';
import { requireShortConv, shortConvPlaces } from './conv.ts';

/** `ShortConvTensors` with `...` = (B). */
export interface ShortConvStepInputs extends ShortConvTensors {
  /** (B, K - 1, E), the products B x before this one, oldest first; shifted by one in place */
  readonly state: TensorRef;
}

const WORKGROUP_SIZE = 64;

/**
 * One token of `shortConv`: the filter over the kept products and B x, which then takes the place of the newest.
 *
 * @returns (B, E) f32, contiguous
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError if K is not 2, 3 or 4
 *
 * Cost: (2 K + 2) B E flops; 8 (K + 1) B E bytes. Source: `Lfm2ShortConv` of transformers.
 */
export function shortConvStep(recording: Recording, inputs: ShortConvStepInputs): TensorRef {
  const { B, C, x, weight, bias, state } = inputs;
  const { batch, channels, taps } = requireShortConv('shortConvStep', inputs, ['B', 'E']);
  const y = recording.scratch('shortConvStep.y', 'f32', [batch, channels]);
  // The taps are read one at a time.
  const { weightOffset, weightStride, ...loaded } = shortConvPlaces(inputs, state);
  const choices = loadChoice(channels, ...Object.values(loaded));
  const width = (choices.load ?? recording.choice(shortConvStepShader, 'load')) === 'vec4' ? 4 : 1;
  recording.dispatch(shortConvStepShader, {
    bindings: { B, C, x, weight, bias: bias ?? recording.placeholder(), state, y },
    params: { channels, weightOffset, weightStride, ...loaded },
    overrides: { WORKGROUP_SIZE, TAPS: taps, HAS_BIAS: bias !== undefined },
    choices,
    workgroups: [Math.ceil(channels / (WORKGROUP_SIZE * width)), batch],
  });
  return y;
}
