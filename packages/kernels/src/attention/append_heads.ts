import { appendHeadsShader } from '../generated/attention/append_heads.ts';
import type { Recording } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { multiplySize } from '../core/size.ts';
import type { CacheLayout } from './cache.ts';
import type { RopeAppendInputs, RopeAppendOptions } from './rope_append.ts';
import { normParams, teamsFor, weightStride } from './teams.ts';

/** Keys, normalised and rotated, and values to caches of any kind. */
export function appendHeads(
  recording: Recording,
  inputs: RopeAppendInputs,
  options: RopeAppendOptions,
  cache: CacheLayout,
  sizes: {
    readonly batch: Size;
    readonly length: Size;
    readonly kvHeads: number;
    readonly headDim: number;
    readonly rotaryDim: number;
  },
): void {
  const { k, v, kWeight, inverseFrequencies, position, keyCache, valueCache } = inputs;
  const { batch, length, kvHeads, headDim, rotaryDim } = sizes;
  const tokens = multiplySize(batch, length);
  const { overrides, workgroups } = teamsFor(recording.capabilities, tokens, 2 * kvHeads);
  recording.dispatch(appendHeadsShader, {
    bindings: {
      k,
      v,
      weight: kWeight ?? recording.placeholder(),
      inverseFrequencies: inverseFrequencies ?? recording.placeholder(),
      position,
      pages: cache.pages,
      keyCache,
      valueCache,
    },
    params: {
      tokens,
      length,
      capacity: cache.capacity,
      kOffset: k.offset,
      kStride: strideOfRows('k', k, 2),
      vOffset: v.offset,
      vStride: strideOfRows('v', v, 2),
      keyOffset: cache.keys.offset,
      keyStride: cache.keys.stride,
      valueOffset: cache.values.offset,
      valueStride: cache.values.stride,
      keyScales: cache.keys.scales,
      valueScales: cache.values.scales,
      ...cache.pageParams,
      pageCount: cache.pageCount,
      weightStride: weightStride('ropeAppend', 'kWeight', kWeight, kvHeads, headDim),
      ...normParams('ropeAppend', options),
    },
    overrides: {
      ...overrides,
      KV_HEADS: kvHeads,
      HEAD_DIM: headDim,
      ROTARY_DIM: rotaryDim,
      INTERLEAVED: options.interleaved ?? false,
      HAS_NORM: kWeight !== undefined,
      PAGED: cache.paged,
    },
    choices: { cache: cache.dtype },
    workgroups,
  });
}
