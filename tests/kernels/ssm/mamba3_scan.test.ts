import type { Recording, TensorRef } from '@mambalab/kernels';
import {
  ArgumentError,
  columns,
  Executor,
  mamba3Scan,
  mamba3Step,
  namedSize,
  Recording as Record,
  reshape,
  run,
  ShapeError,
} from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { asHardware, openTestDevice, simdChoices } from '../../support/gpu.ts';
import { expectClose } from '../../support/numbers.ts';
import type { Inputs, Refs, Result, Sizes, Values } from './mamba3_support.ts';
import { ALONG, draw, expectedOf, expectResult, pack, STATES, TOLERANCE, tokens, values } from './mamba3_support.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
const small = { batch: 2, heads: 2, sharedHeads: 1, headDim: 5, stateSize: 8, rotary: 3 };

const kernel = (recording: Recording, inputs: Refs): Result<TensorRef> => mamba3Scan(recording, inputs);
const scan = async (inputs: Inputs<Values>, force: { [axis: string]: string } = {}): Promise<Result<Values>> =>
  (await run(device, kernel, inputs as never, undefined, { force, executor })) as unknown as Result<Values>;

async function expectScan(inputs: Inputs<Values>, sizes: Sizes, force: { [axis: string]: string } = {}): Promise<void> {
  expectResult(await scan(inputs, force), expectedOf(inputs, sizes));
}

