import type { Recording, SelectiveScanOptions, TensorRef } from '@mambalab/kernels';
import {
  ArgumentError,
  BASELINE_CAPABILITIES,
  columns,
  Executor,
  namedSize,
  packMatrix,
  Recording as Record,
  reshape,
  run,
  selectiveScan,
  selectiveScanStep,
  ShapeError,
} from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { asHardware, openTestDevice } from '../../support/gpu.ts';
import { expectClose, Random } from '../../support/numbers.ts';
import type { Inputs, Refs, Sizes, Values } from './selective_support.ts';
import { draw, expectedOf, halfOf, stack, tokens, values } from './selective_support.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
// test_selective_scan.py allows 6e-4 and 2e-3 for f32.
const TOLERANCE = { rtol: 1e-4, atol: 1e-4 };

type Result = { readonly y: Values; readonly state: Values };

const scan = async (inputs: Inputs<Values>, options: SelectiveScanOptions): Promise<Result> =>
  (await run(device, selectiveScan, inputs as never, options, { executor })) as unknown as Result;

async function expectScan(inputs: Inputs<Values>, sizes: Sizes, options: SelectiveScanOptions): Promise<void> {
  const { y, state } = await scan(inputs, options);
  const expected = expectedOf(inputs, sizes, options);
  expectClose(y.data, expected.y, TOLERANCE);
  expectClose(state.data, expected.state, TOLERANCE);
}

// A chunk that tiles of 16 tokens do not divide, and one that they do.
describe.each([20, 32])('selectiveScan in chunks of %i', (chunkLength) => {
  const lengths = [1, chunkLength - 1, chunkLength, chunkLength + 1, 3 * chunkLength + 5];
  it.each(lengths)('%i tokens', async (length) => {
    const sizes = { batch: 2, length, channels: 5, groups: 1, stateSize: 8 };
    await expectScan(draw(sizes), sizes, { chunkLength });
  });
});

