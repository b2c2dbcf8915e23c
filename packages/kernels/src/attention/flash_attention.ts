// Longer than most host halves, because each of ten inputs has its documentation, its checks and its parameters.
import { flashAttentionShader } from '../generated/attention/flash_attention.ts';
import { flashAttentionMatrixShader } from '../generated/attention/flash_attention_matrix.ts';
import { requireArgument, requireDtype, requireRank, requireShape, requireStatic } from '../core/checks.ts';
import { MATRIX_UNIT_TOKENS, usesMatrixUnits } from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { ceilDivSize, isMultiple, maximumSize, sameSize } from '../core/size.ts';
import { requireCache, rowsInUnits } from './cache.ts';
import { NO_WINDOW, requireHeads, requireScores } from './inputs.ts';
import { biasRows, headRows, headTerms } from './terms.ts';

export interface FlashAttentionInputs {
  /** (B, L, H, P) f32; tokens may be strided */
  readonly q: TensorRef;
  /** (B, T, Hkv, P) f32, f16 or q8; tokens may be strided. With `pages`: (pages, page size, Hkv, P) */
  readonly k: TensorRef;
  /** As `k`, of its dtype */
  readonly v: TensorRef;
  /** (B) u32, keys before this call: keys 0 to position + L - 1 are valid, whatever T is. Absent: all T keys are. */
  readonly position?: TensorRef;
  /** (B, N) u32: key t of sequence b is row t % pageSize of page pages[b, floor(t / pageSize)], and T is N * pageSize */
  readonly pages?: TensorRef;
  /** (S + 1) u32, for B = 1 and T = L: sequence s is tokens starts[s] to starts[s + 1] - 1, and sees itself alone */
  readonly starts?: TensorRef;
  /** (H) f32, ALiBi: scores get slope * (position of the key - position of the query) */
  readonly slopes?: TensorRef;
  /** (B or 1, H or 1, L, T) f32, added to the scores; -1e30 and less hides a key */
  readonly bias?: TensorRef;
  /** (H) f32: one more logit in the denominator of the softmax, which brings no value */
  readonly sinks?: TensorRef;
  /** (B, L, H, P) f32; the output is multiplied with sigmoid(gate). Tokens or heads may be strided. Not with `bias`. */
  readonly gate?: TensorRef;
}

export interface FlashAttentionOptions {
  /** Query l sees keys up to its own position only; true when absent. */
  readonly causal?: boolean;
  /** Factor of the scores; 1 / sqrt(P) when absent. */
  readonly scale?: number;
  /** A query sees the last `window` keys only, its own included. */
  readonly window?: number;
  /** Scores become softCap * tanh(score / softCap), after the scale and before the mask. */
  readonly softCap?: number;
}

/**
 * Attention of many queries: `y[b, l, h] = sum_t softmax_t(scale q . k[b, t]) v[b, t]` with key head floor(h Hkv / H).
 * Query l stands at position `position[b] + l` among the keys, or T - L + l without `position`. Nothing of size L x T
 * is stored, and tiles of keys that no query of a tile sees are skipped. A query that sees no key gives 0. Slopes and
 * bias are added after the scale and the soft cap; what is left out costs nothing.
 *
 * @returns (B, L, H, P) f32, contiguous
 * @throws ShapeError or ArgumentError if P is not a multiple of 4 (32 with q8 keys) from 8 to 256, H is not a multiple of
 *   Hkv, a page has not a power of two of tokens, or a shape, dtype, option or combination is wrong
 *
 * Cost: 4 P flops a visible (query, key) pair and head; reads k and v once for every tile of queries.
 * Source: arXiv 2307.08691; the soft cap of Gemma 2; ALiBi, arXiv 2108.12409; the sinks of gpt-oss; pages, arXiv
 * 2309.06180; the gate of Qwen3-Next.
 */
