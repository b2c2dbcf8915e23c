import type { TensorRef } from '@mambalab/kernels';
import { applyGate, columns, linear } from '@mambalab/kernels';
import type { SharedBlockSpec } from '../../spec/model_spec.ts';
import { attentionWidths } from '../../spec/model_spec.ts';
import type { GraphContext } from '../context.ts';
import { NormalizedInput } from '../context.ts';
import { attend } from './attention.ts';

/**
 * One use of a shared block.
 *
 * @param index of the block among those of the model
 * @param name of the use, which owns adapters and cache, such as `layers.5.shared`
 * @param wide (rows, 2 D): the residual stream and the embeddings of the tokens
 * @returns (rows, D), the first half of `wide`, with the output of the block, projected for this use, added to it
 */
export function addSharedBlock(
  context: GraphContext,
  index: number,
  name: string,
  spec: SharedBlockSpec,
  wide: TensorRef,
): TensorRef {
  const { recording } = context;
  const block = `shared.${index}`;
  const input = new NormalizedInput(context, wide, { spec: spec.attentionNorm, name: `${block}.attentionNorm` });
  const { inputs, options } = input.forProjection();
  const projected = linear(
    recording,
    { ...inputs, weight: context.weight(`${block}.attention.qkv`), ...context.bias(`${block}.attention.qkvBias`) },
    options,
  );
  if (spec.attentionAdapters) addAttentionAdapters(context, name, spec, input, projected);
  const attended = linear(recording, {
    x: attend(context, `${block}.attention`, name, spec.attention, projected),
    weight: context.weight(`${block}.attention.output`),
    ...context.bias(`${block}.attention.outputBias`),
  });
  const mlpInput = new NormalizedInput(context, attended, { spec: spec.mlpNorm, name: `${block}.mlpNorm` });
  return linear(recording, {
    x: addSharedMlp(context, block, name, spec, mlpInput),
    weight: context.weight(`${name}.projection`),
    residual: columns(wide, 0, context.options.spec.hiddenSize),
  });
}

/** Adds each adapter's product to its columns of the projection. */
function addAttentionAdapters(
  context: GraphContext,
  name: string,
  { attention, adapterRank: rank }: SharedBlockSpec,
  input: NormalizedInput,
  projected: TensorRef,
): void {
  const { recording } = context;
  const { queries, keys } = attentionWidths(attention);
  const { inputs, options } = input.forProjection();
  const low = linear(recording, { ...inputs, weight: context.weight(`${name}.qkvDown`) }, options);
  const add = (role: string, index: number, from: number, width: number): TensorRef =>
    linear(recording, {
      x: columns(low, index * rank, (index + 1) * rank),
      weight: context.weight(`${name}.${role}Up`),
      residual: columns(projected, from, from + width),
    });
  add('query', 0, 0, queries);
  add('key', 1, queries, keys);
  add('value', 2, queries + keys, keys);
}

/** The gated feed-forward layer, whose gate and up have an adapter together. */
function addSharedMlp(
  context: GraphContext,
  block: string,
  name: string,
  { mlp }: SharedBlockSpec,
  input: NormalizedInput,
): TensorRef {
  const { recording } = context;
  const { intermediateSize } = mlp;
  const { inputs, options } = input.forProjection();
  const low = linear(recording, { ...inputs, weight: context.weight(`${name}.mlpDown`) }, options);
  const both = linear(recording, { x: low, weight: context.weight(`${name}.mlpUp`) });
  linear(
    recording,
    {
      ...inputs,
      weight: context.weight(`${block}.mlp.gateUp`),
      ...context.bias(`${block}.mlp.gateUpBias`),
      residual: both,
    },
    options,
  );
  const gate = columns(both, 0, intermediateSize);
  const up = columns(both, intermediateSize, 2 * intermediateSize);
  return linear(recording, {
    x: applyGate(recording, { x: up, gate }, { activation: mlp.activation }),
    weight: context.weight(`${block}.mlp.down`),
    ...context.bias(`${block}.mlp.downBias`),
  });
}
