import type { Dtype } from './dtype.ts';
import { matrixRowStride } from './dtype.ts';
import { ShapeError } from './errors.ts';
import type { HostTensor } from './tensor.ts';

const scratch = new DataView(new ArrayBuffer(4));

/** Nearest half-precision number, ties to even, as its 16 bits. Beyond 65504 it is infinite. */
export function toHalfBits(value: number): number {
  scratch.setFloat32(0, value);
  const bits = scratch.getUint32(0);
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x33000001) return sign;
  if (magnitude < 0x38800000) {
    // Subnormal: the mantissa with its hidden bit, shifted down to units of 2^-24.
    const shift = 126 - (magnitude >>> 23);
    const mantissa = (magnitude & 0x7fffff) | 0x800000;
    const half = mantissa >>> shift;
    const rest = mantissa & ((1 << shift) - 1);
    const middle = 1 << (shift - 1);
    return sign | (half + (rest > middle || (rest === middle && (half & 1) === 1) ? 1 : 0));
  }
  const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
  return sign | ((rounded - 0x38000000) >>> 13);
}

/** The value of 16 half-precision bits. */
export function fromHalfBits(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 0x1f;
  const mantissa = bits & 0x3ff;
  if (exponent === 31) return mantissa === 0 ? sign * Infinity : NaN;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  return sign * (1 + mantissa / 1024) * 2 ** (exponent - 15);
}

/** Nearest bfloat16 number, ties to even, as its 16 bits. */
export function toBfloatBits(value: number): number {
  scratch.setFloat32(0, value);
  const bits = scratch.getUint32(0);
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** The value of 16 bfloat16 bits. */
export function fromBfloatBits(bits: number): number {
  scratch.setUint32(0, (bits & 0xffff) << 16);
  return scratch.getFloat32(0);
}

/**
 * A matrix (N, K) as kernels read weights: rows padded with zeros to {@link matrixRowStride}, in the dtype asked for.
 *
 * @param values row-major, N * K values
 * @throws ShapeError if there are not N * K values, or the dtype is not f32, f16 or bf16
 */
export function packMatrix(values: ArrayLike<number>, shape: readonly [number, number], dtype: Dtype): HostTensor {
  const [rows, width] = shape;
  if (values.length !== rows * width) {
    throw new ShapeError(
      `A (${rows}, ${width}) matrix has ${rows * width} values; found ${values.length}.`,
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
  if (dtype !== 'f16' && dtype !== 'bf16') {
    throw new ShapeError(
      `Matrices are packed as f32, f16 or bf16; found ${dtype}.`,
      'Quantize with the tools of the weights.',
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
