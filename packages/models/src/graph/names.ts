import type { Dtype } from '@mambalab/kernels';
import { matrixRowStride } from '@mambalab/kernels';
import type { ModelSpec, RotarySpec } from '../spec/model_spec.ts';
import { blocksOf, gatedDeltaWidths, mamba2Widths } from '../spec/model_spec.ts';

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
 * The state tensors of a model for `batch` sequences. Every convolution keeps its last inputs (B, K - 1, channels). A
 * Mamba-2 block has an SSM state (B, H, P, N), a Mamba block (B, E, N), a gated delta net (B, Hv, K, V); attention has
 * caches (B, T, Hkv, P), one pair for each use of a shared block.
 *
 * @param capacity T: tokens that the caches have room for
 */
export function stateTensors(spec: ModelSpec, batch: number, capacity: number, cacheDtype: CacheDtype): StateTensor[] {
  const state = (name: string, ...shape: readonly number[]): StateTensor => ({
    name,
    kind: 'state',
    dtype: 'f32',
    shape: [batch, ...shape],
  });
  return [...blocksOf(spec)].flatMap(({ name, block }): StateTensor[] => {
    const conv = (taps: number, channels: number): StateTensor => state(`${name}.conv`, taps - 1, channels);
    switch (block.kind) {
      case 'mamba':
        return [conv(block.convWidth, block.innerSize), state(`${name}.ssm`, block.innerSize, block.stateSize)];
      case 'mamba2':
        return [
          conv(block.convWidth, mamba2Widths(block).conv),
          state(`${name}.ssm`, block.heads, block.headDim, block.stateSize),
        ];
      case 'gatedDelta':
        return [
          conv(block.convWidth, gatedDeltaWidths(block).conv),
          state(`${name}.delta`, block.valueHeads, block.keyDim, block.valueDim),
        ];
      case 'shortConv':
        return [conv(block.convWidth, spec.hiddenSize)];
      case 'attention': {
        const shape = [batch, capacity, block.kvHeads, block.headDim];
        return ['keys', 'values'].map((part) => ({ name: `${name}.${part}`, kind: 'cache', dtype: cacheDtype, shape }));
      }
      case 'mlp':
      case 'moe':
        return [];
    }
  });
}

/** Whether any layer has a KV cache. */
export function hasAttention(spec: ModelSpec): boolean {
  return [...blocksOf(spec)].some(({ block }) => block.kind === 'attention');
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

/** Name of a part of a table whose rows are several tensors. */
export function tablePartName(name: string, index: number): string {
  return `${name}.part${index}`;
}

/** Row stride of a weight matrix as it lies on the GPU. */
export function weightRowStride(dtype: Dtype, shape: readonly number[]): number {
  return matrixRowStride(dtype, shape[shape.length - 1] ?? 0);
}
