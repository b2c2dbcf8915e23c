import { zeros, type Numbers } from '../arrays.ts';
import { attention, type AttentionInputs, type AttentionOptions } from './attention.ts';

export interface FlashAttentionInputs extends AttentionInputs {
  /** (B), keys before this call: keys 0 to position + L - 1 exist. Left out, all T do. */
  readonly position?: Numbers | undefined;
}

export interface FlashAttentionOptions extends Omit<AttentionOptions, 'keyLength' | 'causal' | 'queryOffset'> {
  /** T: rows that k and v have for each sequence */
  readonly capacity: number;
  /** true by default */
  readonly causal?: boolean | undefined;
}

/**
 * `attention` over caches with room for more keys than there are: query l of sequence b stands at position[b] + l.
 *
 * Shapes: q and y (B, L, H, P), k and v (B, T, Hkv, P). What the rows beyond the valid keys hold does not matter.
 */
export function flashAttention(inputs: FlashAttentionInputs, options: FlashAttentionOptions): Float64Array {
  const { q, k, v, position } = inputs;
  const { batch, length, capacity, heads, kvHeads, headDim } = options;
  const { causal = true } = options;
  if (position === undefined) return attention({ q, k, v }, { ...options, keyLength: capacity, causal });
  const y = zeros(q.length);
  for (let b = 0; b < batch; b++) {
    const keyLength = (position[b] ?? NaN) + length;
    const row = length * heads * headDim;
    const keys = (array: Numbers): number[] =>
      Array.from(array).slice(b * capacity * kvHeads * headDim, (b * capacity + keyLength) * kvHeads * headDim);
    const part = { q: Array.from(q).slice(b * row, (b + 1) * row), k: keys(k), v: keys(v) };
    y.values.set(attention(part, { ...options, batch: 1, keyLength, causal }), b * row);
  }
  return y.values;
}
