import { matmulShader } from '../generated/linear/matmul.ts';
import { matmulMatrixShader } from '../generated/linear/matmul_matrix.ts';
import type { ActivationName, TileShape } from '../core/matrix.ts';
import {
  activationNumber,
  chooseMatrixTile,
  chooseTile,
  productOutput,
  requireRows,
  requireTile,
  requireVector,
  requireWeight,
  tileColumns,
  tileRows,
  usesMatrixUnits,
} from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { ceilDivSize, maximumSize } from '../core/size.ts';

export interface MatmulInputs {
  /** (M, K) f32; rows may be strided, M may be a named size */
  readonly x: TensorRef;
  /** (N, K) f32, f16, bf16, q8 or q4, rows padded with zeros as `packMatrix` does */
  readonly weight: TensorRef;
  /** (K) f32; where given, rows of x are RMS-normalised with it first */
  readonly normWeight?: TensorRef | undefined;
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
  /** Added to the mean square where `normWeight` is given; 1e-5 when absent. */
  readonly normEps?: number | undefined;
  /** Added to `normWeight`: 1 for models that store w - 1; 0 when absent. */
  readonly normWeightOffset?: number | undefined;
  /** Tile of a workgroup, which matrix units do not know; chosen from M and N when absent. */
  readonly tile?: TileShape | undefined;
}

/**
 * Product with a weight matrix: `y = residual + scale * act(x' weight^T + bias)`, x' = x or, with a norm weight g,
 * `x / sqrt(mean(x^2) + eps) * (g + normWeightOffset)`. Several results of one wide matrix need no copy: `columns` gives
 * views of y that other kernels read, as `out` may be columns of a wider tensor.
 *
 * @returns (M, N) f32: `residual`, `out`, or a new tensor whose rows are a multiple of 4 values apart
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError for an unknown activation
 *
 * With f16, q8 and q4 weights, from 9 rows on, a device's matrix units do the work where it has them: x (times g, before
 * the root) and dequantized weights are rounded to f16, values beyond 65504 become that, and sums are f32.
 * `force: { unit: 'portable' }` keeps f32.
 *
 * Cost: 2 M N K flops; the weights are read once for every M tile (mostly from cache), x once for every N tile. A norm
 * costs 2 M K flops for every N tile and no pass of its own.
 */
export function matmul(recording: Recording, inputs: MatmulInputs, options: MatmulOptions = {}): TensorRef {
  const { x, weight, normWeight, bias, residual, out } = inputs;
  const matrix = requireWeight('matmul', 'weight', weight);
  const { outputs, inner } = matrix;
  const xRows = requireRows('matmul', 'x', x, inner);
  requireVector('matmul', 'normWeight', normWeight, inner);
  requireVector('matmul', 'bias', bias, outputs);
  const activation = activationNumber('matmul', options.activation);
  const { tensor: y, view } = productOutput(recording, 'matmul', [xRows.rows, outputs], { residual, out });
  const absent = recording.placeholder();
  const bindings = { x, weight, normWeight: normWeight ?? absent, bias: bias ?? absent, y };
  const params = {
    rows: xRows.rows,
    outputs,
    inner,
    xOffset: xRows.offset,
    xStride: xRows.stride,
    weightOffset: matrix.offset,
    weightStride: matrix.stride,
    weightScales: matrix.scales,
    normOffset: normWeight?.offset ?? 0,
    biasOffset: bias?.offset ?? 0,
    yOffset: view.offset,
    yStride: view.stride,
    eps: options.normEps ?? 1e-5,
    normShift: options.normWeightOffset ?? 0,
    scale: options.scale ?? 1,
  };
  const parts = {
    ACTIVATION: activation,
    HAS_NORM: normWeight !== undefined,
    HAS_BIAS: bias !== undefined,
    HAS_RESIDUAL: residual !== undefined,
  };
  const access = xRows.aligned && view.aligned ? 'vector' : 'scalar';
  const { dtype } = matrix;
  if (options.tile === undefined && usesMatrixUnits(recording, matmulMatrixShader, dtype, xRows.rows)) {
    const tile = chooseMatrixTile(maximumSize(xRows.rows), outputs);
    recording.dispatch(matmulMatrixShader, {
      bindings,
      params,
      overrides: { ...tile, ...parts },
      choices: { weight: dtype, access },
      workgroups: [ceilDivSize(xRows.rows, 32 * tile.SIDE), Math.ceil(outputs / (32 * tile.SIDE))],
    });
    return y;
  }
  const tile = options.tile ?? chooseTile(maximumSize(xRows.rows), outputs);
  requireTile('matmul', tile);
  recording.dispatch(matmulShader, {
    bindings,
    params,
    overrides: { ...tile, ...parts, UNROLL: !recording.capabilities.software },
    choices: { weight: dtype, access },
    workgroups: [ceilDivSize(xRows.rows, tileRows(tile)), Math.ceil(outputs / tileColumns(tile))],
  });
  return y;
}
