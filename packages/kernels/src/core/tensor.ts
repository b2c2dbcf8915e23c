import type { Dtype } from './dtype.ts';
import { storageBytes } from './dtype.ts';

/** A tensor on the GPU: a buffer (or a part of one) with a shape. Whoever made it disposes of it. */
export interface Tensor {
  readonly label: string;
  readonly buffer: GPUBuffer;
  /** Where the tensor begins in the buffer, in bytes; a multiple of 256. */
  readonly byteOffset: number;
  readonly byteLength: number;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Distance between rows of the last dimension, in values. */
  readonly rowStride: number;
  dispose(): void;
  [Symbol.dispose](): void;
}

/** Values in host memory, as the GPU stores them: f16 and bf16 packed two in a u32. */
export interface HostTensor {
  readonly data: Float32Array | Uint32Array | Int32Array;
  readonly shape: readonly number[];
  readonly dtype: Dtype;
  /** Distance between rows of the last dimension, in values; the width when absent. */
  readonly rowStride?: number;
}

/** Number of rows of a shape: the product of all dimensions but the last. */
export function rowCount(shape: readonly number[]): number {
  return shape.slice(0, -1).reduce((product, size) => product * size, 1);
}

/** Bytes of a tensor, rounded up to 16 so that it can be read as an array of vec4. */
export function tensorBytes(dtype: Dtype, shape: readonly number[], rowStride: number): number {
  return Math.max(16, Math.ceil(storageBytes(dtype, rowCount(shape), rowStride) / 16) * 16);
}
