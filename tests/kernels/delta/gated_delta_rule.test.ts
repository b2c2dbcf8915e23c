import type { GatedDeltaRuleOptions, Recording, TensorRef } from '@mambalab/kernels';
import {
  ArgumentError,
  columns,
  Executor,
  gatedDeltaRule,
  gatedDeltaStep,
  namedSize,
  Recording as Record,
  reshape,
  run,
  ShapeError,
  stagesOf,
} from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { openTestDevice } from '../../support/gpu.ts';
import { expectClose, nmse } from '../../support/numbers.ts';
import type { Drawn, Inputs, Sizes, Values } from './support.ts';
import { draw, expectedOf, values } from './support.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
// Sums of at most 256 products of values near 1, each rounded to 2^-24, through a triangular system whose inverse has
// entries near 1, and through decays: errors of some 1e-6, which a state carries on. Wrong terms are of order 1.
const TOLERANCE = { rtol: 1e-4, atol: 1e-4 };
const NMSE = 1e-10;

const small: Sizes = { batch: 1, length: 70, keyHeads: 1, valueHeads: 2, keyDim: 16, valueDim: 8 };

async function expectRule(
  sizes: Sizes,
  drawn: Drawn = {},
  options: GatedDeltaRuleOptions = {},
  force: { [axis: string]: string } = {},
): Promise<void> {
  const { state: before, ...rest } = draw(sizes, drawn);
  const inputs: Inputs = drawn.state === false ? rest : { ...rest, state: before };
  const result = await run(device, gatedDeltaRule, inputs, options, { force, executor });
  const expected = expectedOf(inputs, sizes, options);
  for (const name of ['y', 'state'] as const) {
    expectClose(result[name].data, expected[name], TOLERANCE);
    expect(nmse(result[name].data, expected[name])).toBeLessThan(NMSE);
  }
}

describe('gatedDeltaRule', () => {
  it.each([1, 63, 64, 65, 197])('%i tokens', async (length) => {
    const sizes = { ...small, batch: length < 100 ? 2 : 1, length };
    await expectRule(sizes, { state: length % 2 === 0 });
    await expectRule(sizes, { decays: [-0.02, 0], state: length % 2 === 1 }, { l2Norm: true });
  });
});

// Both sides of the tiles: 16 values of K of a product, 64 columns of one, 16 or 32 columns and 128 rows of a state.
const large = device.capabilities.limits.maxComputeWorkgroupStorageSize >= 32_768 ? 'large' : 'baseline';
it.each([
  // load, memory, key heads, value heads, K, V, tokens
  ['vec4', 'baseline', 2, 4, 16, 68, 20],
  ['vec4', 'baseline', 1, 1, 132, 12, 66],
  ['scalar', large, 1, 2, 128, 36, 66],
  ['scalar', large, 1, 1, 256, 4, 20],
] as const)(
  'gatedDeltaRule %s, %s: %i key heads, %i value heads, K %i, V %i, %i tokens',
  async (load, memory, keyHeads, valueHeads, keyDim, valueDim, length) => {
    const sizes = { batch: keyDim < 20 ? 2 : 1, length, keyHeads, valueHeads, keyDim, valueDim };
    await expectRule(sizes, { decays: [-0.1, 0] }, {}, { load, memory });
  },
);

