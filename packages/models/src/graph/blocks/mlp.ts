import type { TensorRef } from '@mambalab/kernels';
import { fusedMlp } from '@mambalab/kernels';
import type { MlpSpec } from '../../spec/model_spec.ts';
import type { BlockArguments } from './block.ts';
import { outputOptions, withResidual } from './block.ts';

export function addMlp(block: BlockArguments<MlpSpec>): TensorRef {
  const { context, name, spec, input } = block;
  const { inputs, options } = input.forProjection();
  return fusedMlp(
    context.recording,
    {
      ...inputs,
      gate: context.optionalWeight(`${name}.gate`),
      up: context.weight(`${name}.up`),
      down: context.weight(`${name}.down`),
      gateBias: context.optionalWeight(`${name}.gateBias`),
      upBias: context.optionalWeight(`${name}.upBias`),
      downBias: context.optionalWeight(`${name}.downBias`),
      ...withResidual(block),
    },
    { activation: spec.activation, ...options, ...outputOptions(spec) },
  );
}
