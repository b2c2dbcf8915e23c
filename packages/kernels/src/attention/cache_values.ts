import { QUANT_BLOCK, storageBytes, storagePlanes } from '../core/dtype.ts';
import { ShapeError } from '../core/errors.ts';
import { fromHalfBits, toHalfBits } from '../core/host.ts';
import type { HostTensor } from '../core/tensor.ts';
import { rowCount } from '../core/tensor.ts';
import type { CacheDtype } from './cache.ts';

/** Values that a q8 scale of 65504 still reaches, and the largest f16. */
const LARGEST_HALF = 65504;

/**
 * Keys or values as a cache stores them, bit for bit what `ropeAppend` writes. In q8, 32 values share the scale
 * f16(largest / 127), and a value becomes the nearest multiple of it (of two as near, the larger one).
 *
 * @param values row-major values of `shape`, (..., P)
 * @throws ShapeError if there are not as many values as the shape says, or P is not a multiple of 32 with q8
 */
export function packCache(values: ArrayLike<number>, shape: readonly number[], dtype: CacheDtype): HostTensor {
  const width = shape[shape.length - 1] ?? 0;
  const count = rowCount(shape) * width;
  if (values.length !== count) {
    throw new ShapeError(
      `A cache of shape (${shape.join(', ')}) has ${count} values; found ${values.length}.`,
      'Give them row by row.',
    );
  }
  const exact = Float32Array.from(values);
  if (dtype === 'f32') return { data: exact, shape, dtype };
  if (dtype === 'f16') {
    const halves = new Uint16Array(Math.ceil(count / 2) * 2);
    for (const [i, value] of exact.entries()) halves[i] = toHalfBits(clamp(value, LARGEST_HALF));
    return { data: new Uint32Array(halves.buffer), shape, dtype };
  }
  const bytes = new Uint8Array(Math.ceil(storageBytes(dtype, rowCount(shape), width) / 16) * 16);
  const { quants, scales } = planesOf(bytes, shape);
  for (let block = 0; block < count / QUANT_BLOCK; block++) {
    const part = exact.subarray(block * QUANT_BLOCK, (block + 1) * QUANT_BLOCK);
    const largest = part.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    // Rounded as the shader rounds: to float32 after the product, then to f16.
    const bits = toHalfBits(Math.min(Math.fround(largest * Math.fround(1 / 127)), LARGEST_HALF));
    scales[block] = bits;
    const scale = fromHalfBits(bits);
    for (const [i, value] of part.entries()) {
      const nearest = scale === 0 ? 0 : Math.floor(Math.abs(value) / scale + 0.5);
      quants[block * QUANT_BLOCK + i] = Math.sign(value) * Math.min(nearest, 127);
    }
  }
  return { data: new Uint32Array(bytes.buffer), shape, dtype };
}

/** The values that a cache holds, from its stored form. */
export function unpackCache(host: HostTensor): Float32Array {
  const { data, shape, dtype } = host;
  const count = rowCount(shape) * (shape[shape.length - 1] ?? 0);
  if (dtype === 'f16') return Float32Array.from(new Uint16Array(data.buffer, data.byteOffset, count), fromHalfBits);
  if (dtype !== 'q8') return Float32Array.from(data.subarray(0, count));
  const { quants, scales } = planesOf(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), shape);
  return Float32Array.from(quants, (quant, i) => quant * fromHalfBits(scales[Math.floor(i / QUANT_BLOCK)] ?? NaN));
}

function clamp(value: number, most: number): number {
  return Math.min(Math.max(value, -most), most);
}

function planesOf(bytes: Uint8Array, shape: readonly number[]): { quants: Int8Array; scales: Uint16Array } {
  const width = shape[shape.length - 1] ?? 0;
  const start = bytes.byteOffset;
  const [quants, scales] = storagePlanes('q8', rowCount(shape), width);
  if (quants === undefined || scales === undefined) throw new ShapeError('q8 has two planes.', 'Report this.');
  return {
    quants: new Int8Array(bytes.buffer, start + quants.byteOffset, quants.byteLength),
    scales: new Uint16Array(bytes.buffer, start + scales.byteOffset, scales.byteLength / 2),
  };
}
