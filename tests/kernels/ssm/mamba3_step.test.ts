import type { Recording, TensorRef } from '@mambalab/kernels';
import { ArgumentError, columns, Executor, mamba3Step, reshape, run, ShapeError } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { openTestDevice, simdChoices } from '../../support/gpu.ts';
import type { Inputs, Refs, Result, Sizes, Values } from './mamba3_support.ts';
import { ALONG, draw, expectedOf, expectResult, pack, values } from './mamba3_support.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });

type StepRefs = Refs & Omit<Result<TensorRef>, 'y'>;

/** The step with its states among the results. */
const step = (recording: Recording, inputs: StepRefs): Result<TensorRef> => {
  const { angleState, state, kState, vState } = inputs;
  return { y: mamba3Step(recording, inputs), angleState, state, kState, vState };
};

/** Inputs of one token: (B, 1, ...) as (B, ...). */
function token(sizes: Omit<Sizes, 'length'>): Inputs<Values> {
  const entries = Object.entries(draw({ ...sizes, length: 1 }) as object as { [name: string]: Values });
  return Object.fromEntries(
    entries.map(([name, tensor]) => [
      name,
      ALONG.includes(name) ? values(tensor.data, sizes.batch, ...tensor.shape.slice(2)) : tensor,
    ]),
  ) as never;
}

async function expectStep(
  inputs: Inputs<Values>,
  sizes: Omit<Sizes, 'length'>,
  force: { [axis: string]: string } = {},
): Promise<void> {
  const result = await run(device, step, inputs as never, undefined, { force, executor });
  expectResult(result as unknown as Result<Values>, expectedOf(inputs, { ...sizes, length: 1 }));
}

const variants = simdChoices(device).flatMap((simd) => [
  { ...simd, load: 'vec4' },
  { ...simd, load: 'scalar' },
]);

describe.each(variants)('mamba3Step %o', (force) => {
  it.each([
    // batch, heads, sharedHeads, headDim, stateSize, rotary
    [2, 4, 2, 33, 16, 5],
    [1, 1, 1, 3, 256, 128],
    [3, 2, 2, 130, 6, 3],
    [1, 1, 1, 1, 2, 1],
  ])(
    '%i x %i heads, %i of q and k, of %i, state %i, %i angles',
    async (batch, heads, sharedHeads, headDim, stateSize, rotary) => {
      const sizes = { batch, heads, sharedHeads, headDim, stateSize, rotary };
      await expectStep(token(sizes), sizes, force);
    },
  );
});

describe('mamba3Step', () => {
  const sizes = { batch: 2, heads: 2, sharedHeads: 1, headDim: 5, stateSize: 8, rotary: 3 };

  it('does without skip and gate', async () => {
    const { D, z, ...inputs } = token(sizes);
    expect([D, z].every((tensor) => tensor !== undefined)).toBe(true);
    await expectStep(inputs, sizes);
  });

  it('takes views of three storages in one dispatch', async () => {
    const inputs = token(sizes);
    const { q, k, v, dt, adt, trap, angles, z = v, qBias, kBias, D = v, ...states } = inputs;
    let dispatches = 0;
    type Packed = { qk: TensorRef; row: TensorRef; weights: TensorRef } & Omit<Result<TensorRef>, 'y'>;
    const kernel = (recording: Recording, { qk, row, weights, ...others }: Packed): Result<TensorRef> => {
      const view = (tensor: TensorRef, start: number, end: number, ...shape: number[]): TensorRef =>
        reshape(columns(tensor, start, end), shape);
      const result = step(recording, {
        ...others,
        q: view(qk, 0, 8, 2, 1, 8),
        k: view(qk, 8, 16, 2, 1, 8),
        z: view(row, 0, 10, 2, 2, 5),
        v: view(row, 10, 20, 2, 2, 5),
        dt: view(row, 20, 22, 2, 2),
        adt: view(row, 22, 24, 2, 2),
        trap: view(row, 24, 26, 2, 2),
        angles: view(row, 26, 32, 2, 2, 3),
        qBias: view(weights, 0, 16, 2, 8),
        kBias: view(weights, 16, 32, 2, 8),
        D: view(weights, 32, 34, 2),
      });
      dispatches = recording.dispatches.length;
      return result;
    };
    const given = {
      ...states,
      qk: pack(2, [q, k]),
      row: pack(2, [z, v, dt, adt, trap, angles]),
      weights: pack(1, [qBias, kBias, D]),
    };
    const result = await run(device, kernel, given as never, undefined, { executor });
    expect(dispatches).toBe(1);
    expectResult(result as unknown as Result<Values>, expectedOf(inputs, { ...sizes, length: 1 }));
  });

  it('refuses wrong shapes and options', async () => {
    const inputs = token(sizes);
    const refused = (wrong: object): Promise<unknown> => run(device, step, { ...inputs, ...wrong } as never, undefined);
    const zeros = (...shape: number[]): Values =>
      values(new Float32Array(shape.reduce((product, size) => product * size, 1)), ...shape);
    await expect(refused({ q: zeros(2, 3, 8), k: zeros(2, 3, 8) })).rejects.toThrow(ArgumentError);
    await expect(refused({ angles: zeros(2, 2, 5), angleState: zeros(2, 2, 5) })).rejects.toThrow(ArgumentError);
    await expect(refused({ v: zeros(2, 1, 2, 5) })).rejects.toThrow(ShapeError);
    await expect(refused({ adt: zeros(2, 3) })).rejects.toThrow(ShapeError);
    await expect(refused({ state: zeros(2, 2, 5, 6) })).rejects.toThrow(ShapeError);
    await expect(refused({ angleState: zeros(2, 2, 2) })).rejects.toThrow(ShapeError);
  });
});
