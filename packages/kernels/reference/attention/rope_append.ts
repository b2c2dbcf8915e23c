import { Reals, type Numbers } from '../arrays.ts';
import { rope } from './rope.ts';

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
}

export interface RopeAppendResult {
  /** (B, L, H, P) */
  readonly rotated: Float64Array;
  /** (B, T, Hkv, P) */
  readonly keyCache: Float64Array;
  /** (B, T, Hkv, P) */
  readonly valueCache: Float64Array;
}

/** `rope` of q and k from position[b] on; k and v become rows position[b] + l of the caches, those below T. */
export function ropeAppend(inputs: RopeAppendInputs, options: RopeAppendOptions): RopeAppendResult {
  const { inverseFrequencies, position } = inputs;
  const { batch, length, capacity, heads, kvHeads, headDim, interleaved } = options;
  const rotated = new Reals(Float64Array.from(inputs.q));
  const keyCache = new Reals(Float64Array.from(inputs.keyCache));
  const valueCache = new Reals(Float64Array.from(inputs.valueCache));
  for (let b = 0; b < batch; b++) {
    const start = position[b] ?? NaN;
    const sequence = (array: Numbers, count: number): Float64Array =>
      Float64Array.from(array).slice(b * length * count * headDim, (b + 1) * length * count * headDim);
    const turned = (x: Float64Array, count: number): Float64Array => {
      if (inverseFrequencies === undefined) return x;
      const rotaryDim = 2 * inverseFrequencies.length;
      const shape = { batch: 1, length, heads: count, headDim, rotaryDim };
      return rope({ x }, { ...shape, start, inverseFrequencies, interleaved });
    };
    rotated.values.set(turned(sequence(inputs.q, heads), heads), b * length * heads * headDim);
    const width = kvHeads * headDim;
    const kept = Math.min(length, Math.max(capacity - start, 0)) * width;
    const row = (b * capacity + start) * width; // caches [b, position[b], 0, 0]
    if (kept === 0) continue;
    keyCache.values.set(turned(sequence(inputs.k, kvHeads), kvHeads).subarray(0, kept), row);
    valueCache.values.set(sequence(inputs.v, kvHeads).subarray(0, kept), row);
  }
  return { rotated: rotated.values, keyCache: keyCache.values, valueCache: valueCache.values };
}
