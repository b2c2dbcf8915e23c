import type { Recording, SelectiveScanStepOptions, TensorRef } from '@mambalab/kernels';
import { ArgumentError, columns, Executor, reshape, run, selectiveScanStep, ShapeError } from '@mambalab/kernels';
import { softplus } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { openTestDevice, simdChoices } from '../../support/gpu.ts';
import { expectClose } from '../../support/numbers.ts';
import type { Inputs, Refs, Sizes, Values } from './selective_support.ts';
import { draw, expectedOf, halfOf, stack, values } from './selective_support.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
// One product and a sum of at most 256 terms; selective_state_update's own tests allow 3e-4 and 1e-3 for f32.
const TOLERANCE = { rtol: 1e-5, atol: 2e-5 };

type Result = { readonly y: Values; readonly state: Values };

/** The step with its state among the results. */
const step = (
  recording: Recording,
  inputs: Refs,
  options: SelectiveScanStepOptions,
): { y: TensorRef; state: TensorRef } => {
  const state = inputs.state as TensorRef;
  return { y: selectiveScanStep(recording, { ...inputs, state }, options), state };
};

/** Inputs of one token: (B, 1, ...) as (B, ...). */
function token(sizes: Omit<Sizes, 'length'>): Inputs<Values> {
  const entries = Object.entries(draw({ ...sizes, length: 1 }) as object as { [name: string]: Values });
  return Object.fromEntries(
    entries.map(([name, tensor]) => {
      const { shape } = tensor;
      return [
        name,
        ['u', 'dt', 'B', 'C', 'z'].includes(name) ? { ...tensor, shape: [shape[0], ...shape.slice(2)] } : tensor,
      ];
    }),
  ) as never;
}

async function expectStep(
  inputs: Inputs<Values>,
  sizes: Omit<Sizes, 'length'>,
  options: SelectiveScanStepOptions = {},
  force: { [axis: string]: string } = {},
): Promise<void> {
  const result = (await run(device, step, inputs as never, options, { force, executor })) as unknown as Result;
  const expected = expectedOf(inputs, { ...sizes, length: 1 }, options);
  expectClose(result.y.data, expected.y, TOLERANCE);
  expectClose(result.state.data, expected.state, TOLERANCE);
}

const variants = simdChoices(device).flatMap((simd) => [
  { ...simd, load: 'vec4' },
  { ...simd, load: 'scalar' },
]);

describe.each(variants)('selectiveScanStep %o', (force) => {
  it.each([
    [2, 40, 2, 16],
    [1, 33, 3, 20],
    [1, 3, 1, 256],
    [3, 5, 1, 3],
    [1, 1, 1, 1],
  ])('%i sequences, %i channels, %i groups, state %i', async (batch, channels, groups, stateSize) => {
    const sizes = { batch, channels, groups, stateSize };
    await expectStep(token(sizes), sizes, {}, force);
  });
});

