import type { HostTensor, Recording, TensorRef } from '@mambalab/kernels';
import {
  ArgumentError,
  columns,
  Executor,
  Recording as Recorder,
  reshape,
  run,
  ShapeError,
  ssdStep,
} from '@mambalab/kernels';
import { softplus, ssdStep as reference } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { openTestDevice, simdChoices } from '../../support/gpu.ts';
import { expectClose, expectSameBits, Random } from '../../support/numbers.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
// One product and a sum of at most 256 terms; selective_state_update's own tests allow 3e-4 and 1e-3 for f32.
const TOLERANCE = { rtol: 1e-5, atol: 2e-5 };

type Values = HostTensor & { data: Float32Array };

const values = (data: Float32Array, ...shape: number[]): Values => ({ data, shape, dtype: 'f32' });

interface StepInputs {
  readonly x: TensorRef;
  readonly dt: TensorRef;
  readonly A: TensorRef;
  readonly B: TensorRef;
  readonly C: TensorRef;
  readonly dtBias?: TensorRef;
  readonly D?: TensorRef;
  readonly z?: TensorRef;
  readonly state: TensorRef;
  readonly slots?: TensorRef;
}

interface StepOptions {
  readonly dtSoftplus?: boolean;
  readonly dtLimits?: readonly [number, number];
}

/** The step with its state among the results. */
const step = (recording: Recording, inputs: StepInputs, options: StepOptions): { y: TensorRef; state: TensorRef } => ({
  y: ssdStep(recording, inputs, options),
  state: inputs.state,
});

function draw(
  batch: number,
  heads: number,
  headDim: number,
  groups: number,
  stateSize: number,
): { [K in keyof Omit<StepInputs, 'z' | 'slots'>]-?: Values } {
  const random = new Random(batch * 7919 + heads * 131 + headDim * 17 + stateSize);
  return {
    x: values(random.normals(batch * heads * headDim), batch, heads, headDim),
    dt: values(random.normals(batch * heads, 1, -4), batch, heads),
    A: values(random.uniforms(heads, -16, -1), heads),
    B: values(random.normals(batch * groups * stateSize), batch, groups, stateSize),
    C: values(random.normals(batch * groups * stateSize), batch, groups, stateSize),
    dtBias: values(random.normals(heads, 0.5), heads),
    D: values(random.normals(heads), heads),
    state: values(random.normals(batch * heads * headDim * stateSize), batch, heads, headDim, stateSize),
  };
}

const hostOf = (inputs: object): never =>
  Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, (value as Values).data])) as never;

const variants = simdChoices(device).flatMap((simd) => [
  { ...simd, load: 'vec4' },
  { ...simd, load: 'scalar' },
]);

describe.each(variants)('ssdStep %o', (force) => {
  it.each([
    [2, 4, 16, 2, 16],
    [1, 2, 64, 1, 128],
    [1, 3, 5, 3, 32],
    [2, 2, 8, 1, 256],
    [1, 2, 3, 1, 24],
    [2, 1, 7, 1, 10],
    [1, 1, 1, 1, 1],
  ])('%i sequences, %i heads of %i, %i groups, state %i', async (batch, heads, headDim, groups, stateSize) => {
    const inputs = draw(batch, heads, headDim, groups, stateSize);
    const sizes = { batch, heads, headDim, groups, stateSize, dtSoftplus: true };
    const result = await run(device, step, inputs, {}, { force, executor });
    const expected = reference(hostOf(inputs), sizes);
    expectClose(result.y.data, expected.y, TOLERANCE);
    expectClose(result.state.data, expected.state, TOLERANCE);
  });
});

