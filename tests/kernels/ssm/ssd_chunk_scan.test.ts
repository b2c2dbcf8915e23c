import type { HostTensor, Recording, TensorRef } from '@mambalab/kernels';
import {
  ArgumentError,
  columns,
  Executor,
  namedSize,
  Recording as Record,
  reshape,
  run,
  ShapeError,
  ssdChunkScan,
  ssdStep,
  stagesOf,
} from '@mambalab/kernels';
import { ssdScan } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { openTestDevice } from '../../support/gpu.ts';
import { expectClose, nmse, Random } from '../../support/numbers.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
// The Triton kernels' own tests allow rtol 1e-2 and atol 3e-3 (test_ssd.py); llama.cpp's SSM_SCAN an NMSE of 2e-7. Both
// hold for f32 products of at most 256 terms with room to spare.
const TOLERANCE = { rtol: 1e-4, atol: 1e-4 };
const NMSE = 2e-7;

interface Sizes {
  readonly batch: number;
  readonly length: number;
  readonly heads: number;
  readonly headDim: number;
  readonly groups: number;
  readonly stateSize: number;
}

type Design = 'chunks' | 'loop';
const DESIGNS: readonly Design[] = ['chunks', 'loop'];

type Values = HostTensor & { data: Float32Array };

interface Inputs {
  readonly x: Values;
  readonly dt: Values;
  readonly A: Values;
  readonly B: Values;
  readonly C: Values;
  readonly dtBias?: Values;
  readonly D?: Values;
  readonly z?: Values;
  readonly state?: Values;
  readonly sequenceIds?: HostTensor;
  readonly starts?: HostTensor;
}

const values = (data: Float32Array, ...shape: number[]): Values => ({ data, shape, dtype: 'f32' });

/** As the tests of mamba_ssm draw them: dt = randn - 4 before softplus; A from `decay`. */
function draw(sizes: Sizes, decay: readonly [number, number] = [-16, -1], optional = true): Inputs {
  const { batch, length, heads, headDim, groups, stateSize } = sizes;
  const random = new Random(length * 7919 + headDim * 131 + stateSize * 17 + heads * 3 + batch);
  const rows = batch * length;
  return {
    x: values(random.normals(rows * heads * headDim), batch, length, heads, headDim),
    dt: values(random.normals(rows * heads, 1, -4), batch, length, heads),
    A: values(random.uniforms(heads, ...decay), heads),
    B: values(random.normals(rows * groups * stateSize), batch, length, groups, stateSize),
    C: values(random.normals(rows * groups * stateSize), batch, length, groups, stateSize),
    ...(optional
      ? {
          dtBias: values(random.normals(heads, 0.5), heads),
          D: values(random.normals(heads), heads),
          state: values(random.normals(batch * heads * headDim * stateSize), batch, heads, headDim, stateSize),
        }
      : {}),
  };
}

const expectedOf = (inputs: Inputs, sizes: Sizes, options: object = {}): ReturnType<typeof ssdScan> =>
  ssdScan(
    Object.fromEntries(
      Object.entries(inputs as object).map(([name, value]) => [name, (value as Values).data]),
    ) as never,
    { dtSoftplus: true, ...sizes, ...options },
  );

async function expectScan(
  inputs: Inputs,
  sizes: Sizes,
  options: {
    chunkLength?: number;
    design?: Design;
    dtSoftplus?: boolean;
    dtLimits?: readonly [number, number];
  },
  force: { [axis: string]: string } = {},
): Promise<void> {
  const result = await run(device, ssdChunkScan, inputs as never, options, { force, executor });
  const { y, state } = result as { y: Values; state: Values };
  const expected = expectedOf(inputs, sizes, options);
  expectClose(y.data, expected.y, TOLERANCE);
  expectClose(state.data, expected.state, TOLERANCE);
  expect(nmse(y.data, expected.y)).toBeLessThan(NMSE);
  expect(nmse(state.data, expected.state)).toBeLessThan(NMSE);
}

const small = { batch: 1, heads: 2, headDim: 16, groups: 1, stateSize: 16 };

