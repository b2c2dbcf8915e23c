import { requireArgument, requireDtype, requireRank, requireShape, requireStatic } from '../core/checks.ts';
import type { Dtype } from '../core/dtype.ts';
import { QUANT_BLOCK, storagePlanes } from '../core/dtype.ts';
import { ShapeError } from '../core/errors.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { ceilDivSize, maximumSize, multiplySize, sizeKey } from '../core/size.ts';

/** Storage of keys and values: `q8` has one f16 scale for 32 values of a head. */
export type CacheDtype = 'f32' | 'f16' | 'q8';

/** Keys and values of a kernel under the names that its errors use, and their page table. */
export interface CacheTensors {
  readonly names: readonly [keys: string, values: string];
  readonly keys: TensorRef;
  readonly values: TensorRef;
  readonly pages: TensorRef | undefined;
}

/** Where the rows of (Hkv, P) values of a cache lie, as a shader counts them. */
export interface CacheRows {
  readonly offset: Size;
  readonly stride: number;
  /** Where the plane of scales begins, in words of 4 bytes; 0 unless the cache is q8. */
  readonly scales: number;
}

/** A checked cache. */
export interface CacheLayout {
  readonly dtype: CacheDtype;
  /** Tokens that a sequence has room for. */
  readonly capacity: Size;
  readonly keys: CacheRows;
  readonly values: CacheRows;
  readonly paged: boolean;
  /** The page table, or a placeholder. */
  readonly pages: TensorRef;
  /** `Params` of every shader that follows a page table. */
  readonly pageParams: { readonly pageBits: number; readonly pagesOffset: Size; readonly pagesStride: number };
  /** Pages of a paged cache. */
  readonly pageCount: Size;
}

/**
 * Checks a cache of `kvHeads` heads of `headDim` values for `batch` sequences.
 *
 * @param unitOf values that the shader loads or stores at once, by dtype
 * @throws ShapeError or ArgumentError if a shape, dtype, page size or offset is wrong
 */
export function requireCache(
  kernel: string,
  recording: Recording,
  cache: CacheTensors,
  sizes: { readonly batch: Size; readonly kvHeads: number; readonly headDim: number },
  unitOf: (dtype: CacheDtype) => number,
): CacheLayout {
  const { keys, values, pages } = cache;
  const { batch, kvHeads, headDim } = sizes;
  const [keysName, valuesName] = cache.names;
  requireDtype(kernel, keysName, keys, 'f32', 'f16', 'q8');
  requireDtype(kernel, valuesName, values, keys.dtype);
  const dtype = cacheDtypeOf(keys.dtype);
  requireArgument(
    dtype !== 'q8' || headDim % QUANT_BLOCK === 0,
    `${kernel}: the heads of a q8 cache must have a multiple of ${QUANT_BLOCK} values; found ${headDim}.`,
    'Keep the cache in f16.',
  );
  const letters = pages === undefined ? ['B', 'T', 'Hkv', 'P'] : ['pages', 'page size', 'Hkv', 'P'];
  const [first = 1, second = 1] = requireRank(kernel, keysName, keys, letters);
  const shape = [pages === undefined ? batch : first, second, kvHeads, headDim];
  requireShape(kernel, keysName, keys, shape);
  requireShape(kernel, valuesName, values, shape);
  const unit = unitOf(dtype);
  const layout = {
    dtype,
    keys: rowsOfCache(kernel, keysName, keys, unit),
    values: rowsOfCache(kernel, valuesName, values, unit),
  };
  if (pages === undefined) {
    const pageParams = { pageBits: 0, pagesOffset: 0, pagesStride: 0 };
    const table = recording.placeholder('u32');
    return { ...layout, capacity: second, paged: false, pages: table, pageParams, pageCount: 0 };
  }
  requireDtype(kernel, 'pages', pages, 'u32');
  const most = requireStatic(kernel, 'pages of a sequence', requireRank(kernel, 'pages', pages, ['B', 'pages'])[1]);
  requireShape(kernel, 'pages', pages, [batch, most]);
  const pageSize = requireStatic(kernel, 'page size', second);
  const pageBits = Math.log2(pageSize);
  requireArgument(
    Number.isInteger(pageBits),
    `${kernel}: a page must have a power of two of tokens; found ${pageSize}.`,
    'Use pages of 16 tokens or more.',
  );
  const pageParams = { pageBits, pagesOffset: pages.offset, pagesStride: strideOfRows('pages', pages, 1) };
  return { ...layout, capacity: most * pageSize, paged: true, pages, pageParams, pageCount: first };
}

function cacheDtypeOf(dtype: Dtype): CacheDtype {
  return dtype === 'f16' || dtype === 'q8' ? dtype : 'f32';
}

/** @throws ShapeError if a row does not begin at a whole unit, or at a whole block of a q8 cache */
function rowsOfCache(kernel: string, name: string, tensor: TensorRef, unit: number): CacheRows {
  const rows = rowsInUnits(kernel, name, tensor, tensor.dtype === 'q8' ? QUANT_BLOCK : unit);
  if (tensor.dtype !== 'q8') return { ...rows, scales: 0 };
  const { storage } = tensor;
  const scales = storagePlanes('q8', maximumSize(storage.rows), storage.rowStride).find((p) => p.name === 'scales');
  const units = QUANT_BLOCK / unit;
  return {
    offset: multiplySize(rows.offset, units),
    stride: rows.stride * units,
    scales: (scales?.byteOffset ?? 0) / 4,
  };
}

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
      `${kernel}: rows of '${name}' must begin at multiples of ${unit} values; found rows ${stride} apart, from ${sizeKey(offset)}.`,
      'Pad the rows, or choose columns that begin at such multiples.',
    );
  }
  return { offset: ceilDivSize(offset, unit), stride: stride / unit };
}