describe('mamba3Scan', () => {
  // Angles are added in runs of 16 tokens, on a CPU two at a time; the state walks tiles of 4 to 16.
  it.each([1, 2, 15, 16, 17, 31, 32, 33, 64, 133])('%i tokens', async (length) => {
    const sizes = { ...small, length };
    await expectScan(draw(sizes), sizes);
  });

  it.each([
    // heads, sharedHeads, headDim, stateSize, rotary
    [3, 3, 1, 2, 1],
    [2, 2, 33, 20, 10],
    [4, 2, 9, 128, 40],
    [1, 1, 3, 256, 128],
  ])('%i heads, %i of q and k, of %i, state %i, %i angles', async (heads, sharedHeads, headDim, stateSize, rotary) => {
    const sizes = { batch: 1, length: 9, heads, sharedHeads, headDim, stateSize, rotary };
    await expectScan(draw(sizes), sizes);
  });

  it.each(simdChoices(device))('with %o', async (force) => {
    const sizes = { ...small, length: 5 };
    await expectScan(draw(sizes), sizes, force);
  });

  it('is right with the workgroups of a GPU', async () => {
    const sizes = { batch: 1, length: 131, heads: 2, sharedHeads: 1, headDim: 9, stateSize: 128, rotary: 33 };
    const inputs = draw(sizes);
    const result = await run(asHardware(device), kernel, inputs as never, undefined, { poison: true });
    expectResult(result as unknown as Result<Values>, expectedOf(inputs, sizes));
  });

  it('does without skip, gate and states', async () => {
    const sizes = { ...small, length: 20 };
    const { D, z, angleState, state, kState, vState, ...inputs } = draw(sizes);
    expect([D, z, angleState, state, kState, vState].every((tensor) => tensor !== undefined)).toBe(true);
    await expectScan(inputs, sizes);
  });

  it('is right for extreme decays, steps, gates and angles', async () => {
    const sizes = { ...small, length: 20 };
    const inputs = draw(sizes);
    const every = (tensor: Values, ...of: number[]): Values => ({
      ...tensor,
      data: tensor.data.map((_, i) => of[i % of.length] ?? 0),
    });
    await expectScan(
      {
        ...inputs,
        adt: every(inputs.adt, -1e-6, -90, -1e30, -5),
        trap: every(inputs.trap, 60, -60, 0, 1e4, -1e4),
        dt: every(inputs.dt, 3, 0, 1e-7, 0.1, 1),
        angles: every(inputs.angles, 40, -40, 1e5, 1e-6, 0.5),
      },
      sizes,
    );
  });

  it('carries the states from call to call and on to mamba3Step', async () => {
    const sizes = { ...small, length: 24 };
    const inputs = draw(sizes);
    const expected = expectedOf(inputs, sizes);
    const whole = values(Float32Array.from(expected.y), 2, 24, 2, 5);
    const part = (start: number, end: number): Float32Array => tokens({ v: whole } as never, start, end).v.data;
    let states = Object.fromEntries(STATES.map((name) => [name, inputs[name] as Values]));
    let result: Result<Values> | undefined;
    for (const [start, end] of [
      [0, 1],
      [1, 22],
    ] as const) {
      result = await scan({ ...tokens(inputs, start, end), ...states });
      expectClose(result.y.data, part(start, end), TOLERANCE);
      const { y, ...next } = result;
      expect(y.shape).toEqual([2, end - start, 2, 5]);
      states = next;
    }
    const step = (recording: Recording, refs: Refs): Result<TensorRef> => {
      const token = Object.fromEntries(
        Object.entries(refs as object as { [name: string]: TensorRef }).map(([name, ref]) => [
          name,
          ALONG.includes(name) ? reshape(ref, [2, ...ref.shape.slice(2)]) : ref,
        ]),
      ) as unknown as Refs & Omit<Result<TensorRef>, 'y'>;
      const { angleState, state, kState, vState } = token;
      return { y: mamba3Step(recording, token), angleState, state, kState, vState };
    };
    for (const l of [22, 23]) {
      const given = { ...tokens(inputs, l, l + 1), ...states };
      result = (await run(device, step, given as never, undefined, { executor })) as unknown as Result<Values>;
      expectClose(result.y.data, part(l, l + 1), TOLERANCE);
      const { y, ...next } = result;
      expect(y.shape).toEqual([2, 2, 5]);
      states = next;
    }
    expectResult({ ...(states as Omit<Result<Values>, 'y'>), y: whole }, expected);
  });

  it('runs any length of one recording', async () => {
    const length = namedSize('length', 70);
    const sizes = { ...small, batch: 1 };
    const recording = new Record(device.capabilities);
    const refs = Object.fromEntries(
      Object.entries(draw({ ...sizes, length: 2 }) as object as { [name: string]: Values }).map(([name, { shape }]) => [
        name,
        recording.external(name, 'f32', ALONG.includes(name) ? [1, length, ...shape.slice(2)] : shape),
      ]),
    ) as unknown as Refs;
    recording.keep('y', mamba3Scan(recording, refs).y);
    expect(recording.dispatches.length).toBe(3);
    const plan = await executor.compile(recording);
    for (const now of [70, 1, 16, 33]) {
      const inputs = draw({ ...sizes, length: now });
      const tensors = Object.fromEntries(
        Object.entries(inputs as object as { [name: string]: Values }).map(([name, tensor]) => {
          if (!ALONG.includes(name)) return [name, device.upload(name, tensor)];
          const data = new Float32Array((tensor.data.length / now) * 70).fill(NaN);
          data.set(tensor.data);
          return [name, device.upload(name, values(data, 1, 70, ...tensor.shape.slice(2)))];
        }),
      );
      plan.bind(tensors).submit({ length: now });
      const expected = expectedOf(inputs, { ...sizes, length: now });
      const y = await device.read(plan.output('y'));
      expectClose(y.data.subarray(0, now * 10), expected.y, TOLERANCE);
      for (const name of ['state', 'kState', 'vState'] as const) {
        const held = tensors[name];
        if (held === undefined) throw new Error(`There is no ${name}.`);
        expectClose((await device.read(held)).data.subarray(0, expected[name].length), expected[name], TOLERANCE);
      }
      for (const tensor of Object.values(tensors)) tensor.dispose();
    }
    plan.dispose();
  });

  // z | v | dt | adt | trap | angles of one projection; q and k come out of norms of their own.
  it('reads slices of a projection', async () => {
    const sizes = { ...small, length: 7 };
    const inputs = draw(sizes);
    const { v, dt, adt, trap, angles, z = v, ...rest } = inputs;
    const slices = (recording: Recording, { row, ...others }: Refs & { row: TensorRef }): Result<TensorRef> => {
      const view = (start: number, end: number, ...shape: number[]): TensorRef =>
        reshape(columns(row, start, end), [2, 7, ...shape]);
      return mamba3Scan(recording, {
        ...others,
        z: view(0, 10, 2, 5),
        v: view(10, 20, 2, 5),
        dt: view(20, 22, 2),
        adt: view(22, 24, 2),
        trap: view(24, 26, 2),
        angles: view(26, 32, 2, 3),
      });
    };
    const given = { ...rest, row: pack(14, [z, v, dt, adt, trap, angles]) };
    const result = await run(device, slices, given as never, undefined, { executor });
    expectResult(result as unknown as Result<Values>, expectedOf(inputs, sizes));
  });

  it('refuses wrong shapes and options', async () => {
    const sizes = { ...small, length: 3 };
    const inputs = draw(sizes);
    const refused = (wrong: object): Promise<unknown> =>
      run(device, kernel, { ...inputs, ...wrong } as never, undefined);
    const zeros = (...shape: number[]): Values =>
      values(new Float32Array(shape.reduce((product, size) => product * size, 1)), ...shape);
    for (const wrong of [
      { angleState: undefined },
      { q: zeros(2, 3, 1, 7), k: zeros(2, 3, 1, 7), qBias: zeros(2, 7), kBias: zeros(2, 7), state: zeros(2, 2, 5, 7) },
      { q: zeros(2, 3, 3, 8), k: zeros(2, 3, 3, 8) },
      { angles: zeros(2, 3, 2, 5), angleState: zeros(2, 2, 5) },
      { v: zeros(2, 3, 2, 257), z: zeros(2, 3, 2, 257) },
    ]) {
      await expect(refused(wrong)).rejects.toThrow(ArgumentError);
    }
    for (const wrong of [
      { v: zeros(2, 3, 10) },
      { k: zeros(2, 3, 2, 8) },
      { dt: zeros(2, 3, 3) },
      { trap: { ...zeros(2, 3, 2), data: new Uint32Array(12), dtype: 'u32' } },
      { angles: zeros(2, 2, 2, 3) },
      { kBias: zeros(1, 8) },
      { D: zeros(3) },
      { kState: zeros(2, 2, 5) },
      { vState: zeros(2, 2, 8) },
    ]) {
      await expect(refused(wrong)).rejects.toThrow(ShapeError);
    }
  });
});