describe.each([
  ...[16, 32, 64, 128, 256].map((chunkLength) => ({ design: 'chunks' as const, chunkLength })),
  ...[16, 48, 64].map((chunkLength) => ({ design: 'loop' as const, chunkLength })),
])('ssdChunkScan %o', ({ design, chunkLength }) => {
  const lengths = new Set([1, chunkLength - 1, chunkLength, chunkLength + 1, 3 * chunkLength + 5]);
  it.each([...lengths])('%i tokens', async (length) => {
    const sizes = { ...small, batch: length < 100 ? 2 : 1, length };
    await expectScan(draw(sizes, [-16, -1], length % 2 === 1), sizes, { design, chunkLength });
  });
});

describe.each([{ load: 'vec4' }, { load: 'scalar' }])('ssdChunkScan %o', (force) => {
  it.each([
    // heads, headDim, groups, stateSize
    [2, 1, 1, 16],
    [3, 16, 3, 32],
    [4, 32, 2, 64],
    [2, 64, 1, 128],
    [2, 80, 1, 16],
    [1, 128, 1, 32],
    [1, 16, 1, 256],
    [2, 6, 2, 10],
    [1, 65, 1, 1],
  ])('%i heads of %i, %i groups, state %i', async (heads, headDim, groups, stateSize) => {
    const sizes = { batch: 2, length: 41, heads, headDim, groups, stateSize };
    for (const design of DESIGNS) {
      await expectScan(draw(sizes), sizes, { design, chunkLength: 32 }, force);
    }
    await expectScan(draw(sizes, [-0.1, 0]), sizes, { design: 'chunks', chunkLength: 64 }, force);
  });
});

