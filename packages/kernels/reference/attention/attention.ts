import { expectDivisible, float64, zeros, type Numbers } from '../arrays.ts';

export interface AttentionInputs {
  /** (B, L, H, P) */
  readonly q: Numbers;
  /** (B, T, Hkv, P); query head h reads key head floor(h Hkv / H) */
  readonly k: Numbers;
  /** (B, T, Hkv, P) */
  readonly v: Numbers;
}

export interface AttentionOptions {
  readonly batch: number;
  readonly length: number;
  /** T, the number of keys */
  readonly keyLength: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Query l sees keys up to queryOffset + l only. */
  readonly causal: boolean;
  /** 1 / sqrt(headDim) by default. */
  readonly scale?: number | undefined;
  /** Query l sees keys after queryOffset + l - window only: with `causal`, the last `window` keys, its own included. */
  readonly window?: number | undefined;
  /** Scores become softCap * tanh(score / softCap), after the scale and before the mask. */
  readonly softCap?: number | undefined;
  /** Position of query 0 among the keys; T - L by default, so that the last query sees the last key. */
  readonly queryOffset?: number | undefined;
}

/**
 * y[b, l, h] = sum_t softmax_t(cap(scale q[b, l, h] . k[b, t, g])) v[b, t, g] over the keys that query l sees; 0 where it
 * sees none.
 *
 * Shapes: q and y (B, L, H, P), k and v (B, T, Hkv, P). Source: `torch.nn.functional.scaled_dot_product_attention`;
 * the soft cap of Gemma 2.
 */
export function attention(inputs: AttentionInputs, options: AttentionOptions): Float64Array {
  const { batch, length, keyLength, heads, kvHeads, headDim, causal, window = Infinity, softCap } = options;
  const { scale = 1 / Math.sqrt(headDim), queryOffset = keyLength - length } = options;
  expectDivisible('heads', heads, 'kvHeads', kvHeads);
  const q = float64('q', inputs.q, batch, length, heads, headDim);
  const k = float64('k', inputs.k, batch, keyLength, kvHeads, headDim);
  const v = float64('v', inputs.v, batch, keyLength, kvHeads, headDim);
  const y = zeros(q.values.length);
  for (let b = 0; b < batch; b++) {
    for (let l = 0; l < length; l++) {
      for (let h = 0; h < heads; h++) {
        const query = ((b * length + l) * heads + h) * headDim; // q, y [b, l, h, 0]
        const key = (t: number): number =>
          ((b * keyLength + t) * kvHeads + Math.floor((h * kvHeads) / heads)) * headDim; // k, v [b, t, g, 0]
        const first = Math.max(queryOffset + l - window + 1, 0);
        const end = causal ? Math.min(queryOffset + l + 1, keyLength) : keyLength;
        const scores = new Float64Array(Math.max(end - first, 0)); // of keys first .. end - 1
        for (let t = first; t < end; t++) {
          let score = 0;
          for (let p = 0; p < headDim; p++) score += q.at(query + p) * k.at(key(t) + p);
          scores[t - first] = softCap === undefined ? scale * score : softCap * Math.tanh((scale * score) / softCap);
        }
        const largest = scores.reduce((a, score) => Math.max(a, score), -Infinity);
        const weights = scores.map((score) => Math.exp(score - largest));
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        weights.forEach((weight, i) => {
          for (let p = 0; p < headDim; p++) y.add(query + p, (weight / total) * v.at(key(first + i) + p));
        });
      }
    }
  }
  return y.values;
}
