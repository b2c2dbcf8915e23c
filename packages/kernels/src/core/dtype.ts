import { ShapeError } from './errors.ts';

/**
 * Storage types of tensors.
 *
 * `f16` and `bf16` are stored packed, two values in each u32 (lower half first), so that no kernel needs
 * `shader-f16` to read them. `q8` and `q4` are block formats: 32 consecutive values of a row share one f16 scale.
 */
export type Dtype = 'f32' | 'f16' | 'bf16' | 'u32' | 'i32' | 'q8' | 'q4';

/** Values that share a scale in the block formats `q8` and `q4`. */
export const QUANT_BLOCK = 32;

/** Rows of packed and quantized matrices begin at multiples of this many values, so that 16-byte loads are aligned. */
export const ROW_ALIGNMENT = 8;

/** One contiguous part of a stored tensor. */
export interface Plane {
  readonly name: 'values' | 'quants' | 'scales';
  /** Offset from the start of the tensor, in bytes; a multiple of 256, so that it can be bound by itself. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

const VALUES_PER_WORD: Record<Dtype, number> = { f32: 1, u32: 1, i32: 1, f16: 2, bf16: 2, q8: 4, q4: 8 };

/** How many values of this dtype one 32-bit word holds (quants only, for the block formats). */
export function valuesPerWord(dtype: Dtype): number {
  return VALUES_PER_WORD[dtype];
}

/** Whether 32 values share a scale. */
export function isQuantized(dtype: Dtype): dtype is 'q8' | 'q4' {
  return dtype === 'q8' || dtype === 'q4';
}

const align = (value: number, to: number): number => Math.ceil(value / to) * to;

/** Row stride, in values, of a matrix with rows of `width` values: 16-byte aligned, whole blocks for `q8` and `q4`. */
export function matrixRowStride(dtype: Dtype, width: number): number {
  return align(width, isQuantized(dtype) ? QUANT_BLOCK : ROW_ALIGNMENT);
}

/**
 * The planes of a tensor of `rows` rows, each `rowStride` values apart.
 *
 * @throws ShapeError if a row of a packed dtype does not fill whole words or blocks.
 */
export function storagePlanes(dtype: Dtype, rows: number, rowStride: number): readonly Plane[] {
  const count = rows * rowStride;
  if (isQuantized(dtype)) {
    if (rowStride % QUANT_BLOCK !== 0) {
      throw new ShapeError(
        `A ${dtype} row stride must be a multiple of ${QUANT_BLOCK}; found ${rowStride}.`,
        'Pad the rows with matrixRowStride(dtype, width).',
      );
    }
    const quants = (count / VALUES_PER_WORD[dtype]) * 4;
    const scales = align((count / QUANT_BLOCK) * 2, 4);
    return [
      { name: 'quants', byteOffset: 0, byteLength: quants },
      { name: 'scales', byteOffset: align(quants, 256), byteLength: scales },
    ];
  }
  return [{ name: 'values', byteOffset: 0, byteLength: Math.ceil(count / VALUES_PER_WORD[dtype]) * 4 }];
}

/** Bytes that a tensor of `rows` rows takes, its planes and the padding between them included. */
export function storageBytes(dtype: Dtype, rows: number, rowStride: number): number {
  const planes = storagePlanes(dtype, rows, rowStride);
  const last = planes[planes.length - 1];
  return last === undefined ? 0 : last.byteOffset + last.byteLength;
}
