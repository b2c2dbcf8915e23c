import { mamba2UpdateStepShader } from '../generated/ssm/mamba2_update_step.ts';
import { requireRank, requireStatic } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { columns, reshape, strideOfRows } from '../core/recording.ts';
import { requireAligned, requireNormGroups } from './mamba2.ts';
import type { SsdTimeOptions } from './ssd.ts';
import { requireSsd, timeLimits } from './ssd.ts';

export interface Mamba2UpdateStepInputs {
  /** (B, Z) f32, columns z | x | B | C | dt as `mamba2ProjectStep` leaves them, Z = 2 H P + 2 G N + H */
  readonly projected: TensorRef;
  /** (H) f32, negative */
  readonly A: TensorRef;
  /** (H) f32, added to dt */
  readonly dtBias?: TensorRef | undefined;
  /** (H) f32, the skip weight */
  readonly D?: TensorRef | undefined;
  /** (B, H, P, N) f32, updated in place */
  readonly state: TensorRef;
}

export interface Mamba2UpdateStepOptions extends Omit<SsdTimeOptions, 'dtSoftplus'> {
  /** Groups of heads that share B and C. */
  readonly groups: number;
  /** Groups of channels that the norm after this pass normalises separately; 1 when absent. */
  readonly normGroups?: number | undefined;
}

export interface Mamba2UpdateStepResult {
  /** (B, H P) f32 */
  readonly u: TensorRef;
  /** (B, slices, normGroups) f32: sums of u^2 over the slices of each group; not written for one group */
  readonly squares: TensorRef;
}

const KERNEL = 'mamba2UpdateStep';
const WORKGROUP_SIZE = 128;
/** Lanes of a CPU's subgroup: a row within one needs no barrier, and neither does a workgroup of one. */
const SOFTWARE_LANES = 4;
const SOFTWARE_ROWS = 32;

/** Workgroup, lanes of a row and rows of a workgroup for rows of `vectors` times four values. */
function chooseShape(vectors: number, software: boolean): { size: number; lanes: number; rows: number } {
  if (software) return { size: SOFTWARE_LANES, lanes: SOFTWARE_LANES, rows: SOFTWARE_ROWS };
  // Few lanes make many rows a workgroup, so that few sums of squares are left; four loads in flight for a lane.
  let lanes = 1;
  while (lanes < 32 && lanes < vectors && (lanes < 8 || lanes * 4 < vectors)) lanes *= 2;
  return { size: WORKGROUP_SIZE, lanes, rows: WORKGROUP_SIZE / lanes };
}

/**
 * The second pass of `mamba2DecodeStep`: `S = exp(dt A) S + dt x B^T` in place and `u = (S C + D x) * silu(z)`, with
 * `dt = clamp(softplus(dt + dtBias))`, and what the norm of u needs of all workgroups.
 *
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError if H is not a multiple of G, the norm's groups do
 *   not divide H P, N or H P / normGroups are not multiples of 4, or dtLimits are reversed
 *
 * Cost: 5 B H P N flops; 8 B H P N bytes, one read and one write of the state. Source: arXiv 2405.21060, section 7.
 */
export function mamba2UpdateStep(
  recording: Recording,
  inputs: Mamba2UpdateStepInputs,
  options: Mamba2UpdateStepOptions,
): Mamba2UpdateStepResult {
  const { projected, A, dtBias, D, state } = inputs;
  const { groups, normGroups = 1 } = options;
  const [batch = 1, ...others] = requireRank(KERNEL, 'state', state, ['B', 'H', 'P', 'N']);
  const [heads = 1, headDim = 1, stateSize = 1] = others.map((size) => requireStatic(KERNEL, 'of the state', size));
  const inner = heads * headDim;
  const shared = groups * stateSize;
  const part = (from: number, ...shape: number[]): TensorRef =>
    reshape(columns(projected, from, from + shape.reduce((a, b) => a * b)), [batch, ...shape]);
  const tensors = {
    x: part(inner, heads, headDim),
    B: part(2 * inner, groups, stateSize),
    C: part(2 * inner + shared, groups, stateSize),
    dt: part(2 * inner + 2 * shared, heads),
  };
  requireSsd(KERNEL, { ...tensors, A, ...(dtBias && { dtBias }), ...(D && { D }), state }, [batch], ['B']);
  const limits = timeLimits(KERNEL, options);
  const normWidth = requireNormGroups(KERNEL, inner, normGroups);
  const stride = strideOfRows('projected', projected, 1);
  const stateStride = strideOfRows('state', state, 3);
  requireAligned(KERNEL, {
    N: stateSize,
    'the offset of projected': projected.offset,
    'the stride of projected': stride,
    'the offset of the state': state.offset,
    'the stride of the state': stateStride,
  });
  const { size, lanes, rows } = chooseShape(stateSize / 4, recording.capabilities.software);
  const slices = Math.ceil(normWidth / rows);
  const u = recording.scratch(`${KERNEL}.u`, 'f32', [batch, inner]);
  const squares = recording.scratch(`${KERNEL}.squares`, 'f32', [batch, slices, normGroups]);
  recording.dispatch(mamba2UpdateStepShader, {
    bindings: {
      projected,
      vectors: projected,
      A,
      dtBias: dtBias ?? recording.placeholder(),
      D: D ?? recording.placeholder(),
      state,
      u,
      squares,
    },
    params: {
      headDim,
      headsPerGroup: heads / groups,
      stateSize,
      zOffset: projected.offset,
      xOffset: tensors.x.offset,
      bOffset: tensors.B.offset,
      cOffset: tensors.C.offset,
      dtOffset: tensors.dt.offset,
      projectedStride: stride,
      stateOffset: state.offset,
      stateStride,
      uStride: u.rowStride,
      normGroups,
      normWidth,
      slices,
      sliceRows: rows,
      ...limits,
    },
    overrides: {
      WORKGROUP_SIZE: size,
      LANES: lanes,
      HAS_BIAS: dtBias !== undefined,
      HAS_SKIP: D !== undefined,
      WANTS_SQUARES: normGroups > 1,
    },
    constants: { STEPS: Math.ceil(stateSize / 4 / lanes) },
    workgroups: [slices * normGroups, batch],
  });
  return { u, squares };
}
