// Longer than most references, because every input and option has its line.
import type { Numbers } from '../arrays.ts';
import { normAndRotate } from './qk_norm.ts';
import { quantizeBlocks } from './quantize_blocks.ts';

export interface RopeAppendInputs {
  /** (B, L, H, P) */
  readonly q: Numbers;
  /** (B, L, Hkv, P) */
  readonly k: Numbers;
  /** (B, L, Hkv, P) */
  readonly v: Numbers;
  /** (rotaryDim / 2), radians per token; left out, nothing rotates */
  readonly inverseFrequencies?: Numbers | undefined;
  /** (B), tokens in the caches before */
  readonly position: Numbers;
  /** (B, T, Hkv, P) */
  readonly keyCache: Numbers;
  /** (B, T, Hkv, P) */
  readonly valueCache: Numbers;
  /** (B, T / pageSize): the caches are (pages, pageSize, Hkv, P). */
  readonly pages?: Numbers | undefined;
  /** (P) or (H, P); left out, queries are not normalised */
  readonly qWeight?: Numbers | undefined;
  /** (P) or (Hkv, P); left out, keys are not normalised */
  readonly kWeight?: Numbers | undefined;
}

export interface RopeAppendOptions {
  readonly batch: number;
  readonly length: number;
  /** T */
  readonly capacity: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly interleaved?: boolean | undefined;
  /** Of the norms; 1e-6 by default */
  readonly eps?: number | undefined;
  /** Of the norms: added to every weight; 0 by default */
  readonly weightOffset?: number | undefined;
  /** Tokens of a page; needed with `pages` */
  readonly pageSize?: number | undefined;
  /** Rows become what a q8 cache keeps of them. */
  readonly quantized?: boolean | undefined;
}

export interface RopeAppendResult {
  /** (B, L, H, P) */
  readonly rotated: Float64Array;
  /** (B, T, Hkv, P) */
  readonly keyCache: Float64Array;
  /** (B, T, Hkv, P) */
  readonly valueCache: Float64Array;
}

/**
 * `qkNorm` of q and k from position[b] on; k and v become rows position[b] + l of the caches, those below T whose page
 * is one of the cache.
 */
export function ropeAppend(inputs: RopeAppendInputs, options: RopeAppendOptions): RopeAppendResult {
  const { q, k, v, position, pages, qWeight, kWeight } = inputs;
  const { batch, length, capacity, heads, kvHeads, headDim, pageSize = 1, quantized = false } = options;
  const rotated = normAndRotate(q, qWeight, inputs, { ...options, heads });
  const keys = normAndRotate(k, kWeight, inputs, { ...options, heads: kvHeads });
  const stored = (x: Numbers): Float64Array => (quantized ? quantizeBlocks({ x }) : Float64Array.from(x));
  const width = kvHeads * headDim;
  const append = (cache: Numbers, rows: Float64Array): Float64Array => {
    const y = Float64Array.from(cache);
    for (let token = 0; token < batch * length; token++) {
      const b = Math.floor(token / length);
      const at = (position[b] ?? NaN) + (token % length);
      const page = pages?.[b * (capacity / pageSize) + Math.floor(at / pageSize)] ?? NaN;
      const row = pages === undefined ? b * capacity + at : page * pageSize + (at % pageSize);
      if (at < capacity && (row + 1) * width <= y.length) {
        y.set(rows.subarray(token * width, (token + 1) * width), row * width);
      }
    }
    return y;
  };
  return {
    rotated,
    keyCache: append(inputs.keyCache, stored(keys)),
    valueCache: append(inputs.valueCache, stored(v)),
  };
}
