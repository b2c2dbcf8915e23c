// Longer than most references, because options that belong to a sequence are cut apart with it.
import { float64, zeros, type Numbers } from '../arrays.ts';
import { attention, type AttentionInputs, type AttentionOptions } from './attention.ts';

export interface FlashAttentionInputs extends AttentionInputs {
  /** (B), keys before this call: keys 0 to position + L - 1 exist. Left out, all T do. */
  readonly position?: Numbers | undefined;
  /** (B, T / pageSize): k and v are (pages, pageSize, Hkv, P), and key t of sequence b is in page pages[b, t / pageSize]. */
  readonly pages?: Numbers | undefined;
}

export interface FlashAttentionOptions extends Omit<AttentionOptions, 'keyLength' | 'causal' | 'queryOffset'> {
  /** T: rows that k and v have for each sequence */
  readonly capacity: number;
  /** true by default */
  readonly causal?: boolean | undefined;
  /** Keys of a page; needed with `pages` */
  readonly pageSize?: number | undefined;
}

/**
 * `attention` over caches with room for more keys than there are: query l of sequence b stands at position[b] + l.
 *
 * Shapes: q and y (B, L, H, P), k and v (B, T, Hkv, P). What the rows beyond the valid keys hold does not matter.
 */
export function flashAttention(inputs: FlashAttentionInputs, options: FlashAttentionOptions): Float64Array {
  const { q, position, pages, bias, gate } = inputs;
  const { batch, length, capacity, heads, kvHeads, headDim, pageSize = 1 } = options;
  const { causal = true, biasBatch = batch, biasHeads = heads } = options;
  const width = kvHeads * headDim;
  const k = pages === undefined ? inputs.k : pagedRows(inputs.k, pages, { batch, capacity, pageSize, width });
  const v = pages === undefined ? inputs.v : pagedRows(inputs.v, pages, { batch, capacity, pageSize, width });
  if (position === undefined) return attention({ ...inputs, k, v }, { ...options, keyLength: capacity, causal });
  const y = zeros(q.length);
  for (let b = 0; b < batch; b++) {
    const keyLength = (position[b] ?? NaN) + length;
    const row = length * heads * headDim;
    const keys = (array: Numbers): number[] =>
      Array.from(array).slice(b * capacity * width, (b * capacity + keyLength) * width);
    const own = (array: Numbers): number[] => Array.from(array).slice(b * row, (b + 1) * row);
    // Rows of the bias have `capacity` keys, of which `keyLength` exist.
    const rows = biasHeads * length * capacity;
    const biasRows =
      bias === undefined
        ? undefined
        : Array.from(bias)
            .slice((b % biasBatch) * rows)
            .slice(0, rows);
    const part = {
      ...inputs,
      q: own(q),
      k: keys(k),
      v: keys(v),
      bias: biasRows?.filter((_, i) => i % capacity < keyLength),
      gate: gate === undefined ? undefined : own(gate),
    };
    y.values.set(attention(part, { ...options, batch: 1, biasBatch: 1, keyLength, causal }), b * row);
  }
  return y.values;
}

/** Rows of `width` values in the order of the keys, (B, T), from pages. Rows of pages that do not exist are NaN. */
export function pagedRows(
  cache: Numbers,
  pages: Numbers,
  sizes: { readonly batch: number; readonly capacity: number; readonly pageSize: number; readonly width: number },
): Float64Array {
  const { batch, capacity, pageSize, width } = sizes;
  const table = float64('pages', pages, batch, capacity / pageSize);
  const rows = zeros(batch * capacity * width);
  for (let row = 0; row < batch * capacity; row++) {
    const source = table.at(Math.floor(row / pageSize)) * pageSize + (row % pageSize);
    for (let i = 0; i < width; i++) rows.set(row * width + i, cache[source * width + i] ?? NaN);
  }
  return rows.values;
}
