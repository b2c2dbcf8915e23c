import type { TensorRef } from '@mambalab/kernels';
import type { BlockSpec } from '../../spec/model_spec.ts';
import { addAttention } from './attention.ts';
import type { BlockArguments } from './block.ts';
import { addGatedDelta } from './gated_delta.ts';
import { addMamba } from './mamba.ts';
import { addMamba2 } from './mamba2.ts';
import { addMlp } from './mlp.ts';
import { addMoe } from './moe.ts';
import { addShortConv } from './short_conv.ts';

/** Adds one block to the residual stream, in place, or gives its output (rows, D) where there is none to add to. */
export function addBlock(block: BlockArguments<BlockSpec>): TensorRef {
  const { spec } = block;
  switch (spec.kind) {
    case 'mamba':
      return addMamba({ ...block, spec });
    case 'mamba2':
      return addMamba2({ ...block, spec });
    case 'attention':
      return addAttention({ ...block, spec });
    case 'mlp':
      return addMlp({ ...block, spec });
    case 'moe':
      return addMoe({ ...block, spec });
    case 'gatedDelta':
      return addGatedDelta({ ...block, spec });
    case 'shortConv':
      return addShortConv({ ...block, spec });
  }
}
