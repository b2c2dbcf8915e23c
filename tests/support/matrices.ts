import type { HostTensor } from '@mambalab/kernels';
import { packMatrix, unpackMatrix } from '@mambalab/kernels';
import type { Activation } from '@mambalab/kernels/reference';
import type { Random } from './numbers.ts';

export type WeightDtype = 'f32' | 'f16' | 'bf16';

export const WEIGHT_DTYPES: readonly WeightDtype[] = ['f32', 'f16', 'bf16'];

export type MatrixDtype = WeightDtype | 'q8' | 'q4';

/** With the block formats, for the kernels that read them. */
export const MATRIX_DTYPES: readonly MatrixDtype[] = [...WEIGHT_DTYPES, 'q8', 'q4'];

export const ACTIVATIONS: readonly Activation[] = ['none', 'silu', 'gelu', 'geluTanh', 'relu', 'relu2', 'sigmoid'];

/** A random weight matrix, as kernels store it and as the numbers that it stands for after rounding. */
export function weightMatrix(
  random: Random,
  shape: readonly [number, number],
  dtype: MatrixDtype,
): { readonly tensor: HostTensor; readonly values: Float32Array } {
  const tensor = packMatrix(random.normals(shape[0] * shape[1]), shape, dtype);
  return { tensor, values: unpackMatrix(tensor) };
}

/** Rows of `width` values in a wider tensor: what lies between them is NaN, so that reading it shows. */
export function spacedRows(values: Float32Array, width: number, rowStride: number): HostTensor {
  const rows = values.length / width;
  const data = new Float32Array(rows * rowStride).fill(NaN);
  for (let row = 0; row < rows; row++) data.set(values.subarray(row * width, (row + 1) * width), row * rowStride);
  return { data, shape: [rows, width], dtype: 'f32', rowStride };
}

/** The largest slope of an activation for sums up to `bound`: how much it magnifies the rounding of a sum. */
export function slope(activation: Activation, bound: number): number {
  return activation === 'relu2' ? Math.max(1, 2 * bound) : 1.2;
}

/**
 * Throws unless every value of a product (M, N) is within `relative` times its sum of |x| |weight| (and |bias|), the
 * scale on which f32 rounds, magnified by the activation's slope. NaN never passes.
 */
export function expectProduct(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  operands: { readonly x: ArrayLike<number>; readonly weight: ArrayLike<number>; readonly inner: number },
  activation: Activation = 'none',
  relative = 1e-5,
): void {
  const { x, weight, inner } = operands;
  const outputs = weight.length / inner;
  if (actual.length !== expected.length) throw new Error(`${actual.length} values; expected ${expected.length}`);
  for (let i = 0; i < expected.length; i++) {
    const row = Math.floor(i / outputs);
    const column = i % outputs;
    let magnitude = 1;
    for (let k = 0; k < inner; k++) {
      magnitude += Math.abs((x[row * inner + k] ?? NaN) * (weight[column * inner + k] ?? NaN));
    }
    const error = Math.abs((actual[i] ?? NaN) - (expected[i] ?? NaN));
    const allowed = relative * magnitude * slope(activation, magnitude);
    if (!(error <= allowed)) {
      throw new Error(`row ${row}, column ${column}: ${actual[i]}, expected ${expected[i]} within ${allowed}`);
    }
  }
}