describe('selectiveScanStep', () => {
  const sizes = { batch: 2, channels: 5, groups: 1, stateSize: 16 };

  it('clamps dt, takes it as it is, and does without optional inputs', async () => {
    const { dtBias, D, z, ...inputs } = token(sizes);
    expect([dtBias, D, z].every((tensor) => tensor !== undefined)).toBe(true);
    await expectStep(inputs, sizes, { dtLimits: [0.05, 0.2] });
    await expectStep({ ...inputs, dt: values(inputs.dt.data.map(Math.abs), 2, 5) }, sizes, { dtSoftplus: false });
    await expectStep({ ...inputs, D: D as Values }, sizes);
  });

  // With a zero state and B = C = (1, 0, ...), y is dt u.
  it('computes dt to a relative 1e-6 from -20 to 30', async () => {
    const channels = 501;
    const raw = Float32Array.from({ length: channels }, (_, i) => -20 + i / 10);
    const inputs = {
      u: values(new Float32Array(channels).fill(1), 1, channels),
      dt: values(raw, 1, channels),
      A: values(new Float32Array(channels * 4).fill(-1), channels, 4),
      B: values(Float32Array.of(1, 0, 0, 0), 1, 1, 4),
      C: values(Float32Array.of(1, 0, 0, 0), 1, 1, 4),
      state: values(new Float32Array(channels * 4), 1, channels, 4),
    };
    const result = (await run(device, step, inputs as never, {}, { executor })) as unknown as Result;
    expectClose(result.y.data, [...raw].map(softplus), { rtol: 1e-6, atol: 0 });
  });

  it('reads B and C of one row, dtBias and D of one storage, in one dispatch', async () => {
    const { B, C, dtBias, D, ...rest } = token(sizes);
    const rows = [0, 1].flatMap((row) => [B, C].flatMap(({ data }) => [...data.subarray(row * 16, row * 16 + 16)]));
    const vectors = values(Float32Array.from([...(dtBias?.data ?? []), ...(D?.data ?? [])]), 1, 10);
    let dispatches = 0;
    const kernel = (
      recording: Recording,
      { BC, bd, ...others }: Omit<Refs, 'B' | 'C'> & { BC: TensorRef; bd: TensorRef },
    ): { y: TensorRef; state: TensorRef } => {
      const result = step(
        recording,
        {
          ...others,
          B: reshape(columns(BC, 0, 16), [2, 1, 16]),
          C: reshape(columns(BC, 16, 32), [2, 1, 16]),
          dtBias: reshape(columns(bd, 0, 5), [5]),
          D: reshape(columns(bd, 5, 10), [5]),
        },
        {},
      );
      dispatches = recording.dispatches.length;
      return result;
    };
    const packed = { ...rest, BC: values(Float32Array.from(rows), 2, 32), bd: vectors };
    const result = (await run(device, kernel, packed as never, undefined, { executor })) as unknown as Result;
    expect(dispatches).toBe(1);
    const expected = expectedOf(token(sizes), { ...sizes, length: 1 });
    expectClose(result.y.data, expected.y, TOLERANCE);
    expectClose(result.state.data, expected.state, TOLERANCE);
  });

  it('reads dtBias and D as rows of one tensor without a copy', async () => {
    const { B, C, dtBias, D, ...rest } = token(sizes);
    const shaders: string[] = [];
    const kernel = (
      recording: Recording,
      { BC, bd, ...others }: Omit<Refs, 'B' | 'C'> & { BC: TensorRef; bd: TensorRef },
    ): { y: TensorRef; state: TensorRef } => {
      const vectors = { dtBias: halfOf(bd, 0, 5), D: halfOf(bd, 1, 5) };
      const result = step(
        recording,
        { ...others, ...vectors, B: halfOf(BC, 0, 2, 1, 16), C: halfOf(BC, 1, 2, 1, 16) },
        {},
      );
      shaders.push(...recording.dispatches.map(({ shader }) => shader.name));
      return result;
    };
    const packed = { ...rest, BC: stack(B, C, 16), bd: stack(dtBias, D, 5) };
    const result = (await run(device, kernel, packed as never, undefined, { executor })) as unknown as Result;
    expect(shaders).toEqual(['ssm/selective_scan_step']);
    const expected = expectedOf(token(sizes), { ...sizes, length: 1 });
    expectClose(result.y.data, expected.y, TOLERANCE);
    expectClose(result.state.data, expected.state, TOLERANCE);
  });

  it('forgets everything under an extreme decay', async () => {
    const A = Float32Array.from({ length: 80 }, (_, i) => [-1e-4, -16, -2000, -1e5][i % 4] ?? 0);
    const dt = Float32Array.from({ length: 10 }, (_, i) => 10 * i - 20);
    await expectStep({ ...token(sizes), A: values(A, 5, 16), dt: values(dt, 2, 5) }, sizes);
  });

  it('refuses wrong shapes and options', async () => {
    const inputs = token(sizes);
    const refused = (wrong: object, options: SelectiveScanStepOptions = {}): Promise<unknown> =>
      run(device, step, { ...inputs, ...wrong } as never, options);
    const zeros = (...shape: number[]): Values =>
      values(new Float32Array(shape.reduce((product, size) => product * size, 1)), ...shape);
    await expect(refused({}, { dtLimits: [1, 0] })).rejects.toThrow(ArgumentError);
    await expect(refused({ B: zeros(2, 2, 16), C: zeros(2, 2, 16) })).rejects.toThrow(ArgumentError);
    await expect(refused({ state: zeros(2, 5, 8) })).rejects.toThrow(ShapeError);
    await expect(refused({ dt: zeros(2, 6) })).rejects.toThrow(ShapeError);
    await expect(refused({ C: zeros(2, 2, 16) })).rejects.toThrow(ShapeError);
    await expect(refused({ u: zeros(2, 1, 5) })).rejects.toThrow(ShapeError);
  });
});
