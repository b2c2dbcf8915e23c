import { MATVEC_MAX_ROWS } from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { maximumSize } from '../core/size.ts';
import { matmul } from './matmul.ts';
import type { MatvecInputs, MatvecOptions } from './matvec.ts';
import { matvec } from './matvec.ts';

export type LinearInputs = MatvecInputs;
export type LinearOptions = Omit<MatvecOptions, 'shape'>;

/**
 * A linear layer: {@link matvec} for up to 8 rows, {@link matmul} for more.
 *
 * Up to 8 rows the weights are read at most twice and every multiply-add hides behind those reads; beyond, matvec
 * would read them a third time while a tile of 16 rows reads them once.
 *
 * @returns (M, N) f32: `residual`, `out`, or a new tensor whose rows are a multiple of 4 values apart
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError for an unknown activation
 */
export function linear(recording: Recording, inputs: LinearInputs, options: LinearOptions = {}): TensorRef {
  const rows = maximumSize(inputs.x.shape[0] ?? 0);
  if (rows <= MATVEC_MAX_ROWS) return matvec(recording, inputs, options);
  return matmul(recording, inputs, options);
}
