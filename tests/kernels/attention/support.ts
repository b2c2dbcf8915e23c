import type { HostTensor } from '@mambalab/kernels';
import { fromHalfBits, toHalfBits } from '@mambalab/kernels';

/** A tensor in the dtype of a cache, with the values that it then holds. */
export interface CacheTensor {
  readonly host: HostTensor;
  readonly values: Float32Array;
}

/** Values as a (..., P) tensor of f32 or packed f16; NaN stays NaN. */
export function cacheTensor(values: Float32Array, shape: readonly number[], dtype: 'f32' | 'f16'): CacheTensor {
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
