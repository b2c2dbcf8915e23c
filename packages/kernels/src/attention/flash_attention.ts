import { flashAttentionShader } from '../generated/attention/flash_attention.ts';
import { flashAttentionMatrixShader } from '../generated/attention/flash_attention_matrix.ts';
import { requireDtype, requireRank, requireShape } from '../core/checks.ts';
import { chooseUnit } from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import { ceilDivSize, isMultiple, maximumSize } from '../core/size.ts';
import { NO_WINDOW, requireHeads, requireScores, rowsInUnits } from './inputs.ts';

export interface FlashAttentionInputs {
  /** (B, L, H, P) f32; tokens may be strided */
  readonly q: TensorRef;
  /** (B, T, Hkv, P) f32 or f16; tokens may be strided */
  readonly k: TensorRef;
  /** (B, T, Hkv, P) of the dtype of `k` */
  readonly v: TensorRef;
  /** (B) u32, keys before this call: keys 0 to position + L - 1 are valid, whatever T is. Absent: all T keys are. */
  readonly position?: TensorRef;
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
 * is stored, and tiles of keys that no query of a tile sees are skipped. A query that sees no key gives 0.
 *
 * @returns (B, L, H, P) f32, contiguous
 * @throws ShapeError or ArgumentError if P is not a multiple of 4 from 8 to 256, H is not a multiple of Hkv, or a shape,
 *   dtype or option is wrong
 *
 * Cost: 4 P flops a visible (query, key) pair and head; reads k and v once for every tile of queries.
 * Source: arXiv 2307.08691; the soft cap of Gemma 2.
 */
export function flashAttention(
  recording: Recording,
  inputs: FlashAttentionInputs,
  options: FlashAttentionOptions = {},
): TensorRef {
  const { q, k, v, position } = inputs;
  requireDtype('flashAttention', 'q', q, 'f32');
  requireDtype('flashAttention', 'k', k, 'f32', 'f16');
  requireDtype('flashAttention', 'v', v, k.dtype);
  const [batch = 1, length = 1, h, p] = requireRank('flashAttention', 'q', q, ['B', 'L', 'H', 'P']);
  const limits = { multiple: 4, least: 8, most: 256 };
  const { heads, kvHeads, headDim } = requireHeads('flashAttention', { heads: h, headDim: p }, k, limits);
  const capacity = k.shape[1] ?? 1;
  requireShape('flashAttention', 'k', k, [batch, capacity, kvHeads, headDim]);
  requireShape('flashAttention', 'v', v, [batch, capacity, kvHeads, headDim]);
  if (position !== undefined) {
    requireDtype('flashAttention', 'position', position, 'u32');
    requireShape('flashAttention', 'position', position, [batch]);
  }
  const { causal = true, scale = 1 / Math.sqrt(headDim), window = NO_WINDOW, softCap } = options;
  requireScores('flashAttention', { scale, window, softCap });
  const queries = rowsInUnits('flashAttention', 'q', q, 4);
  const keys = rowsInUnits('flashAttention', 'k', k, 4);
  const values = rowsInUnits('flashAttention', 'v', v, 4);

  const y = recording.scratch('flashAttention.y', 'f32', q.shape);
  const bindings = { q, k, v, position: position ?? recording.placeholder('u32'), y };
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
    kOffset: keys.offset,
    kStride: keys.stride,
    vOffset: values.offset,
    vStride: values.stride,
  };
  if (usesMatrixUnits(recording, q, k, v)) {
    const octets = (tensor: TensorRef) => rowsInUnits('flashAttention', 'k', tensor, 8);
    recording.dispatch(flashAttentionMatrixShader, {
      bindings,
      params: {
        ...params,
        kOffset: octets(k).offset,
        kStride: octets(k).stride,
        vOffset: octets(v).offset,
        vStride: octets(v).stride,
      },
      constants: { HEAD_DIM: headDim, KEYS: keysOfTile(recording, headDim) },
      workgroups: [ceilDivSize(length, 64), heads, batch],
    });
    return y;
  }
  const tiles = chooseTiles(maximumSize(length), headDim);
  recording.dispatch(flashAttentionShader, {
    bindings,
    params,
    constants: { HEAD_DIM: headDim, ROWS: tiles.rows, ROW_GROUPS: tiles.rowGroups, VALUE_ROWS: tiles.valueRows },
    choices: { cache: k.dtype === 'f16' ? 'f16' : 'f32' },
    workgroups: [ceilDivSize(length, tiles.rows * tiles.rowGroups), heads, batch],
  });
  return y;
}

/** Whether to record the variant for matrix units: f16 keys in rows of whole 16 bytes, heads of whole fragments. */
function usesMatrixUnits(recording: Recording, q: TensorRef, k: TensorRef, v: TensorRef): boolean {
  const headDim = maximumSize(q.shape[3] ?? 0);
  const aligned = [k, v].every((tensor) => isMultiple(tensor.offset, 8) && strideOfRows('k', tensor, 2) % 8 === 0);
  const suits = k.dtype === 'f16' && headDim % 16 === 0 && aligned;
  return suits && chooseUnit(recording, flashAttentionMatrixShader, 'f16', q.shape[1] ?? 1) === 'matrix';
}

/** Keys of a tile on matrix units: 64 where the workgroup memory has room for them. */
function keysOfTile({ capabilities }: Recording, headDim: number): 32 | 64 {
  return headDim <= 128 && capabilities.limits.maxComputeWorkgroupStorageSize >= 49_152 ? 64 : 32;
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
