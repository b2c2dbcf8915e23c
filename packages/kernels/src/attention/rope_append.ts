import { ropeAppendShader } from '../generated/attention/rope_append.ts';
import { requireArgument, requireDtype, requireRank, requireShape, requireStatic } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import { ceilDivSize, flatGrid, maximumSize, multiplySize } from '../core/size.ts';
import { rowsInUnits } from './inputs.ts';
import { headsPerInvocation, requireRotaryDim } from './rope.ts';

export interface RopeAppendInputs {
  /** (B, L, H, P) f32; tokens may be strided, as for k and v: usually columns of one projection */
  readonly q: TensorRef;
  /** (B, L, Hkv, P) f32 */
  readonly k: TensorRef;
  /** (B, L, Hkv, P) f32 */
  readonly v: TensorRef;
  /** (rotaryDim / 2) f32, radians per token; absent for models without positions: nothing rotates */
  readonly inverseFrequencies?: TensorRef;
  /** (B) u32, tokens in the cache before this call */
  readonly position: TensorRef;
  /** (B, T, Hkv, P) f32 or f16, updated in place */
  readonly keyCache: TensorRef;
  /** (B, T, Hkv, P) of the dtype of `keyCache`, updated in place */
  readonly valueCache: TensorRef;
}

export interface RopeAppendOptions {
  /** Pairs are neighbours (GPT-J) instead of halves (Llama); false when absent. */
  readonly interleaved?: boolean;
}

/**
 * Rotates queries and keys as `rope` does and appends keys and values to a KV cache, in one dispatch: token l goes to
 * row `position[b] + l` of the caches, and is dropped where that is T or more. `position` is read, not advanced.
 *
 * @returns (B, L, H, P) f32, the rotated queries
 * @throws ShapeError or ArgumentError if P is odd, rotaryDim exceeds P, or a shape or dtype is wrong
 *
 * Cost: 3 flops a rotated value; reads 4 bytes a value, writes 4 bytes (2 to an f16 cache, where values are rounded to
 * the nearest within +-65504).
 */
export function ropeAppend(recording: Recording, inputs: RopeAppendInputs, options: RopeAppendOptions = {}): TensorRef {
  const { q, k, v, inverseFrequencies, position, keyCache, valueCache } = inputs;
  for (const [name, tensor] of Object.entries({ q, k, v })) requireDtype('ropeAppend', name, tensor, 'f32');
  const [batch = 1, length = 1, h, p] = requireRank('ropeAppend', 'q', q, ['B', 'L', 'H', 'P']);
  const heads = requireStatic('ropeAppend', 'H', h);
  const headDim = requireStatic('ropeAppend', 'P', p);
  const kvHeads = requireStatic('ropeAppend', 'Hkv', requireRank('ropeAppend', 'k', k, ['B', 'L', 'Hkv', 'P'])[2]);
  requireShape('ropeAppend', 'k', k, [batch, length, kvHeads, headDim]);
  requireShape('ropeAppend', 'v', v, [batch, length, kvHeads, headDim]);
  requireDtype('ropeAppend', 'position', position, 'u32');
  requireShape('ropeAppend', 'position', position, [batch]);
  requireDtype('ropeAppend', 'keyCache', keyCache, 'f32', 'f16');
  requireDtype('ropeAppend', 'valueCache', valueCache, keyCache.dtype);
  const capacity = requireRank('ropeAppend', 'keyCache', keyCache, ['B', 'T', 'Hkv', 'P'])[1] ?? 1;
  requireShape('ropeAppend', 'keyCache', keyCache, [batch, capacity, kvHeads, headDim]);
  requireShape('ropeAppend', 'valueCache', valueCache, [batch, capacity, kvHeads, headDim]);
  requireArgument(
    headDim % 2 === 0,
    `ropeAppend: a head must have an even number of values; found ${headDim}.`,
    'Pad the heads of the projection with zeros.',
  );
  const rotaryDim = inverseFrequencies === undefined ? 0 : requireRotaryDim('ropeAppend', inverseFrequencies, headDim);
  const keys = rowsInUnits('ropeAppend', 'keyCache', keyCache, 2);
  const values = rowsInUnits('ropeAppend', 'valueCache', valueCache, 2);

  const rotated = recording.scratch('ropeAppend.rotated', 'f32', q.shape);
  const tokens = multiplySize(batch, length);
  const headsEach = headsPerInvocation(maximumSize(tokens));
  const groups = Math.ceil((heads + 2 * kvHeads) / headsEach);
  recording.dispatch(ropeAppendShader, {
    bindings: {
      q,
      k,
      v,
      inverseFrequencies: inverseFrequencies ?? recording.placeholder(),
      position,
      rotated,
      keyCache,
      valueCache,
    },
    params: {
      tokens,
      length,
      capacity,
      qOffset: q.offset,
      qStride: strideOfRows('q', q, 2),
      kOffset: k.offset,
      kStride: strideOfRows('k', k, 2),
      vOffset: v.offset,
      vStride: strideOfRows('v', v, 2),
      keyOffset: keys.offset,
      keyStride: keys.stride,
      valueOffset: values.offset,
      valueStride: values.stride,
    },
    overrides: {
      HEADS: heads,
      KV_HEADS: kvHeads,
      HEAD_DIM: headDim,
      ROTARY_DIM: rotaryDim,
      HEADS_EACH: headsEach,
      INTERLEAVED: options.interleaved ?? false,
    },
    choices: { cache: keyCache.dtype === 'f16' ? 'f16' : 'f32' },
    workgroups: flatGrid(ceilDivSize(multiplySize(tokens, groups * (headDim / 2)), 256)),
  });
  return rotated;
}
