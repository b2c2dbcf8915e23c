// Longer than most host halves, because each of eight inputs has its documentation and its checks, and two shaders run.
import { attentionCombineShader } from '../generated/attention/attention_combine.ts';
import { attentionStepShader } from '../generated/attention/attention_step.ts';
import { requireArgument, requireDtype, requireRank, requireShape } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import { maximumSize } from '../core/size.ts';
import { requireCache } from './cache.ts';
import { NO_WINDOW, requireHeads, requireScores } from './inputs.ts';
import { headRows, headTerms } from './terms.ts';

export interface AttentionStepInputs {
  /** (B, H, P) f32: the query of one token; sequences may be strided */
  readonly q: TensorRef;
  /** (B, T, Hkv, P) f32, f16 or q8; with `pages`: (pages, page size, Hkv, P) */
  readonly k: TensorRef;
  /** As `k`, of its dtype */
  readonly v: TensorRef;
  /** (B) u32, index of the token's own key, which is in the cache already: keys 0 to position are valid */
  readonly position: TensorRef;
  /** (B, N) u32: key t of sequence b is row t % pageSize of page pages[b, floor(t / pageSize)], and T is N * pageSize */
  readonly pages?: TensorRef;
  /** (H) f32, ALiBi: scores get slope * (position of the key - position of the query) */
  readonly slopes?: TensorRef;
  /** (H) f32: one more logit in the denominator of the softmax, which brings no value */
  readonly sinks?: TensorRef;
  /** (B, H, P) f32; the output is multiplied with sigmoid(gate). Sequences or heads may be strided. */
  readonly gate?: TensorRef;
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
 * GPU: the same recording serves every token. Slopes are added after the scale and the soft cap; what is left out costs
 * nothing.
 *
 * @returns (B, H, P) f32, contiguous
 * @throws ShapeError or ArgumentError if P is not a multiple of 4 (8 with f16 keys, 32 with q8) from 8 to 256, H is not
 *   a multiple of Hkv, a page has not a power of two of tokens, or a shape, dtype or option is wrong
 *
 * Cost: 4 P flops a key and query head; reads keys and values once (for groups of more than 8 query heads, or 4
 * where P exceeds 128 or there are no subgroups, once for each such part). Source: Flash-Decoding (Dao et al., 2023).
 */
export function attentionStep(
  recording: Recording,
  inputs: AttentionStepInputs,
  options: AttentionStepOptions = {},
): TensorRef {
  const { q, k, v, position, pages, gate } = inputs;
  requireDtype('attentionStep', 'q', q, 'f32');
  const [batch = 1, h, p] = requireRank('attentionStep', 'q', q, ['B', 'H', 'P']);
  const limits = { multiple: k.dtype === 'f32' ? 4 : 8, least: 8, most: 256 };
  const { heads, kvHeads, headDim } = requireHeads('attentionStep', { heads: h, headDim: p }, k, limits);
  const tensors = { names: ['k', 'v'], keys: k, values: v, pages } as const;
  const unitOf = (dtype: string): number => (dtype === 'f32' ? 4 : 8);
  const cache = requireCache('attentionStep', recording, tensors, { batch, kvHeads, headDim }, unitOf);
  const { capacity } = cache;
  requireDtype('attentionStep', 'position', position, 'u32');
  requireShape('attentionStep', 'position', position, [batch]);
  if (gate !== undefined) {
    requireDtype('attentionStep', 'gate', gate, 'f32');
    requireShape('attentionStep', 'gate', gate, [batch, heads, headDim]);
  }
  const { scale = 1 / Math.sqrt(headDim), window = NO_WINDOW, softCap } = options;
  requireScores('attentionStep', { scale, window, softCap });

  const group = heads / kvHeads;
  // Without subgroups, the parts of scores take the room of more heads.
  const subgroups = recording.choice(attentionStepShader, 'simd') === 'subgroups';
  const mostHeads = headDim > 128 || !subgroups ? 4 : 8;
  // Tiles of one size: 12 heads are 6 and 6, not 8 and 4.
  const headTile = Math.ceil(group / Math.ceil(group / mostHeads));
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

  const gates = gate === undefined ? { offset: 0, stride: 0, headStride: 0 } : headRows('gate', gate);
  const qStride = strideOfRows('q', q, 2);
  const { terms, ...perHead } = headTerms(
    'attentionStep',
    recording,
    { slopes: inputs.slopes, sinks: inputs.sinks },
    heads,
  );
  const gateParams = { gateOffset: gates.offset, gateStride: gates.stride, gateHeadStride: gates.headStride };
  const bound = { terms, gate: gate ?? recording.placeholder() };
  const HAS_GATE = gate !== undefined;
  const y = recording.scratch('attentionStep.y', 'f32', [batch, heads, headDim]);
  // A share has its largest score and its sum of weights behind its values.
  const shares = splits === 1 ? y : recording.scratch('attentionStep.sums', 'f32', [batch, heads, splits, headDim + 4]);
  recording.dispatch(attentionStepShader, {
    bindings: { q, k, v, position, pages: cache.pages, ...bound, y: shares },
    params: {
      capacity,
      heads,
      kvHeads,
      splits,
      window,
      scale,
      cap: softCap ?? 0,
      qOffset: q.offset,
      qStride,
      kOffset: cache.keys.offset,
      kStride: cache.keys.stride,
      vOffset: cache.values.offset,
      vStride: cache.values.stride,
      kScales: cache.keys.scales,
      vScales: cache.values.scales,
      ...cache.pageParams,
      ...perHead.params,
      ...gateParams,
    },
    // With several shares, sinks and gate wait for the whole.
    overrides: {
      PAGED: cache.paged,
      HAS_SLOPES: perHead.overrides.HAS_SLOPES,
      HAS_SINKS: perHead.overrides.HAS_SINKS && splits === 1,
      HAS_GATE: HAS_GATE && splits === 1,
    },
    constants: { HEAD_DIM: headDim, HEAD_TILE: headTile },
    choices: { cache: cache.dtype },
    workgroups: [workgroups, splits, batch],
  });
  if (splits === 1) return y;
  recording.dispatch(attentionCombineShader, {
    bindings: { sums: shares, sinks: terms, gate: bound.gate, y },
    params: { heads, splits, sinksOffset: perHead.params.sinksOffset, ...gateParams },
    overrides: { HAS_SINKS: perHead.overrides.HAS_SINKS, HAS_GATE },
    constants: { HEAD_DIM: headDim },
    workgroups: [heads, batch],
  });
  return y;
}
