import { causalConv1dStepShader } from '../generated/conv/causal_conv1d_step.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import type { ConvOptions, ConvTensors } from './conv.ts';
import { convPlaces, loadChoice, requireConv } from './conv.ts';

/** `ConvTensors` with `...` = (B). */
export interface CausalConv1dStepInputs extends ConvTensors {
  /** (B, K - 1, E), the inputs before x, oldest first; shifted by one in place */
  readonly state: TensorRef;
}

export type CausalConv1dStepOptions = ConvOptions;

const WORKGROUP_SIZE = 64;

/**
 * One token of `causalConv1d`: the filter over the kept inputs and x, which then takes the place of the newest.
 *
 * @returns (B, E) f32, contiguous
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError if K is not 2, 3 or 4
 *
 * Cost: 2 K B E flops; 8 K B E bytes. Source: `causal_conv1d_update` of Dao-AILab/causal-conv1d.
 */
export function causalConv1dStep(
  recording: Recording,
  inputs: CausalConv1dStepInputs,
  options: CausalConv1dStepOptions = {},
): TensorRef {
  const { x, weight, bias, state } = inputs;
  const { batch, channels, taps } = requireConv('causalConv1dStep', inputs, ['B', 'E']);
  const y = recording.scratch('causalConv1dStep.y', 'f32', [batch, channels]);
  const places = convPlaces(x, weight, state);
  const choices = loadChoice(channels, places.xOffset, places.xStride, places.stateOffset, places.stateStride);
  const width = (choices.load ?? recording.choice(causalConv1dStepShader, 'load')) === 'vec4' ? 4 : 1;
  recording.dispatch(causalConv1dStepShader, {
    bindings: { x, weight, bias: bias ?? recording.placeholder(), state, y },
    params: { channels, ...places },
    overrides: { WORKGROUP_SIZE, TAPS: taps, HAS_BIAS: bias !== undefined, SILU: options.activation === 'silu' },
    choices,
    workgroups: [Math.ceil(channels / (WORKGROUP_SIZE * width)), batch],
  });
  return y;
}
