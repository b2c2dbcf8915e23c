import { matvecShader } from '../generated/linear/matvec.ts';
import type { VectorShape } from '../core/matrix.ts';
import {
  activationNumber,
  chooseVector,
  productOutput,
  requireFewRows,
  requireRows,
  requireVector,
  requireWeight,
  vectorGrid,
} from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { isMultiple } from '../core/size.ts';
import type { MatmulInputs, MatmulOptions } from './matmul.ts';

export type MatvecInputs = MatmulInputs;

export interface MatvecOptions extends Omit<MatmulOptions, 'tile'> {
  /** Workgroup size, and outputs and rows of x of one workgroup; chosen from the shapes when absent. */
  readonly shape?: VectorShape | undefined;
}

/**
 * Product with a weight matrix for few rows, the hot path of decoding:
 * `y = residual + scale * act(x' weight^T + bias)`, x' = x or its RMS norm, as `matmul` has it.
 *
 * @returns (M, N) f32, M <= 8: `residual`, `out`, or a new tensor whose rows are a multiple of 4 values apart
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError for an unknown activation
 *
 * Cost: 2 M N K flops; the weights are read once for every 4 rows of x, which is what takes the time.
 */
export function matvec(recording: Recording, inputs: MatvecInputs, options: MatvecOptions = {}): TensorRef {
  const { x, weight, bias, residual, out, normWeight } = inputs;
  const matrix = requireWeight('matvec', 'weight', weight);
  const { outputs, inner } = matrix;
  const xRows = requireRows('matvec', 'x', x, inner);
  const most = requireFewRows('matvec', xRows.rows);
  requireVector('matvec', 'bias', bias, outputs);
  requireVector('matvec', 'normWeight', normWeight, inner);
  const activation = activationNumber('matvec', options.activation);
  const { tensor: y, view } = productOutput(recording, 'matvec', [xRows.rows, outputs], { residual, out });
  const shape = options.shape ?? chooseVector(most, matrix, recording.capabilities, normWeight !== undefined);
  const normOffset = normWeight?.offset ?? 0;
  recording.dispatch(matvecShader, {
    bindings: {
      x,
      weight,
      normWeight: normWeight ?? recording.placeholder(),
      bias: bias ?? recording.placeholder(),
      y,
    },
    params: {
      rows: xRows.rows,
      outputs,
      inner,
      xOffset: xRows.offset,
      xStride: xRows.stride,
      weightOffset: matrix.offset,
      weightStride: matrix.stride,
      weightScales: matrix.scales,
      normOffset,
      biasOffset: bias?.offset ?? 0,
      yOffset: view.offset,
      yStride: view.stride,
      eps: options.normEps ?? 1e-5,
      normShift: options.normWeightOffset ?? 0,
      scale: options.scale ?? 1,
    },
    overrides: {
      ...shape,
      UNROLL: !recording.capabilities.software,
      ACTIVATION: activation,
      HAS_NORM: normWeight !== undefined,
      HAS_BIAS: bias !== undefined,
      HAS_RESIDUAL: residual !== undefined,
    },
    choices: { weight: matrix.dtype, access: xRows.aligned && isMultiple(normOffset, 4) ? 'vector' : 'scalar' },
    workgroups: vectorGrid(xRows.rows, outputs, shape, shape.ROWS),
  });
  return y;
}
