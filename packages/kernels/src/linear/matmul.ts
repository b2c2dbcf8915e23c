import { matmulShader } from '../generated/linear/matmul.ts';
import { matmulMatrixShader } from '../generated/linear/matmul_matrix.ts';
import type { ActivationName, TileShape } from '../core/matrix.ts';
import {
  activationNumber,
  chooseMatrixTile,
  chooseTile,
  chooseUnit,
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
  /** Tile of a workgroup, which matrix units do not know; chosen from M and N when absent. */
  readonly tile?: TileShape | undefined;
}

/**
 * Product with a weight matrix: `y = residual + scale * act(x weight^T + bias)`.
 *
 * @returns (M, N) f32: `residual`, `out`, or a new tensor whose rows are a multiple of 4 values apart
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError for an unknown activation
 *
 * With f16 weights, from 32 rows on, a device's matrix units do the work where it has them: x is rounded to f16 (values
 * beyond 65504 become that) and sums are f32. `force: { unit: 'portable' }` keeps x in f32.
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
  const bindings = { x, weight, bias: bias ?? recording.placeholder(), y };
  const params = {
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
  };
  const ends = { ACTIVATION: activation, HAS_BIAS: bias !== undefined, HAS_RESIDUAL: residual !== undefined };
  const access = xRows.aligned && view.aligned ? 'vector' : 'scalar';
  if (options.tile === undefined && chooseUnit(recording, matmulMatrixShader, matrix.dtype, xRows.rows) === 'matrix') {
    const tile = chooseMatrixTile(maximumSize(xRows.rows), outputs);
    recording.dispatch(matmulMatrixShader, {
      bindings,
      params,
      overrides: { ...tile, ...ends },
      choices: { access },
      workgroups: [ceilDivSize(xRows.rows, 32 * tile.SIDE), Math.ceil(outputs / (32 * tile.SIDE))],
    });
    return y;
  }
  const tile = options.tile ?? chooseTile(maximumSize(xRows.rows), outputs);
  requireTile('matmul', tile);
  recording.dispatch(matmulShader, {
    bindings,
    params,
    overrides: { ...tile, ...ends, UNROLL: !recording.capabilities.software },
    choices: { weight: matrix.dtype, access },
    workgroups: [ceilDivSize(xRows.rows, tileRows(tile)), Math.ceil(outputs / tileColumns(tile))],
  });
  return y;
}