describe('selectiveScan', () => {
  it.each([
    // channels, groups, stateSize, chunkLength
    [40, 2, 16, 8],
    [33, 1, 16, 32],
    [6, 6, 4, 32],
    [9, 3, 5, 32],
    [7, 1, 1, 32],
    [3, 1, 70, 8],
    [3, 1, 256, 32],
  ])('%i channels, %i groups, state %i, chunks of %i', async (channels, groups, stateSize, chunkLength) => {
    const sizes = { batch: 2, length: 21, channels, groups, stateSize };
    await expectScan(draw(sizes), sizes, { chunkLength });
  });

  // test_selective_scan.py: batch 2, 4 channels, state 8, one and two groups, everything optional on.
  it.each([
    [128, 1],
    [372, 2],
  ])('the published test of %i tokens, %i groups', async (length, groups) => {
    const sizes = { batch: 2, length, channels: 4, groups, stateSize: 8 };
    await expectScan(draw(sizes), sizes, { chunkLength: 64 });
  });

  it.each([[['D', 'z']], [['dtBias', 'state']]])('does without %o', async (absent) => {
    const sizes = { batch: 1, length: 11, channels: 5, groups: 1, stateSize: 8 };
    const kept = Object.entries(draw(sizes)).filter(([name]) => !absent.includes(name));
    expect(kept.length).toBe(7);
    await expectScan(Object.fromEntries(kept) as never, sizes, {});
  });

  it('is right with the workgroups of a GPU', async () => {
    const sizes = { batch: 1, length: 21, channels: 40, groups: 1, stateSize: 16 };
    const hardware = asHardware(device);
    expect(hardware.capabilities.software).toBe(false);
    const inputs = draw(sizes);
    const result = await run(hardware, selectiveScan, inputs as never, { chunkLength: 12 }, { poison: true });
    const { y, state } = result as unknown as Result;
    const expected = expectedOf(inputs, sizes);
    expectClose(y.data, expected.y, TOLERANCE);
    expectClose(state.data, expected.state, TOLERANCE);
  });

  it('clamps dt and takes it as it is', async () => {
    const sizes = { batch: 1, length: 19, channels: 5, groups: 1, stateSize: 8 };
    const inputs = draw(sizes);
    const raw = { ...draw(sizes, false), dt: values(inputs.dt.data.map(Math.exp), 1, 19, 5) };
    for (const chunkLength of [8, 32]) {
      await expectScan(inputs, sizes, { chunkLength, dtLimits: [0.05, 0.2] });
      await expectScan(raw, sizes, { chunkLength, dtSoftplus: false });
    }
  });

  it('stays finite and right under extreme decays', async () => {
    const sizes = { batch: 1, length: 40, channels: 4, groups: 1, stateSize: 8 };
    const inputs = draw(sizes);
    const A = Float32Array.from({ length: 32 }, (_, i) => [-1e-4, -16, -2000, -1e5][i % 4] ?? 0);
    const dt = new Random(5).normals(160, 6);
    await expectScan({ ...inputs, A: values(A, 4, 8), dt: values(dt, 1, 40, 4) }, sizes, { chunkLength: 16 });
  });

  it('carries the state from call to call and on to selectiveScanStep', async () => {
    const sizes = { batch: 2, length: 30, channels: 5, groups: 1, stateSize: 8 };
    const inputs = draw(sizes);
    const expected = expectedOf(inputs, sizes);
    const part = (start: number, end: number, state: Values): Inputs<Values> => {
      const { u, dt, B, C, z = u, ...rest } = inputs;
      const cut = (tensor: Values): Values => tokens(tensor, start, end);
      return { ...rest, u: cut(u), dt: cut(dt), B: cut(B), C: cut(C), z: cut(z), state };
    };
    const whole = values(Float32Array.from(expected.y), 2, 30, 5);
    let state = inputs.state as Values;
    for (const [start, end, chunkLength] of [
      [0, 11, 4],
      [11, 27, 32],
    ] as const) {
      const result = await scan(part(start, end, state), { chunkLength });
      expectClose(result.y.data, tokens(whole, start, end).data, TOLERANCE);
      state = result.state;
    }
    const step = (recording: Recording, { state: held, ...refs }: Refs): { y: TensorRef; state: TensorRef } => {
      const token = Object.fromEntries(
        Object.entries(refs as { [name: string]: TensorRef }).map(([name, ref]) => [
          name,
          ['u', 'dt', 'B', 'C', 'z'].includes(name) ? reshape(ref, [2, ...ref.shape.slice(2)]) : ref,
        ]),
      );
      const ref = held as TensorRef;
      return { y: selectiveScanStep(recording, { ...token, state: ref } as never), state: ref };
    };
    for (let l = 27; l < 30; l++) {
      const result = (await run(device, step, part(l, l + 1, state) as never, undefined, {
        executor,
      })) as unknown as Result;
      expectClose(result.y.data, tokens(whole, l, l + 1).data, TOLERANCE);
      state = result.state;
    }
    expectClose(state.data, expected.state, TOLERANCE);
  });

  it('runs any length of one recording', async () => {
    const length = namedSize('length', 45);
    const sizes = { batch: 1, channels: 5, groups: 1, stateSize: 8 };
    const recording = new Record(device.capabilities);
    const refs = {
      u: recording.external('u', 'f32', [1, length, 5]),
      dt: recording.external('dt', 'f32', [1, length, 5]),
      A: recording.external('A', 'f32', [5, 8]),
      B: recording.external('B', 'f32', [1, length, 1, 8]),
      C: recording.external('C', 'f32', [1, length, 1, 8]),
      dtBias: recording.external('dtBias', 'f32', [5]),
      D: recording.external('D', 'f32', [5]),
      z: recording.external('z', 'f32', [1, length, 5]),
      state: recording.external('state', 'f32', [1, 5, 8]),
    };
    recording.keep('y', selectiveScan(recording, refs, { chunkLength: 20 }).y);
    const plan = await executor.compile(recording);
    for (const now of [45, 1, 20, 21, 40]) {
      const inputs = draw({ ...sizes, length: now });
      const tensors = Object.fromEntries(
        Object.entries(inputs as object as { [name: string]: Values }).map(([name, tensor]) => {
          if (tensor.shape[1] !== now || name === 'A' || name === 'state') return [name, device.upload(name, tensor)];
          const width = tensor.data.length / now;
          const data = new Float32Array(45 * width).fill(NaN);
          data.set(tensor.data);
          return [name, device.upload(name, values(data, 1, 45, ...tensor.shape.slice(2)))];
        }),
      );
      plan.bind(tensors).submit({ length: now });
      const expected = expectedOf(inputs, { ...sizes, length: now });
      const y = await device.read(plan.output('y'));
      expectClose(y.data.subarray(0, now * 5), expected.y, TOLERANCE);
      const { state } = tensors;
      if (state === undefined) throw new Error('There is no state.');
      expectClose((await device.read(state)).data, expected.state, TOLERANCE);
      for (const tensor of Object.values(tensors)) tensor.dispose();
    }
    plan.dispose();
  });

  // x | z as in_proj writes them, and dt | B | C as one row of x_proj; dtBias and D of one storage.
  it.each([4, 32])('reads slices of projections without copies, in chunks of %i', async (chunkLength) => {
    const sizes = { batch: 2, length: 9, channels: 6, groups: 2, stateSize: 3 };
    const { u, dt, B, C, z, dtBias, D, ...rest } = draw(sizes);
    const pack = (parts: readonly (Values | undefined)[]): Values => {
      const all = parts.filter((part) => part !== undefined);
      const rows = 18;
      const width = all.reduce((sum, part) => sum + part.data.length / rows, 0);
      const data = Float32Array.from({ length: rows * width });
      let at = 0;
      for (const part of all) {
        const own = part.data.length / rows;
        for (let row = 0; row < rows; row++) data.set(part.data.subarray(row * own, (row + 1) * own), row * width + at);
        at += own;
      }
      return values(data, rows, width);
    };
    let dispatches = 0;
    type Packed = { xz: TensorRef; dbc: TensorRef; bd: TensorRef; A: TensorRef; state: TensorRef };
    const kernel = (recording: Recording, { xz, dbc, bd, A, state }: Packed): { y: TensorRef; state: TensorRef } => {
      const view = (tensor: TensorRef, start: number, end: number, ...shape: number[]): TensorRef =>
        reshape(columns(tensor, start, end), [2, 9, ...shape]);
      const result = selectiveScan(
        recording,
        {
          u: view(xz, 0, 6, 6),
          z: view(xz, 6, 12, 6),
          dt: view(dbc, 0, 6, 6),
          B: view(dbc, 6, 12, 2, 3),
          C: view(dbc, 12, 18, 2, 3),
          dtBias: reshape(columns(bd, 0, 6), [6]),
          D: reshape(columns(bd, 6, 12), [6]),
          A,
          state,
        },
        { chunkLength },
      );
      dispatches = recording.dispatches.length;
      return result;
    };
    const vectors = values(Float32Array.from([...(dtBias?.data ?? []), ...(D?.data ?? [])]), 1, 12);
    const packed = { ...rest, xz: pack([u, z]), dbc: pack([dt, B, C]), bd: vectors };
    const result = (await run(device, kernel, packed as never, undefined, { executor })) as unknown as Result;
    expect(dispatches).toBe(chunkLength === 4 ? 3 : 1);
    const expected = expectedOf(draw(sizes), sizes);
    expectClose(result.y.data, expected.y, TOLERANCE);
    expectClose(result.state.data, expected.state, TOLERANCE);
  });

  // A matrix as a loader uploads it: rows are padded to 8 values.
  it('reads dtBias and D as rows of one padded matrix without a copy', async () => {
    const sizes = { batch: 2, length: 5, channels: 5, groups: 1, stateSize: 4 };
    const { B, C, dtBias, D, ...rest } = draw(sizes);
    const bd = packMatrix(stack(dtBias, D, 5).data, [2, 5], 'f32');
    const shaders: string[] = [];
    const kernel = (
      recording: Recording,
      { BC, bd, ...others }: Omit<Refs, 'B' | 'C'> & { BC: TensorRef; bd: TensorRef },
    ): { y: TensorRef; state: TensorRef } => {
      expect(bd.rowStride).toBe(8);
      const [b, c] = [halfOf(BC, 0, 2, 5, 1, 4), halfOf(BC, 1, 2, 5, 1, 4)];
      const vectors = { dtBias: halfOf(bd, 0, 5), D: halfOf(bd, 1, 5) };
      const result = selectiveScan(recording, { ...others, ...vectors, B: b, C: c });
      shaders.push(...recording.dispatches.map(({ shader }) => shader.name));
      return result;
    };
    const packed = { ...rest, BC: stack(B, C, 4), bd };
    const result = (await run(device, kernel, packed as never, undefined, { executor })) as unknown as Result;
    expect(shaders).toEqual(['ssm/selective_scan']);
    const expected = expectedOf(draw(sizes), sizes);
    expectClose(result.y.data, expected.y, TOLERANCE);
    expectClose(result.state.data, expected.state, TOLERANCE);
  });

  it('takes one dispatch where sequences or few tokens suffice, and chunks elsewhere', () => {
    const passes = (batch: number, length: number, channels: number): number => {
      const recording = new Record(BASELINE_CAPABILITIES);
      const tensor = (name: string, ...shape: number[]): TensorRef => recording.external(name, 'f32', shape);
      const joined = tensor('BC', batch * length, 32);
      selectiveScan(recording, {
        u: tensor('u', batch, length, channels),
        dt: tensor('dt', batch, length, channels),
        A: tensor('A', channels, 16),
        B: reshape(columns(joined, 0, 16), [batch, length, 1, 16]),
        C: reshape(columns(joined, 16, 32), [batch, length, 1, 16]),
      });
      return recording.dispatches.length;
    };
    expect([passes(64, 2048, 5120), passes(1, 128, 1536)]).toEqual([1, 1]);
    expect([passes(1, 2048, 5120), passes(4, 2048, 1536), passes(1, 256, 64)]).toEqual([3, 3, 3]);
  });

  it('refuses wrong shapes and options', async () => {
    const sizes = { batch: 1, length: 3, channels: 4, groups: 1, stateSize: 4 };
    const inputs = draw(sizes);
    const refused = (wrong: object, options: SelectiveScanOptions = {}): Promise<unknown> =>
      run(device, selectiveScan, { ...inputs, ...wrong } as never, options);
    const zeros = (...shape: number[]): Values =>
      values(new Float32Array(shape.reduce((product, size) => product * size, 1)), ...shape);
    await expect(refused({}, { chunkLength: 0 })).rejects.toThrow(ArgumentError);
    await expect(refused({}, { chunkLength: 2.5 })).rejects.toThrow(ArgumentError);
    await expect(refused({}, { dtLimits: [1, 0] })).rejects.toThrow(ArgumentError);
    await expect(refused({ B: zeros(1, 3, 3, 4), C: zeros(1, 3, 3, 4) })).rejects.toThrow(ArgumentError);
    await expect(
      refused({ A: zeros(4, 260), B: zeros(1, 3, 1, 260), C: zeros(1, 3, 1, 260), state: zeros(1, 4, 260) }),
    ).rejects.toThrow(ArgumentError);
    for (const wrong of [
      { u: zeros(3, 4) },
      { u: { ...zeros(1, 3, 4), data: new Uint32Array(12), dtype: 'u32' } },
      { dt: zeros(1, 3, 5) },
      { A: zeros(4, 5) },
      { C: zeros(1, 3, 2, 4) },
      { z: zeros(1, 2, 4) },
      { D: zeros(5) },
      { dtBias: zeros(4, 1) },
      { state: zeros(2, 4, 4) },
    ]) {
      await expect(refused(wrong)).rejects.toThrow(ShapeError);
    }
  });
});
