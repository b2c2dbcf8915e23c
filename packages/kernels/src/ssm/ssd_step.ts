import { ssdStepShader } from '../generated/ssm/ssd_step.ts';
import { ssdStepJoinShader } from '../generated/ssm/ssd_step_join.ts';
import { requireRank } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import { addSize, ceilDivSize, flatGrid, multiplySize } from '../core/size.ts';
import type { SsdTensors, SsdTimeOptions } from './ssd.ts';
import { loadChoice, requireSsd, timeLimits } from './ssd.ts';

/** `SsdTensors` with `...` = (B). B and C are best two views of one storage: else they are copied together first. */
export interface SsdStepInputs extends SsdTensors {
  /** (B, H, P, N), updated in place */
  readonly state: TensorRef;
}

export type SsdStepOptions = SsdTimeOptions;

const WORKGROUP_SIZE = 128;
const MOST_LANES = 32;
const JOIN_WORKGROUP = 64;

/**
 * One token of `ssdChunkScan`: `S = exp(dt A) S + dt x B^T` in place and `y = S C + D x`.
 *
 * @returns (B, H, P) f32, contiguous
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError if H is not a multiple of G, or dtLimits are reversed
 *
 * Cost: 5 B H P N flops; 8 B H P N bytes, one read and one write of the state. Source: arXiv 2405.21060, section 7.
 */
export function ssdStep(recording: Recording, inputs: SsdStepInputs, options: SsdStepOptions = {}): TensorRef {
  const kernel = 'ssdStep';
  const { x, dt, A, dtBias, D, state } = inputs;
  const [batch = 1] = requireRank(kernel, 'x', x, ['B', 'H', 'P']);
  const { heads, headDim, groups, stateSize } = requireSsd(kernel, inputs, [batch], ['B']);
  const limits = timeLimits(kernel, options);
  const { B, C } = inputs.B.storage === inputs.C.storage ? inputs : join(recording, inputs.B, inputs.C);
  const bStride = strideOfRows('B', B, 2);
  const cStride = strideOfRows('C', C, 2);
  const stateStride = strideOfRows('state', state, 3);
  const y = recording.scratch('ssdStep.y', 'f32', [batch, heads, headDim]);
  const choices = loadChoice(stateSize, B.offset, bStride, C.offset, cStride, state.offset, stateStride);
  // As many lanes as a row has vectors: a power of two.
  const load = choices.load ?? recording.choice(ssdStepShader, 'load');
  const wanted = load === 'vec4' ? stateSize / 4 : stateSize;
  // A CPU's subgroups have four lanes: a row within one needs no barrier.
  const most = recording.capabilities.software ? 4 : MOST_LANES;
  const lanes = Math.min(most, 2 ** Math.ceil(Math.log2(wanted)));
  recording.dispatch(ssdStepShader, {
    bindings: {
      x,
      dt,
      A,
      dtBias: dtBias ?? recording.placeholder(),
      D: D ?? recording.placeholder(),
      BC: B,
      state,
      y,
    },
    params: {
      batch,
      heads,
      headDim,
      groups,
      stateSize,
      xOffset: x.offset,
      xStride: strideOfRows('x', x, 2),
      dtOffset: dt.offset,
      dtStride: strideOfRows('dt', dt, 1),
      bOffset: B.offset,
      bStride,
      cOffset: C.offset,
      cStride,
      stateOffset: state.offset,
      stateStride,
      ...limits,
    },
    overrides: {
      LANES: lanes,
      HAS_BIAS: dtBias !== undefined,
      HAS_SKIP: D !== undefined,
      SOFTPLUS: options.dtSoftplus ?? true,
    },
    choices,
    workgroups: flatGrid(ceilDivSize(multiplySize(batch, heads * headDim), WORKGROUP_SIZE / lanes)),
  });
  return y;
}

/** B and C as two views of one new storage: the shader has 8 bindings, and one of them is for both. */
function join(recording: Recording, B: TensorRef, C: TensorRef): { readonly B: TensorRef; readonly C: TensorRef } {
  const [batch = 1, groups, stateSize] = B.shape as readonly [TensorRef['shape'][number], number, number];
  const width = groups * stateSize;
  const joined = recording.scratch('ssdStep.joined', 'f32', [batch, 2 * width]);
  recording.dispatch(ssdStepJoinShader, {
    bindings: { B, C, joined },
    params: {
      batch,
      width,
      bOffset: B.offset,
      bStride: strideOfRows('B', B, 2),
      cOffset: C.offset,
      cStride: strideOfRows('C', C, 2),
    },
    overrides: { WORKGROUP_SIZE: JOIN_WORKGROUP },
    workgroups: [Math.ceil((2 * width) / JOIN_WORKGROUP), batch],
  });
  const view = (offset: number): TensorRef => ({
    ...joined,
    shape: B.shape,
    offset: addSize(joined.offset, offset),
    rowWidth: width,
  });
  return { B: view(0), C: view(width) };
}
