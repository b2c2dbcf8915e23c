// Longer than most references, because every input and option has its line.
import type { Numbers } from '../arrays.ts';
import { rmsNorm } from '../norm/rms_norm.ts';
import { rope } from './rope.ts';

export interface QkNormInputs {
  /** (B, L, H, P) */
  readonly q: Numbers;
  /** (B, L, Hkv, P) */
  readonly k: Numbers;
  /** (P) or (H, P); left out, queries are not normalised */
  readonly qWeight?: Numbers | undefined;
  /** (P) or (Hkv, P); left out, keys are not normalised */
  readonly kWeight?: Numbers | undefined;
  /** (rotaryDim / 2), radians per token; left out, nothing rotates */
  readonly inverseFrequencies?: Numbers | undefined;
  /** (B), tokens before; 0 by default */
  readonly position?: Numbers | undefined;
}

export interface QkNormOptions {
  readonly batch: number;
  readonly length: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** 1e-6 by default */
  readonly eps?: number | undefined;
  /** Added to every weight; 0 by default */
  readonly weightOffset?: number | undefined;
  readonly interleaved?: boolean | undefined;
}

/** `rmsNorm` of every head of q and k, then `rope`. Shapes: q (B, L, H, P), k (B, L, Hkv, P), as they come. */
export function qkNorm(inputs: QkNormInputs, options: QkNormOptions): { q: Float64Array; k: Float64Array } {
  const { q, k, qWeight, kWeight } = inputs;
  const { heads, kvHeads } = options;
  return {
    q: normAndRotate(q, qWeight, inputs, { ...options, heads }),
    k: normAndRotate(k, kWeight, inputs, { ...options, heads: kvHeads }),
  };
}

/** One of the two: x and the result (B, L, H, P). */
export function normAndRotate(
  x: Numbers,
  weight: Numbers | undefined,
  inputs: Pick<QkNormInputs, 'inverseFrequencies' | 'position'>,
  options: Omit<QkNormOptions, 'kvHeads'>,
): Float64Array {
  const { batch, length, heads, headDim, eps = 1e-6, weightOffset, interleaved } = options;
  const { inverseFrequencies, position } = inputs;
  const y = Float64Array.from(x);
  // Head by head, since each may have a weight of its own.
  const rows = weight === undefined ? 0 : batch * length * heads;
  for (let row = 0; row < rows; row++) {
    const own = Array.from(weight ?? [])
      .slice(weight?.length === headDim ? 0 : (row % heads) * headDim)
      .slice(0, headDim);
    const head = y.subarray(row * headDim, (row + 1) * headDim);
    head.set(rmsNorm({ x: head, weight: own }, { rows: 1, width: headDim, eps, weightOffset }));
  }
  if (inverseFrequencies === undefined) return y;
  for (let b = 0; b < batch; b++) {
    const own = y.subarray(b * length * heads * headDim, (b + 1) * length * heads * headDim);
    const sizes = { batch: 1, length, heads, headDim, rotaryDim: 2 * inverseFrequencies.length };
    own.set(rope({ x: own }, { ...sizes, start: position?.[b] ?? 0, inverseFrequencies, interleaved }));
  }
  return y;
}