describe.each(DESIGNS)('ssdChunkScan, %s', (design) => {
  // (d_state, head_dim, n_head, n_group, n_tok, n_seq) of llama.cpp's SSM_SCAN cases, with fewer heads and tokens.
  it.each([
    [16, 1, 64, 1, 32, 4],
    [128, 64, 4, 2, 32, 2],
    [256, 64, 2, 2, 32, 2],
    [128, 128, 4, 4, 16, 2],
    [128, 80, 2, 1, 150, 1],
  ])('the shape %i, %i, %i, %i, %i, %i of llama.cpp', async (stateSize, headDim, heads, groups, length, batch) => {
    const sizes = { batch, length, heads, headDim, groups, stateSize };
    await expectScan(draw(sizes), sizes, { design });
  });

  it('stays finite and right under extreme decays', async () => {
    const sizes = { ...small, heads: 4, length: 150 };
    const inputs = draw(sizes);
    const random = new Random(9);
    const strong = {
      ...inputs,
      A: values(Float32Array.of(-16, -300, -2000, -1e-4), 4),
      dt: values(random.normals(150 * 4, 6), 1, 150, 4),
    };
    await expectScan(strong, sizes, { design, chunkLength: 128 });
    await expectScan(strong, sizes, { design, chunkLength: 64, dtLimits: [0.001, 50] });
  });

  it('clamps dt and takes it as it is', async () => {
    const sizes = { ...small, length: 40 };
    const inputs = draw(sizes);
    await expectScan(inputs, sizes, { design, chunkLength: 32, dtLimits: [0.01, 0.03] });
    const dt = values(
      inputs.dt.data.map((raw) => Math.exp(raw)),
      1,
      40,
      2,
    );
    const { dtBias, ...rest } = inputs;
    expect(dtBias).toBeDefined();
    await expectScan({ ...rest, dt }, sizes, { design, chunkLength: 32, dtSoftplus: false });
  });

  it('carries the state from call to call and on to ssdStep', async () => {
    const sizes = { batch: 2, length: 50, heads: 2, headDim: 16, groups: 2, stateSize: 32 };
    const inputs = draw(sizes);
    const expected = expectedOf(inputs, sizes);
    const slice = (tensor: Values, start: number, end: number): Values => {
      const width = tensor.data.length / (2 * 50);
      const parts = [0, 1].map((b) => tensor.data.subarray((b * 50 + start) * width, (b * 50 + end) * width));
      const data = Float32Array.from(parts.flatMap((part) => [...part]));
      return values(data, 2, end - start, ...tensor.shape.slice(2));
    };
    const y = new Float64Array(expected.y.length);
    const keep = (start: number, end: number, part: Float32Array): void => {
      const width = 2 * 16;
      for (const b of [0, 1]) {
        const from = b * (end - start) * width;
        y.set(part.subarray(from, from + (end - start) * width), (b * 50 + start) * width);
      }
    };
    const part = (start: number, end: number): Inputs => ({
      ...inputs,
      x: slice(inputs.x, start, end),
      dt: slice(inputs.dt, start, end),
      B: slice(inputs.B, start, end),
      C: slice(inputs.C, start, end),
    });
    let state = inputs.state as Values;
    for (const [start, end] of [
      [0, 21],
      [21, 46],
    ] as const) {
      const given = { ...part(start, end), state };
      const result = (await run(device, ssdChunkScan, given as never, { design, chunkLength: 16 }, { executor })) as {
        y: Values;
        state: Values;
      };
      keep(start, end, result.y.data);
      state = result.state;
    }
    const step = (recording: Recording, tensors: { state: TensorRef }): { y: TensorRef; state: TensorRef } => ({
      y: ssdStep(recording, tensors as never),
      state: tensors.state,
    });
    for (let l = 46; l < 50; l++) {
      const token = Object.fromEntries(
        Object.entries({ ...part(l, l + 1), state } as { [name: string]: Values }).map(([name, value]) => {
          const sequence = ['x', 'dt', 'B', 'C'].includes(name);
          return [name, sequence ? { ...value, shape: [2, ...value.shape.slice(2)] } : value];
        }),
      );
      const result = (await run(device, step, token as never, undefined, { executor })) as { y: Values; state: Values };
      keep(l, l + 1, result.y.data);
      state = result.state;
    }
    expectClose(y, expected.y, TOLERANCE);
    expectClose(state.data, expected.state, TOLERANCE);
  });

  it('runs any length of one recording', async () => {
    const length = namedSize('length', 70);
    const sizes = { batch: 1, heads: 2, headDim: 16, groups: 1, stateSize: 16 };
    const recording = new Record(device.capabilities);
    const refs = {
      x: recording.external('x', 'f32', [1, length, 2, 16]),
      dt: recording.external('dt', 'f32', [1, length, 2]),
      A: recording.external('A', 'f32', [2]),
      B: recording.external('B', 'f32', [1, length, 1, 16]),
      C: recording.external('C', 'f32', [1, length, 1, 16]),
      dtBias: recording.external('dtBias', 'f32', [2]),
      D: recording.external('D', 'f32', [2]),
      state: recording.external('state', 'f32', [1, 2, 16, 16]),
    };
    recording.keep('y', ssdChunkScan(recording, refs, { design, chunkLength: 32 }).y);
    // Chunk states and scores side by side; in a loop cumulative sums and scores, and a copy of B and C before the last.
    expect(stagesOf(recording.dispatches)).toEqual(design === 'chunks' ? [0, 1, 1, 2, 3] : [0, 0, 0, 1]);
    const plan = await executor.compile(recording);
    for (const now of [70, 1, 31, 32, 33, 64]) {
      const inputs = draw({ ...sizes, length: now });
      const pad = (tensor: Values): Values => {
        const width = tensor.data.length / now;
        const data = new Float32Array(70 * width).fill(NaN);
        data.set(tensor.data);
        return values(data, 1, 70, ...tensor.shape.slice(2));
      };
      const { x, dt, B, C, ...rest } = inputs;
      const padded = { ...rest, x: pad(x), dt: pad(dt), B: pad(B), C: pad(C) };
      const tensors = Object.fromEntries(
        Object.entries(padded).map(([name, value]) => [name, device.upload(name, value)]),
      );
      plan.bind(tensors).submit({ length: now });
      const expected = expectedOf(inputs, { ...sizes, length: now });
      const y = await device.read(plan.output('y'));
      expectClose(y.data.subarray(0, now * 32), expected.y, TOLERANCE);
      const { state } = tensors;
      if (state !== undefined) expectClose((await device.read(state)).data, expected.state, TOLERANCE);
      for (const tensor of Object.values(tensors)) tensor.dispose();
    }
    plan.dispose();
  });

  // z | x | B | C | dt, as Mamba-2's in_proj writes them: 2 I + 2 G N + H columns.
  it.each([
    ['odd', 6, 64, 2, 3],
    ['aligned', 4, 16, 2, 4],
  ])('reads slices of a projection of %s width', async (_, heads, headDim, groups, stateSize) => {
    const sizes = { batch: 2, length: 19, heads, headDim, groups, stateSize };
    const { batch, length } = sizes;
    const inner = heads * headDim;
    const state = groups * stateSize;
    const wide = 2 * inner + 2 * state + heads;
    const given = draw(sizes);
    const projection = new Random(8).normals(batch * length * wide);
    const { x, dt, B, C, ...shared } = given;
    const rest = {
      ...shared,
      D: values(new Random(3).normals(inner), heads, headDim),
      // The first row is padded behind.
      sequenceIds: {
        data: Int32Array.from({ length: 38 }, (_, i) => (i > 16 && i < 19 ? -1 : 0)),
        shape: [2, 19],
        dtype: 'i32',
      },
    } as const;
    const z = values(new Random(4).normals(batch * length * inner), batch, length, heads, headDim);
    const put = (tensor: Values, at: number): void => {
      const width = tensor.data.length / (batch * length);
      for (let row = 0; row < batch * length; row++) {
        projection.set(tensor.data.subarray(row * width, (row + 1) * width), row * wide + at);
      }
    };
    put(z, 0);
    put(x, inner);
    put(B, 2 * inner);
    put(C, 2 * inner + state);
    put(dt, wide - heads);
    const kernel = (recording: Recording, tensors: { projection: TensorRef }): { y: TensorRef; state: TensorRef } => {
      const view = (from: number, to: number, ...shape: number[]): TensorRef =>
        reshape(columns(tensors.projection, from, to), [batch, length, ...shape]);
      return ssdChunkScan(
        recording,
        {
          ...tensors,
          z: view(0, inner, heads, headDim),
          x: view(inner, 2 * inner, heads, headDim),
          B: view(2 * inner, 2 * inner + state, groups, stateSize),
          C: view(2 * inner + state, 2 * inner + 2 * state, groups, stateSize),
          dt: view(wide - heads, wide, heads),
        } as never,
        { design, chunkLength: 16 },
      );
    };
    const result = (await run(
      device,
      kernel,
      { ...rest, projection: values(projection, batch * length, wide) } as never,
      undefined,
      {
        executor,
      },
    )) as unknown as { y: Values; state: Values };
    const expected = expectedOf({ ...given, ...rest, z }, sizes);
    expectClose(result.y.data, expected.y, TOLERANCE);
    expectClose(result.state.data, expected.state, TOLERANCE);
  });

  it('keeps sequences of a row apart by their ids, and padding out of them', async () => {
    const sizes = { ...small, batch: 2, length: 53 };
    // Changes inside a chunk of 16, at its ends and from token to token; padding before, between and behind.
    const rows = [
      [5, 11, 16, 17, 18, 40, 53],
      [3, 16, 32, 33, 44, 50, 53],
    ];
    const ids = rows.flatMap((ends, row) =>
      Array.from({ length: 53 }, (_, token) => {
        const run = ends.findIndex((end) => token < end);
        return (row === 0 ? [7, 8, 9, 3, 9, -1, 4] : [-1, 0, 1, -3, 1, 2, -1])[run] ?? 0;
      }),
    );
    const sequenceIds = { data: Int32Array.from(ids), shape: [2, 53], dtype: 'i32' } as const;
    const others = {
      z: values(new Random(6).normals(2 * 53 * 32), 2, 53, 2, 16),
      D: values(new Random(7).normals(32), 2, 16),
      sequenceIds,
    };
    await expectScan({ ...draw(sizes), ...others }, sizes, { design, chunkLength: 16 });
    await expectScan({ ...draw(sizes, [-0.1, 0]), ...others }, sizes, { design, chunkLength: 64 });
  });

  // As test_chunk_state_varlen of mamba_ssm: lengths of all kinds one after another, here also 0, and padding behind.
  it.each([
    ['few', [40, 0, 17, 16, 15, 1, 0], 4],
    ['one', [33], 0],
    ['many', Array.from({ length: 19 }, (_, i) => (i * 7) % 23), 21],
  ])('packs %s sequences with states of their own', async (_, lengths, behind) => {
    const starts = [0];
    for (const length of lengths) starts.push((starts.at(-1) ?? 0) + length);
    const length = (starts.at(-1) ?? 0) + behind;
    const sizes = { batch: 1, length, heads: 4, headDim: 16, groups: 2, stateSize: 16 };
    const { state, ...inputs } = draw(sizes);
    expect(state).toBeDefined();
    const packed = {
      ...inputs,
      starts: { data: Uint32Array.from(starts), shape: [starts.length], dtype: 'u32' },
    } as const;
    await expectScan(packed, sizes, { design, chunkLength: 16 });
    const states = values(new Random(5).normals(lengths.length * 4 * 256), lengths.length, 4, 16, 16);
    const ids = lengths.flatMap((count, s) => Array<number>(count).fill(s)).concat(Array<number>(behind).fill(-1));
    // A sequence may be two, and its first token padding: both by ids.
    ids[0] = -1;
    ids[20] = 99;
    const sequenceIds = { data: Int32Array.from(ids), shape: [1, length], dtype: 'i32' } as const;
    await expectScan({ ...packed, state: states, sequenceIds }, sizes, { design, chunkLength: 32 });
  });

  it('packs sequences in a row of any length', async () => {
    const length = namedSize('length', 60);
    const recording = new Record(device.capabilities);
    const refs = {
      x: recording.external('x', 'f32', [1, length, 2, 16]),
      dt: recording.external('dt', 'f32', [1, length, 2]),
      A: recording.external('A', 'f32', [2]),
      B: recording.external('B', 'f32', [1, length, 1, 16]),
      C: recording.external('C', 'f32', [1, length, 1, 16]),
      dtBias: recording.external('dtBias', 'f32', [2]),
      D: recording.external('D', 'f32', [2]),
      starts: recording.external('starts', 'u32', [3]),
    };
    const { y, state } = ssdChunkScan(recording, refs, { design, chunkLength: 16 });
    recording.keep('y', y);
    recording.keep('state', state);
    const plan = await executor.compile(recording);
    for (const [now, middle] of [
      [60, 31],
      [32, 16],
      [2, 1],
    ] as const) {
      const sizes = { ...small, length: now };
      const starts = { data: Uint32Array.of(0, middle, now), shape: [3], dtype: 'u32' } as const;
      const { state: none, ...drawn } = draw(sizes);
      expect(none).toBeDefined();
      const inputs = { ...drawn, starts };
      const tensors = Object.fromEntries(
        Object.entries(inputs as { [name: string]: HostTensor }).map(([name, value]) => {
          if (value.shape.length < 3) return [name, device.upload(name, value)];
          const data = new Float32Array((value.data.length / now) * 60).fill(NaN);
          data.set(value.data);
          return [name, device.upload(name, { data, shape: [1, 60, ...value.shape.slice(2)], dtype: 'f32' })];
        }),
      );
      plan.bind(tensors).submit({ length: now });
      const expected = expectedOf(inputs, sizes);
      expectClose((await device.read(plan.output('y'))).data.subarray(0, now * 32), expected.y, TOLERANCE);
      expectClose((await device.read(plan.output('state'))).data, expected.state, TOLERANCE);
      for (const tensor of Object.values(tensors)) tensor.dispose();
    }
    plan.dispose();
  });
});

