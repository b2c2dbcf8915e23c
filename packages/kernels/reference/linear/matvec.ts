import { matmul, type MatmulInputs, type MatmulOptions } from './matmul.ts';

export interface MatvecOptions extends Omit<MatmulOptions, 'rows'> {
  /** 1 by default; a decode batch has a few. */
  readonly rows?: number | undefined;
}

/**
 * y = residual + scale * act(x' weight^T + bias), x' = x or its RMS norm, for one token, or the few of a decode batch.
 *
 * Shapes: x (rows, inner), weight (outputs, inner), y (rows, outputs). Source: `torch.nn.functional.linear`.
 */
export function matvec(inputs: MatmulInputs, options: MatvecOptions): Float64Array {
  return matmul(inputs, { ...options, rows: options.rows ?? 1 });
}
