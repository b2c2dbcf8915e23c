import type { HostTensor, MoeRouteOptions, TensorRef } from '@mambalab/kernels';
import {
  ArgumentError,
  columns,
  Executor,
  moeRoute,
  moeSort,
  namedSize,
  Recording,
  run,
  ShapeError,
} from '@mambalab/kernels';
import { moeRoute as reference } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { asHardware, openTestDevice, simdChoices } from '../../support/gpu.ts';
import { expectClose, normalTensor, Random } from '../../support/numbers.ts';
import { drawExperts } from './support.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
// Experts are compared exactly, weights (below 1 before the scale) to 1e-6: exp is within a few units of the last place.
const TOLERANCE = { rtol: 1e-6, atol: 1e-6 };

const vector = (data: Float32Array): HostTensor => ({ data, shape: [data.length], dtype: 'f32' });

async function expectRoutes(
  [rows, experts]: readonly [number, number],
  options: MoeRouteOptions,
  given: { readonly bias?: boolean; readonly force?: Record<string, string>; readonly logits?: Float32Array } = {},
): Promise<void> {
  const random = new Random(rows * 1009 + experts * 31 + options.topK);
  const data = given.logits ?? random.normals(rows * experts, 2);
  const bias = given.bias === true ? random.normals(experts, 0.3) : undefined;
  const logits: HostTensor = { data, shape: [rows, experts], dtype: 'f32' };
  const inputs = { logits, ...(bias && { correctionBias: vector(bias) }) };
  const force = given.force ?? {};
  const found = await run(device, moeRoute, inputs, { sorted: false, ...options }, { poison: true, executor, force });
  const { sorted: _, ...same } = options;
  const expected = reference({ logits: data, correctionBias: bias }, { rows, experts, ...same });
  expect(found.indices.shape).toEqual([rows, options.topK]);
  expect([...found.indices.data]).toEqual([...expected.indices]);
  const { scale = 1 } = options;
  const unscaled = expected.weights.map((weight) => weight / scale);
  expectClose(
    Float64Array.from(found.weights.data, (weight) => weight / scale),
    unscaled,
    TOLERANCE,
  );
}

describe.each(simdChoices(device))('moeRoute %o', (force) => {
  it('has softmax over all experts', async () => {
    await expectRoutes([1, 8], { topK: 2, normalize: true }, { force });
    await expectRoutes([3, 16], { topK: 2 }, { force });
  });
  it('has softmax over the chosen', async () => {
    await expectRoutes([2, 65], { topK: 6, order: 'topKThenSoftmax' }, { force });
  });
  it('has sigmoid, bias and groups', async () => {
    const options = { scoring: 'sigmoid', normalize: true, normalizeEps: 1e-20, scale: 2.5 } as const;
    await expectRoutes([3, 32], { topK: 6, ...options }, { bias: true, force });
    await expectRoutes([3, 32], { topK: 6, groups: 8, topGroups: 3, ...options }, { bias: true, force });
  });
});

