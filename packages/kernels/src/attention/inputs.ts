import { requireArgument, requireRank, requireStatic } from '../core/checks.ts';
import type { TensorRef } from '../core/recording.ts';
import type { Size } from '../core/size.ts';

/** Sizes of a KV cache and of the query heads that read it. */
export interface HeadSizes {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/**
 * Checks that `v` has the shape and dtype of `k`, that heads come in whole groups, and that a head has a multiple of
 * `multiple` values, from `least` to `most`.
 */
export function requireHeads(
  kernel: string,
  q: { readonly heads: Size | undefined; readonly headDim: Size | undefined },
  k: TensorRef,
  limits: { readonly multiple: number; readonly least: number; readonly most: number },
): HeadSizes {
  const heads = requireStatic(kernel, 'H', q.heads);
  const headDim = requireStatic(kernel, 'P', q.headDim);
  const kvHeads = requireStatic(kernel, 'Hkv', requireRank(kernel, 'k', k, ['B', 'T', 'Hkv', 'P'])[2]);
  const { multiple, least, most } = limits;
  requireArgument(
    headDim % multiple === 0 && headDim >= least && headDim <= most,
    `${kernel}: a head must have a multiple of ${multiple} values, from ${least} to ${most}, with ${k.dtype} keys; found ${headDim}.`,
    'Pad the heads of the projection with zeros.',
  );
  requireArgument(
    kvHeads > 0 && heads % kvHeads === 0,
    `${kernel}: the ${heads} query heads must be a multiple of the ${kvHeads} key heads.`,
    'Each key head serves the same number of query heads.',
  );
  return { heads, kvHeads, headDim };
}

/** Stands for no window: any key is nearer. */
export const NO_WINDOW: number = 2 ** 30;

/** @throws ArgumentError unless the options of the scores make sense */
export function requireScores(
  kernel: string,
  options: { readonly scale: number; readonly window: number; readonly softCap: number | undefined },
): void {
  const { scale, window, softCap } = options;
  requireArgument(
    Number.isFinite(scale),
    `${kernel}: scale must be a finite number; found ${scale}.`,
    'Leave it out for 1 / sqrt(P).',
  );
  requireArgument(
    Number.isInteger(window) && window >= 1 && window <= NO_WINDOW,
    `${kernel}: window must be a whole number of keys from 1 to ${NO_WINDOW}; found ${window}.`,
    'Leave it out where every key is seen.',
  );
  requireArgument(
    softCap === undefined || (Number.isFinite(softCap) && softCap > 0),
    `${kernel}: softCap must be a positive number; found ${softCap}.`,
    'Leave it out where scores are not capped.',
  );
}
