import type { HostTensor, TensorRef } from '@mambalab/kernels';
import { mamba3Scan } from '@mambalab/kernels/reference';
import { expectClose, Random } from '../../support/numbers.ts';

export type Values = HostTensor & { data: Float32Array };

export const values = (data: Float32Array, ...shape: number[]): Values => ({ data, shape, dtype: 'f32' });

export interface Sizes {
  readonly batch: number;
  readonly length: number;
  readonly heads: number;
  readonly sharedHeads: number;
  readonly headDim: number;
  readonly stateSize: number;
  readonly rotary: number;
}

type Name = 'q' | 'k' | 'v' | 'dt' | 'adt' | 'trap' | 'angles' | 'qBias' | 'kBias';
type State = 'angleState' | 'state' | 'kState' | 'vState';
export type Inputs<T> = { readonly [K in Name]: T } & { readonly [K in State | 'D' | 'z']?: T };
export type Refs = Inputs<TensorRef>;
export type Result<T> = { readonly y: T } & { readonly [K in State]: T };

export const STATES: readonly State[] = ['angleState', 'state', 'kState', 'vState'];
/** Inputs along the sequence. */
export const ALONG: readonly string[] = ['q', 'k', 'v', 'dt', 'adt', 'trap', 'angles', 'z'];

// test_mamba3_siso.py allows 5e-2 in 95 of 100 values for bf16. Angles are f32: an error of 3e-7 of each query and key.
export const TOLERANCE = { rtol: 1e-4, atol: 1e-4 };

export function draw(sizes: Sizes): Inputs<Values> {
  const { batch, length, heads, sharedHeads, headDim, stateSize, rotary } = sizes;
  const random = new Random(length * 7919 + headDim * 131 + stateSize * 17 + heads * 3 + batch);
  const normal = (scale: number, ...shape: number[]): Values =>
    values(
      random.normals(
        shape.reduce((all, size) => all * size, 1),
        scale,
      ),
      ...shape,
    );
  const uniform = (low: number, high: number, ...shape: number[]): Values =>
    values(
      random.uniforms(
        shape.reduce((all, size) => all * size, 1),
        low,
        high,
      ),
      ...shape,
    );
  return {
    q: normal(1, batch, length, sharedHeads, stateSize),
    k: normal(1, batch, length, sharedHeads, stateSize),
    v: normal(1, batch, length, heads, headDim),
    dt: uniform(0.001, 0.5, batch, length, heads),
    adt: uniform(-1, -0.001, batch, length, heads),
    trap: normal(1, batch, length, heads),
    angles: normal(1, batch, length, heads, rotary),
    qBias: normal(0.5, heads, stateSize),
    kBias: normal(0.5, heads, stateSize),
    D: normal(1, heads),
    z: normal(1, batch, length, heads, headDim),
    angleState: uniform(0, 6.28, batch, heads, rotary),
    state: normal(1, batch, heads, headDim, stateSize),
    kState: normal(1, batch, heads, stateSize),
    vState: normal(1, batch, heads, headDim),
  };
}

export const hostOf = (inputs: object): never =>
  Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, (value as Values).data])) as never;

export const expectedOf = (inputs: Inputs<Values>, sizes: Sizes): ReturnType<typeof mamba3Scan> =>
  mamba3Scan(hostOf(inputs), sizes);

/** Compares outputs and states; angles modulo a turn, since 0 and 2 pi are one. */
export function expectResult(result: Result<Values>, expected: ReturnType<typeof mamba3Scan>): void {
  for (const name of ['y', 'state', 'kState', 'vState'] as const) {
    expectClose(result[name].data, expected[name], TOLERANCE);
  }
  const { data } = result.angleState;
  if (!data.every((angle) => angle >= 0 && angle <= 2 * Math.PI + 1e-6)) throw new Error('An angle is out of range.');
  const difference = Array.from(data, (angle, i) => Math.sin((angle - (expected.angleState[i] ?? NaN)) / 2));
  expectClose(
    difference,
    difference.map(() => 0),
    { rtol: 0, atol: 1e-5 },
  );
}

/** Tokens `start` to `end` of all inputs along the sequence. */
export function tokens(inputs: Inputs<Values>, start: number, end: number): Inputs<Values> {
  const cut = (tensor: Values): Values => {
    const [batch = 1, length = 1, ...rest] = tensor.shape;
    const width = tensor.data.length / (batch * length);
    const rows = Array.from({ length: batch }, (_, b) => [
      ...tensor.data.subarray((b * length + start) * width, (b * length + end) * width),
    ]);
    return values(Float32Array.from(rows.flat()), batch, end - start, ...rest);
  };
  return Object.fromEntries(
    Object.entries(inputs as object as { [name: string]: Values }).map(([name, tensor]) => [
      name,
      ALONG.includes(name) ? cut(tensor) : tensor,
    ]),
  ) as never;
}

/** Tensors of the same number of rows behind each other, as one projection has them. */
export function pack(rows: number, parts: readonly Values[]): Values {
  const width = parts.reduce((sum, part) => sum + part.data.length / rows, 0);
  const data = new Float32Array(rows * width);
  let at = 0;
  for (const part of parts) {
    const own = part.data.length / rows;
    for (let row = 0; row < rows; row++) data.set(part.data.subarray(row * own, (row + 1) * own), row * width + at);
    at += own;
  }
  return values(data, rows, width);
}
