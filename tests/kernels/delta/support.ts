import type { GatedDeltaRuleOptions as Options, HostTensor } from '@mambalab/kernels';
import type { GatedDeltaRuleOptions, GatedDeltaRuleResult } from '@mambalab/kernels/reference';
import { gatedDeltaRule as reference } from '@mambalab/kernels/reference';
import { Random } from '../../support/numbers.ts';

export interface Sizes {
  readonly batch: number;
  readonly length: number;
  readonly keyHeads: number;
  readonly valueHeads: number;
  readonly keyDim: number;
  readonly valueDim: number;
}

export type Values = HostTensor & { data: Float32Array };

export interface Inputs {
  readonly q: Values;
  readonly k: Values;
  readonly v: Values;
  readonly g: Values;
  readonly beta: Values;
  readonly A?: Values;
  readonly dtBias?: Values;
  readonly state?: Values;
}

export interface Drawn {
  readonly decays?: readonly [low: number, high: number];
  readonly betas?: readonly [low: number, high: number];
  /** A and dtBias too. */
  readonly raw?: boolean;
  readonly state?: boolean;
  /** Keys that resemble each other, as a common direction makes them: the triangular system is then far from I. */
  readonly alike?: number;
}

export const values = (data: Float32Array, ...shape: number[]): Values => ({ data, shape, dtype: 'f32' });

/** Keys about as long as normalised ones: without the norm, longer ones make the recurrence unstable. */
export function draw(sizes: Sizes, drawn: Drawn = {}): Inputs & { state: Values } {
  const { batch, length, keyHeads, valueHeads, keyDim, valueDim } = sizes;
  const { decays = [-1, 0], betas = [0, 1], raw = false, alike = 0 } = drawn;
  const random = new Random(length * 7919 + keyDim * 131 + valueDim * 17 + valueHeads * 3 + batch);
  const rows = batch * length;
  const common = random.normals(keyDim, alike);
  const keys = (): Values => {
    const data = random.normals(rows * keyHeads * keyDim).map((value, i) => value + (common[i % keyDim] ?? NaN));
    const scale = 1 / Math.sqrt(keyDim * (1 + alike ** 2));
    return values(
      data.map((value) => value * scale),
      batch,
      length,
      keyHeads,
      keyDim,
    );
  };
  return {
    q: keys(),
    k: keys(),
    v: values(random.normals(rows * valueHeads * valueDim), batch, length, valueHeads, valueDim),
    g: values(random.uniforms(rows * valueHeads, ...decays), batch, length, valueHeads),
    beta: values(random.uniforms(rows * valueHeads, ...betas), batch, length, valueHeads),
    ...(raw
      ? {
          A: values(random.uniforms(valueHeads, -16, -0.01), valueHeads),
          dtBias: values(random.normals(valueHeads), valueHeads),
        }
      : {}),
    state: values(random.normals(batch * valueHeads * keyDim * valueDim), batch, valueHeads, keyDim, valueDim),
  };
}

export const expectedOf = (inputs: Inputs, sizes: Sizes, options: Options = {}): GatedDeltaRuleResult =>
  reference(
    Object.fromEntries(
      Object.entries(inputs as object).map(([name, value]) => [name, (value as Values).data]),
    ) as never,
    { ...sizes, ...options } as GatedDeltaRuleOptions,
  );
