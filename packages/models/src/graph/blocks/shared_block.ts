import type { TensorRef } from '@mambalab/kernels';
import { applyGate, columns, linear } from '@mambalab/kernels';
import type { SharedBlockSpec } from '../../spec/model_spec.ts';
import { attentionWidths } from '../../spec/model_spec.ts';
import type { GraphContext } from '../context.ts';
import { attend } from './attention.ts';

/**
 * One use of a shared block.
 *
 * @param index of the block among those of the model
 * @param name of the use, which owns adapters and cache, such as `layers.5.shared`
 * @param wide (rows, 2 D): the residual stream and the embeddings of the tokens
 * @returns (rows, D), projected for this use
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
  const x = context.normalize(wide, spec.attentionNorm, `${block}.attentionNorm`);
  const projected = linear(recording, {
    x,
    weight: context.weight(`${block}.attention.qkv`),
    ...context.bias(`${block}.attention.qkvBias`),
  });
  if (spec.attentionAdapters) addAttentionAdapters(context, name, spec, x, projected);
  const attended = linear(recording, {
    x: attend(context, `${block}.attention`, name, spec.attention, projected),
    weight: context.weight(`${block}.attention.output`),
    ...context.bias(`${block}.attention.outputBias`),
  });
  const normed = context.normalize(attended, spec.mlpNorm, `${block}.mlpNorm`);
  return linear(recording, {
    x: addSharedMlp(context, block, name, spec, normed),
    weight: context.weight(`${name}.projection`),
  });
}

/** Adds each adapter's product to its columns of the projection. */
function addAttentionAdapters(
  context: GraphContext,
  name: string,
  { attention, adapterRank: rank }: SharedBlockSpec,
  x: TensorRef,
  projected: TensorRef,
): void {
  const { recording } = context;
  const { queries, keys } = attentionWidths(attention);
  const low = linear(recording, { x, weight: context.weight(`${name}.qkvDown`) });
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
  x: TensorRef,
): TensorRef {
  const { recording } = context;
  const low = linear(recording, { x, weight: context.weight(`${name}.mlpDown`) });
  const both = linear(recording, { x: low, weight: context.weight(`${name}.mlpUp`) });
  const part = (role: string, index: number): TensorRef =>
    linear(recording, {
      x,
      weight: context.weight(`${block}.mlp.${role}`),
      ...context.bias(`${block}.mlp.${role}Bias`),
      residual: columns(both, index * mlp.intermediateSize, (index + 1) * mlp.intermediateSize),
    });
  const gate = part('gate', 0);
  const up = part('up', 1);
  return linear(recording, {
    x: applyGate(recording, { x: up, gate }, { activation: mlp.activation }),
    weight: context.weight(`${block}.mlp.down`),
    ...context.bias(`${block}.mlp.downBias`),
  });
}
