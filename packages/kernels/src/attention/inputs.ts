import { requireArgument, requireRank, requireStatic } from '../core/checks.ts';
import { ShapeError } from '../core/errors.ts';
import type { TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { ceilDivSize } from '../core/size.ts';

/** Where rows of heads begin and how far apart they lie, counted in units of several values. */
export interface RowLayout {
  readonly offset: Size;
  readonly stride: number;
}

/**
 * The layout of rows of (H, P) values in units of `unit` values, as a shader that loads whole units counts.
 *
 * @throws ShapeError if a row does not begin at a whole unit
 */
export function rowsInUnits(kernel: string, name: string, tensor: TensorRef, unit: number): RowLayout {
  const stride = strideOfRows(name, tensor, 2);
  const { offset } = tensor;
  if (stride % unit !== 0 || (typeof offset === 'number' && offset % unit !== 0)) {
    throw new ShapeError(
      `${kernel}: rows of '${name}' must begin at multiples of ${unit} values; found rows ${stride} apart, from ${typeof offset === 'number' ? offset : offset.key}.`,
      'Pad the rows, or choose columns that begin at such multiples.',
    );
  }
  return { offset: ceilDivSize(offset, unit), stride: stride / unit };
}

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
