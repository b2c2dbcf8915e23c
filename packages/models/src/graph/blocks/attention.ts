import type { TensorRef } from '@mambalab/kernels';
import {
  attentionStep,
  columns,
  flashAttention,
  linear,
  reshape,
  rmsNorm,
  ropeAppend,
  ropeAttentionFactor,
} from '@mambalab/kernels';
import type { AttentionSpec } from '../../spec/model_spec.ts';
import { attentionWidths } from '../../spec/model_spec.ts';
import type { GraphContext } from '../context.ts';
import { cacheShape, pageRing, pageTableName, rotaryName } from '../names.ts';
import type { BlockArguments } from './block.ts';
import { outputOptions, withResidual } from './block.ts';

export function addAttention(block: BlockArguments<AttentionSpec>): TensorRef {
  const { context, name, spec, input } = block;
  const { inputs, options } = input.forProjection();
  const projected = linear(
    context.recording,
    { ...inputs, weight: context.weight(`${name}.qkv`), ...context.bias(`${name}.qkvBias`) },
    options,
  );
  return linear(
    context.recording,
    {
      x: attend(context, name, name, spec, projected),
      weight: context.weight(`${name}.output`),
      ...context.bias(`${name}.outputBias`),
      ...withResidual(block),
    },
    outputOptions(spec),
  );
}

/**
 * Positions, cache and attention for projected queries, gates, keys and values, side by side in rows.
 *
 * @param cacheName what owns the cache: a shared block has one for each of its uses
 * @returns (rows, H P)
 */
export function attend(
  context: GraphContext,
  name: string,
  cacheName: string,
  spec: AttentionSpec,
  projected: TensorRef,
): TensorRef {
  const { recording, length } = context;
  const { batch, capacity, cacheDtype } = context.options;
  const { heads, kvHeads, headDim, rotary, qkNorm } = spec;
  const { queries, gates, keys } = attentionWidths(spec);
  const rows = projected.shape[0] ?? 0;
  const headsOf = (tensor: TensorRef, count: number): TensorRef => reshape(tensor, [batch, length, count, headDim]);
  const part = (from: number, count: number, norm?: string): TensorRef => {
    const raw = columns(projected, from, from + count * headDim);
    if (norm === undefined || qkNorm?.over !== 'projection') return headsOf(raw, count);
    const weight = context.weight(`${name}.${norm}`);
    const { eps, weightOffset } = qkNorm;
    return headsOf(rmsNorm(recording, { x: raw, weight }, { eps, weightOffset }), count);
  };

  const shape = cacheShape(spec, batch, capacity);
  const k = recording.external(`${cacheName}.keys`, cacheDtype, shape);
  const v = recording.external(`${cacheName}.values`, cacheDtype, shape);
  const ring = pageRing(spec, capacity);
  const paged = ring && { pages: recording.external(pageTableName(ring), 'u32', [batch, ring.pages]) };
  const position = context.position();
  const firstKey = queries + gates;
  const q = ropeAppend(
    recording,
    {
      q: part(0, heads, 'queryNorm'),
      k: part(firstKey, kvHeads, 'keyNorm'),
      v: part(firstKey + keys, kvHeads),
      ...(rotary && { inverseFrequencies: recording.external(rotaryName(rotary), 'f32', [rotary.dim / 2]) }),
      position,
      keyCache: k,
      valueCache: v,
      ...paged,
      ...(qkNorm?.over === 'head' && {
        qWeight: context.weight(`${name}.queryNorm`),
        kWeight: context.weight(`${name}.keyNorm`),
      }),
    },
    qkNorm?.over === 'head' ? { eps: qkNorm.eps, weightOffset: qkNorm.weightOffset } : {},
  );
  // Some scalings of RoPE multiply rotated queries and keys by a factor each: their products, by its square.
  const factor = ropeAttentionFactor(rotary?.scaling) ** 2;
  const scores = {
    scale: (spec.scale ?? 1 / Math.sqrt(headDim)) * factor,
    ...(spec.window !== undefined && { window: spec.window }),
    ...(spec.softCap !== undefined && { softCap: spec.softCap }),
  };
  const gate = gates === 0 ? undefined : headsOf(columns(projected, queries, queries + gates), heads);
  const attended = context.decoding
    ? attentionStep(
        recording,
        {
          q: reshape(q, [batch, heads, headDim]),
          k,
          v,
          position,
          ...paged,
          ...(gate && { gate: reshape(gate, [batch, heads, headDim]) }),
        },
        scores,
      )
    : flashAttention(recording, { q, k, v, position, ...paged, ...(gate && { gate }) }, { causal: true, ...scores });
  return reshape(attended, [rows, queries]);
}