describe('moeRoute', () => {
  it.each([
    [1, 1, 1],
    [8, 63, 1],
    [2, 64, 32],
    [2, 130, 32],
    [1, 512, 10],
  ])('routes %i tokens to experts: of %i, %i', async (rows, experts, topK) => {
    await expectRoutes([rows, experts], { topK, normalize: true, scale: 0.5 });
  });

  it('limits the choice to groups', async () => {
    await expectRoutes([2, 12], { topK: 4, groups: 6, topGroups: 2 }, { bias: true });
    // With every group open, they do not matter.
    await expectRoutes([2, 24], { topK: 5, groups: 8 }, { bias: true });
    // Groups larger than the blocks that experts are ranked in otherwise, and more slots than a group has experts.
    await expectRoutes([2, 160], { topK: 3, groups: 2, topGroups: 1, scoring: 'sigmoid' });
    await expectRoutes([2, 20], { topK: 9, groups: 5, topGroups: 3, scoring: 'sigmoid' });
  });

  it('takes the first of equal experts', async () => {
    const experts = 140;
    const logits = new Float32Array(2 * experts).fill(0.5);
    // Zeros are equal whatever their sign, and above the negative ones.
    logits.fill(-1, experts);
    for (const [at, value] of [
      [3, -0],
      [70, 0],
      [71, -0],
      [139, 0],
      [100, -0.5],
    ] as const) {
      logits[experts + at] = value;
    }
    await expectRoutes([2, experts], { topK: 8 }, { logits });
    await expectRoutes([2, experts], { topK: 8, groups: 7, topGroups: 3, scoring: 'sigmoid' }, { logits });
  });

  it('keeps its head with logits far apart, infinite and NaN', async () => {
    const logits = Float32Array.from([0, -300, 90, -1e30, 100, 3e38, -3e38, 5]);
    await expectRoutes([2, 4], { topK: 3, normalize: true }, { logits });
    await expectRoutes([2, 4], { topK: 3, order: 'topKThenSoftmax' }, { logits });
    await expectRoutes([2, 4], { topK: 3, scoring: 'sigmoid' }, { logits });
    const broken = Float32Array.from([NaN, -Infinity, 1, Infinity]);
    const inputs = { logits: { data: broken, shape: [1, 4], dtype: 'f32' as const } };
    const found = await run(
      device,
      moeRoute,
      inputs,
      { topK: 3, normalize: true, sorted: false },
      { poison: true, executor },
    );
    expect([...found.indices.data]).toEqual([3, 2, 0]);
    expectClose(found.weights.data, [1, 0, 0], TOLERANCE);
  });

  it('reads columns of a wider tensor', async () => {
    const wide = normalTensor(new Random(5), [3, 29]);
    const part = (recording: Recording, inputs: { readonly wide: TensorRef }): { readonly indices: TensorRef } =>
      moeRoute(recording, { logits: columns(inputs.wide, 7, 27) }, { topK: 4 });
    const found = await run(device, part, { wide }, undefined, { poison: true, executor });
    const logits = wide.data.filter((_, i) => i % 29 >= 7 && i % 29 < 27);
    const expected = reference({ logits }, { rows: 3, experts: 20, topK: 4 });
    expect([...found.indices.data]).toEqual([...expected.indices]);
  });

  it('has the workgroups of GPUs', async () => {
    const hardware = asHardware(device);
    for (const [rows, experts, options] of [
      [9, 512, { topK: 10, normalize: true }],
      [1, 60, { topK: 8, order: 'topKThenSoftmax', sorted: true }],
      [2, 256, { topK: 8, scoring: 'sigmoid', groups: 8, topGroups: 4 }],
    ] as const) {
      const logits = normalTensor(new Random(experts), [rows, experts], 2);
      const found = await run(hardware, moeRoute, { logits }, options, { poison: true });
      const expected = reference({ logits: logits.data }, { rows, experts, ...options });
      expect([...found.indices.data]).toEqual([...expected.indices]);
      expectClose(found.weights.data, expected.weights, TOLERANCE);
      const sorted = sortedPairs(expected.indices, experts);
      if (found.order === undefined) continue;
      expect([...found.order.data]).toEqual(sorted.order);
      expect([...(found.offsets?.data ?? [])]).toEqual(sorted.offsets);
    }
  });

  it('refuses what does not fit', async () => {
    const logits = normalTensor(new Random(1), [2, 12]);
    const attempt = (options: object, change: object = {}): Promise<unknown> =>
      run(device, moeRoute, { logits, ...change }, { topK: 2, ...options }, { executor });
    for (const topK of [0, 13, 1.5, NaN]) await expect(attempt({ topK })).rejects.toThrow(ArgumentError);
    await expect(attempt({ topK: 33 }, { logits: normalTensor(new Random(1), [1, 40]) })).rejects.toThrow(/1 to 32/);
    for (const groups of [5, 0, 2.5]) await expect(attempt({ groups })).rejects.toThrow(ArgumentError);
    await expect(attempt({ groups: 4, topGroups: 5 })).rejects.toThrow(ArgumentError);
    await expect(attempt({ groups: 12, topGroups: 4 })).rejects.toThrow(/groups of one/);
    await expect(attempt({ groups: 6, topGroups: 1, topK: 3 })).rejects.toThrow(ArgumentError);
    await expect(attempt({ scoring: 'tanh' })).rejects.toThrow(ArgumentError);
    await expect(attempt({ order: 'topKThenSoftmax', scoring: 'sigmoid' })).rejects.toThrow(ArgumentError);
    await expect(attempt({ order: 'topKThenSoftmax', groups: 2 })).rejects.toThrow(ArgumentError);
    await expect(attempt({ scale: Infinity })).rejects.toThrow(ArgumentError);
    await expect(attempt({ normalizeEps: -1 })).rejects.toThrow(ArgumentError);
    await expect(attempt({}, { correctionBias: normalTensor(new Random(1), [11]) })).rejects.toThrow(ShapeError);
    await expect(attempt({}, { logits: normalTensor(new Random(1), [1, 513]) })).rejects.toThrow(/up to 512/);
    await expect(attempt({}, { logits: drawExperts(new Random(1), [2, 3, 4]) })).rejects.toThrow(ShapeError);
  });
});