describe('ssdStep', () => {
  it('clamps dt, takes it as it is, and does without bias and skip', async () => {
    const { dtBias, D, ...inputs } = draw(2, 2, 8, 1, 16);
    expect([dtBias.data.length, D.data.length]).toEqual([2, 2]);
    const sizes = { batch: 2, heads: 2, headDim: 8, groups: 1, stateSize: 16 };
    const limited = { dtLimits: [0.01, 0.03] } as const;
    const a = await run(device, step, inputs, limited, { executor });
    expectClose(a.y.data, reference(hostOf(inputs), { ...sizes, ...limited, dtSoftplus: true }).y, TOLERANCE);
    const raw = { ...inputs, dt: values(inputs.dt.data.map(Math.abs), 2, 2) };
    const b = await run(device, step, raw, { dtSoftplus: false }, { executor });
    expectClose(b.state.data, reference(hostOf(raw), { ...sizes, dtSoftplus: false }).state, TOLERANCE);
  });

  // With a zero state and B = C = (1, 0, ...), y is dt x.
  it('computes dt to a relative 1e-6 from x = -20 to 30', async () => {
    const heads = 501;
    const raw = Float32Array.from({ length: heads }, (_, i) => -20 + i / 10);
    const inputs = {
      x: values(new Float32Array(heads).fill(1), 1, heads, 1),
      dt: values(raw, 1, heads),
      A: values(new Float32Array(heads).fill(-1), heads),
      B: values(Float32Array.of(1, 0, 0, 0), 1, 1, 4),
      C: values(Float32Array.of(1, 0, 0, 0), 1, 1, 4),
      state: values(new Float32Array(heads * 4), 1, heads, 1, 4),
    };
    const result = await run(device, step, inputs, {}, { executor });
    expectClose(result.y.data, [...raw].map(softplus), { rtol: 1e-6, atol: 0 });
  });

  it('forgets everything under an extreme decay', async () => {
    const inputs = {
      ...draw(1, 2, 4, 1, 8),
      A: values(Float32Array.of(-2000, -1e5), 2),
      dt: values(Float32Array.of(40, 3), 1, 2),
    };
    const result = await run(device, step, inputs, {}, { executor });
    const expected = reference(hostOf(inputs), {
      batch: 1,
      heads: 2,
      headDim: 4,
      groups: 1,
      stateSize: 8,
      dtSoftplus: true,
    });
    expectClose(result.y.data, expected.y, TOLERANCE);
    expectClose(result.state.data, expected.state, TOLERANCE);
  });

  it.each([
    ['odd', 3, 5, 2, 6],
    ['aligned', 4, 4, 2, 8],
  ])('reads slices of a projection of %s width', async (_, heads, headDim, groups, stateSize) => {
    const { x, dt, B, C, ...rest } = draw(2, heads, headDim, heads % 2 === 0 ? groups : 1, stateSize);
    const used = heads % 2 === 0 ? groups : 1;
    const inner = heads * headDim;
    const width = used * stateSize;
    const wide = 2 * inner + 2 * width + heads;
    const z = values(new Random(5).normals(2 * inner), 2, heads, headDim);
    const projection = new Float32Array(2 * wide);
    for (const row of [0, 1]) {
      const parts = [x, B, C, dt, z].flatMap(({ data }) => [
        ...data.subarray((row * data.length) / 2, ((row + 1) * data.length) / 2),
      ]);
      projection.set(parts, row * wide);
    }
    const kernel = (
      recording: Recording,
      tensors: Omit<StepInputs, 'x' | 'dt' | 'B' | 'C'> & { projection: TensorRef },
    ): { y: TensorRef; state: TensorRef } => {
      const view = (from: number, to: number, ...shape: number[]): TensorRef =>
        reshape(columns(tensors.projection, from, to), [2, ...shape]);
      const { projection: whole, ...others } = tensors;
      expect(whole.shape).toEqual([2, wide]);
      return step(
        recording,
        {
          ...others,
          x: view(0, inner, heads, headDim),
          B: view(inner, inner + width, used, stateSize),
          C: view(inner + width, inner + 2 * width, used, stateSize),
          dt: view(inner + 2 * width, wide - inner, heads),
          z: view(wide - inner, wide, heads, headDim),
        },
        {},
      );
    };
    const result = await run(device, kernel, { ...rest, projection: values(projection, 2, wide) }, undefined, {
      executor,
    });
    const sizes = { batch: 2, heads, headDim, groups: used, stateSize, dtSoftplus: true };
    const expected = reference(hostOf({ x, dt, B, C, z, ...rest }), sizes);
    expectClose(result.y.data, expected.y, TOLERANCE);
    expectClose(result.state.data, expected.state, TOLERANCE);
  });

  // As selective_state_update's test of batch indices: a tenth of the states in use, half of the sequences padding.
  it.each([
    ['vec4', 16],
    ['scalar', 6],
  ])('takes states from slots and leaves the others alone, %s', async (_, stateSize) => {
    const [batch, heads, headDim, states] = [6, 4, 3, 30];
    const inputs = draw(batch, heads, headDim, 2, stateSize);
    const random = new Random(12);
    const full = {
      ...inputs,
      D: values(random.normals(heads * headDim), heads, headDim),
      z: values(random.normals(batch * heads * headDim, 2), batch, heads, headDim),
      state: values(random.normals(states * heads * headDim * stateSize), states, heads, headDim, stateSize),
      slots: { data: Int32Array.of(7, -1, 0, 29, 30, -5), shape: [batch], dtype: 'i32' } as const,
    };
    const result = await run(device, step, full, {}, { executor });
    const expected = reference(hostOf(full), { batch, heads, headDim, groups: 2, stateSize, dtSoftplus: true });
    expectClose(result.y.data, expected.y, TOLERANCE);
    expectClose(result.state.data, expected.state, TOLERANCE);
    const used = new Set([0, 7, 29]);
    const size = heads * headDim * stateSize;
    for (let slot = 0; slot < states; slot++) {
      const part = (data: ArrayLike<number>): number[] => Array.from(data).slice(slot * size, (slot + 1) * size);
      if (!used.has(slot)) expectSameBits(part(result.state.data), part(full.state.data));
    }
  });

  it('serves 64 sequences in one dispatch', async () => {
    const inputs = draw(64, 1, 8, 1, 16);
    const result = await run(device, step, inputs, {}, { executor });
    const sizes = { batch: 64, heads: 1, headDim: 8, groups: 1, stateSize: 16, dtSoftplus: true };
    expectClose(result.y.data, reference(hostOf(inputs), sizes).y, TOLERANCE);
    const recording = new Recorder(device.capabilities);
    const xBC = recording.external('xBC', 'f32', [64, 40]);
    const zdt = recording.external('zdt', 'f32', [64, 9]);
    const vector = (name: string): TensorRef => recording.external(name, 'f32', [1]);
    ssdStep(recording, {
      x: reshape(columns(xBC, 0, 8), [64, 1, 8]),
      B: reshape(columns(xBC, 8, 24), [64, 1, 16]),
      C: reshape(columns(xBC, 24, 40), [64, 1, 16]),
      z: reshape(columns(zdt, 0, 8), [64, 1, 8]),
      dt: columns(zdt, 8, 9),
      A: vector('A'),
      D: recording.external('D', 'f32', [1, 8]),
      state: recording.external('state', 'f32', [80, 1, 8, 16]),
      slots: recording.external('slots', 'i32', [64]),
    });
    expect(recording.dispatches.length).toBe(1);
  });

  it('refuses wrong shapes and options', async () => {
    const inputs = draw(2, 2, 8, 1, 16);
    const refused = (wrong: object, options: StepOptions = {}): Promise<unknown> =>
      run(device, step, { ...inputs, ...wrong }, options);
    await expect(refused({}, { dtLimits: [1, 0] })).rejects.toThrow(ArgumentError);
    await expect(refused({ state: values(new Float32Array(2 * 2 * 8 * 8), 2, 2, 8, 8) })).rejects.toThrow(ShapeError);
    await expect(refused({ dt: values(new Float32Array(6), 2, 3) })).rejects.toThrow(ShapeError);
    await expect(refused({ C: values(new Float32Array(64), 2, 2, 16) })).rejects.toThrow(ShapeError);
    await expect(refused({ z: values(new Float32Array(16), 2, 8) })).rejects.toThrow(ShapeError);
    await expect(refused({ D: values(new Float32Array(16), 8, 2) })).rejects.toThrow(ShapeError);
    await expect(refused({ slots: values(new Float32Array(2), 2) })).rejects.toThrow(ShapeError);
    const three = { data: new Int32Array(3), shape: [3], dtype: 'i32' };
    await expect(refused({ slots: three })).rejects.toThrow(ShapeError);
    // More states than sequences make sense with slots alone.
    await expect(refused({ state: values(new Float32Array(3 * 256), 3, 2, 8, 16) })).rejects.toThrow(ShapeError);
  });
});
