import { matvecShader } from '../generated/linear/matvec.ts';
import type { VectorShape } from '../core/matrix.ts';
import {
  activationNumber,
  chooseVector,
  productOutput,
  requireFewRows,
  requireMatrix,
  requireRows,
  requireVector,
  vectorGrid,
} from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { isMultiple } from '../core/size.ts';
import type { MatmulInputs, MatmulOptions } from './matmul.ts';

export interface MatvecInputs extends MatmulInputs {
  /** (K) f32; where given, rows of x are RMS-normalised with it first */
  readonly normWeight?: TensorRef | undefined;
}

export interface MatvecOptions extends Omit<MatmulOptions, 'tile'> {
  /** Added to the mean square where `normWeight` is given; 1e-5 when absent. */
  readonly normEps?: number | undefined;
  /** Workgroup size, and outputs and rows of x of one workgroup; chosen from the shapes when absent. */
  readonly shape?: VectorShape | undefined;
}

/**
 * Product with a weight matrix for few rows, the hot path of decoding:
 * `y = residual + scale * act(x' weight^T + bias)`, x' = x or, with a norm weight g, `x / sqrt(mean(x^2) + eps) * g`.
 *
 * @returns (M, N) f32, M <= 8: `residual`, `out`, or a new tensor whose rows are a multiple of 4 values apart
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError for an unknown activation
 *
 * Cost: 2 M N K flops; the weights are read once for every 4 rows of x, which is what takes the time.
 */
export function matvec(recording: Recording, inputs: MatvecInputs, options: MatvecOptions = {}): TensorRef {
  const { x, weight, bias, residual, out, normWeight } = inputs;
  const matrix = requireMatrix('matvec', 'weight', weight);
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
      normOffset,
      biasOffset: bias?.offset ?? 0,
      yOffset: view.offset,
      yStride: view.stride,
      eps: options.normEps ?? 1e-5,
      scale: options.scale ?? 1,
    },
    overrides: {
      ...shape,
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
