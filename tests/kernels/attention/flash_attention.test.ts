import type { FlashAttentionOptions } from '@mambalab/kernels';
import {
  ArgumentError,
  columns,
  Executor,
  flashAttention,
  namedSize,
  Recording,
  reshape,
  run,
  ShapeError,
} from '@mambalab/kernels';
import { flashAttention as reference } from '@mambalab/kernels/reference';
import { afterAll, describe, expect, it } from 'vitest';
import { openTestDevice } from '../../support/gpu.ts';
import { expectClose, normalTensor, Random } from '../../support/numbers.ts';
import { cacheTensor, withCapacity } from './support.ts';

const device = await openTestDevice();
// Pipelines are shared; results are fresh, poisoned buffers in every run.
const executor = new Executor(device, { poison: true });
afterAll(() => executor.dispose());

// Scores are sums of P products of normal values: wrong by about 1e-6 in f32, as are then the weights, relatively.
// Outputs are averages of values of order 1.
const TOLERANCE = { rtol: 1e-5, atol: 1e-5 };

interface Case {
  readonly batch?: number;
  readonly length: number;
  readonly keys: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly cache?: 'f32' | 'f16';
  readonly options?: FlashAttentionOptions;
}

async function expectReference(given: Case, tolerance = TOLERANCE): Promise<void> {
  const { batch = 1, length, keys, heads, kvHeads, headDim, cache = 'f32', options = {} } = given;
  const random = new Random(length * 1009 + keys * 31 + headDim);
  const q = normalTensor(random, [batch, length, heads, headDim]);
  const shape = [batch, keys, kvHeads, headDim];
  const k = cacheTensor(random.normals(batch * keys * kvHeads * headDim), shape, cache);
  const v = cacheTensor(random.normals(batch * keys * kvHeads * headDim), shape, cache);
  const y = await run(device, flashAttention, { q, k: k.host, v: v.host }, options, { executor });
  const expected = reference(
    { q: q.data, k: k.values, v: v.values },
    { batch, length, capacity: keys, heads, kvHeads, headDim, ...options },
  );
  expectClose(y.data, expected, tolerance);
  expect(y.shape).toEqual([batch, length, heads, headDim]);
}

describe('flashAttention', () => {
  it.each([
    [1, 1, 6, 2, 16],
    [15, 15, 2, 1, 16],
    [16, 33, 4, 2, 16],
    [17, 31, 4, 2, 16],
    [33, 33, 6, 6, 16],
    [64, 64, 4, 2, 64],
    [65, 65, 6, 2, 64],
    [64, 128, 6, 1, 64],
    [113, 203, 6, 2, 80],
    [108, 256, 2, 1, 96],
    [35, 339, 2, 1, 128],
    [34, 97, 6, 6, 128],
    [33, 70, 2, 1, 256],
    [7, 33, 2, 2, 12],
  ])(
    'attends from %i queries to %i keys, %i heads over %i, %i values',
    async (length, keys, heads, kvHeads, headDim) => {
      await expectReference({ length, keys, heads, kvHeads, headDim });
    },
  );

  it.each<[string, FlashAttentionOptions]>([
    ['all keys', { causal: false }],
    ['a window', { window: 20 }],
    ['a window of one', { window: 1 }],
    ['a window that is not causal', { window: 20, causal: false }],
    ['a soft cap', { softCap: 15 }],
    ['a low soft cap and a high scale', { softCap: 2, scale: 3 }],
    ['another scale', { scale: 0.3 }],
  ])('attends with %s', async (_, options) => {
    await expectReference({ batch: 2, length: 70, keys: 101, heads: 4, kvHeads: 2, headDim: 16, options });
  });

  it.each([8, 128])('reads an f16 cache with heads of %i', async (headDim) => {
    await expectReference({ length: 7, keys: 75, heads: 4, kvHeads: 2, headDim, cache: 'f16' });
    await expectReference({
      length: 3,
      keys: 75,
      heads: 4,
      kvHeads: 1,
      headDim,
      cache: 'f16',
      options: { softCap: 15, window: 30 },
    });
  });

  it('gives zero where a query sees no key', async () => {
    await expectReference({ length: 40, keys: 7, heads: 2, kvHeads: 1, headDim: 16 });
  });

  it('is not misled by scores of any size', async () => {
    // Scores of some hundreds are wrong by some 1e-5, and so are the weights, relatively.
    const coarse = { rtol: 2e-4, atol: 2e-4 };
    const sizes = { length: 20, keys: 70, heads: 2, kvHeads: 1, headDim: 16 };
    await expectReference({ ...sizes, options: { scale: 40 } }, coarse);
    await expectReference({ ...sizes, options: { scale: 1000, softCap: 15 } }, coarse);
  });
});

