import { mamba2OutputStepShader } from '../generated/ssm/mamba2_output_step.ts';
import { requireDtype, requireRank, requireShape, requireStatic } from '../core/checks.ts';
import {
  chooseVector,
  productOutput,
  requireFewRows,
  requireRows,
  requireVector,
  requireWeight,
  vectorGrid,
} from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { requireAligned, requireNormGroups } from './mamba2.ts';
import type { Mamba2UpdateStepResult } from './mamba2_update_step.ts';

/** u and its sums of squares as `mamba2UpdateStep` gives them, contiguous. */
export interface Mamba2OutputStepInputs extends Mamba2UpdateStepResult {
  /** (D, E) f32, f16, bf16, q8 or q4 */
  readonly weight: TensorRef;
  /** (E) f32 */
  readonly normWeight: TensorRef;
  /** (D) f32 */
  readonly bias?: TensorRef | undefined;
  /** (B, D) f32, updated in place */
  readonly residual?: TensorRef | undefined;
}

export interface Mamba2OutputStepOptions {
  /** Groups of channels that are normalised separately; 1 when absent. */
  readonly normGroups?: number | undefined;
  /** Added to the mean square; 1e-5 when absent. */
  readonly normEps?: number | undefined;
}

const KERNEL = 'mamba2OutputStep';

/**
 * The third pass of `mamba2DecodeStep`: `y = residual + norm(u) weight^T + bias`, with the RMS norm over each of
 * `normGroups` slices of a row.
 *
 * @returns (B, D) f32: `residual`, or a new tensor whose rows are a multiple of 4 values apart
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError if the norm's groups do not divide E, or are no
 *   multiple of 4 channels wide
 *
 * Cost: 2 B D E flops; the weights are read once for every 4 rows of u, which is what takes the time.
 */
export function mamba2OutputStep(
  recording: Recording,
  inputs: Mamba2OutputStepInputs,
  options: Mamba2OutputStepOptions = {},
): TensorRef {
  const { u, squares, weight, normWeight, bias, residual } = inputs;
  const { normGroups = 1 } = options;
  const matrix = requireWeight(KERNEL, 'weight', weight);
  const uRows = requireRows(KERNEL, 'u', u, matrix.inner);
  const most = requireFewRows(KERNEL, uRows.rows);
  requireVector(KERNEL, 'normWeight', normWeight, matrix.inner);
  requireVector(KERNEL, 'bias', bias, matrix.outputs);
  const normWidth = requireNormGroups(KERNEL, matrix.inner, normGroups);
  requireDtype(KERNEL, 'squares', squares, 'f32');
  const slices = requireStatic(KERNEL, 'slices', requireRank(KERNEL, 'squares', squares, ['B', 'slices', 'groups'])[1]);
  requireShape(KERNEL, 'squares', squares, [uRows.rows, slices, normGroups]);
  requireAligned(KERNEL, {
    'the offset of u': uRows.offset,
    'the stride of u': uRows.stride,
    'the offset of normWeight': normWeight.offset,
  });
  const { tensor: y, view } = productOutput(recording, KERNEL, [uRows.rows, matrix.outputs], { residual });
  const shape = chooseVector(most, matrix, recording.capabilities, true);
  recording.dispatch(mamba2OutputStepShader, {
    bindings: { u, squares, weight, normWeight, bias: bias ?? recording.placeholder(), y },
    params: {
      rows: uRows.rows,
      outputs: matrix.outputs,
      width: matrix.inner,
      groups: normGroups,
      slices,
      uOffset: uRows.offset,
      uStride: uRows.stride,
      weightOffset: matrix.offset,
      weightStride: matrix.stride,
      weightScales: matrix.scales,
      normOffset: normWeight.offset,
      biasOffset: bias?.offset ?? 0,
      yOffset: view.offset,
      yStride: view.stride,
      eps: options.normEps ?? 1e-5,
    },
    overrides: {
      ...shape,
      UNROLL: !recording.capabilities.software,
      GROUP_WIDTH: normGroups > 1 ? normWidth : 0,
      HAS_NORM: normGroups === 1,
      HAS_BIAS: bias !== undefined,
      HAS_RESIDUAL: residual !== undefined,
    },
    choices: { weight: matrix.dtype },
    workgroups: vectorGrid(uRows.rows, matrix.outputs, shape, shape.ROWS),
  });
  return y;
}
