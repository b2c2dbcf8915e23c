import type { HostTensor } from '@mambalab/kernels';
import type { WeightDtype } from '../../support/matrices.ts';
import { weightMatrix } from '../../support/matrices.ts';
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
