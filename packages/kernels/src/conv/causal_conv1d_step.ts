import { causalConv1dStepShader } from '../generated/conv/causal_conv1d_step.ts';
import { requireArgument, requireDtype, requireShape, requireStatic, requireWhole } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import type { ConvOptions, ConvTensors } from './conv.ts';
import { convPlaces, loadOf, requireConv } from './conv.ts';

/** `ConvTensors` with `...` = (B) or, for a few tokens at once, (B, L). */
export interface CausalConv1dStepInputs extends ConvTensors {
  /** (B, K - 1, E), or (any, K - 1, E) with `slots`: the inputs before x, oldest first; shifted by L in place */
  readonly state: TensorRef;
  /**
   * (B) i32: the state of sequence b is `state[slots[b]]`. Where it is negative (padding) or beyond the state, outputs are
   * 0 and no state changes. No two sequences may have one slot.
   */
  readonly slots?: TensorRef;
}

export type CausalConv1dStepOptions = ConvOptions;

const WORKGROUP_SIZE = 64;
/** Tokens of one call: beyond, `causalConv1d` has more invocations for them. */
const MOST_TOKENS = 8;

/**
 * The next token, or up to 8, of `causalConv1d`: the filter over the kept inputs and x, which then takes the place of the
 * oldest.
 *
 * @returns (B, E) or (B, L, E) f32 as x, contiguous
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError if K is not 2, 3 or 4, or L is more than 8
 *
 * Cost: 2 K B L E flops; 8 (K - 1 + L) B E bytes. Source: `causal_conv1d_update` of Dao-AILab/causal-conv1d.
 */
export function causalConv1dStep(
  recording: Recording,
  inputs: CausalConv1dStepInputs,
  options: CausalConv1dStepOptions = {},
): TensorRef {
  const { x, weight, bias, state, slots } = inputs;
  const single = x.shape.length === 2;
  const room = state.shape[0] ?? 1;
  const { batch, channels, taps } = requireConv(
    'causalConv1dStep',
    inputs,
    single ? ['B', 'E'] : ['B', 'L', 'E'],
    slots === undefined ? undefined : room,
  );
  const length = single ? 1 : requireStatic('causalConv1dStep', 'L', x.shape[1]);
  requireArgument(
    length <= MOST_TOKENS,
    `causalConv1dStep: ${length} tokens at once are too many.`,
    `Give at most ${MOST_TOKENS}, or use causalConv1d.`,
  );
  if (slots !== undefined) {
    requireDtype('causalConv1dStep', 'slots', slots, 'i32');
    requireShape('causalConv1dStep', 'slots', slots, [batch]);
    requireWhole('causalConv1dStep', 'slots', slots);
  }
  const y = recording.scratch('causalConv1dStep.y', 'f32', x.shape);
  const places = convPlaces(x, weight, state);
  const load = loadOf(recording, { channels, taps }, places);
  const width = load === 'vec4' ? 4 : 1;
  recording.dispatch(causalConv1dStepShader, {
    bindings: {
      x,
      weight,
      bias: bias ?? recording.placeholder(),
      slots: slots ?? recording.placeholder('i32'),
      state,
      y,
    },
    params: { length, channels, slots: room, ...places },
    overrides: {
      WORKGROUP_SIZE,
      TAPS: taps,
      HAS_BIAS: bias !== undefined,
      HAS_SLOTS: slots !== undefined,
      SILU: options.activation === 'silu',
    },
    choices: { load },
    workgroups: [Math.ceil(channels / (WORKGROUP_SIZE * width)), batch],
  });
  return y;
}
