import type { ExpertInputs, HostTensor, Recording, TensorRef } from '@mambalab/kernels';
import { maximumSize, moeSort } from '@mambalab/kernels';
import { expertMatmul as reference } from '@mambalab/kernels/reference';
import { expect } from 'vitest';
import type { WeightDtype } from '../../support/matrices.ts';
import { slope, weightMatrix } from '../../support/matrices.ts';
import type { Random } from '../../support/numbers.ts';

/** Random matrices of all experts (E, N, K), as kernels store them and as the numbers that they stand for. */
export function expertWeights(
  random: Random,
  [experts, outputs, inner]: readonly [number, number, number],
  dtype: WeightDtype,
): { readonly tensor: HostTensor; readonly values: Float32Array } {
  const { tensor, values } = weightMatrix(random, [experts * outputs, inner], dtype);
  return { tensor: { ...tensor, shape: [experts, outputs, inner] }, values };
}

/** Experts of each token, all different, none of those in `idle`. */
export function drawExperts(
  random: Random,
  [rows, slots, experts]: readonly [number, number, number],
  idle: readonly number[] = [],
): HostTensor & { readonly data: Uint32Array } {
  const open = Array.from({ length: experts }, (_, e) => e).filter((e) => !idle.includes(e));
  const data: number[] = [];
  for (let row = 0; row < rows; row++) {
    const left = [...open];
    for (let slot = 0; slot < slots; slot++) data.push(...left.splice(random.integer(0, left.length - 1), 1));
  }
  return { data: Uint32Array.from(data), shape: [rows, slots], dtype: 'u32' };
}

/** A product with experts whose routing stands among the inputs, so that `run` can upload it. */
export const withRouting =
  <O>(kernel: (recording: Recording, inputs: ExpertInputs, options: O) => TensorRef, sorted: boolean) =>
  (
    recording: Recording,
    { x, weight, indices }: Readonly<Record<'x' | 'weight' | 'indices', TensorRef>>,
    options: O,
  ): TensorRef => {
    const [tokens = 1, slots = 1] = indices.shape;
    // Products do not look at the shares.
    const weights = recording.scratch('shares', 'f32', [tokens, slots]);
    const experts = maximumSize(weight.shape[0] ?? 0);
    const order = sorted ? moeSort(recording, { indices }, { experts }) : {};
    return kernel(recording, { x, weight, routing: { indices, weights, ...order } }, options);
  };

/**
 * Throws unless every value of a product with experts is within `relative` times its sum of |x| |weight|, the scale on
 * which f32 rounds, magnified by the activation's slope. NaN never passes.
 */
export function expectExpertProduct(
  actual: ArrayLike<number>,
  operands: { readonly x: Float32Array; readonly weight: Float32Array; readonly indices: Uint32Array },
  options: Parameters<typeof reference>[1],
  relative = 1e-5,
): void {
  const expected = reference(operands, options);
  const { x, weight, indices } = operands;
  const magnitudes = reference(
    { x: x.map(Math.abs), weight: weight.map(Math.abs), indices },
    { ...options, activation: 'none' },
  );
  expect(actual.length).toBe(expected.length);
  expected.forEach((value, i) => {
    const magnitude = 1 + (magnitudes[i] ?? NaN);
    const allowed = relative * magnitude * slope(options.activation ?? 'none', magnitude);
    const error = Math.abs((actual[i] ?? NaN) - value);
    if (!(error <= allowed)) throw new Error(`value ${i}: ${actual[i]}, expected ${value} within ${allowed}`);
  });
}
