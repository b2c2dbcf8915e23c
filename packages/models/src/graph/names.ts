import type { Dtype } from '@mambalab/kernels';
import { matrixRowStride } from '@mambalab/kernels';
import type { AttentionSpec, ModelSpec, RotarySpec } from '../spec/model_spec.ts';
import { blocksOf, gatedDeltaWidths, mamba2Widths } from '../spec/model_spec.ts';

/** A tensor that belongs to one sequence: what decoding remembers. */
export interface StateTensor {
  readonly name: string;
  readonly kind: 'state' | 'cache';
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

/** Longest chunk of a prompt that one pass processes; longer prompts take several passes, with flat memory. */
export const MAXIMUM_CHUNK = 512;

/** Tokens of a page of a cache. */
export const PAGE = 256;

/** Pages of a sequence, and how many of them a cache has room for: those behind the window are written again. */
export interface PageRing {
  readonly pages: number;
  readonly ring: number;
}

/**
 * The pages of attention that sees a window, where a ring of them is shorter than a cache of all tokens. Everything that
 * the first and the last query of a chunk see is in the ring, wherever in a page the chunk begins.
 */
export function pageRing({ window }: AttentionSpec, capacity: number): PageRing | undefined {
  if (window === undefined) return undefined;
  const ring = Math.ceil((window + MAXIMUM_CHUNK) / PAGE) + 1;
  return ring * PAGE < capacity ? { pages: Math.ceil(capacity / PAGE), ring } : undefined;
}

/** Name of the table of pages that layers with the same ring share. */
export function pageTableName({ pages, ring }: PageRing): string {
  return `pages.${pages}.${ring}`;
}

/** Where each page of each sequence is, (B, pages): turn by turn in the ring of its sequence. */
export function pageTable({ pages, ring }: PageRing, batch: number): Uint32Array {
  return Uint32Array.from({ length: batch * pages }, (_, index) => {
    return Math.floor(index / pages) * ring + ((index % pages) % ring);
  });
}

/** Shape of a cache of keys or values: (B, T, Hkv, P), or (pages, tokens of a page, Hkv, P). */
export function cacheShape(spec: AttentionSpec, batch: number, capacity: number): readonly number[] {
  const pages = pageRing(spec, capacity);
  const tokens = pages === undefined ? [batch, capacity] : [batch * pages.ring, PAGE];
  return [...tokens, spec.kvHeads, spec.headDim];
}

/** Storage of KV caches. */
export type CacheDtype = 'f32' | 'f16';

/**
 * The state tensors of a model for `batch` sequences. Every convolution keeps its last inputs (B, K - 1, channels). A
 * Mamba-2 block has an SSM state (B, H, P, N), a Mamba block (B, E, N), a gated delta net (B, Hv, K, V); attention has
 * caches (B, T, Hkv, P), one pair for each use of a shared block; with a window much shorter than T, rings of pages.
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
        const shape = cacheShape(block, batch, capacity);
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
