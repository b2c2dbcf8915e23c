import type { Dtype } from '@mambalab/kernels';
import { matrixRowStride } from '@mambalab/kernels';
import type { ModelSpec, RotarySpec } from '../spec/model_spec.ts';
import { blocksOf, mamba2Widths } from '../spec/model_spec.ts';

/** A tensor that belongs to one sequence: what decoding remembers. */
export interface StateTensor {
  readonly name: string;
  readonly kind: 'state' | 'cache';
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

/** Storage of KV caches. */
export type CacheDtype = 'f32' | 'f16';

/**
 * The state tensors of a model for `batch` sequences: for each Mamba-2 block the last inputs of its convolution
 * (B, K - 1, channels) and its SSM state (B, H, P, N); for each attention block its caches (B, T, Hkv, P).
 *
 * @param capacity T: tokens that the caches have room for
 */
export function stateTensors(spec: ModelSpec, batch: number, capacity: number, cacheDtype: CacheDtype): StateTensor[] {
  const tensors: StateTensor[] = [];
  for (const { name, block } of blocksOf(spec)) {
    if (block.kind === 'mamba2') {
      const { conv } = mamba2Widths(block);
      tensors.push(
        { name: `${name}.conv`, kind: 'state', dtype: 'f32', shape: [batch, block.convWidth - 1, conv] },
        {
          name: `${name}.ssm`,
          kind: 'state',
          dtype: 'f32',
          shape: [batch, block.heads, block.headDim, block.stateSize],
        },
      );
    } else if (block.kind === 'attention') {
      const shape = [batch, capacity, block.kvHeads, block.headDim];
      tensors.push(
        { name: `${name}.keys`, kind: 'cache', dtype: cacheDtype, shape },
        { name: `${name}.values`, kind: 'cache', dtype: cacheDtype, shape },
      );
    }
  }
  return tensors;
}

/** Whether any layer has a KV cache. */
export function hasAttention(spec: ModelSpec): boolean {
  return spec.layers.some(({ blocks }) => blocks.some((block) => block.kind === 'attention'));
}

/** Bytes of the recurrent states of one sequence: constant, however long it is. */
export function stateBytesOf(spec: ModelSpec): number {
  return stateTensors(spec, 1, 1, 'f32')
    .filter(({ kind }) => kind === 'state')
    .reduce((sum, { shape }) => sum + 4 * shape.reduce((product, size) => product * size, 1), 0);
}

/** Bytes that one token adds to the KV caches of one sequence. */
export function cacheBytesPerToken(spec: ModelSpec, cacheDtype: CacheDtype): number {
  let values = 0;
  for (const { block } of blocksOf(spec)) {
    if (block.kind === 'attention') values += 2 * block.kvHeads * block.headDim;
  }
  return values * (cacheDtype === 'f32' ? 4 : 2);
}

/** Name of the table of inverse frequencies that layers with the same rotary embedding share. */
export function rotaryName(rotary: RotarySpec): string {
  return `rotary.${rotary.dim}.${rotary.theta}${rotary.scaling === undefined ? '' : `.${JSON.stringify(rotary.scaling)}`}`;
}

/** The distinct rotary embeddings of a model, by name. */
export function rotaryTables(spec: ModelSpec): Map<string, RotarySpec> {
  const tables = new Map<string, RotarySpec>();
  for (const { block } of blocksOf(spec)) {
    if (block.kind === 'attention' && block.rotary !== undefined) tables.set(rotaryName(block.rotary), block.rotary);
  }
  return tables;
}

/** Row stride of a weight matrix as it lies on the GPU. */
export function weightRowStride(dtype: Dtype, shape: readonly number[]): number {
  return matrixRowStride(dtype, shape[shape.length - 1] ?? 0);
}
