import type { TensorRef } from '@mambalab/kernels';
import type { BlockSpec } from '../../spec/model_spec.ts';
import type { GraphContext, NormalizedInput } from '../context.ts';

/** What every block's graph is made from. */
export interface BlockArguments<Spec extends BlockSpec> {
  readonly context: GraphContext;
  /** Of the block's tensors, such as `layers.3.0`. */
  readonly name: string;
  readonly spec: Spec;
  readonly input: NormalizedInput;
  /** The residual stream (rows, D), which the block adds to in place; absent where a norm follows the block. */
  readonly residual: TensorRef | undefined;
}

/** `{ residual }` for the inputs of a block's last projection. */
export function withResidual({ residual }: { readonly residual: TensorRef | undefined }): {
  readonly residual?: TensorRef;
} {
  return residual === undefined ? {} : { residual };
}

/** Options of a block's last projection. */
export function outputOptions({ outputScale }: BlockSpec): { readonly scale?: number } {
  return outputScale === undefined || outputScale === 1 ? {} : { scale: outputScale };
}