export function flashAttention(
  recording: Recording,
  inputs: FlashAttentionInputs,
  options: FlashAttentionOptions = {},
): TensorRef {
  const { q, k, v, position, pages, starts, bias, gate } = inputs;
  requireDtype('flashAttention', 'q', q, 'f32');
  const [batch = 1, length = 1, h, p] = requireRank('flashAttention', 'q', q, ['B', 'L', 'H', 'P']);
  const limits = { multiple: 4, least: 8, most: 256 };
  const { heads, kvHeads, headDim } = requireHeads('flashAttention', { heads: h, headDim: p }, k, limits);
  const tensors = { names: ['k', 'v'], keys: k, values: v, pages } as const;
  const cache = requireCache('flashAttention', recording, tensors, { batch, kvHeads, headDim }, () => 4);
  const { capacity } = cache;
  if (position !== undefined) {
    requireDtype('flashAttention', 'position', position, 'u32');
    requireShape('flashAttention', 'position', position, [batch]);
  }
  const sequences = starts === undefined ? 0 : requireSequences(inputs, starts, batch, length, capacity);
  const { causal = true, scale = 1 / Math.sqrt(headDim), window = NO_WINDOW, softCap } = options;
  requireScores('flashAttention', { scale, window, softCap });
  requireArgument(
    bias === undefined || gate === undefined,
    "flashAttention: 'bias' and 'gate' share one binding.",
    'Apply the gate to the result.',
  );
  if (gate !== undefined) {
    requireDtype('flashAttention', 'gate', gate, 'f32');
    requireShape('flashAttention', 'gate', gate, q.shape);
  }
  const gates = gate === undefined ? undefined : headRows('gate', gate);
  const added = bias === undefined ? undefined : biasRows('flashAttention', bias, [batch, heads, length, capacity]);
  const queries = rowsInUnits('flashAttention', 'q', q, 4);
  const { terms, ...perHead } = headTerms(
    'flashAttention',
    recording,
    { slopes: inputs.slopes, sinks: inputs.sinks },
    heads,
  );

  const y = recording.scratch('flashAttention.y', 'f32', q.shape);
  const params = {
    length,
    capacity,
    heads,
    group: heads / kvHeads,
    causal: causal ? 1 : 0,
    hasPosition: position === undefined ? 0 : 1,
    window,
    scale,
    cap: softCap ?? 0,
    qOffset: queries.offset,
    qStride: queries.stride,
  };
  if (suitsMatrixUnits(recording, inputs, headDim)) {
    const keys = rowsInUnits('flashAttention', 'k', k, 8);
    const values = rowsInUnits('flashAttention', 'v', v, 8);
    recording.dispatch(flashAttentionMatrixShader, {
      bindings: { q, k, v, position: position ?? recording.placeholder('u32'), y },
      params: {
        ...params,
        kOffset: keys.offset,
        kStride: keys.stride,
        vOffset: values.offset,
        vStride: values.stride,
      },
      constants: { HEAD_DIM: headDim, KEYS: keysOfTile(recording, headDim) },
      workgroups: [ceilDivSize(length, 64), heads, batch],
    });
    return y;
  }
  const tiles = chooseTiles(maximumSize(length), headDim);
  recording.dispatch(flashAttentionShader, {
    bindings: {
      q,
      k,
      v,
      position: starts ?? position ?? recording.placeholder('u32'),
      pages: cache.pages,
      terms,
      extra: bias ?? gate ?? recording.placeholder(),
      y,
    },
    params: {
      ...params,
      kOffset: cache.keys.offset,
      kStride: cache.keys.stride,
      vOffset: cache.values.offset,
      vStride: cache.values.stride,
      kScales: cache.keys.scales,
      vScales: cache.values.scales,
      ...cache.pageParams,
      sequences,
      ...perHead.params,
      extraOffset: bias?.offset ?? gates?.offset ?? 0,
      extraBatchStride: added?.batch ?? 0,
      extraHeadStride: added?.head ?? gates?.headStride ?? 0,
      extraRowStride: added?.row ?? gates?.stride ?? 0,
    },
    overrides: {
      ...perHead.overrides,
      PAGED: cache.paged,
      PACKED: starts !== undefined,
      HAS_BIAS: bias !== undefined,
      HAS_GATE: gate !== undefined,
    },
    constants: { HEAD_DIM: headDim, ROWS: tiles.rows, ROW_GROUPS: tiles.rowGroups, VALUE_ROWS: tiles.valueRows },
    choices: { cache: cache.dtype },
    workgroups: [ceilDivSize(length, tiles.rows * tiles.rowGroups), heads, batch],
  });
  return y;
}

