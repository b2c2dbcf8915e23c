import type { Dtype } from './dtype.ts';
import { isQuantized, matrixRowStride, QUANT_BLOCK, storageBytes, storagePlanes } from './dtype.ts';
import { ShapeError } from './errors.ts';
import { fromBfloatBits, fromHalfBits, toBfloatBits, toHalfBits } from './host.ts';
import type { QuantizeOptions } from './quantize.ts';
import { dequantized, quantizeRows } from './quantize.ts';
import { formatShape } from './size.ts';
import type { HostTensor } from './tensor.ts';
import { rowCount } from './tensor.ts';

/**
 * A matrix (N, K), or those of all experts (E, N, K), as kernels read weights: rows padded with zeros to
 * {@link matrixRowStride}, in the dtype asked for.
 *
 * @param values row-major, as many as the shape has
 * @throws ShapeError if there are not as many, or the dtype is not f32, f16, bf16, q8 or q4; ArgumentError for what q8 and
 *   q4 cannot hold
 */
export function packMatrix(
  values: ArrayLike<number>,
  shape: readonly [number, number] | readonly [number, number, number],
  dtype: Dtype,
  options: QuantizeOptions = {},
): HostTensor {
  const rows = rowCount(shape);
  const width = shape[shape.length - 1] ?? 0;
  if (values.length !== rows * width) {
    throw new ShapeError(
      `A ${formatShape(shape)} matrix has ${rows * width} values; found ${values.length}.`,
      'Give them row by row.',
    );
  }
  const rowStride = matrixRowStride(dtype, width);
  if (dtype === 'f32') {
    const data = new Float32Array(rows * rowStride);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < width; column++)
        data[row * rowStride + column] = values[row * width + column] ?? NaN;
    }
    return { data, shape, dtype, rowStride };
  }
  if (isQuantized(dtype)) {
    const { quants, scales } = quantizeRows(values, width, dtype, options);
    const bytes = new Uint8Array(storageBytes(dtype, rows, rowStride));
    for (const { name, byteOffset } of storagePlanes(dtype, rows, rowStride)) {
      const plane = name === 'scales' ? scales : quants;
      bytes.set(new Uint8Array(plane.buffer), byteOffset);
    }
    return { data: new Uint32Array(bytes.buffer), shape, dtype, rowStride };
  }
  if (dtype !== 'f16' && dtype !== 'bf16') {
    throw new ShapeError(
      `Matrices are packed as f32, f16, bf16, q8 or q4; found ${dtype}.`,
      'Give integers as a tensor of their own.',
    );
  }
  const convert = dtype === 'f16' ? toHalfBits : toBfloatBits;
  const halves = new Uint16Array(rows * rowStride);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < width; column++) {
      halves[row * rowStride + column] = convert(values[row * width + column] ?? NaN);
    }
  }
  return { data: new Uint32Array(halves.buffer), shape, dtype, rowStride };
}

/**
 * The values (N, K) or (E, N, K) of packed matrices without their padding, each exactly the float32 that kernels read.
 *
 * @throws ShapeError if the tensor is no matrix of f32, f16, bf16, q8 or q4, nor such matrices
 */
export function unpackMatrix(tensor: HostTensor): Float32Array {
  const { data, dtype, shape } = tensor;
  const rows = rowCount(shape);
  const width = shape[shape.length - 1] ?? 0;
  const { rowStride = width } = tensor;
  if (shape.length < 2 || shape.length > 3 || dtype === 'u32' || dtype === 'i32') {
    throw new ShapeError(
      `A ${dtype} tensor of the shape ${formatShape(shape)} is no packed matrix.`,
      'Give what packMatrix made, or a tensor read back.',
    );
  }
  const values = new Float32Array(rows * width);
  const valueAt = reader(data, dtype, rows, rowStride);
  for (let i = 0; i < values.length; i++) {
    values[i] = valueAt(Math.floor(i / width) * rowStride + (i % width));
  }
  return values;
}

/** Reads the value at a place of the storage, counted in values. */
function reader(
  data: HostTensor['data'],
  dtype: Exclude<Dtype, 'u32' | 'i32'>,
  rows: number,
  rowStride: number,
): (at: number) => number {
  if (dtype === 'f32') return (at) => data[at] ?? NaN;
  const halvesFrom = (byteOffset: number): Uint16Array => new Uint16Array(data.buffer, data.byteOffset + byteOffset);
  if (dtype === 'f16' || dtype === 'bf16') {
    const halves = halvesFrom(0);
    const widen = dtype === 'f16' ? fromHalfBits : fromBfloatBits;
    return (at) => widen(halves[at] ?? NaN);
  }
  const scales = halvesFrom(storagePlanes(dtype, rows, rowStride)[1]?.byteOffset ?? 0);
  const quants = new Uint32Array(data.buffer, data.byteOffset, data.length);
  return (at) => {
    const block = Math.floor(at / QUANT_BLOCK);
    return dequantized(quants, scales[block] ?? NaN, block, at % QUANT_BLOCK, dtype);
  };
}