describe('gatedDeltaRule', () => {
  it.each([
    // Gates of which every one is an extreme, and mixtures that a wrong order of exponentials would not survive.
    ['no decay', [0, 0], [0, 1]],
    ['decay to nothing in a token', [-20, -20], [0, 1]],
    ['all decays from 0 to exp(-20)', [-20, 0], [0, 2]],
    ['nothing written', [-0.1, 0], [0, 0]],
    ['everything overwritten', [-0.01, 0], [1, 1]],
    ['every key mirrored', [-0.01, 0], [2, 2]],
  ] as const)('%s', async (_, decays, betas) => {
    await expectRule({ ...small, length: 131 }, { decays, betas }, { l2Norm: true });
  });

  it('solves for keys that are nearly the same', async () => {
    const sizes = { ...small, length: 131 };
    await expectRule(sizes, { decays: [-0.01, 0], betas: [0.5, 1], alike: 4 }, { l2Norm: true });
  });

  it('keeps a small decay right after a large one', async () => {
    // 60 tokens of exp(-100) and beyond: f32 has 2^-11 of their sum left for the decays between the last ones.
    const sizes = { ...small, length: 64 };
    const { g, ...rest } = draw(sizes);
    const decays = g.data.map((value, i) => (i < 120 ? -150 : value / 100));
    const inputs = { ...rest, g: values(decays, 1, 64, 2) };
    const result = await run(device, gatedDeltaRule, inputs, {}, { executor });
    const expected = expectedOf(inputs, sizes);
    expectClose(result.y.data, expected.y, TOLERANCE);
    expectClose(result.state.data, expected.state, TOLERANCE);
  });

  it('makes gates from raw values, and rows of unit length', async () => {
    const drawn = { raw: true, decays: [-6, 2], betas: [-6, 6] } as const;
    await expectRule(small, drawn, { l2Norm: true, betaSigmoid: true });
    await expectRule(small, drawn, { l2Norm: true, betaSigmoid: true, betaFactor: 2, eps: 0.01, scale: 0.5 });
    const { dtBias, ...inputs } = draw(small, drawn);
    expect(dtBias?.data.length).toBe(2);
    const given = { betaSigmoid: true, l2Norm: true };
    const result = await run(device, gatedDeltaRule, inputs, given, { executor });
    expectClose(result.y.data, expectedOf(inputs, small, given).y, TOLERANCE);
  });

  it('keeps zeros where q and k are zeros', async () => {
    const { q, k, ...rest } = draw(small);
    const inputs = { ...rest, q: values(q.data.fill(0), ...q.shape), k: values(k.data.fill(0), ...k.shape) };
    const result = await run(device, gatedDeltaRule, inputs, { l2Norm: true }, { executor });
    expect(result.y.data.every((value) => value === 0)).toBe(true);
    expectClose(result.state.data, expectedOf(inputs, small, { l2Norm: true }).state, TOLERANCE);
  });

  it('carries the state from call to call and on to gatedDeltaStep', async () => {
    const length = 75;
    const sizes = { ...small, batch: 2, length };
    const inputs = draw(sizes, { decays: [-0.05, 0] });
    const options = { l2Norm: true };
    const expected = expectedOf(inputs, sizes, options);
    const slice = (tensor: Values, start: number, end: number): Values => {
      const width = tensor.data.length / (2 * length);
      const parts = [0, 1].map((b) => tensor.data.subarray((b * length + start) * width, (b * length + end) * width));
      const data = Float32Array.from(parts.flatMap((part) => [...part]));
      return values(data, 2, end - start, ...tensor.shape.slice(2));
    };
    const y = new Float64Array(expected.y.length);
    const keep = (start: number, end: number, part: ArrayLike<number>): void => {
      const width = (end - start) * 16;
      for (let i = 0; i < 2 * width; i++)
        y[(Math.floor(i / width) * length + start) * 16 + (i % width)] = part[i] ?? NaN;
    };
    const part = (start: number, end: number): Omit<Inputs, 'state'> => ({
      q: slice(inputs.q, start, end),
      k: slice(inputs.k, start, end),
      v: slice(inputs.v, start, end),
      g: slice(inputs.g, start, end),
      beta: slice(inputs.beta, start, end),
    });
    let { state } = inputs;
    for (const [start, end] of [
      [0, 3],
      [3, 72],
    ] as const) {
      const result = await run(device, gatedDeltaRule, { ...part(start, end), state }, options, { executor });
      keep(start, end, result.y.data);
      state = result.state as Values;
    }
    for (let l = 72; l < length; l++) {
      const tokens = Object.fromEntries(
        Object.entries(part(l, l + 1)).map(([name, { data, shape }]) => [name, values(data, 2, ...shape.slice(2))]),
      ) as unknown as Inputs;
      const step = (recording: Recording, tensors: { state: TensorRef }): { y: TensorRef; state: TensorRef } => ({
        y: gatedDeltaStep(recording, tensors as never, options),
        state: tensors.state,
      });
      const result = await run(device, step, { ...tokens, state }, undefined, { executor });
      keep(l, l + 1, result.y.data);
      state = result.state as Values;
    }
    expectClose(y, expected.y, TOLERANCE);
    expectClose(state.data, expected.state, TOLERANCE);
  });

  it('runs any batch and length of one recording', async () => {
    const [batch, length] = [namedSize('batch', 2), namedSize('length', 70)];
    const recording = new Record(device.capabilities);
    const refs = {
      q: recording.external('q', 'f32', [batch, length, 1, 16]),
      k: recording.external('k', 'f32', [batch, length, 1, 16]),
      v: recording.external('v', 'f32', [batch, length, 2, 8]),
      g: recording.external('g', 'f32', [batch, length, 2]),
      beta: recording.external('beta', 'f32', [batch, length, 2]),
      state: recording.external('state', 'f32', [batch, 2, 16, 8]),
    };
    recording.keep('y', gatedDeltaRule(recording, refs).y);
    expect(recording.dispatches.length).toBe(5);
    // Gates and scores side by side.
    expect(stagesOf(recording.dispatches)).toEqual([0, 0, 1, 2, 3]);
    const plan = await executor.compile(recording);
    for (const [rows, now] of [
      [2, 70],
      [1, 1],
      [2, 5],
      [1, 64],
    ] as const) {
      const sizes = { ...small, batch: rows, length: now };
      const inputs = draw(sizes);
      const tensors = Object.fromEntries(
        Object.entries(inputs as object as { [name: string]: Values }).map(([name, { data, shape }]) => {
          const most = name === 'state' ? [2, 2, 16, 8] : [2, 70, ...shape.slice(2)];
          const padded = new Float32Array(most.reduce((product, size) => product * size, 1)).fill(NaN);
          padded.set(data);
          return [name, device.upload(name, values(padded, ...most))];
        }),
      );
      plan.bind(tensors).submit({ batch: rows, length: now });
      const expected = expectedOf(inputs, sizes);
      const y = await device.read(plan.output('y'));
      expectClose(y.data.subarray(0, rows * now * 16), expected.y, TOLERANCE);
      const { state } = tensors;
      if (state === undefined) throw new Error('no state');
      expectClose((await device.read(state)).data.subarray(0, rows * 256), expected.state, TOLERANCE);
      for (const tensor of Object.values(tensors)) tensor.dispose();
    }
    plan.dispose();
  });

  // q | k | v and b | a, as the convolution and the second projection of Qwen3-Next leave them.
  it.each([
    ['aligned', 0],
    ['odd', 1],
  ])('reads slices of a projection of %s width', async (_, skip) => {
    const sizes = { ...small, batch: 2, length: 19 };
    const { q, k, v, g, beta, ...rest } = draw(sizes);
    const rows = 2 * 19;
    const join = (tensors: readonly Values[]): Values => {
      const widths = tensors.map(({ data }) => data.length / rows);
      const wide = widths.reduce((sum, width) => sum + width, 2 * skip);
      const data = new Float32Array(rows * wide).fill(NaN);
      for (let row = 0; row < rows; row++) {
        let at = row * wide + skip;
        for (const [i, width] of widths.entries()) {
          data.set(tensors[i]?.data.subarray(row * width, (row + 1) * width) ?? [], at);
          at += width;
        }
      }
      return values(data, rows, wide);
    };
    const kernel = (
      recording: Recording,
      { qkv, ba, state }: { qkv: TensorRef; ba: TensorRef; state: TensorRef },
    ): { y: TensorRef; state: TensorRef } => {
      const view = (whole: TensorRef, start: number, heads: number, ...width: readonly number[]): TensorRef => {
        const from = skip + start;
        return reshape(columns(whole, from, from + heads * (width[0] ?? 1)), [2, 19, heads, ...width]);
      };
      return gatedDeltaRule(recording, {
        q: view(qkv, 0, 1, 16),
        k: view(qkv, 16, 1, 16),
        v: view(qkv, 32, 2, 8),
        beta: view(ba, 0, 2),
        g: view(ba, 2, 2),
        state,
      });
    };
    const host = { qkv: join([q, k, v]), ba: join([beta, g]), state: rest.state };
    const result = await run(device, kernel, host, undefined, { executor });
    const expected = expectedOf({ q, k, v, g, beta, ...rest }, sizes);
    expectClose(result.y.data, expected.y, TOLERANCE);
    expectClose(result.state.data, expected.state, TOLERANCE);
  });

  it('refuses wrong shapes and options', async () => {
    const sizes = { ...small, length: 3 };
    const inputs = draw(sizes);
    const refused = (wrong: object, options: object = {}): Promise<unknown> =>
      run(device, gatedDeltaRule, { ...inputs, ...wrong }, options);
    const zeros = (...shape: number[]): Values =>
      values(new Float32Array(shape.reduce((product, size) => product * size, 1)), ...shape);
    await expect(refused({}, { eps: 0 })).rejects.toThrow(ArgumentError);
    await expect(refused({}, { scale: Infinity })).rejects.toThrow(ArgumentError);
    await expect(refused({}, { betaFactor: NaN })).rejects.toThrow(ArgumentError);
    await expect(refused({ dtBias: zeros(2) })).rejects.toThrow(ArgumentError);
    await expect(refused({ q: zeros(1, 3, 3, 16), k: zeros(1, 3, 3, 16) })).rejects.toThrow(ArgumentError);
    await expect(refused({ v: zeros(1, 3, 2, 6), state: zeros(1, 2, 16, 6) })).rejects.toThrow(ArgumentError);
    const long = { q: zeros(1, 3, 1, 260), k: zeros(1, 3, 1, 260), state: zeros(1, 2, 260, 8) };
    await expect(refused(long)).rejects.toThrow(ArgumentError);
    await expect(refused({ q: zeros(1, 3, 1, 12) })).rejects.toThrow(ShapeError);
    await expect(refused({ v: zeros(1, 2, 2, 8) })).rejects.toThrow(ShapeError);
    await expect(refused({ g: zeros(1, 3, 1) })).rejects.toThrow(ShapeError);
    await expect(refused({ beta: zeros(3, 2) })).rejects.toThrow(ShapeError);
    await expect(refused({ A: zeros(3) })).rejects.toThrow(ShapeError);
    await expect(refused({ state: zeros(1, 2, 8, 16) })).rejects.toThrow(ShapeError);
    const words = { data: new Uint32Array(48), shape: [1, 3, 1, 16], dtype: 'u32' };
    await expect(refused({ k: words })).rejects.toThrow(ShapeError);
  });
});
