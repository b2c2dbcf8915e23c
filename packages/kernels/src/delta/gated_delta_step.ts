import { gatedDeltaStepShader } from '../generated/delta/gated_delta_step.ts';
import { gatedDeltaStepJoinShader } from '../generated/delta/gated_delta_step_join.ts';
import { requireRank } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import { flatGrid, multiplySize } from '../core/size.ts';
import type { GatedDeltaOptions, GatedDeltaTensors } from './delta.ts';
import { deltaNumbers, requireDelta } from './delta.ts';

/** `GatedDeltaTensors` with `...` = (B). q and k are best two views of one storage: else they are copied together. */
export interface GatedDeltaStepInputs extends GatedDeltaTensors {
  /** (B, Hv, K, V), updated in place */
  readonly state: TensorRef;
}

export type GatedDeltaStepOptions = GatedDeltaOptions;

const WORKGROUP_SIZE = 128;
/** 128 bytes of a row of the state: what one load of neighbouring invocations takes whole. */
const MOST_QUADS = 8;
const JOIN_WORKGROUP = 64;

/**
 * One token of `gatedDeltaRule`: `S = exp(g) S`, then `S = S + beta k (v - S^T k)^T` in place, and `y = scale S^T q`.
 * The state is read and written once.
 *
 * @returns (B, Hv, V) f32, contiguous
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError as `gatedDeltaRule`
 *
 * Cost: 7 B Hv K V flops; 8 B Hv K V bytes. Source: arXiv 2412.06464, equation 10.
 */
export function gatedDeltaStep(
  recording: Recording,
  inputs: GatedDeltaStepInputs,
  options: GatedDeltaStepOptions = {},
): TensorRef {
  const kernel = 'gatedDeltaStep';
  const { v, g, beta, A, dtBias, state } = inputs;
  const [batch = 1] = requireRank(kernel, 'v', v, ['B', 'Hv', 'V']);
  const { heads, ratio, keyDim, valueDim } = requireDelta(kernel, inputs, [batch], ['B']);
  const numbers = deltaNumbers(kernel, options, keyDim);
  const { q, k } = inputs.q.storage === inputs.k.storage ? inputs : join(recording, inputs.q, inputs.k);
  const y = recording.scratch(`${kernel}.y`, 'f32', [batch, heads, valueDim]);
  const none = recording.placeholder();
  // A CPU switches between the subgroups of a workgroup at every barrier: one of 4 lanes has none to switch to.
  const { software } = recording.capabilities;
  const size = software ? 4 : WORKGROUP_SIZE;
  const quads = Math.min(software ? 1 : MOST_QUADS, 2 ** Math.ceil(Math.log2(valueDim / 4)));
  recording.dispatch(gatedDeltaStepShader, {
    bindings: { qk: q, v, g, beta, A: A ?? none, dtBias: dtBias ?? none, state, y },
    params: {
      batch,
      heads,
      ratio,
      keyDim,
      valueDim,
      qOffset: q.offset,
      qStride: strideOfRows('q', q, 2),
      kOffset: k.offset,
      kStride: strideOfRows('k', k, 2),
      vOffset: v.offset,
      vStride: strideOfRows('v', v, 2),
      gOffset: g.offset,
      gStride: strideOfRows('g', g, 1),
      betaOffset: beta.offset,
      betaStride: strideOfRows('beta', beta, 1),
      stateOffset: state.offset,
      stateStride: strideOfRows('state', state, 3),
      ...numbers,
    },
    overrides: {
      WORKGROUP_SIZE: size,
      QUADS: quads,
      HAS_A: A !== undefined,
      HAS_BIAS: dtBias !== undefined,
      SIGMOID: options.betaSigmoid ?? false,
      L2_NORM: options.l2Norm ?? false,
    },
    constants: { ROWS: Math.ceil((keyDim * quads) / size) },
    workgroups: flatGrid(multiplySize(batch, heads * Math.ceil(valueDim / (4 * quads)))),
  });
  return y;
}

/** q and k as two views of one new storage: the shader has 8 bindings, and one of them is for both. */
function join(recording: Recording, q: TensorRef, k: TensorRef): { readonly q: TensorRef; readonly k: TensorRef } {
  const [batch = 1, heads, keyDim] = q.shape as readonly [TensorRef['shape'][number], number, number];
  const width = heads * keyDim;
  const joined = recording.scratch('gatedDeltaStep.joined', 'f32', [batch, 2 * width]);
  recording.dispatch(gatedDeltaStepJoinShader, {
    bindings: { q, k, joined },
    params: {
      width,
      qOffset: q.offset,
      qStride: strideOfRows('q', q, 2),
      kOffset: k.offset,
      kStride: strideOfRows('k', k, 2),
    },
    overrides: { WORKGROUP_SIZE: JOIN_WORKGROUP },
    workgroups: [Math.ceil((2 * width) / JOIN_WORKGROUP), batch],
  });
  const view = (offset: number): TensorRef => ({ ...joined, shape: q.shape, offset, rowWidth: width });
  return { q: view(0), k: view(width) };
}
