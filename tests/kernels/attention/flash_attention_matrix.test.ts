import type { FlashAttentionOptions } from '@mambalab/kernels';
import { Executor, flashAttention, run } from '@mambalab/kernels';
import { flashAttention as reference } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { openMatrixDevice } from '../../support/gpu.ts';
import { expectClose, nmse, normalTensor, Random } from '../../support/numbers.ts';
import { cacheTensor, withCapacity } from './support.ts';

const wide = new Executor(await openMatrixDevice(), { poison: true });
// With less workgroup memory, tiles have 32 keys in place of 64.
const small = new Executor(await openMatrixDevice(32_768), { poison: true });
// Queries and weights are rounded to f16: a score of size s is wrong by about 2^-11 s, its weight by that much of itself.
const TOLERANCE = 5e-3;

interface Case {
  readonly length: number;
  readonly keys: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly options?: FlashAttentionOptions;
  readonly spread?: number;
  readonly position?: number;
}

async function expectReference(executor: Executor, given: Case): Promise<void> {
  const { length, keys, heads, kvHeads, headDim, options = {}, spread = 1, position } = given;
  const random = new Random(length * 1009 + keys * 31 + headDim);
  const q = normalTensor(random, [1, length, heads, headDim], spread);
  const capacity = keys + 5;
  const width = kvHeads * headDim;
  // Rows behind the valid ones are NaN where a position says which are valid.
  const rows = position === undefined ? keys : position + length;
  const drawn = (): Float32Array =>
    withCapacity(random.normals(rows * width), 1, [rows], position === undefined ? keys : capacity);
  const shape = [1, position === undefined ? keys : capacity, kvHeads, headDim];
  const k = cacheTensor(drawn(), shape, 'f16');
  const v = cacheTensor(drawn(), shape, 'f16');
  const at =
    position === undefined ? {} : { position: { data: Uint32Array.of(position), shape: [1], dtype: 'u32' as const } };
  const settings = { executor, force: { unit: 'matrix' } };
  const y = await run(executor.device, flashAttention, { q, k: k.host, v: v.host, ...at }, options, settings);
  const expected = reference(
    { q: q.data, k: k.values, v: v.values, ...(position === undefined ? {} : { position: [position] }) },
    { batch: 1, length, capacity: shape[1] ?? 0, heads, kvHeads, headDim, ...options },
  );
  expectClose(y.data, expected, { rtol: TOLERANCE, atol: TOLERANCE * Math.max(1, spread / 4) });
  expect(nmse(y.data, expected)).toBeLessThan(1e-6 * spread ** 2);
}

describe('flashAttention on matrix units', () => {
  it.each([
    [1, 1, 1, 1, 32],
    [64, 64, 2, 1, 32],
    [65, 129, 2, 2, 32],
  ])(
    'attends from %i queries to %i keys, %i heads over %i, %i values, 64 keys at a time',
    async (length, keys, heads, kvHeads, headDim) => {
      await expectReference(wide, { length, keys, heads, kvHeads, headDim });
    },
  );

  it.each([
    [33, 31, 1, 1, 80],
    [70, 97, 2, 1, 80],
    [5, 40, 1, 1, 80],
  ])(
    'attends from %i queries to %i keys, %i heads over %i, %i values, 32 keys at a time',
    async (length, keys, heads, kvHeads, headDim) => {
      await expectReference(small, { length, keys, heads, kvHeads, headDim });
    },
  );

  it.each<[string, Partial<Case>]>([
    ['all keys', { options: { causal: false } }],
    ['a window', { options: { window: 20 } }],
    ['a soft cap and a scale', { options: { softCap: 5, scale: 0.7 } }],
    ['a position', { position: 37 }],
    // Scores that differ by hundreds: outputs are rescaled again and again.
    ['large scores', { spread: 40 }],
  ])('with %s', async (_, change) => {
    await expectReference(wide, { length: 70, keys: 130, heads: 2, kvHeads: 1, headDim: 32, ...change });
  });
});