/** Pairs by expert and then by themselves, and where each expert's begin. */
function sortedPairs(indices: ArrayLike<number>, experts: number): { order: number[]; offsets: number[] } {
  const all = Array.from(indices);
  const order = all.map((_, pair) => pair).sort((a, b) => (all[a] ?? NaN) - (all[b] ?? NaN) || a - b);
  const offsets = Array.from({ length: experts + 1 }, (_, e) => all.filter((expert) => expert < e).length);
  return { order, offsets };
}

describe('moeSort', () => {
  it.each([
    [1, 1, 1],
    [1, 8, 9],
    [8, 2, 5],
    [37, 3, 16],
  ])('sorts the pairs of %i tokens: %i each, of %i experts', async (rows, slots, experts) => {
    const random = new Random(rows + experts);
    const idle = experts > slots ? [0, experts - 1].slice(0, experts - slots) : [];
    for (const indices of [
      drawExperts(random, [rows, slots, experts]),
      drawExperts(random, [rows, slots, experts], idle),
      // All pairs to one expert.
      { data: new Uint32Array(rows * slots).fill(experts - 1), shape: [rows, slots], dtype: 'u32' as const },
    ]) {
      const found = await run(device, moeSort, { indices }, { experts }, { poison: true, executor });
      const expected = sortedPairs(indices.data, experts);
      expect([...found.order.data]).toEqual(expected.order);
      expect([...found.offsets.data]).toEqual(expected.offsets);
    }
  });

  it('is recorded by moeRoute for many tokens, of any number', async () => {
    const [experts, topK, most] = [12, 3, 20];
    const length = namedSize('length', most);
    const recording = new Recording(device.capabilities);
    const routing = moeRoute(recording, { logits: recording.external('logits', 'f32', [length, experts]) }, { topK });
    for (const [name, tensor] of Object.entries(routing)) recording.keep(name, tensor as TensorRef);
    const plan = await executor.compile(recording);
    const logits = normalTensor(new Random(3), [most, experts]);
    const bound = plan.bind({ logits: device.upload('logits', logits) });
    for (const rows of [20, 1, 9]) {
      bound.submit({ length: rows });
      const read = async (name: string, count: number): Promise<number[]> =>
        Array.from((await device.read(plan.output(name))).data.subarray(0, count));
      const expected = reference({ logits: logits.data.subarray(0, rows * experts) }, { rows, experts, topK });
      const sorted = sortedPairs(expected.indices, experts);
      expect(await read('indices', rows * topK)).toEqual([...expected.indices]);
      expect(await read('order', rows * topK)).toEqual(sorted.order);
      expect(await read('offsets', experts + 1)).toEqual(sorted.offsets);
      expectClose(await read('weights', rows * topK), expected.weights, TOLERANCE);
    }
    plan.dispose();
  });

  it('refuses what does not fit', async () => {
    const indices = drawExperts(new Random(1), [2, 3, 4]);
    for (const experts of [0, 513, 1.5]) {
      await expect(run(device, moeSort, { indices }, { experts })).rejects.toThrow(ArgumentError);
    }
    const logits = normalTensor(new Random(1), [2, 3]);
    await expect(run(device, moeSort, { indices: logits }, { experts: 4 })).rejects.toThrow(ShapeError);
    const spaced = { ...indices, data: new Uint32Array(8), rowStride: 4 };
    await expect(run(device, moeSort, { indices: spaced }, { experts: 4 })).rejects.toThrow(/contiguous/);
  });
});
