import { ropeAppendShader } from '../generated/attention/rope_append.ts';
import { requireArgument, requireDtype, requireRank, requireShape, requireStatic } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { reshape, strideOfRows } from '../core/recording.ts';
import { ceilDivSize, flatGrid, maximumSize, multiplySize } from '../core/size.ts';
import { appendHeads } from './append_heads.ts';
import { requireCache } from './cache.ts';
import { recordQkNorm } from './qk_norm.ts';
import { headsPerInvocation, requireRotaryDim } from './rope.ts';
import { requireTeamHead, weightStride } from './teams.ts';
import { headRows } from './terms.ts';

export interface RopeAppendInputs {
  /** (B, L, H, P) f32; tokens may be strided, as for k and v: usually columns of one projection */
  readonly q: TensorRef;
  /** (B, L, Hkv, P) f32 */
  readonly k: TensorRef;
  /** (B, L, Hkv, P) f32 */
  readonly v: TensorRef;
  /** (rotaryDim / 2) f32, radians per token; absent for models without positions: nothing rotates */
  readonly inverseFrequencies?: TensorRef;
  /** (B) u32, tokens in the cache before this call */
  readonly position: TensorRef;
  /** (B, T, Hkv, P) f32, f16 or q8, updated in place; with `pages`: (pages, page size, Hkv, P) */
  readonly keyCache: TensorRef;
  /** As `keyCache`, of its dtype, updated in place */
  readonly valueCache: TensorRef;
  /** (B, N) u32: token t of sequence b is row t % pageSize of page pages[b, floor(t / pageSize)], and T is N * pageSize */
  readonly pages?: TensorRef;
  /** (P) f32 for all heads, or (H, P): queries are normalised before they rotate */
  readonly qWeight?: TensorRef;
  /** (P) f32 for all heads, or (Hkv, P): keys are normalised before they rotate */
  readonly kWeight?: TensorRef;
}

export interface RopeAppendOptions {
  /** Pairs are neighbours (GPT-J) instead of halves (Llama); false when absent. */
  readonly interleaved?: boolean;
  /** Of the norms: added to the mean square; 1e-6 when absent. */
  readonly eps?: number;
  /** Of the norms: 1 for models that store w - 1 (Gemma); 0 when absent. */
  readonly weightOffset?: number;
}

/**
 * Rotates queries and keys as `rope` does and appends keys and values to a KV cache: token l goes to row
 * `position[b] + l` of the caches, and is dropped where that is T or more, or its page is none of the cache. `position`
 * is read, not advanced. With weights, heads are normalised first, as `qkNorm` does it. A q8 cache gets the values of
 * `packCache`.
 *
 * One dispatch; with norms, pages or a q8 cache two, which do not wait for each other: queries, and keys and values.
 *
 * @returns (B, L, H, P) f32, the rotated queries
 * @throws ShapeError or ArgumentError if P is odd (with q8: not a multiple of 32; with norms, pages or q8: above 256),
 *   rotaryDim exceeds P, a page has not a power of two of tokens, or a shape, dtype or option is wrong
 *
 * Cost: 3 flops a rotated value; reads 4 bytes a value, writes 4 bytes (2 to an f16 cache, where values are rounded to
 * the nearest within +-65504; 1 1/16 to a q8 cache).
 */
export function ropeAppend(recording: Recording, inputs: RopeAppendInputs, options: RopeAppendOptions = {}): TensorRef {
  const { q, k, v, inverseFrequencies, position, keyCache, valueCache, pages, qWeight, kWeight } = inputs;
  for (const [name, tensor] of Object.entries({ q, k, v })) requireDtype('ropeAppend', name, tensor, 'f32');
  const [batch = 1, length = 1, h, p] = requireRank('ropeAppend', 'q', q, ['B', 'L', 'H', 'P']);
  const heads = requireStatic('ropeAppend', 'H', h);
  const headDim = requireStatic('ropeAppend', 'P', p);
  const kvHeads = requireStatic('ropeAppend', 'Hkv', requireRank('ropeAppend', 'k', k, ['B', 'L', 'Hkv', 'P'])[2]);
  requireShape('ropeAppend', 'k', k, [batch, length, kvHeads, headDim]);
  requireShape('ropeAppend', 'v', v, [batch, length, kvHeads, headDim]);
  requireDtype('ropeAppend', 'position', position, 'u32');
  requireShape('ropeAppend', 'position', position, [batch]);
  requireArgument(
    headDim % 2 === 0,
    `ropeAppend: a head must have an even number of values; found ${headDim}.`,
    'Pad the heads of the projection with zeros.',
  );
  const tensors = { names: ['keyCache', 'valueCache'], keys: keyCache, values: valueCache, pages } as const;
  const unitOf = (dtype: string): number => (dtype === 'q8' ? 4 : 2);
  const cache = requireCache('ropeAppend', recording, tensors, { batch, kvHeads, headDim }, unitOf);
  const rotaryDim = inverseFrequencies === undefined ? 0 : requireRotaryDim('ropeAppend', inverseFrequencies, headDim);
  if (cache.paged || cache.dtype === 'q8' || qWeight !== undefined || kWeight !== undefined) {
    // Everything that can be wrong with the queries, before the keys are recorded.
    requireTeamHead('ropeAppend', headDim);
    weightStride('ropeAppend', 'qWeight', qWeight, heads, headDim);
    headRows('q', q);
    appendHeads(recording, inputs, options, cache, { batch, length, kvHeads, headDim, rotaryDim });
    const queries = { q, position, ...(qWeight && { qWeight }), ...(inverseFrequencies && { inverseFrequencies }) };
    return reshape(recordQkNorm('ropeAppend', recording, queries, 0, options), q.shape);
  }

  const rotated = recording.scratch('ropeAppend.rotated', 'f32', q.shape);
  const tokens = multiplySize(batch, length);
  const headsEach = headsPerInvocation(maximumSize(tokens));
  const groups = Math.ceil((heads + 2 * kvHeads) / headsEach);
  recording.dispatch(ropeAppendShader, {
    bindings: {
      q,
      k,
      v,
      inverseFrequencies: inverseFrequencies ?? recording.placeholder(),
      position,
      rotated,
      keyCache,
      valueCache,
    },
    params: {
      tokens,
      length,
      capacity: cache.capacity,
      qOffset: q.offset,
      qStride: strideOfRows('q', q, 2),
      kOffset: k.offset,
      kStride: strideOfRows('k', k, 2),
      vOffset: v.offset,
      vStride: strideOfRows('v', v, 2),
      keyOffset: cache.keys.offset,
      keyStride: cache.keys.stride,
      valueOffset: cache.values.offset,
      valueStride: cache.values.stride,
    },
    overrides: {
      HEADS: heads,
      KV_HEADS: kvHeads,
      HEAD_DIM: headDim,
      ROTARY_DIM: rotaryDim,
      HEADS_EACH: headsEach,
      INTERLEAVED: options.interleaved ?? false,
    },
    choices: { cache: cache.dtype },
    workgroups: flatGrid(ceilDivSize(multiplySize(tokens, groups * (headDim / 2)), 256)),
  });
  return rotated;
}
