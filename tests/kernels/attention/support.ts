import type { HostTensor } from '@mambalab/kernels';
import { fromHalfBits, packCache, toHalfBits, unpackCache } from '@mambalab/kernels';
import type { Random } from '../../support/numbers.ts';

/** A tensor in the dtype of a cache, with the values that it then holds. */
export interface CacheTensor {
  readonly host: HostTensor;
  readonly values: Float32Array;
}

/** Values as a (..., P) tensor of f32, packed f16 or q8; NaN stays NaN, in q8 for its whole block. */
export function cacheTensor(values: Float32Array, shape: readonly number[], dtype: 'f32' | 'f16' | 'q8'): CacheTensor {
  if (dtype === 'q8') {
    const host = packCache(values, shape, dtype);
    return { host, values: unpackCache(host) };
  }
  if (dtype === 'f32') return { host: { data: values, shape, dtype }, values };
  const halves = Uint16Array.from(values, toHalfBits);
  return {
    host: { data: new Uint32Array(halves.buffer), shape, dtype },
    values: Float32Array.from(halves, fromHalfBits),
  };
}

/** The values of a tensor that was read back. */
export function readValues(tensor: HostTensor, count: number): Float32Array {
  if (tensor.dtype === 'f32') return (tensor.data as Float32Array).slice(0, count);
  const halves = new Uint16Array(tensor.data.buffer, tensor.data.byteOffset, count);
  return Float32Array.from(halves, fromHalfBits);
}

/** (B, valid, width) rows at the head of a (B, capacity, width) tensor whose other rows are NaN. */
export function withCapacity(
  values: Float32Array,
  batch: number,
  valid: readonly number[],
  capacity: number,
): Float32Array {
  const rows = valid.reduce((sum, count) => sum + count, 0);
  const width = values.length / rows;
  const out = new Float32Array(batch * capacity * width).fill(NaN);
  let row = 0;
  for (const [b, count] of valid.entries()) {
    out.set(values.subarray(row * width, (row + count) * width), b * capacity * width);
    row += count;
  }
  return out;
}

/** A page that no cache has. */
export const NO_PAGE = 0xffffffff;

/** Rows of a (B, capacity, width) tensor in pages of random places, behind pages of NaN that no sequence has. */
export interface PagedRows {
  /** (pages, pageSize, width) */
  readonly values: (rows: Float32Array) => Float32Array;
  readonly table: HostTensor & { readonly data: Uint32Array };
  readonly pages: number;
}

/** Pages for sequences of `valid` tokens; entries of the table that no valid token needs name no page. */
export function pagesFor(random: Random, valid: readonly number[], capacity: number, pageSize: number): PagedRows {
  const each = capacity / pageSize;
  const spare = 3;
  const needed = valid.flatMap((count, b) =>
    Array.from({ length: Math.ceil(count / pageSize) }, (_, n) => b * each + n),
  );
  const pages = needed.length + spare;
  const places = Array.from({ length: pages }, (_, place) => ({ place, order: random.next() }))
    .toSorted((a, b) => a.order - b.order)
    .map(({ place }) => place);
  const data = new Uint32Array(valid.length * each).fill(NO_PAGE);
  for (const [n, entry] of needed.entries()) data[entry] = places[n] ?? NO_PAGE;
  const values = (rows: Float32Array): Float32Array => {
    const page = (pageSize * rows.length) / (valid.length * capacity);
    const out = new Float32Array(pages * page).fill(NaN);
    for (const entry of needed) out.set(rows.subarray(entry * page, (entry + 1) * page), (data[entry] ?? 0) * page);
    return out;
  };
  return { values, table: { data, shape: [valid.length, each], dtype: 'u32' }, pages };
}
