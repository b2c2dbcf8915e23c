import type { HostTensor, QkNormOptions } from '@mambalab/kernels';
import {
  ArgumentError,
  columns,
  Executor,
  namedSize,
  qkNorm,
  Recording,
  reshape,
  ropeInverseFrequencies,
  run,
  ShapeError,
} from '@mambalab/kernels';
import { qkNorm as reference } from '@mambalab/kernels/reference';
import { afterAll, describe, expect, it } from 'vitest';
import { openTestDevice, simdChoices } from '../../support/gpu.ts';
import { expectClose, normalTensor, Random } from '../../support/numbers.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
afterAll(() => executor.dispose());

// Sums of up to 256 squares are wrong by a few units in the last place; angles of 40 radians by 2e-6, which moves values
// of 20 by 4e-5.
const TOLERANCE = { rtol: 1e-5, atol: 5e-5 };

describe.each(simdChoices(device))('qkNorm %o', (force) => {
  it.each<{
    length: number;
    heads: number;
    kvHeads: number;
    headDim: number;
    rotaryDim?: number;
    perHead?: boolean;
    only?: 'q' | 'k';
    options?: QkNormOptions;
  }>([
    { length: 1, heads: 4, kvHeads: 1, headDim: 8 },
    { length: 3, heads: 5, kvHeads: 5, headDim: 80, perHead: true, options: { eps: 0.1 } },
    { length: 2, heads: 17, kvHeads: 3, headDim: 66, rotaryDim: 20, options: { weightOffset: 1, interleaved: true } },
    { length: 19, heads: 3, kvHeads: 1, headDim: 256, rotaryDim: 256, only: 'k' },
    { length: 1, heads: 3, kvHeads: 2, headDim: 128, rotaryDim: 64, only: 'q' },
  ])(
    'normalises and rotates %o',
    async ({ length, heads, kvHeads, headDim, rotaryDim, perHead, only, options = {} }) => {
      const random = new Random(length + headDim);
      const position = { data: Uint32Array.of(20, 0), shape: [2], dtype: 'u32' as const };
      const q = normalTensor(random, [2, length, heads, headDim], 5);
      const k = normalTensor(random, [2, length, kvHeads, headDim], 0.01);
      const frequencies = rotaryDim === undefined ? undefined : ropeInverseFrequencies({ theta: 10_000, rotaryDim });
      const weights = {
        ...(only !== 'k' && { qWeight: normalTensor(random, perHead ? [heads, headDim] : [headDim]) }),
        ...(only !== 'q' && { kWeight: normalTensor(random, perHead ? [kvHeads, headDim] : [headDim]) }),
      };
      const turning = frequencies && {
        inverseFrequencies: { data: frequencies, shape: [frequencies.length], dtype: 'f32' as const },
      };
      const y = await run(device, qkNorm, { q, k, ...weights, ...turning, position }, options, { executor, force });
      const expected = reference(
        {
          q: q.data,
          k: k.data,
          qWeight: weights.qWeight?.data,
          kWeight: weights.kWeight?.data,
          inverseFrequencies: frequencies,
          position: position.data,
        },
        { batch: 2, length, heads, kvHeads, headDim, ...options },
      );
      expectClose(y.q.data, expected.q, TOLERANCE);
      expectClose(y.k.data, expected.k, TOLERANCE);
      expect([y.q.shape, y.k.shape]).toEqual([q.shape, k.shape]);
    },
  );
});

it('takes columns of one projection, for any length of a recording, and reads 0 for no position', async () => {
  const random = new Random(9);
  const [total, heads, kvHeads, headDim] = [11, 3, 2, 8];
  const width = (heads + 2 * kvHeads) * headDim;
  const recording = new Recording(device.capabilities);
  const length = namedSize('length', 20);
  const wide = recording.external('wide', 'f32', [length, width]);
  const part = (from: number, count: number) =>
    reshape(columns(wide, from * headDim, (from + count) * headDim), [1, length, count, headDim]);
  const weight = recording.external('weight', 'f32', [headDim]);
  const inverseFrequencies = recording.external('inverseFrequencies', 'f32', [headDim / 2]);
  const turned = qkNorm(recording, {
    q: part(0, heads),
    k: part(heads, kvHeads),
    qWeight: weight,
    kWeight: weight,
    inverseFrequencies,
  });
  recording.keep('both', turned.q);
  const plan = await executor.compile(recording);
  const frequencies = ropeInverseFrequencies({ theta: 100, rotaryDim: headDim });
  const values = random.normals(total * width);
  const weights = normalTensor(random, [headDim]);
  const padded = new Float32Array(20 * width).fill(NaN);
  padded.set(values);
  const tensors = {
    wide: device.upload('wide', { data: padded, shape: [20, width], dtype: 'f32' }),
    weight: device.upload('weight', weights),
    inverseFrequencies: device.upload('frequencies', { data: frequencies, shape: [headDim / 2], dtype: 'f32' }),
  };
  plan.bind(tensors).submit({ length: total });
  const found = (await device.read(plan.output('both'))).data;
  const columnsOf = (from: number, count: number): number[] =>
    Array.from({ length: total }, (_, l) => [
      ...values.subarray(l * width + from * headDim, l * width + (from + count) * headDim),
    ]).flat();
  const expected = reference(
    {
      q: columnsOf(0, heads),
      k: columnsOf(heads, kvHeads),
      qWeight: weights.data,
      kWeight: weights.data,
      inverseFrequencies: frequencies,
    },
    { batch: 1, length: total, heads, kvHeads, headDim },
  );
  // Queries and keys of a token lie behind each other.
  const rows = Array.from({ length: total }, (_, l) => [
    ...expected.q.subarray(l * heads * headDim, (l + 1) * heads * headDim),
    ...expected.k.subarray(l * kvHeads * headDim, (l + 1) * kvHeads * headDim),
  ]);
  expectClose((found as Float32Array).slice(0, rows.flat().length), rows.flat(), TOLERANCE);
  plan.dispose();
  for (const tensor of Object.values(tensors)) tensor.dispose();
});

it('refuses shapes and options that make no sense', async () => {
  const tensor = (...shape: number[]): HostTensor => normalTensor(new Random(1), shape);
  const attempt = (given: Record<string, HostTensor>, options: QkNormOptions = {}): Promise<unknown> =>
    run(device, qkNorm, { q: tensor(1, 2, 4, 8), k: tensor(1, 2, 2, 8), ...given }, options);
  await expect(attempt({ k: tensor(1, 3, 2, 8) })).rejects.toThrow(ShapeError);
  await expect(attempt({ qWeight: tensor(4) })).rejects.toThrow(ShapeError);
  await expect(attempt({ kWeight: tensor(4, 8) })).rejects.toThrow(ShapeError);
  await expect(attempt({ q: tensor(1, 2, 4, 258), k: tensor(1, 2, 2, 258) })).rejects.toThrow(ArgumentError);
  await expect(attempt({ inverseFrequencies: tensor(5) })).rejects.toThrow(ArgumentError);
  for (const options of [{ eps: -1 }, { weightOffset: NaN }])
    await expect(attempt({}, options)).rejects.toThrow(ArgumentError);
});
