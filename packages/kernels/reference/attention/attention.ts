// Longer than most references, because every option of attention has one equation here, and the kernels share it.
import { sigmoid } from '../activations.ts';
import { expectDivisible, float64, optionalFloat64, zeros, type Numbers } from '../arrays.ts';

export interface AttentionInputs {
  /** (B, L, H, P) */
  readonly q: Numbers;
  /** (B, T, Hkv, P); query head h reads key head floor(h Hkv / H) */
  readonly k: Numbers;
  /** (B, T, Hkv, P) */
  readonly v: Numbers;
  /** (H), ALiBi: the score of query l and key t gets slopes[h] * (t - queryOffset - l), after the soft cap. */
  readonly slopes?: Numbers | undefined;
  /** (B or 1, H or 1, L, T), added to the scores after the soft cap */
  readonly bias?: Numbers | undefined;
  /** (H): one more logit in the denominator of the softmax, without a value */
  readonly sinks?: Numbers | undefined;
  /** (B, L, H, P): y is multiplied with sigmoid(gate). */
  readonly gate?: Numbers | undefined;
  /** (S + 1): token l of sequence s, starts[s] <= l < starts[s + 1], sees keys of its sequence only; others see none. */
  readonly starts?: Numbers | undefined;
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
  /** Sequences and heads that the bias tells apart; all by default, the others must be 1. */
  readonly biasBatch?: number | undefined;
  readonly biasHeads?: number | undefined;
}

/**
 * y[b, l, h] = sum_t softmax_t(cap(scale q[b, l, h] . k[b, t, g]) + bias) v[b, t, g] over the keys that query l sees; 0
 * where it sees none.
 *
 * Shapes: q and y (B, L, H, P), k and v (B, T, Hkv, P). Source: `torch.nn.functional.scaled_dot_product_attention`;
 * the soft cap of Gemma 2; `build_alibi_tensor` of Bloom; `eager_attention_forward` of gpt-oss; the gate of Qwen3-Next.
 */
export function attention(inputs: AttentionInputs, options: AttentionOptions): Float64Array {
  const { batch, length, keyLength, heads, kvHeads, headDim, causal, window = Infinity, softCap } = options;
  const { scale = 1 / Math.sqrt(headDim), queryOffset = keyLength - length } = options;
  expectDivisible('heads', heads, 'kvHeads', kvHeads);
  const q = float64('q', inputs.q, batch, length, heads, headDim);
  const k = float64('k', inputs.k, batch, keyLength, kvHeads, headDim);
  const v = float64('v', inputs.v, batch, keyLength, kvHeads, headDim);
  const slopes = optionalFloat64('slopes', inputs.slopes, heads);
  const { biasBatch = batch, biasHeads = heads } = options;
  const bias = optionalFloat64('bias', inputs.bias, biasBatch, biasHeads, length, keyLength);
  const sinks = optionalFloat64('sinks', inputs.sinks, heads);
  const gate = optionalFloat64('gate', inputs.gate, batch, length, heads, headDim);
  const starts = inputs.starts === undefined ? undefined : Array.from(inputs.starts);
  const y = zeros(q.values.length);
  for (let b = 0; b < batch; b++) {
    for (let l = 0; l < length; l++) {
      for (let h = 0; h < heads; h++) {
        const query = ((b * length + l) * heads + h) * headDim; // q, y [b, l, h, 0]
        const key = (t: number): number =>
          ((b * keyLength + t) * kvHeads + Math.floor((h * kvHeads) / heads)) * headDim; // k, v [b, t, g, 0]
        let first = Math.max(queryOffset + l - window + 1, 0);
        let end = causal ? Math.min(queryOffset + l + 1, keyLength) : keyLength;
        if (starts !== undefined) {
          const next = starts.findIndex((start) => start > l); // 0 or -1: in no sequence
          first = Math.max(first, starts[next - 1] ?? keyLength);
          end = Math.min(end, starts[next] ?? 0);
        }
        const row = (((b % biasBatch) * biasHeads + (h % biasHeads)) * length + l) * keyLength; // bias [b, h, l, 0]
        const scores = new Float64Array(Math.max(end - first, 0)); // of keys first .. end - 1
        for (let t = first; t < end; t++) {
          let score = 0;
          for (let p = 0; p < headDim; p++) score += q.at(query + p) * k.at(key(t) + p);
          score = softCap === undefined ? scale * score : softCap * Math.tanh((scale * score) / softCap);
          if (slopes !== undefined) score += slopes.at(h) * (t - queryOffset - l);
          scores[t - first] = score + (bias?.at(row + t) ?? 0);
        }
        const sink = sinks?.at(h) ?? -Infinity;
        const largest = scores.reduce((a, score) => Math.max(a, score), sink);
        const weights = scores.map((score) => Math.exp(score - largest));
        const total = weights.reduce((sum, weight) => sum + weight, sinks === undefined ? 0 : Math.exp(sink - largest));
        weights.forEach((weight, i) => {
          for (let p = 0; p < headDim; p++) y.add(query + p, (weight / total) * v.at(key(first + i) + p));
        });
        if (gate === undefined) continue;
        for (let p = query; p < query + headDim; p++) y.set(p, y.at(p) * sigmoid(gate.at(p)));
      }
    }
  }
  return y.values;
}
