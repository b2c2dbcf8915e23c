import { expertMatmul, type ExpertMatmulInputs, type ExpertMatmulOptions } from './expert_matmul.ts';

export interface ExpertMatvecOptions extends Omit<ExpertMatmulOptions, 'rows'> {
  /** 1 by default; a decode batch has a few. */
  readonly rows?: number | undefined;
}

/**
 * y[m, s] = act(weight[indices[m, s]] x[m]) for one token, or the few of a decode batch.
 *
 * Shapes: as `expertMatmul`. Source: arXiv 2401.04088, section 2.1.
 */
export function expertMatvec(inputs: ExpertMatmulInputs, options: ExpertMatvecOptions): Float64Array {
  return expertMatmul(inputs, { ...options, rows: options.rows ?? 1 });
}
