import { attentionCombineShader } from '../generated/attention/attention_combine.ts';
import { attentionStepShader } from '../generated/attention/attention_step.ts';
import { requireArgument, requireDtype, requireRank, requireShape } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { reshape, strideOfRows } from '../core/recording.ts';
import { maximumSize } from '../core/size.ts';
import { NO_WINDOW, requireHeads, requireScores, rowsInUnits } from './inputs.ts';

export interface AttentionStepInputs {
  /** (B, H, P) f32: the query of one token; sequences may be strided */
  readonly q: TensorRef;
  /** (B, T, Hkv, P) f32 or f16 */
  readonly k: TensorRef;
  /** (B, T, Hkv, P) of the dtype of `k` */
  readonly v: TensorRef;
  /** (B) u32, index of the token's own key, which is in the cache already: keys 0 to position are valid */
  readonly position: TensorRef;
}

export interface AttentionStepOptions {
  /** Factor of the scores; 1 / sqrt(P) when absent. */
  readonly scale?: number;
  /** The query sees the last `window` keys only, its own included. */
  readonly window?: number;
  /** Scores become softCap * tanh(score / softCap), after the scale. */
  readonly softCap?: number;
  /** Shares that the keys are cut into, 1 to 256; chosen from T and the number of heads when absent. */
  readonly splits?: number;
}

/** Keys that a workgroup has in work at a time: no share is smaller. */
const KEYS_AT_A_TIME = 64;
/** Two workgroups on each of the 132 cores of an H200: fewer leave some idle, more spend their time on combining. */
const ENOUGH_WORKGROUPS = 256;
const MAX_SPLITS = 256;

/**
 * Attention of one token to a KV cache: `y[b, h] = sum_t softmax_t(scale q . k[b, t]) v[b, t]`, t = 0 to position[b],
 * with key head floor(h Hkv / H). The keys are cut into shares that run side by side, and all query heads of a key
 * head read it together; a second dispatch, left out with one share, combines the shares. The position is read on the
 * GPU: the same recording serves every token.
 *
 * @returns (B, H, P) f32, contiguous
 * @throws ShapeError or ArgumentError if P is not a multiple of 4 (8 with f16 keys) from 8 to 256, H is not a multiple
 *   of Hkv, or a shape, dtype or option is wrong
 *
 * Cost: 4 P flops a key and query head; reads keys and values once (for groups of more than 8 query heads, or 4
 * where P exceeds 128 or there are no subgroups, once for each such part). Source: Flash-Decoding (Dao et al., 2023).
 */
export function attentionStep(
  recording: Recording,
  inputs: AttentionStepInputs,
  options: AttentionStepOptions = {},
): TensorRef {
  const { q, k, v, position } = inputs;
  requireDtype('attentionStep', 'q', q, 'f32');
  requireDtype('attentionStep', 'k', k, 'f32', 'f16');
  requireDtype('attentionStep', 'v', v, k.dtype);
  const [batch = 1, h, p] = requireRank('attentionStep', 'q', q, ['B', 'H', 'P']);
  const unit = k.dtype === 'f16' ? 8 : 4;
  const limits = { multiple: unit, least: 8, most: 256 };
  const { heads, kvHeads, headDim } = requireHeads('attentionStep', { heads: h, headDim: p }, k, limits);
  const capacity = k.shape[1] ?? 1;
  requireShape('attentionStep', 'k', k, [batch, capacity, kvHeads, headDim]);
  requireShape('attentionStep', 'v', v, [batch, capacity, kvHeads, headDim]);
  requireDtype('attentionStep', 'position', position, 'u32');
  requireShape('attentionStep', 'position', position, [batch]);
  const { scale = 1 / Math.sqrt(headDim), window = NO_WINDOW, softCap } = options;
  requireScores('attentionStep', { scale, window, softCap });

  const group = heads / kvHeads;
  // Without subgroups, the parts of scores take the room of more heads.
  const subgroups = recording.choice(attentionStepShader, 'simd') === 'subgroups';
  const headTile = Math.min(group, headDim > 128 || !subgroups ? 4 : 8);
  const workgroups = kvHeads * Math.ceil(group / headTile);
  const mostKeys = Math.min(maximumSize(capacity), window);
  // On a CPU, shares without keys cost as much as a tile of keys: SwiftShader took 78 ms for 8 shares of 6 keys.
  const wanted = recording.capabilities.software
    ? 1
    : Math.min(
        Math.ceil(mostKeys / KEYS_AT_A_TIME),
        Math.ceil(ENOUGH_WORKGROUPS / (workgroups * maximumSize(batch))),
        MAX_SPLITS,
      );
  const { splits = wanted } = options;
  requireArgument(
    Number.isInteger(splits) && splits >= 1 && splits <= MAX_SPLITS,
    `attentionStep: splits must be a whole number from 1 to ${MAX_SPLITS}; found ${splits}.`,
    'Leave it out to have it chosen.',
  );

  const keys = rowsInUnits('attentionStep', 'k', k, unit);
  const values = rowsInUnits('attentionStep', 'v', v, unit);
  const sums = recording.scratch('attentionStep.sums', 'f32', [batch, heads, splits, headDim]);
  const stats = recording.scratch('attentionStep.stats', 'f32', [batch, heads, splits, 2]);
  recording.dispatch(attentionStepShader, {
    bindings: { q, k, v, position, sums, stats },
    params: {
      capacity,
      heads,
      kvHeads,
      splits,
      window,
      scale,
      cap: softCap ?? 0,
      qOffset: q.offset,
      qStride: strideOfRows('q', q, 2),
      kOffset: keys.offset,
      kStride: keys.stride,
      vOffset: values.offset,
      vStride: values.stride,
    },
    constants: { HEAD_DIM: headDim, HEAD_TILE: headTile },
    choices: { cache: k.dtype === 'f16' ? 'f16' : 'f32' },
    workgroups: [workgroups, splits, batch],
  });
  if (splits === 1) return reshape(sums, [batch, heads, headDim]);
  const y = recording.scratch('attentionStep.y', 'f32', [batch, heads, headDim]);
  recording.dispatch(attentionCombineShader, {
    bindings: { sums, stats, y },
    params: { heads, splits },
    constants: { HEAD_DIM: headDim },
    workgroups: [heads, batch],
  });
  return y;
}