// On a CPU another tile is chosen: these are what GPUs get, of all three forms.
describe.each([{ tile: 'large' }, { tile: 'small' }])('ssdChunkScan %o', (force) => {
  it.each([
    [150, 128, 2, 64, 128],
    [70, 64, 1, 16, 72],
  ])('%i tokens in chunks of %i, %i heads of %i, state %i', async (length, chunkLength, heads, headDim, stateSize) => {
    const sizes = { batch: 1, length, heads, headDim, groups: 1, stateSize };
    await expectScan(draw(sizes), sizes, { design: 'chunks', chunkLength }, force);
  });
});

describe('ssdChunkScan', () => {
  it('takes the design that is asked for before the one that is forced', () => {
    const passes = (given: object, force: { [axis: string]: string }, stateSize = 16): number => {
      const recording = new Record(device.capabilities, { force });
      const tensor = (name: string, ...shape: number[]): TensorRef => recording.external(name, 'f32', shape);
      const wide = recording.external('wide', 'f32', [4, 2 * stateSize]);
      const half = (from: number): TensorRef => reshape(columns(wide, from, from + stateSize), [1, 4, 1, stateSize]);
      const inputs = { x: tensor('x', 1, 4, 2, 16), dt: tensor('dt', 1, 4, 2), A: tensor('A', 2) };
      ssdChunkScan(recording, { ...inputs, B: half(0), C: half(stateSize) }, given);
      return recording.dispatches.length;
    };
    expect(passes({}, {})).toBe(5);
    expect(passes({}, { design: 'loop' })).toBe(3);
    expect(passes({ design: 'chunks' }, { design: 'loop' })).toBe(5);
    expect(passes({ design: 'loop' }, {}, 256)).toBe(3);
    // A state that does not fit registers.
    expect(passes({}, { design: 'loop' }, 260)).toBe(5);
    expect(() => passes({ design: 'loop' }, {}, 260)).toThrow(ArgumentError);
    expect(() => passes({ design: 'spiral' }, {})).toThrow(ArgumentError);
  });

  it('refuses wrong shapes and options', async () => {
    const sizes = { ...small, length: 8 };
    const inputs = draw(sizes);
    const refused = (wrong: object, options: object = {}): Promise<unknown> =>
      run(device, ssdChunkScan, { ...inputs, ...wrong } as never, options);
    await expect(refused({}, { chunkLength: 40 })).rejects.toThrow(ArgumentError);
    await expect(refused({}, { chunkLength: 512 })).rejects.toThrow(ArgumentError);
    await expect(refused({}, { dtLimits: [1, 0] })).rejects.toThrow(ArgumentError);
    await expect(refused({ A: values(new Float32Array(3), 3) })).rejects.toThrow(ShapeError);
    await expect(refused({ D: values(new Float32Array(32), 16, 2) })).rejects.toThrow(ShapeError);
    await expect(refused({ z: values(new Float32Array(128), 1, 8, 16) })).rejects.toThrow(ShapeError);
    const ids = (...shape: number[]): HostTensor => ({ data: new Int32Array(16), shape, dtype: 'i32' });
    await expect(refused({ sequenceIds: ids(2, 8) })).rejects.toThrow(ShapeError);
    await expect(refused({ sequenceIds: values(new Float32Array(8), 1, 8) })).rejects.toThrow(ShapeError);
    const starts = (...data: number[]): HostTensor => ({
      data: Uint32Array.from(data),
      shape: [data.length],
      dtype: 'u32',
    });
    await expect(refused({ starts: starts(0) })).rejects.toThrow(ArgumentError);
    await expect(refused({ starts: ids(16) })).rejects.toThrow(ShapeError);
    // One state of every sequence.
    await expect(refused({ starts: starts(0, 4, 8) })).rejects.toThrow(ShapeError);
    const two = draw({ ...sizes, batch: 2 });
    await expect(refused({ ...two, starts: starts(0, 4, 8) })).rejects.toThrow(ArgumentError);
    await expect(refused({ B: values(new Float32Array(8 * 32), 1, 8, 2, 16) })).rejects.toThrow(ShapeError);
    const three = values(new Float32Array(8 * 48), 1, 8, 3, 16);
    await expect(refused({ B: three, C: three })).rejects.toThrow(ArgumentError);
    await expect(refused({ state: values(new Float32Array(2 * 16 * 8), 1, 2, 16, 8) })).rejects.toThrow(ShapeError);
  });
});
