import type { HostTensor, TensorRef } from '@mambalab/kernels';
import { reshape, rowsOf } from '@mambalab/kernels';
import { selectiveScan } from '@mambalab/kernels/reference';
import { Random } from '../../support/numbers.ts';

export type Values = HostTensor & { data: Float32Array };

export const values = (data: Float32Array, ...shape: number[]): Values => ({ data, shape, dtype: 'f32' });

export interface Sizes {
  readonly batch: number;
  readonly length: number;
  readonly channels: number;
  readonly groups: number;
  readonly stateSize: number;
}

/** The inputs of the scan and of its step; optional ones are left out by name. */
export interface Inputs<T> {
  readonly u: T;
  readonly dt: T;
  readonly A: T;
  readonly B: T;
  readonly C: T;
  readonly dtBias?: T;
  readonly D?: T;
  readonly z?: T;
  readonly state?: T;
}

export type Refs = Inputs<TensorRef>;

/** As the tests of mamba_ssm draw them: A in [-2, -1] and below, dt around exp(-4). */
export function draw(sizes: Sizes, optional = true): Inputs<Values> {
  const { batch, length, channels, groups, stateSize } = sizes;
  const random = new Random(length * 7919 + channels * 131 + stateSize * 17 + groups * 3 + batch);
  const rows = batch * length;
  return {
    u: values(random.normals(rows * channels), batch, length, channels),
    dt: values(random.normals(rows * channels, 1, -2), batch, length, channels),
    A: values(random.uniforms(channels * stateSize, -8, -0.1), channels, stateSize),
    B: values(random.normals(rows * groups * stateSize), batch, length, groups, stateSize),
    C: values(random.normals(rows * groups * stateSize), batch, length, groups, stateSize),
    ...(optional
      ? {
          dtBias: values(random.normals(channels, 0.5), channels),
          D: values(random.normals(channels), channels),
          z: values(random.normals(rows * channels), batch, length, channels),
          state: values(random.normals(batch * channels * stateSize), batch, channels, stateSize),
        }
      : {}),
  };
}

export const hostOf = (inputs: object): never =>
  Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, (value as Values).data])) as never;

export const expectedOf = (
  inputs: Inputs<Values>,
  sizes: Sizes,
  options: object = {},
): ReturnType<typeof selectiveScan> => selectiveScan(hostOf(inputs), { dtSoftplus: true, ...sizes, ...options });

/** Tokens `start` to `end` of a tensor (B, L, ...). */
export function tokens(tensor: Values, start: number, end: number): Values {
  const [batch = 1, length = 1, ...rest] = tensor.shape;
  const width = tensor.data.length / (batch * length);
  const data = new Float32Array(batch * (end - start) * width);
  for (let b = 0; b < batch; b++) {
    data.set(tensor.data.subarray((b * length + start) * width, (b * length + end) * width), b * (end - start) * width);
  }
  return values(data, batch, end - start, ...rest);
}

/** Two tensors of one shape as halves of one, in rows of `width` values. */
export function stack(first: Values | undefined, second: Values | undefined, width: number): Values {
  const data = Float32Array.from([...(first?.data ?? []), ...(second?.data ?? [])]);
  return values(data, data.length / width, width);
}

/** The first (0) or the second (1) half of the rows of such a tensor, under another shape. */
export function halfOf(tensor: TensorRef, which: 0 | 1, ...shape: number[]): TensorRef {
  const rows = Number(tensor.shape[0]) / 2;
  return reshape(rowsOf(tensor, which * rows, rows), shape);
}
