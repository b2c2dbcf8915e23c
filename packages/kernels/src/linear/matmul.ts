import { matmulShader } from '../generated/linear/matmul.ts';
import type { ActivationName, TileShape } from '../core/matrix.ts';
import {
  activationNumber,
  chooseTile,
  productOutput,
  requireMatrix,
  requireRows,
  requireTile,
  requireVector,
  tileColumns,
  tileRows,
} from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { ceilDivSize, maximumSize } from '../core/size.ts';

export interface MatmulInputs {
  /** (M, K) f32; rows may be strided, M may be a named size */
  readonly x: TensorRef;
  /** (N, K) f32, f16 or bf16, rows padded with zeros to a multiple of 8 values */
  readonly weight: TensorRef;
  /** (N) f32 */
  readonly bias?: TensorRef | undefined;
  /** (M, N) f32, updated in place */
  readonly residual?: TensorRef | undefined;
  /** (M, N) f32, where the result goes; not together with `residual` */
  readonly out?: TensorRef | undefined;
}

export interface MatmulOptions {
  /** 'none' when absent */
  readonly activation?: ActivationName | undefined;
  /** Multiplies the activated product, not the residual; 1 when absent. */
  readonly scale?: number | undefined;
  /** Tile of a workgroup; chosen from M and N when absent. */
  readonly tile?: TileShape | undefined;
}

/**
 * Product with a weight matrix: `y = residual + scale * act(x weight^T + bias)`.
 *
 * @returns (M, N) f32: `residual`, `out`, or a new tensor whose rows are a multiple of 4 values apart
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError for an unknown activation
 *
 * Cost: 2 M N K flops; the weights are read once for every M tile (mostly from cache), x once for every N tile.
 */
export function matmul(recording: Recording, inputs: MatmulInputs, options: MatmulOptions = {}): TensorRef {
  const { x, weight, bias, residual, out } = inputs;
  const matrix = requireMatrix('matmul', 'weight', weight);
  const { outputs, inner } = matrix;
  const xRows = requireRows('matmul', 'x', x, inner);
  requireVector('matmul', 'bias', bias, outputs);
  const activation = activationNumber('matmul', options.activation);
  const { tensor: y, view } = productOutput(recording, 'matmul', [xRows.rows, outputs], { residual, out });
  const tile = options.tile ?? chooseTile(maximumSize(xRows.rows), outputs);
  requireTile('matmul', tile);
  recording.dispatch(matmulShader, {
    bindings: { x, weight, bias: bias ?? recording.placeholder(), y },
    params: {
      rows: xRows.rows,
      outputs,
      inner,
      xOffset: xRows.offset,
      xStride: xRows.stride,
      weightOffset: matrix.offset,
      weightStride: matrix.stride,
      biasOffset: bias?.offset ?? 0,
      yOffset: view.offset,
      yStride: view.stride,
      scale: options.scale ?? 1,
    },
    overrides: { ...tile, ACTIVATION: activation, HAS_BIAS: bias !== undefined, HAS_RESIDUAL: residual !== undefined },
    choices: { weight: matrix.dtype, access: xRows.aligned && view.aligned ? 'vector' : 'scalar' },
    workgroups: [ceilDivSize(xRows.rows, tileRows(tile)), Math.ceil(outputs / tileColumns(tile))],
  });
  return y;
}
