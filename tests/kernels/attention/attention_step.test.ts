import type { AttentionStepOptions } from '@mambalab/kernels';
import { ArgumentError, attentionStep, Executor, run, ShapeError } from '@mambalab/kernels';
import { attentionStep as reference } from '@mambalab/kernels/reference';
import { afterAll, describe, expect, it } from 'vitest';
import { openTestDevice, simdChoices } from '../../support/gpu.ts';
import { expectClose, normalTensor, Random } from '../../support/numbers.ts';
import { cacheTensor, withCapacity } from './support.ts';

const device = await openTestDevice();
// Pipelines are shared; results are fresh, poisoned buffers in every run.
const executor = new Executor(device, { poison: true });
afterAll(() => executor.dispose());

// As for flashAttention: scores in f32 are wrong by about 1e-6, and so are the weights, relatively.
const TOLERANCE = { rtol: 1e-5, atol: 1e-5 };

interface Case {
  readonly positions: readonly number[];
  readonly capacity: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly cache?: 'f32' | 'f16';
  readonly options?: AttentionStepOptions;
}

describe.each(simdChoices(device))('attentionStep %o', (force) => {
  async function expectReference({
    positions,
    capacity,
    heads,
    kvHeads,
    headDim,
    cache = 'f32',
    options = {},
  }: Case): Promise<void> {
    const random = new Random(capacity * 31 + headDim + heads);
    const batch = positions.length;
    const valid = positions.map((position) => position + 1);
    const rows = valid.reduce((a, b) => a + b);
    const width = kvHeads * headDim;
    const q = normalTensor(random, [batch, heads, headDim]);
    const shape = [batch, capacity, kvHeads, headDim];
    const k = cacheTensor(withCapacity(random.normals(rows * width), batch, valid, capacity), shape, cache);
    const v = cacheTensor(withCapacity(random.normals(rows * width), batch, valid, capacity), shape, cache);
    const position = { data: Uint32Array.from(positions), shape: [batch], dtype: 'u32' as const };
    const y = await run(device, attentionStep, { q, k: k.host, v: v.host, position }, options, { executor, force });
    const { splits: _, ...rest } = options;
    const expected = reference(
      { q: q.data, k: k.values, v: v.values, position: positions },
      { batch, capacity, heads, kvHeads, headDim, ...rest },
    );
    expectClose(y.data, expected, TOLERANCE);
    expect(y.shape).toEqual([batch, heads, headDim]);
  }

  it.each([
    [[0], 1, 6, 6, 64],
    [[62], 64, 6, 2, 64],
    [[63], 64, 6, 2, 64],
    [[64], 500, 6, 2, 64],
    [[338], 339, 4, 1, 64],
    [[5, 300], 320, 4, 2, 80],
    [[127], 257, 12, 1, 16],
    [[200], 201, 5, 5, 8],
    [[130], 131, 4, 1, 128],
    [[70], 90, 6, 1, 256],
    [[33], 40, 2, 1, 12],
  ])('attends at %o of %i, %i heads over %i, %i values', async (positions, capacity, heads, kvHeads, headDim) => {
    await expectReference({ positions, capacity, heads, kvHeads, headDim });
  });

  it.each([1, 2, 3, 5, 64, 256])('gives the same in %i shares', async (splits) => {
    await expectReference({
      positions: [0, 63, 400],
      capacity: 450,
      heads: 4,
      kvHeads: 1,
      headDim: 64,
      options: { splits },
    });
  });

  it.each<[string, AttentionStepOptions]>([
    ['a window', { window: 70 }],
    ['a window of one', { window: 1 }],
    ['a soft cap', { softCap: 15, splits: 2 }],
    ['a low soft cap and a high scale', { softCap: 2, scale: 3, window: 100 }],
    ['another scale', { scale: 0.3, splits: 1 }],
    ['very large scores', { scale: 300 }],
  ])('attends with %s', async (_, options) => {
    await expectReference({ positions: [200, 50], capacity: 256, heads: 4, kvHeads: 1, headDim: 64, options });
  });

  it.each([
    [8, 2, 8],
    [6, 1, 64],
    [4, 2, 80],
    [8, 1, 128],
  ])('reads an f16 cache, %i heads over %i of %i values', async (heads, kvHeads, headDim) => {
    await expectReference({ positions: [100, 40], capacity: 150, heads, kvHeads, headDim, cache: 'f16' });
  });
});

it('poisons everything that it does not write', async () => {
  const random = new Random(8);
  const inputs = {
    q: normalTensor(random, [1, 2, 16]),
    k: normalTensor(random, [1, 70, 2, 16]),
    v: normalTensor(random, [1, 70, 2, 16]),
    position: { data: Uint32Array.of(69), shape: [1], dtype: 'u32' as const },
  };
  const expected = reference(
    { q: inputs.q.data, k: inputs.k.data, v: inputs.v.data, position: [69] },
    { batch: 1, capacity: 70, heads: 2, kvHeads: 2, headDim: 16 },
  );
  for (const splits of [1, 3]) {
    const y = await run(device, attentionStep, inputs, { splits }, { poison: true });
    expectClose(y.data, expected, TOLERANCE);
  }
});

it('refuses heads and options that it cannot serve', async () => {
  const random = new Random(1);
  const position = { data: new Uint32Array(1), shape: [1], dtype: 'u32' as const };
  const attempt = (
    q: number[],
    k: number[],
    cache: 'f32' | 'f16',
    options: AttentionStepOptions = {},
  ): Promise<unknown> => {
    const values = new Float32Array(k.reduce((a, b) => a * b));
    const inputs = {
      q: normalTensor(random, q),
      k: cacheTensor(values, k, cache).host,
      v: cacheTensor(values, k, cache).host,
      position,
    };
    return run(device, attentionStep, inputs, options);
  };
  await expect(attempt([1, 2, 10], [1, 4, 2, 10], 'f32')).rejects.toThrow(ArgumentError);
  await expect(attempt([1, 2, 12], [1, 4, 2, 12], 'f16')).rejects.toThrow(ArgumentError);
  await expect(attempt([1, 3, 8], [1, 4, 2, 8], 'f32')).rejects.toThrow(ArgumentError);
  await expect(attempt([2, 2, 8], [1, 4, 2, 8], 'f32')).rejects.toThrow(ShapeError);
  for (const options of [{ splits: 0 }, { splits: 257 }, { window: -1 }, { softCap: Infinity }]) {
    await expect(attempt([1, 2, 8], [1, 4, 2, 8], 'f32', options)).rejects.toThrow(ArgumentError);
  }
});