describe.each(['f32', 'f16'] as const)('flashAttention with a %s cache and positions', (cache) => {
  const [heads, kvHeads, headDim, capacity] = [4, 2, 16, 96];

  it('sees the valid keys of each sequence only', async () => {
    const random = new Random(5);
    const [length, positions] = [35, [0, 41]];
    const valid = positions.map((position) => position + length);
    const keyValues = random.normals(valid.reduce((a, b) => a + b) * kvHeads * headDim);
    const valueValues = random.normals(keyValues.length);
    const q = normalTensor(random, [2, length, heads, headDim]);
    const shape = [2, capacity, kvHeads, headDim];
    const k = cacheTensor(withCapacity(keyValues, 2, valid, capacity), shape, cache);
    const v = cacheTensor(withCapacity(valueValues, 2, valid, capacity), shape, cache);
    const position = { data: Uint32Array.from(positions), shape: [2], dtype: 'u32' as const };
    for (const options of [{}, { causal: false }, { window: 9 }]) {
      const y = await run(device, flashAttention, { q, k: k.host, v: v.host, position }, options, { executor });
      const expected = reference(
        { q: q.data, k: k.values, v: v.values, position: positions },
        { batch: 2, length, capacity, heads, kvHeads, headDim, ...options },
      );
      expectClose(y.data, expected, TOLERANCE);
    }
  });

  it('gives in two chunks what it gives in one, for any length of a recording', async () => {
    const random = new Random(6);
    const total = 70;
    const q = normalTensor(random, [1, total, heads, headDim]);
    const shape = [1, capacity, kvHeads, headDim];
    const filled = (values: Float32Array): Float32Array => withCapacity(values, 1, [total], capacity);
    const k = cacheTensor(filled(random.normals(total * kvHeads * headDim)), shape, cache);
    const v = cacheTensor(filled(random.normals(total * kvHeads * headDim)), shape, cache);
    const width = heads * headDim;

    const recording = new Recording(device.capabilities);
    const length = namedSize('length', total);
    const wide = recording.external('q', 'f32', [length, width + 12]);
    recording.keep(
      'y',
      flashAttention(recording, {
        q: reshape(columns(wide, 4, 4 + width), [1, length, heads, headDim]),
        k: recording.external('k', cache, shape),
        v: recording.external('v', cache, shape),
        position: recording.external('position', 'u32', [1]),
      }),
    );
    const plan = await executor.compile(recording);
    const tensors = {
      q: device.createTensor('q', 'f32', [total, width + 12]),
      k: device.upload('k', k.host),
      v: device.upload('v', v.host),
      position: device.createTensor('position', 'u32', [1]),
    };
    const bound = plan.bind(tensors);
    const call = async (begin: number, count: number): Promise<Float32Array> => {
      const padded = new Float32Array(count * (width + 12)).fill(NaN);
      for (let l = 0; l < count; l++)
        padded.set(q.data.subarray((begin + l) * width, (begin + l + 1) * width), l * (width + 12) + 4);
      device.gpu.queue.writeBuffer(tensors.q.buffer, 0, padded);
      device.gpu.queue.writeBuffer(tensors.position.buffer, 0, Uint32Array.of(begin));
      bound.submit({ length: count });
      return (await device.read(plan.output('y'))).data.slice(0, count * width) as Float32Array;
    };
    const whole = await call(0, total);
    const expected = reference(
      { q: q.data, k: k.values, v: v.values, position: [0] },
      { batch: 1, length: total, capacity, heads, kvHeads, headDim },
    );
    expectClose(whole, expected, TOLERANCE);
    expectClose(await call(0, 43), expected.subarray(0, 43 * width), TOLERANCE);
    expectClose(await call(43, 27), expected.subarray(43 * width), TOLERANCE);
    plan.dispose();
    for (const tensor of Object.values(tensors)) tensor.dispose();
  });
});

it('poisons everything that it does not write', async () => {
  const random = new Random(8);
  const inputs = {
    q: normalTensor(random, [1, 5, 2, 8]),
    k: normalTensor(random, [1, 9, 2, 8]),
    v: normalTensor(random, [1, 9, 2, 8]),
  };
  const y = await run(device, flashAttention, inputs, {}, { poison: true });
  const sizes = { batch: 1, length: 5, capacity: 9, heads: 2, kvHeads: 2, headDim: 8 };
  expectClose(y.data, reference({ q: inputs.q.data, k: inputs.k.data, v: inputs.v.data }, sizes), TOLERANCE);
});

it('refuses heads and options that it cannot serve', async () => {
  const tensor = (...shape: number[]) => normalTensor(new Random(1), shape);
  const attempt = (q: number[], k: number[], v: number[], options: FlashAttentionOptions = {}): Promise<unknown> =>
    run(device, flashAttention, { q: tensor(...q), k: tensor(...k), v: tensor(...v) }, options);
  await expect(attempt([1, 2, 2, 10], [1, 2, 2, 10], [1, 2, 2, 10])).rejects.toThrow(ArgumentError);
  await expect(attempt([1, 2, 2, 260], [1, 2, 2, 260], [1, 2, 2, 260])).rejects.toThrow(ArgumentError);
  await expect(attempt([1, 2, 3, 8], [1, 2, 2, 8], [1, 2, 2, 8])).rejects.toThrow(ArgumentError);
  await expect(attempt([1, 2, 2, 8], [1, 3, 2, 8], [1, 2, 2, 8])).rejects.toThrow(ShapeError);
  await expect(attempt([1, 2, 2, 8], [2, 3, 2, 8], [2, 3, 2, 8])).rejects.toThrow(ShapeError);
  for (const options of [{ window: 0 }, { softCap: 0 }, { scale: NaN }]) {
    await expect(attempt([1, 2, 2, 8], [1, 2, 2, 8], [1, 2, 2, 8], options)).rejects.toThrow(ArgumentError);
  }
});
