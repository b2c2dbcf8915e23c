import { qkNormShader } from '../generated/attention/qk_norm.ts';
import { requireDtype, requireRank, requireShape, requireStatic } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { columns, reshape } from '../core/recording.ts';
import { maximumSize, multiplySize } from '../core/size.ts';
import { requireRotaryDim } from './rope.ts';
import { normParams, requireTeamHead, teamsFor, weightStride } from './teams.ts';
import type { HeadRows } from './terms.ts';
import { headRows } from './terms.ts';

export interface QkNormInputs {
  /** (B, L, H, P) f32; tokens or heads may be strided */
  readonly q: TensorRef;
  /** (B, L, Hkv, P) f32; tokens or heads may be strided */
  readonly k: TensorRef;
  /** (P) f32 for all heads, or (H, P); absent: queries are not normalised */
  readonly qWeight?: TensorRef;
  /** (P) f32 for all heads, or (Hkv, P); absent: keys are not normalised */
  readonly kWeight?: TensorRef;
  /** (rotaryDim / 2) f32, radians per token; absent: nothing rotates */
  readonly inverseFrequencies?: TensorRef;
  /** (B) u32, tokens before this call; 0 when absent */
  readonly position?: TensorRef;
}

export interface QkNormOptions {
  /** Added to the mean square; 1e-6 when absent. */
  readonly eps?: number;
  /** 1 for models that store w - 1 (Gemma); 0 when absent. */
  readonly weightOffset?: number;
  /** Pairs that rotate are neighbours (GPT-J) instead of halves (Llama); false when absent. */
  readonly interleaved?: boolean;
}

export interface QkNormResult {
  /** (B, L, H, P) f32; rows of one tensor with the keys, tokens (H + Hkv) P values apart */
  readonly q: TensorRef;
  /** (B, L, Hkv, P) f32 */
  readonly k: TensorRef;
}

/**
 * Root-mean-square norm of each head of queries and keys, `x / sqrt(mean(x^2) + eps) * (weight + weightOffset)`, and
 * then, with frequencies, their rotation as `rope` does it; in one dispatch.
 *
 * @throws ShapeError or ArgumentError if P exceeds 256, or a shape, dtype or option is wrong
 *
 * Cost: 8 bytes and about 7 flops a value. Source: the attention of Qwen3 and Gemma 3.
 */
export function qkNorm(recording: Recording, inputs: QkNormInputs, options: QkNormOptions = {}): QkNormResult {
  const { q, k } = inputs;
  requireDtype('qkNorm', 'k', k, 'f32');
  const [batch = 1, length = 1, , p] = requireRank('qkNorm', 'q', q, ['B', 'L', 'H', 'P']);
  const headDim = requireStatic('qkNorm', 'P', p);
  const kvHeads = requireStatic('qkNorm', 'Hkv', requireRank('qkNorm', 'k', k, ['B', 'L', 'Hkv', 'P'])[2]);
  requireShape('qkNorm', 'k', k, [batch, length, kvHeads, headDim]);
  const y = recordQkNorm('qkNorm', recording, inputs, kvHeads, options);
  const heads = maximumSize(q.shape[2] ?? 1);
  const part = (from: number, count: number): TensorRef =>
    reshape(columns(y, from * headDim, (from + count) * headDim), [batch, length, count, headDim]);
  return { q: part(0, heads), k: part(heads, kvHeads) };
}

/**
 * Queries, and keys where there are `kvHeads` of them, as (B * L, (H + Hkv) * P).
 *
 * @throws ShapeError or ArgumentError in the name of `kernel`
 */
export function recordQkNorm(
  kernel: string,
  recording: Recording,
  inputs: Omit<QkNormInputs, 'k'> & { readonly k?: TensorRef },
  kvHeads: number,
  options: QkNormOptions,
): TensorRef {
  const { q, k, qWeight, kWeight, inverseFrequencies, position } = inputs;
  requireDtype(kernel, 'q', q, 'f32');
  const [batch = 1, length = 1, h, p] = requireRank(kernel, 'q', q, ['B', 'L', 'H', 'P']);
  const heads = requireStatic(kernel, 'H', h);
  const headDim = requireStatic(kernel, 'P', p);
  requireTeamHead(kernel, headDim);
  const qWeightStride = weightStride(kernel, 'qWeight', qWeight, heads, headDim);
  const kWeightStride = weightStride(kernel, 'kWeight', kWeight, kvHeads, headDim);
  const norm = normParams(kernel, options);
  const rotaryDim = inverseFrequencies === undefined ? 0 : requireRotaryDim(kernel, inverseFrequencies, headDim);
  if (position !== undefined) {
    requireDtype(kernel, 'position', position, 'u32');
    requireShape(kernel, 'position', position, [batch]);
  }
  const queries = headRows('q', q);
  const keys: HeadRows = k === undefined ? { offset: 0, stride: 0, headStride: 0 } : headRows('k', k);
  const tokens = multiplySize(batch, length);
  const { overrides, workgroups } = teamsFor(recording.capabilities, tokens, heads + kvHeads);
  const y = recording.scratch(`${kernel}.rotated`, 'f32', [tokens, (heads + kvHeads) * headDim]);
  const none = recording.placeholder();
  recording.dispatch(qkNormShader, {
    bindings: {
      q,
      k: k ?? none,
      qWeight: qWeight ?? none,
      kWeight: kWeight ?? none,
      inverseFrequencies: inverseFrequencies ?? none,
      position: position ?? recording.placeholder('u32'),
      y,
    },
    params: {
      tokens,
      length,
      qOffset: queries.offset,
      qStride: queries.stride,
      qHeadStride: queries.headStride,
      kOffset: keys.offset,
      kStride: keys.stride,
      kHeadStride: keys.headStride,
      qWeightStride,
      kWeightStride,
      ...norm,
    },
    overrides: {
      ...overrides,
      HEADS: heads,
      KV_HEADS: kvHeads,
      HEAD_DIM: headDim,
      ROTARY_DIM: rotaryDim,
      INTERLEAVED: options.interleaved ?? false,
      HAS_POSITION: position !== undefined,
      Q_NORM: qWeight !== undefined,
      K_NORM: kWeight !== undefined,
    },
    workgroups,
  });
  return y;
}
