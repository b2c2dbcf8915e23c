import type { Size, TensorRef } from '@mambalab/kernels';
import { columns, linear, reshape, shortConv, shortConvStep } from '@mambalab/kernels';
import type { ShortConvSpec } from '../../spec/model_spec.ts';
import type { BlockArguments } from './block.ts';
import { outputOptions, withResidual } from './block.ts';

export function addShortConv(block: BlockArguments<ShortConvSpec>): TensorRef {
  const { context, name, spec, input } = block;
  const { recording, length } = context;
  const { batch } = context.options;
  const width = context.options.spec.hiddenSize;
  const { inputs, options } = input.forProjection();
  const projected = linear(
    recording,
    { ...inputs, weight: context.weight(`${name}.inProjection`), ...context.bias(`${name}.inBias`) },
    options,
  );
  const sequence: readonly Size[] = context.decoding ? [batch] : [batch, length];
  const part = (index: number): TensorRef =>
    reshape(columns(projected, index * width, (index + 1) * width), [...sequence, width]);
  const tensors = {
    B: part(0),
    C: part(1),
    x: part(2),
    weight: context.weight(`${name}.convWeight`),
    ...context.bias(`${name}.convBias`),
    state: recording.external(`${name}.conv`, 'f32', [batch, spec.convWidth - 1, width]),
  };
  const y = context.decoding ? shortConvStep(recording, tensors) : shortConv(recording, tensors).y;
  return linear(
    recording,
    {
      x: reshape(y, [input.rows, width]),
      weight: context.weight(`${name}.outProjection`),
      ...context.bias(`${name}.outBias`),
      ...withResidual(block),
    },
    outputOptions(spec),
  );
}