/** The number of packed sequences. @throws ShapeError or ArgumentError if `starts` does not go with the other inputs */
function requireSequences(
  { position, pages }: FlashAttentionInputs,
  starts: TensorRef,
  batch: Size,
  length: Size,
  capacity: Size,
): number {
  requireDtype('flashAttention', 'starts', starts, 'u32');
  const [count] = requireRank('flashAttention', 'starts', starts, ['S + 1']);
  const sequences = requireStatic('flashAttention', 'S + 1', count) - 1;
  requireArgument(
    position === undefined && pages === undefined && starts.offset === 0 && sequences >= 1,
    "flashAttention: packed sequences have one start each and a last end, and neither 'position' nor 'pages'.",
    "Give 'starts' as a tensor of its own, with at least two values, or use 'position' and a batch.",
  );
  requireArgument(
    batch === 1 && sameSize(length, capacity),
    'flashAttention: packed sequences have B = 1 and as many keys as queries.',
    'Put all tokens of all sequences behind each other.',
  );
  return sequences;
}

/**
 * Whether to record the variant for matrix units: f16 keys in rows of whole 16 bytes, heads of whole fragments, and none
 * of the inputs that only the portable variant knows.
 */
function suitsMatrixUnits(recording: Recording, inputs: FlashAttentionInputs, headDim: number): boolean {
  const { q, k, v, pages, starts, bias, gate, slopes, sinks } = inputs;
  const plain = [pages, starts, bias, gate, slopes, sinks].every((input) => input === undefined);
  if (!plain || k.dtype !== 'f16' || headDim % 16 !== 0) return false;
  const aligned = [k, v].every((tensor) => isMultiple(tensor.offset, 8) && strideOfRows('k', tensor, 2) % 8 === 0);
  return aligned && usesMatrixUnits(recording, flashAttentionMatrixShader, 'f16', q.shape[1] ?? 1, MATRIX_UNIT_TOKENS);
}

/**
 * Keys of a tile on matrix units: 64 where the workgroup memory has room for them and the heads are wide enough to be
 * worth it. Measured on an H200, 4,096 tokens: heads of 128 104 TFLOP/s with 64 keys, 79 with 32; heads of 64 41 and 73.
 */
function keysOfTile({ capabilities }: Recording, headDim: number): 32 | 64 {
  return headDim > 64 && headDim <= 128 && capabilities.limits.maxComputeWorkgroupStorageSize >= 49_152 ? 64 : 32;
}

/**
 * Tiles that fit 16 KiB of workgroup memory and, for wide heads, the registers: 16 row groups of 8 invocations, each
 * with up to four queries. Few queries get few rows, so that no invocation works for rows that do not exist.
 */
function chooseTiles(length: number, headDim: number): { rows: number; rowGroups: number; valueRows: number } {
  const rowGroups = 16;
  const most = headDim > 128 ? 2 : 4;
  const rows = length <= 16 ? 1 : length <= 32 ? Math.min(2, most) : most;
  // Vectors of 16 bytes that the weights leave: 1024 less 8 for each query.
  const room = 1024 - 8 * rows * rowGroups;
  const valueRows = [32, 16, 8].find((count) => count * (headDim / 4) <= room) ?? 4;
  return { rows, rowGroups, valueRows };
}
