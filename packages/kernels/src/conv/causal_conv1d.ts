import { causalConv1dShader } from '../generated/conv/causal_conv1d.ts';
import { causalConv1dStatesShader } from '../generated/conv/causal_conv1d_states.ts';
import type { Capabilities } from '../core/capabilities.ts';
import { requireArgument, requireDtype, requireShape } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import { ceilDivSize, flatGrid, maximumSize, multiplySize, subtractSize } from '../core/size.ts';
import type { ConvOptions, ConvTensors } from './conv.ts';
import { convPlaces, loadOf, requireConv, requireStarts } from './conv.ts';

/** `ConvTensors` with `...` = (B, L). Without `state` the inputs before x are zeros. */
export interface CausalConv1dInputs extends ConvTensors {
  /**
   * (B, L) i32 for sequences packed one after another: taps that would reach another sequence's input give 0, and so does
   * every output where the id is negative (padding). `state` belongs to the sequence of token 0.
   */
  readonly sequenceIds?: TensorRef;
  /** (S + 1) u32, with `sequenceIds`: sequence s has the tokens starts[s] to starts[s + 1] - 1, counted through the batch */
  readonly starts?: TensorRef;
}

export interface CausalConv1dOptions extends ConvOptions {
  /** Tokens of one invocation, a multiple of 8; chosen from the shapes when absent. */
  readonly tokensEach?: number;
}

export interface CausalConv1dResult {
  /** (B, L, E) f32, contiguous */
  readonly y: TensorRef;
  /**
   * (B, K - 1, E) f32, the last K - 1 inputs, oldest first: `inputs.state` where it was given. With `sequenceIds` those
   * of the last token's sequence, and 0 for the others.
   */
  readonly state: TensorRef;
  /** (S, K - 1, E) f32 where `starts` is given: the last K - 1 inputs of each sequence, 0 before its first */
  readonly sequenceStates?: TensorRef;
}

const WORKGROUP_SIZE = 64;
/** Inputs that an invocation loads at a time, BLOCK of the shader. */
const BLOCK = 8;
/** Blocks that keep a large device busy twice over where each invocation takes two of them. */
const MANY_BLOCKS = 400_000;

/** Tokens of one invocation: with more of them, fewer inputs are loaded a second time for the taps behind the first. */
function chooseTokens(blocks: number, { software }: Capabilities): number {
  return !software && blocks >= MANY_BLOCKS ? 2 * BLOCK : BLOCK;
}

/**
 * One causal filter per channel: `y[b, l, e] = act(bias[e] + sum_k weight[e, k] x[b, l - K + 1 + k, e])`.
 *
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError if K is not 2, 3 or 4, `tokensEach` no multiple
 *   of 8, or `starts` comes without `sequenceIds`
 *
 * Cost: 2 K B L E flops; 8 B L E bytes. One dispatch, and a small one with `starts`. Source: `causal_conv1d_fn` and
 * `causal_conv1d_varlen_states` of Dao-AILab/causal-conv1d.
 */
export function causalConv1d(
  recording: Recording,
  inputs: CausalConv1dInputs,
  options: CausalConv1dOptions = {},
): CausalConv1dResult {
  const { x, weight, bias, sequenceIds, starts } = inputs;
  const { batch, channels, taps } = requireConv('causalConv1d', inputs, ['B', 'L', 'E']);
  const length = x.shape[1] ?? 1;
  if (sequenceIds !== undefined) {
    requireDtype('causalConv1d', 'sequenceIds', sequenceIds, 'i32');
    requireShape('causalConv1d', 'sequenceIds', sequenceIds, [batch, length]);
  }
  if (starts !== undefined) requireStarts(starts, sequenceIds);
  const state = inputs.state ?? recording.scratch('causalConv1d.state', 'f32', [batch, taps - 1, channels]);
  const y = recording.scratch('causalConv1d.y', 'f32', [batch, length, channels]);
  const places = convPlaces(x, weight, state);
  const load = loadOf(recording, { channels, taps }, places);
  const invocations = Math.ceil(channels / (load === 'vec4' ? 4 : 1));
  const columns = Math.ceil(invocations / WORKGROUP_SIZE);
  const blocks = invocations * Math.ceil(maximumSize(length) / BLOCK) * maximumSize(batch);
  const tokens = options.tokensEach ?? chooseTokens(blocks, recording.capabilities);
  requireArgument(
    Number.isInteger(tokens / BLOCK) && tokens > 0,
    `causalConv1d: an invocation cannot take ${tokens} tokens.`,
    `Give a multiple of ${BLOCK}.`,
  );
  recording.dispatch(causalConv1dShader, {
    bindings: {
      x,
      weight,
      bias: bias ?? recording.placeholder(),
      sequenceIds: sequenceIds ?? recording.placeholder('i32'),
      state,
      y,
    },
    params: {
      length,
      channels,
      ...places,
      idsOffset: sequenceIds?.offset ?? 0,
      idsStride: sequenceIds === undefined ? 0 : strideOfRows('sequenceIds', sequenceIds, 1),
    },
    overrides: {
      WORKGROUP_SIZE,
      TOKENS: tokens,
      TAPS: taps,
      HAS_BIAS: bias !== undefined,
      HAS_STATE: inputs.state !== undefined,
      HAS_IDS: sequenceIds !== undefined,
      SILU: options.activation === 'silu',
    },
    choices: { load },
    workgroups: [columns, ceilDivSize(length, tokens), batch],
  });
  if (starts === undefined) return { y, state };
  const sequences = subtractSize(starts.shape[0] ?? 2, 1);
  const states = recording.scratch('causalConv1d.sequenceStates', 'f32', [sequences, taps - 1, channels]);
  recording.dispatch(causalConv1dStatesShader, {
    bindings: { x, starts, states },
    params: {
      tokens: multiplySize(batch, length),
      channels,
      sequences,
      xOffset: places.xOffset,
      xStride: places.xStride,
    },
    overrides: { WORKGROUP_SIZE, TAPS: taps },
    choices: { load },
    workgroups: [columns, ...flatGrid(sequences)],
  });
  return { y, state, sequenceStates: states };
}
