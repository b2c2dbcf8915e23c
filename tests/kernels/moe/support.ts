import type { ExpertInputs, HostTensor, MoeMlpOptions, Recording, TensorRef } from '@mambalab/kernels';
import { maximumSize, moeMlp, moeSort, packMatrix, unpackMatrix } from '@mambalab/kernels';
import { expertMatmul as reference } from '@mambalab/kernels/reference';
import { expect } from 'vitest';
import type { MatrixDtype } from '../../support/matrices.ts';
import { slope } from '../../support/matrices.ts';
import type { Random } from '../../support/numbers.ts';
import { normalTensor } from '../../support/numbers.ts';

/** Matrices of all experts (E, N, K), as kernels store them and as the numbers that they stand for. */
export interface ExpertWeights {
  readonly tensor: HostTensor;
  readonly values: Float32Array;
}

/** Random matrices of all experts. */
export function expertWeights(
  random: Random,
  shape: readonly [number, number, number],
  dtype: MatrixDtype,
): ExpertWeights {
  const tensor = packMatrix(random.normals(shape[0] * shape[1] * shape[2]), shape, dtype);
  return { tensor, values: unpackMatrix(tensor) };
}

/** The experts of tokens. */
export type HostIndices = HostTensor & { readonly data: Uint32Array };

/** Experts of each token, all different, none of those in `idle`. */
export function drawExperts(
  random: Random,
  [rows, slots, experts]: readonly [number, number, number],
  idle: readonly number[] = [],
): HostIndices {
  const open = Array.from({ length: experts }, (_, e) => e).filter((e) => !idle.includes(e));
  const data: number[] = [];
  for (let row = 0; row < rows; row++) {
    const left = [...open];
    for (let slot = 0; slot < slots; slot++) data.push(...left.splice(random.integer(0, left.length - 1), 1));
  }
  return { data: Uint32Array.from(data), shape: [rows, slots], dtype: 'u32' };
}

export interface LayerSizes {
  readonly rows: number;
  readonly slots: number;
  readonly experts: number;
  readonly width: number;
  readonly hidden: number;
}

/** Inputs of a whole layer; its products stay of order 1 where `shrink` is their scale. */
export interface LayerInputs {
  readonly x: HostTensor & { readonly data: Float32Array };
  readonly gate: ExpertWeights | undefined;
  readonly up: ExpertWeights;
  readonly down: ExpertWeights;
  readonly indices: HostIndices;
  readonly weights: HostTensor & { readonly data: Float32Array };
  readonly shrink: number;
}

/** Random inputs of a whole layer. */
export function drawLayer(
  random: Random,
  { rows, slots, experts, width, hidden }: LayerSizes,
  dtype: MatrixDtype,
  gated: boolean,
  downDtype: MatrixDtype = dtype,
): LayerInputs {
  const shrink = 1 / 2 ** Math.round(Math.log2(Math.sqrt(hidden)));
  return {
    x: normalTensor(random, [rows, width], 1 / Math.sqrt(width)),
    gate: gated ? expertWeights(random, [experts, hidden, width], dtype) : undefined,
    up: expertWeights(random, [experts, hidden, width], dtype),
    down: expertWeights(random, [experts, width, hidden], downDtype),
    indices: drawExperts(random, [rows, slots, experts]),
    weights: { ...normalTensor(random, [rows, slots]), data: random.uniforms(rows * slots) },
    shrink,
  };
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

/** Inputs of a whole layer in a recording. */
export type LayerRefs = Readonly<Record<'x' | 'indices' | 'weights' | 'down', TensorRef>> &
  Partial<Readonly<Record<'gate' | 'up' | 'gateUp' | 'residual' | 'normWeight', TensorRef>>>;

/** moeMlp with the routing among its inputs, sorted for many tokens. */
export function routedLayer(recording: Recording, inputs: LayerRefs, options: MoeMlpOptions): TensorRef {
  const { indices, weights, ...others } = inputs;
  const experts = Number(inputs.down.shape[0]);
  const order = Number(indices.shape[0]) > 8 ? moeSort(recording, { indices }, { experts }) : {};
  return moeMlp(recording, { ...others, routing: { indices, weights, ...order } }, options);
}

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
