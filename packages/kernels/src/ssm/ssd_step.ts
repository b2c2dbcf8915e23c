import { ssdStepShader } from '../generated/ssm/ssd_step.ts';
import { requireDtype, requireRank, requireShape, requireWhole } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import { ceilDivSize, flatGrid, loadChoice, multiplySize } from '../core/size.ts';
import type { SsdTensors, SsdTimeOptions } from './ssd.ts';
import { gatePlace, hasSkipElements, requireSsd, timeLimits } from './ssd.ts';
import { joinRows } from './join_rows.ts';

/**
 * `SsdTensors` with `...` = (B). x, B and C are best views of one storage, and so are dt and z: else they are copied
 * together first.
 */
export interface SsdStepInputs extends SsdTensors {
  /** (B, H, P, N), updated in place; with `slots` any number of states */
  readonly state: TensorRef;
  /**
   * (B) i32: sequence b has the state number slots[b]. No two may share one. Where there is no such state (-1 says so), y
   * is 0 and nothing changes.
   */
  readonly slots?: TensorRef;
}

export type SsdStepOptions = SsdTimeOptions;

const WORKGROUP_SIZE = 128;
const MOST_LANES = 32;

/**
 * One token of `ssdChunkScan`: `S = exp(dt A) S + dt x B^T` in place and `y = (S C + D x) silu(z)`.
 *
 * @returns (B, H, P) f32, contiguous
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError if H is not a multiple of G, or dtLimits are reversed
 *
 * Cost: 5 B H P N flops; 8 B H P N bytes, one read and one write of the state. One dispatch. Source: arXiv 2405.21060,
 * section 7.
 */
export function ssdStep(recording: Recording, inputs: SsdStepInputs, options: SsdStepOptions = {}): TensorRef {
  const kernel = 'ssdStep';
  const { A, dtBias, D, state, slots } = inputs;
  const [batch = 1] = requireRank(kernel, 'x', inputs.x, ['B', 'H', 'P']);
  const [states = 1] = requireRank(kernel, 'state', state, [slots === undefined ? 'B' : 'states', 'H', 'P', 'N']);
  const sizes = requireSsd(kernel, inputs, [batch], ['B'], slots === undefined ? batch : states);
  const { heads, headDim, stateSize } = sizes;
  if (slots !== undefined) {
    requireDtype(kernel, 'slots', slots, 'i32');
    requireShape(kernel, 'slots', slots, [batch]);
    requireWhole(kernel, 'slots', slots);
  }
  const limits = timeLimits(kernel, options);
  const [x, B, C] = joinRows(recording, 'ssdStep.joined', [
    { name: 'x', tensor: inputs.x, dimensions: 2 },
    { name: 'B', tensor: inputs.B, dimensions: 2 },
    { name: 'C', tensor: inputs.C, dimensions: 2 },
  ] as const);
  const [dt, z] =
    inputs.z === undefined
      ? [inputs.dt]
      : joinRows(recording, 'ssdStep.gated', [
          { name: 'dt', tensor: inputs.dt, dimensions: 1 },
          { name: 'z', tensor: inputs.z, dimensions: 2 },
        ] as const);
  const bStride = strideOfRows('B', B, 2);
  const cStride = strideOfRows('C', C, 2);
  const stateStride = strideOfRows('state', state, 3);
  const y = recording.scratch('ssdStep.y', 'f32', [batch, heads, headDim]);
  const none = recording.placeholder();
  const choices = loadChoice(stateSize, B.offset, bStride, C.offset, cStride, state.offset, stateStride);
  // As many lanes as a row has vectors: a power of two.
  const load = choices.load ?? recording.choice(ssdStepShader, 'load');
  const wanted = load === 'vec4' ? stateSize / 4 : stateSize;
  // A CPU's subgroups have four lanes: a row within one needs no barrier.
  const most = recording.capabilities.software ? 4 : MOST_LANES;
  const lanes = Math.min(most, 2 ** Math.ceil(Math.log2(wanted)));
  recording.dispatch(ssdStepShader, {
    bindings: {
      xBC: x,
      dtz: dt,
      A,
      dtBias: dtBias ?? none,
      D: D ?? none,
      slots: slots ?? recording.placeholder('i32'),
      state,
      y,
    },
    params: {
      batch,
      ...sizes,
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
      ...gatePlace(z),
      states,
      ...limits,
    },
    overrides: {
      LANES: lanes,
      HAS_BIAS: dtBias !== undefined,
      HAS_SKIP: D !== undefined,
      SKIP_ELEMENTS: hasSkipElements(D),
      HAS_GATE: z !== undefined,
      HAS_SLOTS: slots !== undefined,
      SOFTPLUS: options.dtSoftplus ?? true,
    },
    choices,
    workgroups: flatGrid(ceilDivSize(multiplySize(batch, heads * headDim), WORKGROUP_SIZE / lanes)),
  });
  return y;
}
